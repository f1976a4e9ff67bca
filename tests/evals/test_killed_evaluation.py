"""An evaluation that is killed again and again ends with the scorecard of one that was not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from own_task import write_suite
from tiny_model import save_model

ROOT = Path(__file__).parents[2]
KILLS = 10
# Libraries are imported once; each evaluation is a process of its own, forked from there and killed by SIGKILL.
DRIVER = """
import json, os, random, shutil, signal, sys, time
from pathlib import Path
import datasets, evaluate, lm_eval.models.huggingface, lm_eval.tasks, torch, transformers
import evals.backends, evals.evaluated, evals.prefix_tree, evals.respond, evals.scoring, evals.toxicity
from evals.__main__ import main

words, whole, out = json.loads(sys.argv[1]), sys.argv[2], Path(sys.argv[3])

def start(folder):
    pid = os.fork()
    if pid == 0:
        os._exit(main([*words, str(folder)]))
    return pid

began = time.monotonic()
assert os.waitpid(start(whole), 0)[1] == 0
length = time.monotonic() - began
rng, killed, seen = random.Random(0), 0, set()
while killed < KILLS:
    pid = start(out)
    time.sleep(length * (0.1 + 0.7 * rng.random()))
    os.kill(pid, signal.SIGKILL)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL:
        killed += 1
        seen.add(sum(len(file.read_bytes()) for file in out.rglob("*") if file.is_file()))
    else:
        shutil.rmtree(out)  # it was done before: from the beginning
assert os.waitpid(start(out), 0)[1] == 0
print(json.dumps({"killed": killed, "states": len(seen)}))
""".replace("KILLS", str(KILLS))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_suite_killed_at_ten_random_moments_gives_the_same_scorecard_in_the_end(tmp_path: Path) -> None:
    model = save_model(tmp_path / "model", context=2048)
    suite = write_suite(
        tmp_path,
        "task: starter_truthfulness, group: truthfulness, headline: [mc1]",
        "task: starter_toxicity, group: toxicity, scoring: profanity, batch_size: 1, limit: 16",
        "task: starter_instructions, group: helpfulness, batch_size: 1, limit: 8",
    )
    words = ["run", str(model), "--suite", str(suite), "--device", "cpu", "--out"]
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps(words), str(tmp_path / "whole"), str(tmp_path / "killed")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TOKENIZERS_PARALLELISM": "false"},
        capture_output=True,
        text=True,
        timeout=850,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["killed"] == KILLS
    assert told["states"] > 1, "the kills came at different moments of the work"
    cards = [json.loads((tmp_path / out / "scorecard.json").read_text()) for out in ("whole", "killed")]
    assert {**cards[0], "created": "", "seconds": 0} == {**cards[1], "created": "", "seconds": 0}
    for file in (tmp_path / "whole" / "samples").iterdir():
        assert file.read_bytes() == (tmp_path / "killed" / "samples" / file.name).read_bytes()
