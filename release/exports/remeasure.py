"""What a GGUF file loses, measured again: llama.cpp beside the released model, and some items of both scorecards.

findings = remeasured(hub, snapshot, record, "v1.0.0")
"""

from __future__ import annotations

import secrets
from pathlib import Path

from release.downloaded import fresh_download
from release.exports import parity
from release.exports.parity import BOUNDS, Loss, measure, prompts_digest, refusal, take_reference
from release.exports.record import ExportedFile, ExportRecord
from release.exports.record_check import base_finding
from release.hub_client import HubClient
from release.records import Finding
from release.rescoring import figure_finding
from training.checkpoint import Checkpoint
from training.command import log
from training.counted import counted
from training.errors import UsageError

# How far another processor's arithmetic may move a loss: nats a token and which part of them, of the mean and of the largest;
# share of likeliest tokens; answers, of which a tie may change one.
KL_SLACK, KL_PART, MAX_SLACK, MAX_PART, AGREEMENT_SLACK, TEXTS_SLACK = 0.0005, 0.1, 0.005, 0.25, 0.02, 1
ITEMS = 4  # of each task and side that are answered again


def remeasured(
    hub: HubClient, snapshot: Path, record: ExportRecord, base: str, suite: str | None = None
) -> list[Finding]:
    """The released model, at its revision `base`, has the recorded bytes, each file loses against it what the card says, and
    some items of both scorecards are answered as recorded; `suite` is the file of a suite that is none of ours.

    Raises UsageError where that cannot be measured here, HubError where the model is not to be had.
    """
    from release.exports.export import describe

    if record.prompts_digest != prompts_digest():
        raise UsageError(
            "the losses were measured on other prompts than this version of Slipway has",
            expected=record.prompts_digest,
            found=prompts_digest(),
            next_step="install the version that wrote export.json, or leave --remeasure out",
        )
    assert record.base_model is not None  # find_base
    commit = hub.resolve(record.base_model, base)
    log(f"downloading {record.base_model}@{commit}, of which the files are")
    with fresh_download(hub, record.base_model, commit) as place:
        checkpoint = Checkpoint.open(place)
        origin = base_finding(record, base, checkpoint.digest)
        if not origin.ok:
            return [origin]
        references = take_reference(checkpoint)
        losses = [(file, measure(snapshot / file.path, references)) for file in record.files]
        scores = [one for file in record.files for one in _scores(snapshot, file, place, suite)]
    measured = [
        Finding(
            check="loss", ok=holds(file, loss), subject=file.path, expected=describe(file.loss), found=describe(loss)
        )
        for file, loss in losses
    ]
    return [origin, *measured, *scores]


def holds(file: ExportedFile, loss: Loss) -> bool:
    """Whether a loss that was measured now keeps the bound of the precision, and is the recorded one up to rounding."""
    said = file.loss
    return (
        refusal(loss, BOUNDS[file.precision]) is None
        and (loss.prompts, loss.same_tokens) == (said.prompts, said.same_tokens)
        and abs(loss.same_texts - said.same_texts) <= TEXTS_SLACK
        and abs(loss.positions - said.positions) <= parity.ANSWER_TOKENS  # an answer that ends earlier
        and abs(loss.kl_mean - said.kl_mean) <= max(KL_SLACK, KL_PART * said.kl_mean)
        and abs(loss.kl_max - said.kl_max) <= max(MAX_SLACK, MAX_PART * said.kl_max)
        and abs(loss.greedy_agreement - said.greedy_agreement) <= AGREEMENT_SLACK
    )


def _scores(snapshot: Path, file: ExportedFile, place: Path, suite: str | None) -> list[Finding]:
    """Some items of both scorecards of a file answered again: by the model in `place`, and with the file's weights in it."""
    from evals.evaluated import Weights, find
    from evals.rescore import rescore
    from evals.saved import SavedRun
    from release.exports.file_weights import FileOfCheckpoint, FileWeights
    from release.exports.scores import DTYPE, FOLDER, SIDES

    if file.scores is None:
        return []
    path, seed = snapshot / file.path, secrets.randbelow(2**31)  # nobody can know beforehand what is looked at
    model = find(str(place))
    of_file = FileWeights(FileOfCheckpoint.of(model, path, file.sha256), DTYPE, "cpu", path)
    findings = []
    for side, weights in zip(SIDES, (Weights(model, DTYPE, "cpu"), of_file), strict=True):
        log(f"{file.path}: answering {counted(ITEMS, 'item')} of each task again with the weights of the {side}")
        run = SavedRun.open(snapshot / FOLDER / file.precision / side)
        findings += [
            figure_finding(run.scorecard, figure, f"{file.path}, {side}, ")
            for figure in rescore(run, weights.evaluated, ITEMS, seed, suite=suite, weights=weights)
        ]
    return findings
