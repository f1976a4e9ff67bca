"""A release policy: which gates a release must pass, and their thresholds.

    policy = load_policy("default")            # release/policies/default.yaml
    policy = load_policy("ours/strict.yaml")   # a file of one's own

The policy's digest stands in the plan, so that a receipt says under which rules it was given.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from training.errors import UsageError
from training.records import sha256_of_file
from training.yaml_file import Settings, load

POLICIES = Path(__file__).parent / "policies"

GateName = Literal[
    "weights_safetensors_only",
    "weights_finite",
    "loads_clean",
    "chat_template_renders",
    "run_record_pinned",
    "scorecard_pinned",
    "no_regression",
    "card_complete",
    "license_present",
    "no_local_paths",
    "no_secrets",
]
Group = Literal["helpfulness", "truthfulness", "toxicity", "bias", "other"]


class ScorecardRules(Settings):
    """What the scorecard must cover."""

    required: bool = True
    groups: list[Group] = []
    tasks: list[str] = []
    minimum_items: int = Field(default=20, ge=1)
    maximum_unscored: float = Field(default=0.1, ge=0, le=1)


class RegressionRules(Settings):
    """Against which figures of the parent the release must hold its own, and how sure a loss must be to refuse it."""

    baseline: Literal["required", "optional"] = "required"
    groups: list[Group]
    alpha: float = Field(default=0.05, gt=0, lt=1)
    tolerance: float = Field(default=0.0, ge=0)


class Policy(Settings):
    """Gates in their order, with their thresholds."""

    description: str
    gates: list[GateName] = Field(min_length=1)
    run_record: Literal["required", "optional"]
    scorecard: ScorecardRules
    no_regression: RegressionRules


def policy_file(name: str) -> Path:
    """The file of a policy, by its name or its path. Raises UsageError where there is none."""
    named = POLICIES / f"{name}.yaml"
    if "/" not in name and named.is_file():
        return named
    if Path(name).is_file():
        return Path(name)
    known = ", ".join(sorted(file.stem for file in POLICIES.glob("*.yaml")))
    raise UsageError("there is no such policy", expected=f"one of {known}, or a YAML file", found=name)


def load_policy(name: str) -> Policy:
    """Raises UsageError naming file, line and key where the policy is not as it must be."""
    return load(policy_file(name), Policy)


def policy_digest(name: str) -> str:
    """`sha256:` and the SHA-256 of the policy's file."""
    return f"sha256:{sha256_of_file(policy_file(name))}"
