"""Ask the gates of a policy, in its order.

verdicts = ask(candidate)
refused = [verdict for verdict in verdicts if verdict.outcome == "refused"]
"""

from __future__ import annotations

from release.gates.candidate import Candidate, Gate, refused
from release.gates.evidence import run_record_pinned, scorecard_pinned
from release.gates.loading import chat_template_renders, loads_clean
from release.gates.paperwork import card_complete, license_present, no_local_paths, no_secrets
from release.gates.regression import no_regression
from release.gates.weights import weights_finite, weights_safetensors_only
from release.policy import GateName
from release.records import Verdict
from training.errors import SlipwayError

GATES: dict[GateName, Gate] = {
    "weights_safetensors_only": weights_safetensors_only,
    "weights_finite": weights_finite,
    "loads_clean": loads_clean,
    "chat_template_renders": chat_template_renders,
    "run_record_pinned": run_record_pinned,
    "scorecard_pinned": scorecard_pinned,
    "no_regression": no_regression,
    "card_complete": card_complete,
    "license_present": license_present,
    "no_local_paths": no_local_paths,
    "no_secrets": no_secrets,
}


def ask(candidate: Candidate) -> list[Verdict]:
    """Every gate's verdict. A gate that cannot read its evidence refuses, with the reason."""
    return [_ask_one(name, candidate) for name in candidate.policy.gates]


def _ask_one(name: GateName, candidate: Candidate) -> Verdict:
    try:
        return GATES[name](candidate)
    except Exception as error:  # noqa: BLE001 - tokenizers, jinja2 and safetensors raise what they like at broken files
        evidence = error.as_dict() if isinstance(error, SlipwayError) else {"type": type(error).__name__}
        what = " ".join(str(error.what if isinstance(error, SlipwayError) else error).split())[:500]
        remedy = (error.next_step if isinstance(error, SlipwayError) else None) or "mend the file, then plan again"
        return refused(name, f"the evidence cannot be read: {what}", remedy=remedy, **evidence)
