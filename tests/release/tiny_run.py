"""Makes a tiny run that the default policy lets through: checkpoint, record, scores, and its parent's scores."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from evals.scorecard import EvaluatedModel, Sample, Score, Scorecard, Settings, TaskSettings
from evals.statistics import estimate
from training.checkpoint import Checkpoint
from training.records import sha256_of_file
from training.run_record import ParentCheckpoint, RunRecord, hardware, package_versions

if TYPE_CHECKING:
    import torch

    from release.probe import Examination

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TASKS = {
    "starter_helpfulness": ("helpfulness", "win_rate", True),
    "starter_truthfulness": ("truthfulness", "mc2", True),
    "starter_toxicity": ("toxicity", "toxic_rate", False),
}
ITEMS = 40
OWNER = "slipway"


def make_checkpoint(target: Path, seed: int) -> Checkpoint:
    """A Llama of some ten thousand parameters with a tokenizer of its own, as save_pretrained writes them."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<pad>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    words.train_from_iterator(["The capital of France is Paris.", "user assistant"], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", bos_token="<|im_start|>", eos_token="<|im_end|>"
    )
    tokenizer.chat_template = CHATML
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "proj" in name:
                weight.mul_(5)  # as it is drawn, all that it says is the prompt's last token, a line break
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    return Checkpoint.open(target)


def write_scores(folder: Path, digest: str, shares: dict[str, float]) -> Scorecard:
    """scorecard.json and samples/ in `folder`: of ITEMS items of each task, this share has the value 1."""
    scores, hashes, settings = [], {}, []
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    for task, (group, metric, higher) in TASKS.items():
        share = shares[group]
        values = [1.0 if index < share * ITEMS else 0.0 for index in range(ITEMS)]
        file = folder / "samples" / f"{task}.jsonl"
        lines = [
            Sample(item=str(index), prompt=f"Question {index}?", response="Answer.", values={metric: value})
            for index, value in enumerate(values)
        ]
        file.write_text("".join(json.dumps(line.model_dump(mode="json")) + "\n" for line in lines))
        hashes[task] = sha256_of_file(file)
        made = estimate(values, seed=0)
        scores.append(
            Score(
                task=task,
                metric=metric,
                group=group,
                value=made.value,
                stderr=made.stderr,
                interval=made.interval,
                n=made.n,
                unscored=made.unscored,
                higher_is_better=higher,
                headline=True,
            )
        )
        settings.append(
            TaskSettings(task=task, version="1", data_id=task, data_sha256="0" * 64, chat_template=True, items=ITEMS)
        )
    scorecard = Scorecard(
        model=EvaluatedModel(name="checkpoint", digest=digest, parameters=10_000),
        scores=scores,
        settings=Settings(
            suite="starter",
            suite_sha256="0" * 64,
            backend="slipway",
            dtype="float32",
            device="cpu",
            batch_size=1,
            seed=0,
            tasks=settings,
        ),
        samples=hashes,
        packages=package_versions(),
        git_revision=None,
        created="2026-11-24T00:00:00+00:00",
        seconds=1.0,
    )
    scorecard.write(folder / "scorecard.json")
    return scorecard


def write_run_record(run: Path, digest: str, parent_digest: str) -> None:
    RunRecord(
        method="ppo",
        checkpoint_digest=digest,
        recipe={"base": "tiny-base", "steps": 2},
        parents=[ParentCheckpoint(role="base", name="tiny-base", digest=parent_digest, license="apache-2.0")],
        data=[],
        seed=0,
        packages=package_versions(),
        git_revision=None,
        hardware=hardware("cpu"),
        started="2026-11-24T00:00:00+00:00",
        seconds=1.0,
        metrics={"reward_mean": 1.0},
    ).write(run / "run.json")


def examine_here(directory: Path) -> Examination:
    """What a fresh process would say of a download, by this one."""
    from release.probe import Examination, load, take_probe

    loaded = load(directory)
    return Examination(
        missing=loaded.missing, unexpected=loaded.unexpected, mismatched=loaded.mismatched, probe=take_probe(loaded)
    )


def change_weights(checkpoint: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> str:
    """Rewrite model.safetensors of a checkpoint; its new digest."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(checkpoint / "model.safetensors")
    change(tensors)
    save_file(tensors, checkpoint / "model.safetensors", metadata={"format": "pt"})
    return Checkpoint.open(checkpoint).digest


def rescore(run: Path, digest: str, parent_digest: str, **shares: float) -> None:
    """Let the run's record and scores speak of `digest`, with these shares of ones."""
    write_run_record(run, digest, parent_digest)
    write_scores(run, digest, {"helpfulness": 0.6, "truthfulness": 0.5, "toxicity": 0.1} | shares)
