"""An evaluation that is killed again and again ends with the scorecard of one that was not."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from own_task import write_suite
from tiny_model import save_model

ROOT = Path(__file__).parents[2]
KILLS = 10


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_suite_killed_at_ten_random_moments_gives_the_same_scorecard_in_the_end(tmp_path: Path) -> None:
    model = save_model(tmp_path / "model", context=2048)
    suite = write_suite(
        tmp_path,
        "task: starter_truthfulness, group: truthfulness, headline: [mc1]",
        "task: starter_toxicity, group: toxicity, scoring: profanity, batch_size: 4",
        "task: starter_instructions, group: helpfulness, batch_size: 6",
    )
    words = [sys.executable, "-m", "evals", "run", str(model), "--suite", str(suite), "--device", "cpu"]

    def start(out: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*words, "--out", str(out)], cwd=ROOT, env=os.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    began = time.monotonic()
    assert start(tmp_path / "whole").wait() == 0
    length = time.monotonic() - began
    rng, killed = random.Random(0), 0
    killed_out = tmp_path / "killed"
    for _ in range(KILLS):
        process = start(killed_out)
        # From the first answer to the last: a kill while libraries are imported would show nothing.
        time.sleep(length * (0.3 + 0.7 * rng.random()))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.wait()
        (killed_out / "scorecard.json").unlink(missing_ok=True)  # one that was done in time is made once more
    assert killed > 0
    assert start(killed_out).wait() == 0
    for file in ("scorecard.json", *(f"samples/{task}.jsonl" for task in ("starter_truthfulness", "starter_toxicity"))):
        one, other = ((out / file).read_text() for out in (tmp_path / "whole", killed_out))
        if file == "scorecard.json":
            one, other = (json.dumps({**json.loads(text), "created": "", "seconds": 0}) for text in (one, other))
        assert one == other, file
