"""Ask the gates of a policy, in its order.

verdicts = ask(candidate)
refused = [verdict for verdict in verdicts if verdict.outcome == "refused"]
"""

from __future__ import annotations

from textwrap import shorten

from release.gates.candidate import Candidate, Gate, refused
from release.gates.evidence import (
    contamination_bounded,
    figures_from_samples,
    headlines_regenerable,
    run_record_pinned,
    scorecard_pinned,
)
from release.gates.files import file_names_portable, files_readable
from release.gates.licences import license_compatible
from release.gates.loading import behaves_as_saved, chat_template_renders, loads_clean, no_remote_code
from release.gates.paperwork import card_complete, license_present
from release.gates.private import no_local_paths, no_personal_data, no_secrets
from release.gates.regression import no_regression, no_regression_since_release
from release.gates.weights import dtype_as_config, weights_finite, weights_safetensors_only
from release.policy import GateName
from release.records import Verdict
from training.errors import SlipwayError, UsageError

GATES: dict[GateName, Gate] = {
    "weights_safetensors_only": weights_safetensors_only,
    "weights_finite": weights_finite,
    "dtype_as_config": dtype_as_config,
    "loads_clean": loads_clean,
    "behaves_as_saved": behaves_as_saved,
    "no_remote_code": no_remote_code,
    "file_names_portable": file_names_portable,
    "files_readable": files_readable,
    "chat_template_renders": chat_template_renders,
    "run_record_pinned": run_record_pinned,
    "scorecard_pinned": scorecard_pinned,
    "figures_from_samples": figures_from_samples,
    "headlines_regenerable": headlines_regenerable,
    "contamination_bounded": contamination_bounded,
    "no_regression": no_regression,
    "no_regression_since_release": no_regression_since_release,
    "card_complete": card_complete,
    "license_present": license_present,
    "license_compatible": license_compatible,
    "no_local_paths": no_local_paths,
    "no_secrets": no_secrets,
    "no_personal_data": no_personal_data,
}


def ask(candidate: Candidate) -> list[Verdict]:
    """Every gate's verdict. A gate that cannot read its evidence refuses, with the reason.

    A refusal that is waived becomes a verdict of its own, with the reason and what the gate said. Raises UsageError
    where a waiver is not needed: the card would tell of a fault that there is not.
    """
    verdicts = [_ask_one(name, candidate) for name in candidate.policy.gates]
    for verdict in verdicts:
        if verdict.gate in candidate.waivers and verdict.outcome != "refused":
            raise UsageError(
                f"the gate {verdict.gate} does not refuse, so there is nothing to waive",
                found=f"{verdict.outcome}: {verdict.explanation}",
                next_step=f"leave out the waiver of {verdict.gate}",
            )
    return [_waived(verdict, candidate.waivers.get(verdict.gate)) for verdict in verdicts]


def _waived(verdict: Verdict, reason: str | None) -> Verdict:
    if reason is None:
        return verdict
    said = f"waived because: {reason} (it said: {verdict.explanation})"
    return verdict.model_copy(
        update={"outcome": "waived", "explanation": said, "remedy": None}
    )  # which names paths of here


def _ask_one(name: GateName, candidate: Candidate) -> Verdict:
    try:
        return GATES[name](candidate)
    except Exception as error:  # noqa: BLE001 - tokenizers, jinja2 and safetensors raise what they like at broken files
        evidence = error.as_dict() if isinstance(error, SlipwayError) else {"type": type(error).__name__}
        what = shorten(str(error.what if isinstance(error, SlipwayError) else error), 500, placeholder=" ...")
        remedy = (error.next_step if isinstance(error, SlipwayError) else None) or "mend the file, then plan again"
        return refused(name, f"the evidence cannot be read: {what}", remedy=remedy, **evidence)
