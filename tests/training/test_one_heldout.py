"""One held-out row or prompt: figures without standard errors and intervals, in the record, on the terminal and in the report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from tiny_model import save_reward_model

from training.__main__ import main
from training.run_record import RunRecord

# By method: the figure that has an interval where there are several rows.
FIGURES = {
    "sft": "heldout_loss_change",
    "kto": "heldout_auc",
    "rloo": "heldout_reward_change",
    "grpo": "heldout_reward_change",
    "ilql": "steering_change",
    "reward": "heldout_accuracy",
}


def recipe(folder: Path, method: str, tiny: Path) -> Path:
    rows = [{"prompt": f"Colour {number}?", "chosen": "blue", "rejected": "red"} for number in range(12)]
    pairs = folder / "pairs.jsonl"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    held_out = {"kto": 2}.get(method, 1)  # a pair taken apart is two answers
    data = {"source": str(pairs), "heldout_limit": held_out}
    one = {"source": str(pairs), "limit": 1, "heldout_fraction": 0.0}
    args = {"max_steps": 2, "per_device_train_batch_size": 8, "logging_steps": 1}
    judge = {"reward_model": str(save_reward_model(folder / "judge"))}
    more = {
        "ilql": {
            "ilql": {"batch_size": 4, "total_steps": 2},
            "evaluation": {"prompts": one, **judge},
            "steering": {"max_new_tokens": 4},
        },
        "best-of-n": {"policy": str(tiny), "prompts": one, "n": 16, "generation": {"max_new_tokens": 150}, **judge},
    }
    online = {"args": args, "prompts": data, "generation": {"max_new_tokens": 4}, **judge}
    value = {"method": method, "dtype": "float32", **({} if method == "best-of-n" else {"base": str(tiny)})}
    if method in ("rloo", "grpo"):
        value |= online
    elif method != "best-of-n":
        value |= {"data": data, **({} if method == "ilql" else {"args": args, "max_length": 100})}
    file = folder / f"{method}.yaml"
    file.write_text(yaml.safe_dump({**value, **more.get(method, {})}))
    return file


@pytest.mark.parametrize("method", sorted(FIGURES))
def test_what_is_measured_on_one_row_has_no_standard_error(
    method: str, tmp_path: Path, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    file = recipe(tmp_path, method, tiny)
    assert main([method, "--recipe", str(file), "--out", str(out)]) == 0
    assert f"{FIGURES[method]}_stderr" in (said := capsys.readouterr().out)
    assert "none, of a single value" in said
    figure, metrics = FIGURES[method], RunRecord.read(out / "run.json").metrics
    assert metrics[figure] is not None
    assert metrics[f"{figure}_stderr"] is None
    if method != "reward":  # Wilson's interval of one pair is as wide as it has to be
        assert (metrics[f"{figure}_low"], metrics[f"{figure}_high"]) == (None, None)
    assert json.loads((out / "run.json").read_text())["metrics"][f"{figure}_stderr"] is None
    assert main(["report", str(out)]) == 0
    assert "none, of a single value" in (out / "report.html").read_text()


def test_the_best_answers_to_one_prompt_have_no_standard_error(
    tmp_path: Path, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = recipe(tmp_path, "best-of-n", tiny)
    assert main(["best-of-n", "--recipe", str(file), "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert "no standard errors: there was one prompt" in said
    assert "±" not in said
    rows = json.loads((tmp_path / "run" / "best_of_n.json").read_text())["best_of"]
    assert {(row["stderr"], row["gain_stderr"]) for row in rows} == {(None, None)}
