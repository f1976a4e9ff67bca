"""What is asked to be released: which repository, tag, policy and Space, who may read it, and who signs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from release.hub_client import check_repo_id
from release.signature import SignWith
from release.space_flavour import SpaceFlavour
from training.errors import UsageError

TAG = re.compile(r"(?!.*(\.\.|\.lock$))[A-Za-z0-9][A-Za-z0-9._-]{0,99}(?<!\.)")


@dataclass(frozen=True)
class Request:
    """What is to be released where, as the command line gives it."""

    repo_id: str
    tag: str = "v1.0.0"
    policy: str = "default"
    private: bool = False
    space: str | None = None
    space_flavour: SpaceFlavour | None = None
    sign: SignWith | None = None  # what to sign with; a path is that of a private key
    gated: Literal["auto", "manual", "no"] | None = None  # who is let in; None: as the repository is
    waive: Mapping[str, str] = field(default_factory=dict)  # gate -> why its refusal is accepted

    def check(self) -> None:
        """Raises UsageError where the ids or the tag are not such."""
        check_repo_id(self.repo_id)
        if self.space is not None:
            check_repo_id(self.space)
        if not TAG.fullmatch(self.tag) or self.tag == "main":
            raise UsageError(
                "not a name for a tag",
                expected="letters, digits, '.', '_' and '-'",
                found=self.tag,
                next_step="give e.g. --tag v1.0.0",
            )
