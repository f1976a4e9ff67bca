"""`evals run` from end to end on a tiny model: what it writes, what it keeps, and what it refuses."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_model import save_model

from evals.__main__ import main
from evals.compare import compare
from evals.evaluated import Weights
from evals.run import Request, evaluate
from evals.saved import SavedRun
from evals.scorecard import Scorecard
from training.checkpoint import Checkpoint
from training.errors import UsageError

LIMIT = 6
ROOT = Path(__file__).parents[2]


def without_time(card: Scorecard) -> Scorecard:
    return card.model_copy(update={"seconds": 0.0, "created": ""})


def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Weights, "model", property(lambda _: pytest.fail("the weights were loaded")))


def test_a_scorecard_names_the_digest_and_everything_that_moves_its_figures(parent: Path, models: Path) -> None:
    card = SavedRun.open(parent).scorecard
    assert card.model.digest == Checkpoint.open(models / "parent").digest
    assert card.failed_tasks == {}
    assert {settings.task: settings.items for settings in card.settings.tasks} == dict.fromkeys(
        ["starter_truthfulness", "starter_toxicity", "starter_instructions", "starter_helpfulness"], LIMIT
    )
    assert (card.settings.suite, card.settings.dtype, card.settings.seed) == ("starter", "float32", 0)
    assert all(settings.limit == LIMIT for settings in card.settings.tasks)
    assert card.model.parameters > 10_000
    for score in card.scores:
        assert score.interval.low <= score.value <= score.interval.high
        assert score.n + score.unscored <= LIMIT
    for task in card.samples:
        assert len(SavedRun.open(parent).samples(task)) == LIMIT


def test_a_childs_run_holds_its_parents_scores_and_a_win_rate_against_it(parent: Path, child: Path) -> None:
    card = SavedRun.open(child).scorecard
    win = card.score("starter_helpfulness", "win_rate")
    assert win.n == LIMIT
    assert win.headline
    assert "longer answer wins" in win.baseline
    copied = SavedRun.open(child / "baseline")
    assert copied.scorecard == SavedRun.open(parent).scorecard
    assert copied.samples("starter_toxicity") == SavedRun.open(parent).samples("starter_toxicity")
    told = {sample.detail["parent_response"] for sample in SavedRun.open(child).samples("starter_helpfulness")}
    assert told == {sample.response for sample in copied.samples("starter_helpfulness")}


def test_the_child_can_be_compared_with_its_baseline(child: Path) -> None:
    found = compare(child / "baseline", child)
    assert {row.task for row in found.rows} >= {"starter_truthfulness", "starter_toxicity", "starter_instructions"}
    assert found.not_compared == {"starter_helpfulness/win_rate": "only B has it"}
    assert all(row.n <= LIMIT and row.unpaired == 0 for row in found.rows)


def test_running_again_loads_no_weights_and_gives_the_same_scorecard(
    asked: Request, parent: Path, tmp_path: Path, monkeypatch
) -> None:
    out = Path(shutil.copytree(parent, tmp_path / "again"))
    before = SavedRun.open(out).scorecard
    no_weights(monkeypatch)
    assert without_time(evaluate(replace(asked, out=out))) == without_time(before)


def test_a_checkpoint_that_moved_keeps_its_answers_for_they_are_found_by_digest(
    asked: Request, parent: Path, models: Path, tmp_path: Path, monkeypatch
) -> None:
    out = Path(shutil.copytree(parent, tmp_path / "again"))
    moved = Path(shutil.copytree(models / "parent", tmp_path / "moved"))
    no_weights(monkeypatch)
    card = evaluate(replace(asked, out=out, source=str(moved)))
    assert card.scores == SavedRun.open(parent).scorecard.scores


def test_other_weights_at_the_same_path_never_meet_the_old_answers(
    asked: Request, parent: Path, child: Path, tmp_path: Path
) -> None:
    checkpoint = save_model(tmp_path / "checkpoint", seed=0, context=2048)
    out = Path(shutil.copytree(parent, tmp_path / "out"))
    (out / "scorecard.json").unlink()  # broken off before it was written
    shutil.rmtree(checkpoint)
    save_model(checkpoint, seed=1, context=2048)  # the child's weights
    card = evaluate(replace(asked, source=str(checkpoint), out=out))
    new, theirs = SavedRun.open(out), SavedRun.open(child)
    assert card.model.digest == theirs.scorecard.model.digest != SavedRun.open(parent).scorecard.model.digest
    assert new.samples("starter_truthfulness") == theirs.samples("starter_truthfulness")


def test_an_interrupted_run_continues_where_it_was(asked: Request, parent: Path, tmp_path: Path, monkeypatch) -> None:
    """Interrupted in the third task: the first two are not computed again, and the end is the same."""
    import evals.score_tasks as run

    score, scored = run._answer_and_score, []

    def interrupted(one, *rest):
        if len(scored) == 2:
            raise KeyboardInterrupt
        scored.append(one.settings.task)
        return score(one, *rest)

    monkeypatch.setattr(run, "_answer_and_score", interrupted)
    out = tmp_path / "out"
    command = ["run", asked.source, "--suite", "starter", "--out", str(out), "--judge", str(asked.judge)]
    command += ["--limit", str(LIMIT), "--dtype", "float32", "--device", "cpu"]
    assert main(command) == 130
    assert not (out / "scorecard.json").exists(), "a scorecard is written last"
    assert len(list((out / ".evals").glob("starter_t*.jsonl"))) == 2
    monkeypatch.setattr(run, "_answer_and_score", score)
    kept = {file: file.stat().st_mtime_ns for file in (out / ".evals").iterdir()}
    assert main(command) == 0
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
    lines = [json.loads(line) for file in kept for line in file.read_bytes().splitlines()]
    assert SavedRun.open(out).scorecard.seconds > sum(line["seconds"] for line in lines) > 0
    assert SavedRun.open(out).scorecard.scores == SavedRun.open(parent).scorecard.scores


def test_a_task_that_fails_is_named_and_takes_no_other(
    asked: Request, parent: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    import evals.toxicity

    monkeypatch.setattr(
        evals.toxicity, "score_toxicity", lambda *_: (_ for _ in ()).throw(RuntimeError("the scorer broke"))
    )
    out = Path(shutil.copytree(parent, tmp_path / "out"))
    with pytest.raises(UsageError, match="1 task of the suite failed: starter_toxicity"):
        evaluate(replace(asked, out=out))
    card = SavedRun.open(out).scorecard
    assert card.failed_tasks == {"starter_toxicity": "RuntimeError: the scorer broke"}
    kept = [score for score in SavedRun.open(parent).scorecard.scores if score.task != "starter_toxicity"]
    assert card.scores == kept
    assert "starter_toxicity" not in card.samples


def test_a_baseline_of_other_settings_is_refused_before_weights_are_loaded(
    asked: Request, parent: Path, models: Path, tmp_path: Path, monkeypatch
) -> None:
    no_weights(monkeypatch)
    changed = replace(asked, source=str(models / "child"), out=tmp_path / "out", baseline=parent, limit=LIMIT + 1)
    with pytest.raises(UsageError, match="different settings") as refused:
        evaluate(changed)
    assert f"limit: {LIMIT} / {LIMIT + 1}" in str(refused.value.found)


def test_a_baseline_of_another_digest_than_its_checkpoint_is_refused(
    asked: Request, parent: Path, models: Path, tmp_path: Path, capsys
) -> None:
    stale = Path(shutil.copytree(parent, tmp_path / "stale"))
    shutil.copytree(models / "child", stale / "checkpoint")
    words = ["run", str(models / "child"), "--suite", "starter", "--limit", str(LIMIT), "--dtype", "float32"]
    assert main([*words, "--out", str(tmp_path / "out"), "--baseline", str(stale), "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["what"] == "the scorecard is of another checkpoint than the one beside it"
    assert error["found"] == Checkpoint.open(models / "child").digest


def broken(models: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(models / "parent", tmp_path / "broken"))


def refused(source: object, tmp_path: Path, capsys) -> dict[str, str]:
    code = main(["run", str(source), "--suite", "starter", "--limit", "2", "--out", str(tmp_path / "out"), "--json"])
    printed = json.loads(capsys.readouterr().out)
    assert code == printed["error"]["exit_code"] == 2
    assert not (tmp_path / "out" / "scorecard.json").exists()
    return dict(printed["error"])


def test_weights_that_are_missing_pickled_or_truncated_are_refused(models: Path, tmp_path: Path, capsys) -> None:
    checkpoint = broken(models, tmp_path)
    weights = checkpoint / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-10])
    assert "truncated" in refused(checkpoint, tmp_path, capsys)["what"]
    weights.rename(checkpoint / "pytorch_model.bin")
    assert "pickled" in refused(checkpoint, tmp_path, capsys)["what"]
    (checkpoint / "pytorch_model.bin").unlink()
    assert "no weights" in refused(checkpoint, tmp_path, capsys)["what"]
    assert "no checkpoint directory" in refused(tmp_path / "nowhere", tmp_path, capsys)["what"]


def test_weights_that_are_not_finite_or_not_whole_stop_the_run_and_name_the_tensor(
    models: Path, tmp_path: Path, capsys
) -> None:
    from safetensors.torch import load_file, save_file

    checkpoint = broken(models, tmp_path)
    tensors = load_file(checkpoint / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    bad = {**tensors, name: tensors[name].clone()}
    bad[name][0, 0] = float("nan")
    save_file(bad, checkpoint / "model.safetensors", metadata={"format": "pt"})
    error = refused(checkpoint, tmp_path, capsys)
    assert error["what"] == f"the weights are not finite: {name}"
    save_file({key: value for key, value in tensors.items() if key != name}, checkpoint / "model.safetensors")
    error = refused(checkpoint, tmp_path, capsys)
    assert "lack tensors" in error["what"]
    assert error["expected"] == name


def test_a_full_disk_ends_the_run_and_is_not_blamed_on_a_task(
    asked: Request, tmp_path: Path, monkeypatch, capsys
) -> None:
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    words = ["run", asked.source, "--suite", "starter", "--limit", "2", "--out", str(tmp_path / "out"), "--json"]
    assert main([*words, "--device", "cpu"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["what"].startswith("no space left on the disk")
    assert not (tmp_path / "out" / "scorecard.json").exists()


def test_a_limit_of_nothing_an_unknown_device_and_an_out_that_is_a_file_are_refused(
    models: Path, tmp_path: Path, capsys
) -> None:
    words = ["run", str(models / "parent"), "--suite", "starter"]
    (tmp_path / "file").write_text("")
    assert main([*words, "--out", str(tmp_path / "a"), "--limit", "0"]) == 2
    assert main([*words, "--out", str(tmp_path / "a"), "--device", "abacus"]) == 2
    assert main([*words, "--out", str(tmp_path / "file")]) == 2
    told = capsys.readouterr().err
    assert "--limit must be at least 1" in told
    assert "unknown device" in told
    assert "the output directory is a file" in told


def test_help_answers_without_importing_torch() -> None:
    code = (
        "import sys; from evals.__main__ import main\n"
        "code = 0\n"
        "try: main(['run', '--help'])\n"
        "except SystemExit as end: code = end.code\n"
        "heavy = {'torch', 'transformers', 'lm_eval', 'datasets', 'evaluate', 'numpy', 'scipy'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "--baseline" in done.stdout


def test_an_interrupt_from_the_keyboard_ends_with_130_and_running_again_continues(models: Path, tmp_path: Path) -> None:
    suite, out = tmp_path / "short.yaml", tmp_path / "out"
    suite.write_text("description: s\ntasks:\n  - {task: starter_truthfulness, group: truthfulness}\n")
    words = ["run", str(models / "parent"), "--suite", str(suite), "--out", str(out), "--device", "cpu"]
    process = subprocess.Popen(
        [sys.executable, "-m", "evals", *words],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
        # A shell lets what it runs in the background ignore this signal, and pytest hands that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    kept = (out / ".evals").glob
    while process.poll() is None and not any(file.stat().st_size for file in kept("starter_truthfulness-*.jsonl")):
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 130, told
    assert "run the same command again to continue" in told
    assert not (out / "scorecard.json").exists()
    answered = next((out / ".evals").glob("starter_truthfulness-*.jsonl"))
    before = answered.read_text().splitlines()
    assert 1 <= len(before) < 3
    assert main(words) == 0
    assert answered.read_text().splitlines()[: len(before)] == before
    assert len(answered.read_text().splitlines()) == 3
    assert SavedRun.open(out).scorecard.score("starter_truthfulness", "mc1").n == 140
