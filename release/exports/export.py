"""Export a checkpoint: write each GGUF file, hold it against the checkpoint in llama.cpp, and keep what passes.

    done = export(Path("runs/a"), ["F16", "Q8_0"], Path("runs/a/gguf"), Identity(name="my-model"))
    done.record.files       # what passed, with its measured loss
    done.refused            # precision -> why not; no file of it is there
    done.failed             # precision -> why its change of scores could not be measured; the file is there

A file appears under its name after it has passed, and export.json last: an interrupted export continues.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from release.exports.architecture import read_architecture
from release.exports.card import render_card
from release.exports.gguf_file import display_name, write_gguf
from release.exports.parity import BOUNDS, Loss, Reference, measure, prompts_digest, refusal, take_reference
from release.exports.record import CARD, EXPORT, ExportedFile, ExportRecord
from release.exports.scores import WHOLE, Asked, Plan, is_there, measure_scores, plan_scores
from release.exports.tokenizer import read_vocabulary
from release.records import Receipt
from training.checkpoint import Checkpoint
from training.command import log
from training.errors import SlipwayError, UsageError
from training.records import sha256_of_file, write_atomically
from training.run_record import RunRecord, now, package_versions

PACKAGES = ("gguf", "xllamacpp", "transformers", "torch", "tokenizers")


@dataclass(frozen=True)
class Identity:
    """What the files are called, and which released model they are made of."""

    name: str | None = None
    base_model: str | None = None  # ORG/NAME or ORG/NAME@REVISION
    license: str | None = None


@dataclass(frozen=True)
class Exported:
    """The record of what passed, for each precision that did not, why, and what is wrong with the scores of those that did."""

    record: ExportRecord
    checkpoint: Checkpoint
    refused: dict[str, str] = field(default_factory=dict)
    losses: dict[str, Loss] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def export(
    run: Path, precisions: Sequence[str], out: Path, identity: Identity, scores: Asked | None = None
) -> Exported:
    """Write the files of these precisions that are not there yet, and measure how the scores change with each quantised one.

    Raises UsageError for what cannot be exported at all, or what of scores is asked for and cannot be.
    """
    checkpoint = Checkpoint.open(run / "checkpoint" if (run / "checkpoint").is_dir() else run)
    record = _record(run, checkpoint, out, identity)
    read_vocabulary(checkpoint, read_architecture(checkpoint).vocabulary)  # what cannot be exported is refused at once
    plan = plan_scores(run, checkpoint, scores or Asked(), out, record.name) if precisions else "not asked for"
    done = Exported(record, checkpoint)
    references: list[Reference] = []
    out.mkdir(parents=True, exist_ok=True)
    for left in out.glob(".*.gguf.partial"):  # by an export that was killed
        left.unlink()
    for precision in dict.fromkeys(precisions):
        file = record.file(precision)
        if file is not None and _is_there(out, file):
            log(f"{precision}: already exported and measured")
        else:
            references = references or take_reference(checkpoint)
            file = _make(checkpoint, precision, out, record, references, done)
            if file is None:
                continue
            record = _with_file(record, file)
            _write(out, record)  # whatever becomes of the scores, the file is there
        scored = _with_scores(file, plan, out, done)
        if scored != file:
            record = _with_file(record, scored)
            _write(out, record)
    if record.files:
        _write(out, record)
    return replace(done, record=record)


def _make(
    checkpoint: Checkpoint,
    precision: str,
    out: Path,
    record: ExportRecord,
    references: list[Reference],
    done: Exported,
) -> ExportedFile | None:
    """The file, under its name; None where it does not keep its bound, and why is noted in `done`."""
    path = out / f"{record.name}-{precision}.gguf"
    partial = path.with_name(f".{path.name}.partial")
    began = time.monotonic()
    try:
        tensors = write_gguf(checkpoint, partial, precision, name=record.name, license_id=record.license)
        loss = done.losses[precision] = measure(partial, references)
        reason = refusal(loss, BOUNDS[precision])
        log(f"{precision}: {describe(loss)}, {time.monotonic() - began:.0f} s")
        if reason is not None:
            done.refused[precision] = reason
            return None
        made = ExportedFile(
            path=path.name,
            size=partial.stat().st_size,
            sha256=sha256_of_file(partial),
            precision=precision,
            tensors=tensors,
            loss=loss,
        )
        partial.rename(path)
        return made
    finally:
        partial.unlink(missing_ok=True)


def _with_scores(file: ExportedFile, plan: Plan | str, out: Path, done: Exported) -> ExportedFile:
    """The file with its change of scores, or why that was not measured; what was measured of these bytes is kept."""
    if isinstance(plan, str) or file.precision in WHOLE:
        if file.scores is not None:
            return file
        why = plan if isinstance(plan, str) else "it is not quantised: it differs from the checkpoint by rounding alone"
        log(f"{file.precision}: change of scores not measured: {why}")
        return file.model_copy(update={"scores_not_measured": why})
    if file.scores is not None and plan.same(file.scores) and is_there(out, file):
        return file
    try:
        change = measure_scores(plan, out / file.path, file.precision, file.sha256)
    except SlipwayError as error:
        log(f"{file.precision}: change of scores not measured: {error.render()}")
        done.failed[file.precision] = error.render()
        return file.model_copy(update={"scores": None, "scores_not_measured": f"it failed: {error.what}"})
    if change.failed:
        done.failed[file.precision] = "; ".join(f"{task}: {why}" for task, why in change.failed.items())
    return file.model_copy(update={"scores": change, "scores_not_measured": None})


def _with_file(record: ExportRecord, file: ExportedFile) -> ExportRecord:
    """The record with this file in place of the one of its precision."""
    there = [one.precision for one in record.files]
    files = [file if one.precision == file.precision else one for one in record.files]
    return record.model_copy(update={"files": files if file.precision in there else [*files, file], "created": now()})


def _write(out: Path, record: ExportRecord) -> None:
    """The card, and the record last."""
    write_atomically(out / CARD, render_card(record).encode())
    record.write(out / EXPORT)


def describe(loss: Loss) -> str:
    """One line of figures."""
    return (
        f"KL mean {loss.kl_mean:.2g}, max {loss.kl_max:.2g} nats a token, greedy agreement {loss.greedy_agreement:.1%} of "
        f"{loss.positions}, same tokens {loss.same_tokens} and same texts {loss.same_texts} of {loss.prompts}"
    )


def _record(run: Path, checkpoint: Checkpoint, out: Path, identity: Identity) -> ExportRecord:
    """The record that is there, with what is newly said of the model, or an empty one.

    Raises UsageError where `out` holds the export of another checkpoint.
    """
    known, revision = _released(run, checkpoint)
    if identity.base_model:
        known, _, given = identity.base_model.partition("@")
        revision = given or None
    run_file = run / "run.json"
    base = RunRecord.read(run_file).parent("base") if run_file.is_file() else None
    license_id = identity.license or (base.license if base else None)
    name = identity.name or (known.partition("/")[2] if known else display_name(checkpoint))
    before = ExportRecord.read(out / EXPORT) if (out / EXPORT).is_file() else None
    if before is not None and before.checkpoint_digest != checkpoint.digest:
        raise UsageError(
            "this directory holds the export of another checkpoint",
            where=str(out / EXPORT),
            expected=checkpoint.digest,
            found=before.checkpoint_digest,
            next_step="choose another --out",
        )
    if before is not None:
        kept = {"base_model": known or before.base_model, "base_revision": revision or before.base_revision}
        return before.model_copy(update={**kept, "license": license_id or before.license})
    return ExportRecord(
        name=name,
        checkpoint_digest=checkpoint.digest,
        base_model=known,
        base_revision=revision,
        license=license_id,
        reference="transformers in float32 on the CPU, with the checkpoint's own chat template",
        prompts_digest=prompts_digest(),
        files=[],
        packages=package_versions(PACKAGES),
        created=now(),
    )


def _released(run: Path, checkpoint: Checkpoint) -> tuple[str | None, str | None]:
    """(repository, tag) of the run's release, where receipt.json names these bytes."""
    file = run / "receipt.json"
    receipt = Receipt.read(file) if file.is_file() else None
    if receipt is None or receipt.checkpoint_digest != checkpoint.digest:
        return None, None
    return receipt.repo_id, receipt.tag


def _is_there(out: Path, file: ExportedFile | None) -> bool:
    """Whether the recorded file still has its bytes."""
    if file is None or not (out / file.path).is_file():
        return False
    return sha256_of_file(out / file.path) == file.sha256
