"""A sweep tries values as ordinary runs, goes on where it was stopped, and says which did best and what failed."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from pathlib import Path

import pytest
import yaml

from training.__main__ import METHODS, main
from training.directory_lock import LOCK, is_held
from training.errors import UsageError
from training.run_record import RunRecord, hardware, now
from training.sweep import Sweep
from training.sweep_flaws import flaw_of
from training.sweep_record import SweepRecord
from training.sweep_settings import SweepSettings
from training.yaml_file import load


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    rows = [{"prompt": f"Colour {number}?", "completion": "blue"} for number in range(20)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    value = {
        "method": "sft",
        "base": str(tiny),
        "dtype": "float32",
        "lora": {"r": 2, "target_modules": ["q_proj", "v_proj"]},
        "data": {"source": str(folder / "rows.jsonl")},
        "max_length": 60,
        "args": {"max_steps": 2, "per_device_train_batch_size": 8},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(value))
    return folder / "recipe.yaml"


def settings(folder: Path, **changes: object) -> Path:
    value = {
        "trials": 4,
        "over": {"args.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}, "lora.r": [2, 4]},
        **changes,
    }
    file = folder / "over.yaml"
    file.write_text(yaml.safe_dump(value))
    return file


def in_this_process(words: list[str]) -> tuple[int, str]:
    """A trial without the seconds that a new process takes to import."""
    return main(words), "said"


def sweep(over: Path, recipe: Path, out: Path, *overrides: str) -> Sweep:
    return Sweep(load(over, SweepSettings), "sft", str(recipe), METHODS["sft"].recipe, list(overrides), out)


def test_an_interrupted_sweep_ends_as_one_that_was_not(tmp_path: Path, recipe: Path) -> None:
    """Interrupted in the third trial, before it had trained and after: its values are not drawn anew, nor is it run twice."""
    over = settings(tmp_path)
    straight = sweep(over, recipe, tmp_path / "straight").run(in_this_process)
    begun: list[str] = []

    def interrupted(words: list[str]) -> tuple[int, str]:
        begun.append(words[words.index("--out") + 1])
        if len(begun) == 3:
            return 130, ""
        found = in_this_process(words)
        if len(begun) == 4:
            raise KeyboardInterrupt
        return found

    out = tmp_path / "stopped"
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            sweep(over, recipe, out).run(interrupted)
        assert not (out / "sweep.json").exists()
    stopped = sweep(over, recipe, out).run(interrupted)
    assert [Path(place).name for place in begun] == ["000", "001", "002", "002", "002", "003"]

    def told(record: SweepRecord) -> list[tuple]:
        return [(each.values, each.value, each.checkpoint_digest) for each in record.trials]

    assert told(stopped) == told(straight)
    assert stopped.best == straight.best
    assert sweep(over, recipe, out).run(interrupted) == stopped  # complete: nothing is trained again
    assert len(begun) == 6


def test_a_sweep_has_its_directory_for_itself_and_waits_for_a_trial_that_a_killed_one_left_behind(
    tmp_path: Path, recipe: Path
) -> None:
    over, out = settings(tmp_path, trials=1), tmp_path / "out"
    other = locked(out)
    with pytest.raises(UsageError, match="another process is sweeping here"):
        sweep(over, recipe, out).run(in_this_process)
    os.close(other)
    orphan = locked(out / "trials" / "000" / ".state")  # killed with -9, a sweep does not take its trial along
    threading.Timer(1.2, os.close, [orphan]).start()
    free: list[bool] = []

    def when_free(words: list[str]) -> tuple[int, str]:
        free.append(not is_held(out / "trials" / "000" / ".state"))
        return in_this_process(words)

    assert sweep(over, recipe, out).run(when_free).best == 0, "it has not failed for being in use"
    assert free == [True]


def locked(directory: Path) -> int:
    """An open file that holds the directory, as another process would."""
    directory.mkdir(parents=True)
    file = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT)
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def test_each_trial_is_an_ordinary_run_and_the_best_is_by_the_objective(tmp_path: Path, recipe: Path) -> None:
    out = tmp_path / "out"
    over = settings(tmp_path, trials=9, sampler="grid", over={"args.learning_rate": [1e-5, 1e-2, 1e-3], "seed": [0]})
    with pytest.raises(UsageError, match="fewer than two values"):
        sweep(over, recipe, out)
    over = settings(tmp_path, trials=9, sampler="grid", over={"args.learning_rate": [1e-5, 1e-2, 1e-3]})
    record = sweep(over, recipe, out, "seed=3").run(in_this_process)
    assert len(record.trials) == 3  # every combination once, however many were asked for
    runs = {each.number: RunRecord.read(out / each.run / "run.json") for each in record.trials}
    assert {run.recipe["args"]["learning_rate"] for run in runs.values()} == {1e-5, 1e-2, 1e-3}
    assert all(run.seed == 3 for run in runs.values())
    assert record.best is not None
    assert runs[record.best].metrics["heldout_loss_after"] == min(
        run.metrics["heldout_loss_after"] for run in runs.values()
    )
    lines = (out / "sweep.md").read_text().splitlines()
    assert lines[2] == "| trial | args.learning_rate | seconds | heldout_loss_after |"
    assert lines[4].startswith(f"| {record.best} | ")
    assert "flatters" in lines[-1]


def test_the_command_runs_a_trial_as_a_process_and_prints_the_record(
    tmp_path: Path, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    over = settings(tmp_path, sampler="grid", trials=1, over={"lora.r": [2, 4]})
    words = ["sweep", "--method", "sft", "--recipe", str(recipe), "--over", str(over), "--out", str(tmp_path / "out")]
    assert main([*words, "--price", "1.20 EUR", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [trial["values"] for trial in found["trials"]] == [{"lora.r": 2}]
    run = RunRecord.read(tmp_path / "out" / "trials" / "000" / "run.json")
    assert found["trials"][0]["value"] == run.metrics["heldout_loss_after"]
    assert run.price is not None
    assert (run.price.per_hour, run.price.currency) == (1.2, "EUR")
    assert SweepRecord.read(tmp_path / "out" / "sweep.json").best == found["best"] == 0


def test_a_trial_that_fails_is_told_with_its_reason_and_the_sweep_goes_on(tmp_path: Path, recipe: Path) -> None:
    """No row is short enough for one of the two lengths."""
    over = settings(tmp_path, sampler="grid", over={"max_length": [9, 60]})
    record = sweep(over, recipe, tmp_path / "out").run(in_this_process)
    failed, done = record.trials
    assert (failed.value, failed.why) == (None, "said")
    assert record.best == done.number == 1
    assert "| 0 | 9 |  | failed: said |" in (tmp_path / "out" / "sweep.md").read_text()


def test_a_trial_that_diverged_has_failed_however_well_its_figure_looks(tmp_path: Path, recipe: Path) -> None:
    """Its weights are not numbers, which the run itself does not mind."""
    over = settings(tmp_path, sampler="grid", over={"args.learning_rate": [1e30, 1e-3]})
    record = sweep(over, recipe, tmp_path / "out", "args.logging_steps=1", "args.max_steps=3").run(in_this_process)
    failed, done = record.trials
    assert failed.value is None
    assert "grad_norm is nan in step" in (failed.why or "")
    assert record.best == done.number == 1
    rows = (tmp_path / "out" / "sweep.md").read_text()
    assert "| 0 | 1e+30 |  | failed: not trained to a usable end" in rows


@pytest.mark.parametrize(
    ("method", "lines", "metrics", "flaw"),
    [
        ("reward", [{"step": 1, "grad_norm": 1.5}, {"step": 2, "grad_norm": 0.0}], 1.0, "saturated"),
        ("grpo", [{"step": 1, "grad_norm": 0.0}], 1.0, None),
        ("ilql", [{"step": 1, "loss": 0.5}], float("nan"), "objective is nan"),
        ("ppo", [{"step": 1, "value_loss": float("inf")}], 1.0, "value_loss is inf in step 1"),
        ("sft", [{"step": 1, "grad_norm": 0.5}, {"step": 2, "train_loss": 0.1}], 1.0, None),
    ],
)
def test_what_makes_a_run_no_candidate(
    method: str, lines: list[dict], metrics: float, flaw: str | None, tmp_path: Path, recipe: Path
) -> None:
    record = RunRecord(
        method=method, checkpoint_digest="sha256:0", recipe={}, parents=[], data=[], seed=0, packages={},
        git_revision=None, hardware=hardware("cpu"), started=now(), seconds=1.0, metrics={"objective": metrics},
    )  # fmt: skip
    record.write(tmp_path / "run.json")
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = flaw_of(tmp_path, "objective")
    assert found is None if flaw is None else flaw in found


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"over": {"args.learning_rate": {"low": 1e-2, "high": 1e-4}}}, "low must be below high"),
        ({"over": {"seed": {"low": 0, "high": 8, "log": True}}}, "log needs a low above 0"),
        ({"sampler": "grid"}, "a grid is of lists"),
        ({"objective": "heldout_loss_after"}, "needs a direction"),
        ({"objective": "heldout_los_after", "direction": "minimize"}, "did you mean heldout_loss_after?"),
        ({"objective": "steered_reward", "direction": "maximize"}, "runs of sft with this recipe have no metric"),
        ({"over": {"data.heldout_fraction": [0.2, 0.0]}}, "no metric of the name heldout_loss_after"),
        ({"over": {"lora.rank": [2, 4]}}, "unknown key 'lora.rank'"),
        ({"over": {"lora.r": [2, 0]}}, "wrong value for 'lora.r'"),
        ({"trails": 3}, "unknown key 'trails'"),
    ],
)
def test_a_sweep_that_cannot_be_run_is_refused_before_anything_is_trained(
    changes: dict, what: str, tmp_path: Path, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    over = settings(tmp_path, **changes)
    words = ["sweep", "--method", "sft", "--recipe", str(recipe), "--over", str(over), "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert what in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_metric_that_only_the_first_trial_shows_to_be_missing_costs_no_trial(
    tmp_path: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a class of lengths that no held-out pair is of. The other objective is to be lowered, where this one was to be raised."""
    monkeypatch.setattr(
        "training.sweep.metric_names", lambda _: {"heldout_accuracy_chosen_alike", "heldout_loss_after"}
    )
    straight = sweep(settings(tmp_path, trials=2), recipe, tmp_path / "straight").run(in_this_process)
    missing, out = {"objective": "heldout_accuracy_chosen_alike", "direction": "maximize"}, tmp_path / "out"
    with pytest.raises(UsageError, match="no metric of the name heldout_accuracy_chosen_alike") as refused:
        sweep(settings(tmp_path, trials=2, **missing), recipe, out).run(in_this_process)
    assert "heldout_loss_after" in refused.value.render()
    written = (out / "trials" / "000" / "run.json").stat().st_mtime_ns
    found = sweep(settings(tmp_path, trials=2), recipe, out).run(in_this_process)
    assert (out / "trials" / "000" / "run.json").stat().st_mtime_ns == written
    assert [each.value for each in found.trials] == [each.value for each in straight.trials]
    assert (found.best, found.direction) == (straight.best, "minimize")
    with pytest.raises(UsageError, match="holds another sweep"):
        sweep(settings(tmp_path, trials=2, **missing), recipe, out)


def test_another_sweep_and_trials_that_all_fail_are_refused(tmp_path: Path, recipe: Path) -> None:
    sweep(settings(tmp_path, seed=3), recipe, tmp_path / "out")
    with pytest.raises(UsageError, match="holds another sweep"):
        sweep(settings(tmp_path), recipe, tmp_path / "out")
    tried: list[list[str]] = []
    with pytest.raises(UsageError, match="all of the first 3 trials failed"):
        sweep(settings(tmp_path), recipe, tmp_path / "failing").run(
            lambda words: (tried.append(words), (2, "no rows"))[1]
        )
    assert len(tried) == 3
