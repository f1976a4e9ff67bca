"""`python -m training merge`: an adapter and its base model as one whole checkpoint, with its logits checked.

    python -m training merge runs/lora --base runs/base --out runs/merged

The adapter is a directory that peft's save_pretrained wrote. What is written loads without peft, and a run.json says how far its
logits are from those of the base with the adapter on top. The tokenizer is the adapter's own, where one lies beside it.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from training.adapter import CONFIG, MODELS, WEIGHTS, adapter_digest, adapter_settings, tokenizer_for
from training.checkpoint import Checkpoint, read_safetensors_header
from training.energy import price, spent
from training.errors import UsageError
from training.merged import merged, tied_embeddings_allowed
from training.pretrained import require_finite, resolve_base
from training.run_record import ParentCheckpoint, RunRecord, git_revision, hardware, now, package_versions
from training.weights_dtype import cast_weights

# How far the merged model's outputs may be from the unmerged one's. Rounding weights to bfloat16 costs about 1e-3 nats.
MOST_KL = {"float32": 1e-5, "bfloat16": 2e-2}  # nats a token, of the distributions over the vocabulary
MOST_SCORE = {"float32": 1e-3, "bfloat16": 0.2}  # of a reward model's score
TEXTS = (
    "The capital of France is Paris, and the capital of Italy is Rome.",
    "def add(a, b):\n    return a + b\n",
    "Water boils at 100 degrees at sea level; on a mountain it boils sooner, for the air presses less.",
)


def merge_adapter(adapter: Path, base: str | None, out: Path, dtype: str) -> RunRecord:
    """Merge, check, and write a run directory; returns its record. Where `out` is complete already, nothing is done.

    Raises UsageError where the directory holds no adapter, where its tensors are not those of the base model, or where the
    merged model does not behave as the unmerged one.
    """
    started, clock = now(), time.monotonic()
    settings = adapter_settings(adapter)
    wanted = {"adapter": str(adapter), "base": base or settings["base_model_name_or_path"], "dtype": dtype}
    if (out / "run.json").is_file():
        record = RunRecord.read(out / "run.json")
        require_same_merge(record, wanted, out)
        return record
    if not wanted["base"]:
        raise UsageError(
            "the adapter does not name its base model", where=str(adapter / CONFIG), next_step="give --base"
        )
    parent = resolve_base(wanted["base"])
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".merge-") as scratch:
        made = Path(scratch) / "checkpoint"
        metrics = _merge(adapter, parent.checkpoint, settings["task_type"], made, dtype)
        shutil.rmtree(out / "checkpoint", ignore_errors=True)  # left by an interrupted merge: there is no run.json
        made.rename(out / "checkpoint")
    record = RunRecord(
        method="merge",
        checkpoint_digest=Checkpoint.open(out / "checkpoint").digest,
        recipe=wanted,
        parents=[
            parent.parent,
            ParentCheckpoint(role="adapter", name=str(adapter), digest=adapter_digest(adapter)),
        ],
        data=[],
        seed=0,
        packages=package_versions(),
        git_revision=git_revision(),
        hardware=hardware("cpu"),
        started=started,
        seconds=round(time.monotonic() - clock, 2),
        metrics=metrics,
        energy=spent(),
        price=price(),
    )
    record.write(out / "run.json")
    return record


def require_same_merge(record: RunRecord, wanted: dict[str, Any], out: Path) -> None:
    """Raise UsageError where `out` holds the merge of another adapter, base or precision than is wanted, or of what they were.

    Digests count, not paths. A base on the Hub is known by its name alone: nothing is downloaded for a merge that is done.
    """
    base = record.parent("base")
    adapter = record.parent("adapter")
    here = Path(wanted["base"] or "").expanduser().is_dir()
    found = [
        ("dtype", record.recipe["dtype"], wanted["dtype"]),
        ("the adapter", adapter and adapter.digest, adapter_digest(Path(wanted["adapter"]))),
        ("the base model", base and base.digest, resolve_base(wanted["base"]).checkpoint.digest)
        if here
        else ("base", record.recipe["base"], wanted["base"]),
    ]
    changed = [(name, was, now) for name, was, now in found if was != now]
    if changed:
        raise UsageError(
            "this directory holds another merge",
            where=str(out),
            expected=", ".join(f"{name} {was}" for name, was, _ in changed),
            found=", ".join(f"{name} {now}" for name, _, now in changed),
            next_step="choose another --out, or remove the directory to merge anew",
        )


def _merge(adapter: Path, base: Checkpoint, task: str, made: Path, dtype: str) -> dict[str, float]:
    import torch
    import transformers
    from peft import PeftModel, get_peft_model_state_dict

    loader = getattr(transformers, MODELS[task])
    labels = {"num_labels": 1} if task == "SEQ_CLS" else {}
    model = loader.from_pretrained(base.path, dtype=torch.float32, **labels)
    require_finite(model, base)
    tokenizer = tokenizer_for(adapter, base, model.get_input_embeddings().num_embeddings)
    try:
        with tied_embeddings_allowed():
            model = PeftModel.from_pretrained(model, adapter)
    except (RuntimeError, ValueError) as error:  # peft's words for tensors of other shapes, and for modules not there
        raise UsageError(
            "the adapter does not fit the base model",
            where=str(adapter),
            expected=f"an adapter of {base.path}",
            found=str(error)[:400],
            next_step="give --base the model that the adapter was trained on",
        ) from error
    # peft leaves out, with a warning at most, what it finds no place for.
    known, given = set(get_peft_model_state_dict(model)), set(read_safetensors_header(adapter / WEIGHTS))
    if known != given:
        strange = sorted(known ^ given)
        raise UsageError(
            "the adapter does not fit the base model",
            where=str(adapter / WEIGHTS),
            expected=f"{len(known)} tensors for its modules",
            found=f"{len(given)}; {len(strange)} do not match, e.g. {strange[0]}",
            next_step="give --base the model that the adapter was trained on",
        )
    model.eval()
    before = _outputs(model, tokenizer)
    whole = cast_weights(merged(model), dtype)
    require_finite(whole, base)
    whole.save_pretrained(made)
    tokenizer.save_pretrained(made)
    saved = loader.from_pretrained(made, dtype=torch.float32).eval()
    return compare(before, _outputs(saved, tokenizer), task, dtype)


def compare(before: list[Any], after: list[Any], task: str, dtype: str) -> dict[str, float]:
    """How far the merged outputs are from the unmerged; raises UsageError where that is too far for `dtype`.

    Outputs are one float32 tensor for each text: logits `(seq, vocabulary)`, or a reward model's score.
    """
    import torch

    largest = max(float((a - b).abs().max()) for a, b in zip(before, after, strict=True))
    found = {"merge_largest_logit_difference": largest}
    if task == "CAUSAL_LM":
        whole, other = torch.cat(before), torch.cat(after)
        p, q = whole.log_softmax(-1), other.log_softmax(-1)
        found["merge_kl"] = float((p.exp() * (p - q)).sum(-1).mean())
        found["merge_greedy_agreement"] = float((whole.argmax(-1) == other.argmax(-1)).float().mean())
        amount, most = found["merge_kl"], MOST_KL[dtype]
    else:
        amount, most = largest, MOST_SCORE[dtype]
    if not amount <= most:
        raise UsageError(
            "the merged model does not behave as the base with its adapter",
            expected=f"at most {most:g} " + ("nats of KL a token" if task == "CAUSAL_LM" else "between two scores"),
            found=f"{amount:.3g}, the largest difference of two logits {largest:.3g}",
            next_step="merge with --dtype float32"
            if dtype != "float32"
            else "report this adapter: it cannot be merged",
        )
    return found


def _outputs(model: Any, tokenizer: Any) -> list[Any]:
    """The model's logits of each of TEXTS, one text at a time: padding takes no part."""
    import torch

    with torch.inference_mode():
        return [model(**tokenizer(text, return_tensors="pt")).logits[0].float() for text in TEXTS]
