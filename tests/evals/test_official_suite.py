"""The official suite through the embedded Hub, in official tasks by their official ids; data from ../shared/data."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_model import save_model

from evals.saved import SavedRun
from evals.suite import open_suite

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data" / "hub"


@pytest.mark.slow
@pytest.mark.skipif(
    not DATA.is_dir(), reason="needs the official data, which are not part of the project: ../shared/data"
)
def test_every_official_task_is_scored_from_the_embedded_hub_or_fails_with_a_reason(tmp_path: Path) -> None:
    hub = [sys.executable, "-m", "release", "hub"]
    subprocess.run([*hub, "import", str(DATA), "--root", str(tmp_path / "hub")], cwd=ROOT, check=True, timeout=120)
    save_model(tmp_path / "checkpoint", context=8192)
    server = subprocess.Popen(
        [*hub, "--root", str(tmp_path / "hub"), "--port", "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert server.stdout is not None
        address = next(
            found.group() for line in server.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+", line))
        )
        words = ["run", str(tmp_path / "checkpoint"), "--suite", "official", "--limit", "2", "--device", "cpu"]
        done = subprocess.run(
            [sys.executable, "-m", "evals", *words, "--out", str(tmp_path / "run")],
            cwd=ROOT,
            env={**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home")},
            capture_output=True,
            text=True,
            timeout=280,
        )
    finally:
        server.terminate()
        server.communicate(timeout=30)
    card = SavedRun.open(tmp_path / "run").scorecard
    assert done.returncode == (2 if card.failed_tasks else 0), done.stderr
    scored = {score.task for score in card.scores}
    assert scored | set(card.failed_tasks) == {task.task for task in open_suite("official").suite.tasks}
    assert all(len(reason) > 20 for reason in card.failed_tasks.values())
    assert scored >= {"truthfulqa_mc1", "truthfulqa_mc2", "realtoxicityprompts_basic", "crows_pairs_english", "gsm8k"}
    for settings in card.settings.tasks:
        assert re.fullmatch("[0-9a-f]{40}", settings.data_revision or ""), "pinned to the commit that the Hub served"
        assert (settings.items, settings.limit) == (2, 2)
    assert card.task_settings("truthfulqa_mc1").data_id == "truthfulqa/truthful_qa/multiple_choice"
    assert card.task_settings("realtoxicityprompts_basic").generation["samples"] == 25
    assert card.task_settings("gsm8k").num_fewshot == 5
