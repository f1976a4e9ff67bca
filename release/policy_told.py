"""A policy as its release tells of it: by a name without a path, with its file, and with what it asks otherwise than the default.

told("ours/strict.yaml")         # None for the default
kept_policy(run, plan)           # what a plan was made under, also where the file that was given is not here
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model_cards.policy_shown import FILE, PolicyShown
from release.bundle import PLAN
from release.policy import POLICIES, Policy, load_policy, policy_digest, policy_file
from release.records import ReleasePlan
from training.errors import UsageError

DEFAULT, ELSEWHERE = "default", "external"
SAID_ELSEWHERE = ("description", "gates", "waive")  # of one's own words, told as a list, told with their reasons


def comes_along(name: str) -> bool:
    """Whether the policy is one of the project's own, by its name."""
    return policy_file(name).parent == POLICIES


def name_of(name: str) -> str:
    """The name by which plan and card know the policy: no path of this machine."""
    if comes_along(name):
        return policy_file(name).stem
    last = Path(name).name
    return f"{last}.yaml" if (POLICIES / f"{last}.yaml").is_file() else last


def told(name: str, known: str | None = None) -> PolicyShown | None:
    """What the card says of the policy of this name or path, which it calls `known`; None where it is the default."""
    known = known or name_of(name)
    if known == DEFAULT:
        return None
    policy, default = load_policy(name), load_policy(DEFAULT)
    own, usual = _flat(policy), _flat(default)
    return PolicyShown(
        name=known,
        digest=policy_digest(name),
        content=None if comes_along(name) else policy_file(name).read_bytes(),
        not_asked=[gate for gate in default.gates if gate not in policy.gates],
        otherwise=[(key, own[key], usual[key]) for key in usual if own[key] != usual[key]],
        elsewhere=known == ELSEWHERE,
    )


def kept_policy(run: Path, plan: ReleasePlan) -> str:
    """The name or path by which the plan's policy is read: the file in its bundle, where it is one of one's own.

    Raises UsageError where that is not the policy that the plan was made under.
    """
    kept = run / "bundle" / FILE
    name = str(kept) if FILE in {entry.path for entry in plan.files} and kept.is_file() else plan.policy
    if (found := policy_digest(name)) != plan.policy_digest:
        raise UsageError(
            "the policy is not the one that the plan was made under",
            where=name,
            expected=plan.policy_digest,
            found=found,
            next_step="python -m release plan again, read what it says, then publish",
        )
    return name


def standing_policy(run: Path) -> str | None:
    """The file of the policy of one's own that the run's plan was made under, which lies in its bundle; None where it has none.

    What is published without --policy is the plan that stands, wherever the run was copied to.
    """
    kept, plan = run / "bundle" / FILE, run / PLAN
    if not (kept.is_file() and plan.is_file()):
        return None
    read = ReleasePlan.read(plan)
    return str(kept) if not read.refused and policy_digest(str(kept)) == read.policy_digest else None


def _flat(policy: Policy) -> dict[str, str]:
    """Every threshold by its key, as words."""
    return dict(_pairs(policy.model_dump(mode="json", exclude=set(SAID_ELSEWHERE)), ""))


def _pairs(value: Mapping[str, Any], prefix: str) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for key, child in value.items():
        if isinstance(child, Mapping):
            pairs += _pairs(child, f"{prefix}{key}.")
        else:
            pairs.append((f"{prefix}{key}", (", ".join(child) or "none") if isinstance(child, list) else str(child)))
    return pairs
