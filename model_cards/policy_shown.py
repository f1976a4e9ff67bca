"""Under which policy a release was let through, as its card tells it where that is not the project's own.

PolicyShown("strict.yaml", "sha256:9f2c...", content, not_asked=["no_secrets"], otherwise=[("no_regression.alpha", "0.5", "0.05")])
"""

from __future__ import annotations

from dataclasses import dataclass

FILE = "policy.yaml"  # in the bundle: the file of a policy of one's own, byte for byte


@dataclass(frozen=True)
class PolicyShown:
    """`otherwise`: key, what this policy has, and what the default has. `content` is None for a policy that comes along."""

    name: str
    digest: str
    content: bytes | None
    not_asked: list[str]
    otherwise: list[tuple[str, str, str]]
    elsewhere: bool = False  # the policy for checkpoints that were trained elsewhere, where nothing else is expected
