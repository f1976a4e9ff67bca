"""Several processes share an evaluation, and its scorecard is that of one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from own_task import CHOICES, TEXTS, write_suite, write_task
from tiny_model import save_model

from evals.__main__ import main
from evals.answers import Answers
from evals.processes import Processes
from training.errors import UsageError

ROOT = Path(__file__).parents[2]


def test_every_batch_falls_to_one_process() -> None:
    shares = [Processes(rank, 3).share(list(range(10))) for rank in range(3)]
    assert sorted(item for share in shares for item in share) == list(range(10))
    assert max(map(len, shares)) - min(map(len, shares)) == 1


def test_a_process_writes_to_a_file_of_its_own_and_reads_those_of_all(tmp_path: Path) -> None:
    first, second = (Answers(tmp_path, "t", {"seed": 0}, rank) for rank in range(2))
    first.of(["a"], lambda: ["A"], lambda: "prefix tree")
    second.of(["b"], lambda: ["B"])
    assert first.file != second.file
    assert not first.has(["b"])
    for answers in (first, second, Answers(tmp_path, "t", {"seed": 0})):
        answers.read()
        assert answers.of(["a"], lambda: []) == ["A"]
        assert answers.of(["b"], lambda: []) == ["B"]
    assert not Answers(tmp_path, "t", {"seed": 1}).has(["a"])


def test_one_process_agrees_with_itself_and_raises_its_own_error() -> None:
    Processes().agree()
    with pytest.raises(UsageError, match="of this process"):
        Processes().agree(UsageError("of this process"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_give_the_same_scorecard_as_one_which_goes_on_from_their_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save_model(tmp_path / "model", context=2048)
    write_task(tmp_path, CHOICES, rows=[{"q": f"Question {n}", "c": [" it", " they"], "a": n % 2} for n in range(200)])
    sampled = {"until": [], "max_gen_toks": 4, "do_sample": True, "temperature": 1.0}
    write_task(tmp_path, TEXTS, "texts", generation_kwargs=sampled)
    suite = write_suite(
        tmp_path,
        "task: words, group: other, file: words.yaml",
        "task: texts, group: toxicity, file: texts.yaml, scoring: profanity, samples: 2, batch_size: 2",
    )
    words = ["run", str(model), "--suite", str(suite), "--device", "cpu", "--json", "--out"]
    # accelerate's --cpu starts one process only; --multi_gpu starts as many as asked for, with or without GPUs.
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
    together = subprocess.run(
        [sys.executable, *launch, "-m", "evals", *words, str(tmp_path / "two")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert together.returncode == 0, together.stderr
    assert main([*words, str(tmp_path / "one")]) == 0
    assert json.loads(together.stdout)["scores"] == json.loads(capsys.readouterr().out)["scores"], "printed once"
    cards = [json.loads((tmp_path / out / "scorecard.json").read_text()) for out in ("one", "two")]
    assert {**cards[0], "created": "", "seconds": 0} == {**cards[1], "created": "", "seconds": 0}
    for task in ("words", "texts"):
        files = sorted((tmp_path / "two" / ".evals").glob(f"{task}-*.jsonl"))
        lines = [len(file.read_text().splitlines()) for file in files]
        assert len(lines) == 2, "each process has answered"
        (whole,) = (tmp_path / "one" / ".evals").glob(f"{task}-*.jsonl")
        assert sum(lines) == len(whole.read_text().splitlines()), "and no batch twice"
        assert main([*words, str(tmp_path / "two")]) == 0
        assert [len(file.read_text().splitlines()) for file in files] == lines, "nothing was left to compute"
