"""A sweep's journal as a kill leaves it, cut at any line and within it: the sweep goes on and tries what it would have tried."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from optuna.trial import TrialState

from training.errors import UsageError
from training.recipe import SFTRecipe
from training.run_record import RunRecord, hardware, now
from training.sweep import JOURNAL, Sweep
from training.sweep_record import SweepRecord
from training.sweep_settings import SweepSettings
from training.yaml_file import load

RECIPE = {"method": "sft", "base": "unused", "data": {"source": "starter"}, "lora": {"r": 2}}
TRIALS = 3


def trained(words: list[str]) -> tuple[int, str]:
    """A trial that takes no time; its loss is that of its values."""
    out = Path(words[words.index("--out") + 1])
    values = dict(word.split("=", 1) for word in words if "=" in word)
    if not (out / "run.json").is_file():
        out.mkdir(parents=True, exist_ok=True)
        (out / "metrics.jsonl").write_text('{"step": 1}\n')
        RunRecord(
            method="sft", checkpoint_digest="sha256:0", recipe={}, parents=[], data=[], seed=0, packages={},
            git_revision=None, hardware=hardware("cpu"), started=now(), seconds=1.0,
            metrics={"heldout_loss_after": float(values["args.learning_rate"]) * int(values["lora.r"])},
        ).write(out / "run.json")  # fmt: skip
    return 0, ""


def files(folder: Path, sampler: str) -> tuple[Path, Path]:
    rates = [1e-4, 1e-3] if sampler == "grid" else {"low": 1e-4, "high": 1e-2, "log": True}
    over = {"trials": TRIALS, "sampler": sampler, "over": {"args.learning_rate": rates, "lora.r": [2, 4]}}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    (folder / "over.yaml").write_text(yaml.safe_dump(over))
    return folder / "over.yaml", folder / "recipe.yaml"


def run(over: Path, recipe: Path, out: Path) -> SweepRecord:
    from training.directory_lock import let_go

    try:
        return Sweep(load(over, SweepSettings), "sft", str(recipe), SFTRecipe, [], out).run(trained)
    finally:
        let_go()


def tried(record: SweepRecord) -> list[tuple[dict, float | None]]:
    return [(trial.values, trial.value) for trial in record.trials]


@pytest.mark.parametrize("sampler", ["grid", "tpe"])
def test_a_sweep_goes_on_from_its_journal_wherever_a_kill_has_cut_it(sampler: str, tmp_path: Path) -> None:
    over, recipe = files(tmp_path, sampler)
    straight = run(over, recipe, tmp_path / "straight")
    lines = (tmp_path / "straight" / JOURNAL).read_bytes().splitlines(keepends=True)
    assert len(lines) > 3 * TRIALS
    for kept in range(len(lines)):
        for torn in (b"", lines[kept][: len(lines[kept]) // 2], lines[kept][:-1]):
            out = tmp_path / "cut"
            shutil.copytree(tmp_path / "straight", out)
            (out / "sweep.json").unlink()
            (out / JOURNAL).write_bytes(b"".join(lines[:kept]) + torn)
            told = {
                each["trial_id"] for each in map(json.loads, lines[:kept]) if each.get("state") == TrialState.COMPLETE
            }
            for trial in (out / "trials").iterdir():  # of what was run later there is nothing yet
                if int(trial.name) not in told:
                    shutil.rmtree(trial)
            assert tried(run(over, recipe, out)) == tried(straight), (kept, torn)
            shutil.rmtree(out)


def test_a_journal_that_is_damaged_is_named(tmp_path: Path) -> None:
    over, recipe = files(tmp_path, "grid")
    run(over, recipe, tmp_path / "out")
    journal = tmp_path / "out" / JOURNAL
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:3], lines[3][:10] + b"\n", *lines[4:]]))
    (tmp_path / "out" / "sweep.json").unlink()
    with pytest.raises(UsageError, match=r"damaged[\s\S]*study\.jsonl[\s\S]*line 4"):
        run(over, recipe, tmp_path / "out")


def test_the_journals_lock_of_a_killed_sweep_is_not_waited_for(tmp_path: Path) -> None:
    over, recipe = files(tmp_path, "grid")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / f"{JOURNAL}.lock").touch()
    assert run(over, recipe, tmp_path / "out").best is not None
