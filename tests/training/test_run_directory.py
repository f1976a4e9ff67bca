"""A run's directory belongs to one process at a time, and what continues has the inputs that it began with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_model import save_model

from training.__main__ import main
from training.errors import UsageError
from training.ppo_recipe import PPORecipe
from training.run_directory import INPUTS, RunDirectory
from training.run_record import DataSource, ParentCheckpoint
from training.saved_state import load_state, save_state

RECIPE = PPORecipe(method="ppo", base="b", reward_model="r", prompts={"source": "starter"})  # type: ignore[arg-type]
HOLDER = """
import sys, time
from pathlib import Path
from training.ppo_recipe import PPORecipe
from training.run_directory import RunDirectory
RunDirectory.open(Path(sys.argv[1]), PPORecipe(method="ppo", base="b", reward_model="r", prompts={"source": "starter"}))
print("open", flush=True)
time.sleep(60)
"""


def base(digest: str, name: str = "org/base") -> ParentCheckpoint:
    return ParentCheckpoint(role="base", name=name, digest=digest)


def rows(sha256: str, heldout: str | None = None) -> DataSource:
    return DataSource(id="rows.jsonl", split="train", sha256=sha256, rows=3, heldout_sha256=heldout)


def write_rows(file: Path, words: str) -> None:
    file.write_text("".join(json.dumps({"prompt": f"{words} {i}?", "completion": "Yes."}) + "\n" for i in range(12)))


def test_a_second_process_is_refused_while_the_first_trains_and_not_once_it_was_killed(tmp_path: Path) -> None:
    first = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert first.stdout.readline() == "open\n"
    with pytest.raises(UsageError, match="another process is training here"):
        RunDirectory.open(tmp_path / "run", RECIPE)
    first.kill()
    first.wait()
    first.stdout.close()
    RunDirectory.open(tmp_path / "run", RECIPE)
    RunDirectory.open(tmp_path / "run", RECIPE)  # the same process may begin again


def test_only_the_first_of_the_processes_of_one_launch_holds_the_directory(tmp_path: Path) -> None:
    RunDirectory.open(tmp_path / "run", RECIPE)
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run")]
    second = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "RANK": "1"})
    assert second.stdout is not None
    assert second.stdout.readline() == "open\n"
    second.kill()
    second.wait()
    second.stdout.close()


def test_what_continues_needs_the_same_contents_wherever_they_lie(tmp_path: Path) -> None:
    run = RunDirectory.open(tmp_path / "run", RECIPE)
    run.hold_inputs([base("a")], [rows("1")], continues=False)
    run.hold_inputs([base("b")], [rows("2")], continues=False)  # nothing was learned from the first
    moved = base("b").model_copy(update={"revision": "another commit of the same files"})
    run.hold_inputs([moved], [rows("2").model_copy(update={"license": "mit"})], continues=True)
    with pytest.raises(UsageError, match="other contents of the base org/base") as refused:
        run.hold_inputs([base("a")], [rows("2")], continues=True)
    assert (refused.value.expected, refused.value.found) == ("b", "a")
    with pytest.raises(UsageError, match=r"the rows of rows.jsonl, split train"):
        run.hold_inputs([base("b")], [rows("1")], continues=True)


def test_what_continues_needs_the_same_held_out_rows_where_the_run_noted_them(tmp_path: Path) -> None:
    run = RunDirectory.open(tmp_path / "run", RECIPE)
    run.hold_inputs([base("b")], [rows("1", "8")], continues=False)
    run.hold_inputs([base("b")], [rows("1", "8")], continues=True)
    for now, found in (("9", "9"), (None, "nothing held out")):
        with pytest.raises(UsageError, match=r"other contents of the rows held out of rows\.jsonl") as refused:
            run.hold_inputs([base("b")], [rows("1", now)], continues=True)
        assert (refused.value.expected, refused.value.found) == ("8", found)
    noted = json.loads((run.state / INPUTS).read_text())
    (run.state / INPUTS).write_text(json.dumps(noted[:2]))  # as an earlier version began it
    run.hold_inputs([base("b")], [rows("1", "9")], continues=True)


def test_metrics_of_steps_that_come_again_are_cut_by_their_number_not_by_their_place(tmp_path: Path) -> None:
    run = RunDirectory.open(tmp_path / "run", RECIPE)
    for step in (1, 3, 2, 4):
        run.log_metrics({"step": step})
    with run.metrics.open("a") as file:
        file.write('{"st')
    run.cut_metrics(2)
    assert [json.loads(line)["step"] for line in run.metrics.read_text().splitlines()] == [1, 2]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "no line of step 1, 2, 3"),
        ('{"step": 1}\n{"step": 3}\n', "no line of step 2, and the saved state is of step 3"),
        ('{"step": 1}\n{"step": 2, "x\n{"step": 3}\n', "line 2"),
    ],
    ids=["gone", "a step missing", "torn in the middle"],
)
def test_metrics_that_do_not_tell_every_step_of_the_saved_state_are_refused(
    tmp_path: Path, content: str, said: str
) -> None:
    run = RunDirectory.open(tmp_path / "run", RECIPE)
    run.metrics.write_text(content)
    with pytest.raises(UsageError) as refused:
        run.cut_metrics(3)
    assert said in (refused.value.found or "")
    assert run.metrics.read_text() == content, "nothing is changed"


@pytest.mark.parametrize("name", ["recipe.json", INPUTS])
def test_a_damaged_note_of_a_run_is_named(tmp_path: Path, name: str) -> None:
    run = RunDirectory.open(tmp_path / "run", RECIPE)
    run.hold_inputs([base("a")], [rows("1")], continues=False)
    (run.state / name).write_text("{")
    with pytest.raises(UsageError, match="damaged") as refused:
        RunDirectory.open(tmp_path / "run", RECIPE).hold_inputs([base("a")], [rows("1")], continues=True)
    assert refused.value.where == str(run.state / name)


@pytest.mark.parametrize("size", [0, 300])
def test_a_saved_state_that_is_not_whole_is_named_with_the_way_on(tmp_path: Path, size: int) -> None:
    file = tmp_path / "state.pt"
    save_state({"weights": torch.arange(9.0), "step": 3}, file)
    assert load_state(file)["step"] == 3
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(UsageError, match="damaged") as refused:
        load_state(file)
    assert refused.value.where == str(file)
    assert "begin again" in (refused.value.next_step or "")


def test_a_run_with_another_base_or_other_data_than_it_began_with_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the command: PPO stopped by its rewards after two of four updates, then what it reads replaced at the same path."""
    model, data, rewards = save_model(tmp_path / "base"), tmp_path / "rows.jsonl", tmp_path / "rewards.py"
    write_rows(data, "question")
    fine = "def length(samples, prompts, outputs):\n    return [len(o) / 9 for o in outputs]\n"
    rewards.write_text("calls = []\n" + fine.replace("return", "calls.append(1)\n    return [] if len(calls) > 2 else"))
    recipe = tmp_path / "ppo.yaml"
    recipe.write_text(
        f"method: ppo\nbase: {model}\nreward_function: {rewards}:length\ndtype: float32\n"
        f"prompts: {{source: {data}, heldout_fraction: 0}}\ngeneration: {{max_new_tokens: 4}}\n"
        "ppo: {total_episodes: 16, batch_size: 4, mini_batch_size: 4, num_ppo_epochs: 1, save_updates: 1}\n"
    )
    words = ["ppo", "--recipe", str(recipe), "--out", str(tmp_path / "run")]
    assert main(words) == 2
    assert (tmp_path / "run" / ".state" / "ppo.pt").is_file()
    rewards.write_text(fine)
    save_model(model, seed=7)
    capsys.readouterr()
    assert main(words) == 2
    assert f"other contents of the base {model}" in capsys.readouterr().err
    save_model(model)
    write_rows(data, "riddle")
    assert main(words) == 2
    assert f"other contents of the rows of {data}" in capsys.readouterr().err
    write_rows(data, "question")
    assert main(words) == 0
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4]


def test_trained_steps_are_not_continued_on_other_data(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, recipe = tmp_path / "rows.jsonl", tmp_path / "sft.yaml"
    write_rows(data, "question")
    recipe.write_text(
        f"method: sft\nbase: {tiny}\ndata: {{source: {data}}}\ndtype: float32\nmax_length: 100\nargs: {{max_steps: 2}}\n"
    )
    words = ["sft", "--recipe", str(recipe), "--out", str(tmp_path / "run")]

    def stop(*_: object) -> None:
        raise RuntimeError("killed while it was measured")

    with monkeypatch.context() as patch:
        patch.setattr("training.sft.loss_change", stop)
        assert main(words) == 1
    write_rows(data, "riddle")
    capsys.readouterr()
    assert main(words) == 2
    assert "other contents of the rows" in capsys.readouterr().err
    write_rows(data, "question")
    assert main(words) == 0
