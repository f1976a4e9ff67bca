"""A release policy: which gates a release must pass, and their thresholds.

    policy = load_policy("default")            # release/policies/default.yaml
    policy = load_policy("ours/strict.yaml")   # a file of one's own

The policy's digest stands in the plan, so that a receipt says under which rules it was given.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from training.counted import counted
from training.errors import UsageError
from training.records import sha256_of_file
from training.yaml_file import Settings, load

POLICIES = Path(__file__).parent / "policies"

GateName = Literal[
    "weights_safetensors_only",
    "weights_finite",
    "dtype_as_config",
    "loads_clean",
    "behaves_as_saved",
    "no_remote_code",
    "file_names_portable",
    "files_readable",
    "chat_template_renders",
    "run_record_pinned",
    "scorecard_pinned",
    "figures_from_samples",
    "headlines_regenerable",
    "contamination_bounded",
    "no_regression",
    "no_regression_since_release",
    "card_complete",
    "license_present",
    "license_compatible",
    "no_local_paths",
    "no_secrets",
    "no_personal_data",
]
# Without these a release is not one: it would not load, or its numbers would be of other bytes.
NEVER_WAIVED: tuple[GateName, ...] = (
    "weights_safetensors_only",
    "loads_clean",
    "run_record_pinned",
    "scorecard_pinned",
    "figures_from_samples",
    "card_complete",
)
Group = Literal["helpfulness", "truthfulness", "toxicity", "bias", "other"]


class ScorecardRules(Settings):
    """What the scorecard must cover."""

    required: bool = True
    groups: list[Group] = []
    tasks: list[str] = []
    minimum_items: int = Field(default=20, ge=1)
    maximum_unscored: float = Field(default=0.1, ge=0, le=1)


class RegressionRules(Settings):
    """Which figures of the parent, or of the last release, the release must hold, and how sure a loss must be."""

    baseline: Literal["required", "optional"] = "required"
    groups: list[Group]
    alpha: float = Field(default=0.05, gt=0, lt=1)
    tolerance: float = Field(default=0.0, ge=0)


class ContaminationRules(Settings):
    """Whether a contamination.json must be there, and the share of a task's items that may stand in the training data.

    `with_data`: where run.json names training data, which can then be searched, and there are scores.
    """

    report: Literal["required", "with_data", "optional"] = "optional"
    maximum_share: float = Field(default=0.05, ge=0, le=1)


class Policy(Settings):
    """Gates in their order, with their thresholds."""

    description: str
    gates: list[GateName] = Field(min_length=1)
    run_record: Literal["required", "optional"]
    scorecard: ScorecardRules
    no_regression: RegressionRules
    no_regression_since_release: RegressionRules = RegressionRules(baseline="optional", groups=[])
    contamination: ContaminationRules = ContaminationRules()
    card_text: Literal["required", "noted"] = "required"  # sections, links, our digest; the rest always counts
    remote_code: Literal["refused", "allowed"] = "refused"
    waive: dict[GateName, str] = {}  # gate -> why its refusal is accepted; it is written on the card


def check_waivers(waivers: Mapping[str, str], policy: Policy, where: str) -> None:
    """Raises UsageError for a waiver without a reason, of a gate that is not asked, or that is never waived."""
    for gate, reason in waivers.items():
        if not reason.strip():
            raise UsageError(f"the waiver of {gate} has no reason", where=where, next_step=f"--waive '{gate}=WHY'")
        if gate not in policy.gates or gate in NEVER_WAIVED:
            known = [name for name in policy.gates if name not in NEVER_WAIVED]
            raise UsageError(
                f"the gate {gate} {'is never waived' if gate in NEVER_WAIVED else 'is not asked by the policy'}",
                where=where,
                expected=f"one of {', '.join(known)}",
                found=gate,
            )


def require_never_waived(policy: Policy, where: str) -> None:
    """Raises UsageError for a policy that does not ask a gate which is never waived: to leave it out would be to waive it."""
    left_out = [gate for gate in NEVER_WAIVED if gate not in policy.gates]
    if left_out:
        raise UsageError(
            f"the policy leaves out {counted(len(left_out), 'gate')} without which nothing is released",
            where=where,
            expected=f"{', '.join(NEVER_WAIVED)} among its gates",
            found=f"no {', no '.join(left_out)}",
            next_step=f"add {', '.join(left_out)} to the list `gates` of the policy; `release check` asks any list",
        )


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
