"""What does not fit into a model's context is refused before training, and what a recipe merely allows is not."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from tiny_model import save_model, save_reward_model
from transformers import BloomConfig, GPT2Config, LlamaConfig

from training.__main__ import main
from training.context_length import context_length, require_context
from training.errors import UsageError

LONG = "word " * 20  # 100 tokens of the tiny tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models of 64 positions, and rows that have more tokens."""
    folder = tmp_path_factory.mktemp("short")
    save_model(folder / "base", context=64)
    save_reward_model(folder / "judge", context=64)
    rows = [{"prompt": f"{number}?", "chosen": f"{number} {LONG}", "rejected": "no"} for number in range(10)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    short = [{"prompt": f"{number}?", "completion": "Yes."} for number in range(10)]
    (folder / "short.jsonl").write_text("".join(json.dumps(row) + "\n" for row in short))
    (folder / "reward.py").write_text(
        "def one(samples, prompts, outputs):\n    return [float(len(o)) for o in outputs]\n"
    )
    return folder


def recipe(folder: Path, out: Path, method: str, **more: object) -> Path:
    value = {"method": method, "base": str(folder / "base"), "dtype": "float32", "memory_check": False, **more}
    file = out / "recipe.yaml"
    file.write_text(yaml.safe_dump(value))
    return file


@pytest.mark.parametrize("method", ["sft", "reward", "dpo", "kto", "ilql", "ppo", "grpo"])
def test_rows_and_answers_beyond_the_context_are_refused_before_training(
    method: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if method in ("ppo", "grpo"):
        more = {"reward_model": str(folder / "judge"), "prompts": {"source": str(folder / "short.jsonl")}}
        what, remedy = "up to 48 sampled ones", "generation.max_new_tokens"
    else:
        more = {"data": {"source": str(folder / "pairs.jsonl")}, "max_length": 500}
        what, remedy = r"\d+ tokens", "lower max_length"
    file = recipe(folder, tmp_path, method, **more)
    assert main([method, "--recipe", str(file), "--out", str(tmp_path / "run")]) == 2
    err = capsys.readouterr().err
    assert "longer than the model's context" in err
    assert "at most 64 tokens" in err
    assert re.search(what, err)
    assert remedy in err
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_pairs_for_people_and_best_of_n_beyond_the_context_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = str(folder / "short.jsonl")
    words = ["feedback-pairs", str(folder / "base"), "--prompts", prompts, "--out", str(tmp_path / "pairs.jsonl")]
    assert main([*words, "--max-new-tokens", "5000"]) == 2
    assert "5000 sampled ones" in capsys.readouterr().err
    file = tmp_path / "best.yaml"
    value = {"method": "best-of-n", "policy": str(folder / "base"), "prompts": {"source": prompts}, "dtype": "float32"}
    file.write_text(yaml.safe_dump(value | {"reward_function": f"{folder}/reward.py:one"}))
    assert main(["best-of-n", "--recipe", str(file), "--out", str(tmp_path / "best")]) == 2
    assert "48 sampled ones" in capsys.readouterr().err


def test_held_out_pairs_that_the_reward_model_could_not_read_are_refused_too(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = {"source": str(folder / "pairs.jsonl"), "heldout_fraction": 0.2}
    rows = [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()]
    mixed = tmp_path / "mixed.jsonl"
    rows += [{"prompt": f"short {number}?", "chosen": "yes", "rejected": "no"} for number in range(30)]
    mixed.write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = recipe(folder, tmp_path, "reward", data=data | {"source": str(mixed)}, max_length=60)
    assert main(["reward", "--recipe", str(file), "--out", str(tmp_path / "run")]) == 2
    assert "leave longer pairs out" in capsys.readouterr().err


def test_a_recipe_may_allow_more_than_its_rows_have(folder: Path, tmp_path: Path) -> None:
    data = {"source": str(folder / "short.jsonl")}
    file = recipe(folder, tmp_path, "sft", data=data, max_length=500, args={"max_steps": 1})
    assert main(["sft", "--recipe", str(file), "--out", str(tmp_path / "run")]) == 0


def test_the_context_is_what_the_config_says_stretched_where_it_says_so() -> None:
    assert context_length(GPT2Config(n_positions=64)) == 64
    assert context_length(BloomConfig()) is None, "ALiBi has no positions to run out of"
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128, "rope_theta": 1e4}
    assert context_length(LlamaConfig(max_position_embeddings=128, rope_parameters=yarn)) == 512
    require_context(GPT2Config(n_positions=64), [16], "", sampled=48)
    with pytest.raises(UsageError, match="a prompt of 17 tokens and up to 48 sampled ones"):
        require_context(GPT2Config(n_positions=64), [16, 17], "", sampled=48)
