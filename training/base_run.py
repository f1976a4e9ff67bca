"""A base model as a run: a checkpoint directory, and a run.json that says where it came from.

python -m training base smollm2-135m-instruct --out runs/base
python -m training base HuggingFaceTB/SmolLM2-135M-Instruct@main --out runs/base
python -m training base model-Q8_0.gguf --out runs/base
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

from training.checkpoint import Checkpoint, changes_behaviour
from training.energy import price, spent
from training.errors import UsageError
from training.gguf_base import unpack_gguf
from training.packaged import PACKAGED, gguf_file
from training.pretrained import resolve_base
from training.run_record import ParentCheckpoint, RunRecord, git_revision, hardware, now, package_versions


def write_base(source: str, out: Path, license_id: str | None = None) -> RunRecord:
    """Write `source` as a checkpoint under `out`, with a run.json; nothing is done where that is there already.

    `license_id` is for a source that names none. Raises UsageError where it names another.
    """
    started, clock = now(), time.monotonic()
    record_file = out / "run.json"
    if record_file.is_file():
        record = RunRecord.read(record_file)
        if record.recipe.get("source") != source:
            raise UsageError(
                "this directory holds another base model",
                where=str(out),
                expected=source,
                found=str(record.recipe.get("source")),
                next_step="choose another --out",
            )
        return record
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".base-") as scratch:
        made = Path(scratch) / "checkpoint"
        if source in PACKAGED or source.endswith(".gguf"):
            gguf, known = gguf_file(source)
            unpack_gguf(gguf, made)
            digest = Checkpoint.open(made).digest
            parent = ParentCheckpoint(
                role="base",
                name=source,
                hub_id=known.hub_id if known else None,
                digest=digest,
                license=known.license if known else None,
                note=known.note if known else f"weights dequantised from {gguf.name}",
            )
        else:
            base = resolve_base(source)
            parent = base.parent
            made.mkdir()
            for file in sorted(base.checkpoint.path.rglob("*")):
                inside = file.relative_to(base.checkpoint.path)
                if file.is_file() and changes_behaviour(inside):
                    (made / inside).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(file, made / inside)
        if license_id is not None and parent.license not in (None, license_id):
            raise UsageError(
                "the base model has another licence",
                where=source,
                expected=parent.license,
                found=f"--license {license_id}",
                next_step="leave --license away",
            )
        if license_id is not None:
            parent = parent.model_copy(update={"license": license_id})
        shutil.rmtree(out / "checkpoint", ignore_errors=True)  # left by an interrupted run: there is no run.json
        made.rename(out / "checkpoint")
    record = RunRecord(
        method="base",
        checkpoint_digest=Checkpoint.open(out / "checkpoint").digest,
        recipe={"source": source},
        parents=[parent],
        data=[],
        seed=0,
        packages=package_versions(),
        git_revision=git_revision(),
        hardware=hardware("cpu"),
        started=started,
        seconds=round(time.monotonic() - clock, 2),
        metrics={},
        energy=spent(),
        price=price(),
    )
    record.write(record_file)
    return record
