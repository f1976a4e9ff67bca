"""A suite that is killed again and again must end with the scorecard of one that was not: is that so?

    python benchmarks/killed_suite.py runs/base/checkpoint --kills 10 --seed 0
    python benchmarks/killed_suite.py runs/base/checkpoint --judge runs/reward/checkpoint

`python -m evals run` is started, killed with SIGKILL and started again by the same command, once for each of `--kills` moments;
then it runs to its end. The moments are drawn at random from the seed, one from each of as many equal parts of the work
(batches of answers on disk), and a random time after that, so that they fall into loading, answering and writing
alike. Both scorecards, the killed one's and that of a run of its own without a kill, must be equal but for the dates.
Four tasks: choices, sampled texts with a scorer, greedy texts with lm-eval's scorer, and answers for a reward model.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SUITE = """description: Four kinds of tasks, cut short.
tasks:
  - {task: starter_truthfulness, group: truthfulness, limit: 66, stratum: category}
  - {task: starter_toxicity, group: toxicity, scoring: toxicity, limit: 8, samples: 3, batch_size: 2}
  - {task: starter_instructions, group: helpfulness, chat_template: true, limit: 8, batch_size: 2,
     generation: {max_gen_toks: 16}}
  - {task: starter_helpfulness, group: helpfulness, scoring: judge, chat_template: true, limit: 6, batch_size: 2,
     generation: {max_gen_toks: 16}}
"""
DATES = ("created", "seconds", "energy", "git_revision")


def start(args: argparse.Namespace, suite: Path, out: Path) -> subprocess.Popen[bytes]:
    words = ["run", args.checkpoint, "--suite", str(suite), "--out", str(out), "--dtype", args.dtype]
    words += ["--judge", str(args.judge)] if args.judge else []
    log = (out.parent / f"{out.name}.log").open("ab")
    return subprocess.Popen(
        [sys.executable, "-m", "evals", *words],
        stdout=log,
        stderr=log,
        start_new_session=True,  # a kill takes what it has started with it
    )


def batches(out: Path) -> int:
    """Lines of answers on disk, a torn one included."""
    return sum(file.read_bytes().count(b"\n") for file in (out / ".evals").glob("*.jsonl"))


def state(out: Path) -> dict[str, Any]:
    """The scorecard without its dates, and the hash of each file of samples is in it."""
    card: dict[str, Any] = json.loads((out / "scorecard.json").read_text(encoding="utf-8"))
    return {key: value for key, value in card.items() if key not in DATES}


def moments(kills: int, work: int, seed: int) -> list[tuple[int, float]]:
    """(batches on disk, share of a batch's time after that) of each kill, in order."""
    rng = random.Random(seed)
    return [(int((place + rng.random()) * work / kills), rng.random()) for place in range(kills)]


def kill_at(process: subprocess.Popen[bytes], out: Path, batch: int, wait: float) -> bool:
    """Kill once so many batches are there and `wait` seconds have passed; False where the run had ended before."""
    while process.poll() is None and batches(out) < batch:
        time.sleep(0.02)
    end = time.monotonic() + wait
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    if process.poll() is not None:
        return False
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--judge", type=Path, help="a reward model, for the fourth task's rewards")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", default="auto")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="killed-suite-") as scratch:
        folder = Path(scratch)
        suite = folder / "killed.yaml"
        suite.write_text(SUITE)
        whole, killed = folder / "whole", folder / "killed"
        begun = time.monotonic()
        if start(args, suite, whole).wait() != 0:
            print((folder / "whole.log").read_text(errors="replace"))
            return 1
        seconds, work = time.monotonic() - begun, batches(whole)
        print(f"without a kill: {work} batches, {seconds:.0f} s", flush=True)
        done = 0
        for batch, share in moments(args.kills, work, args.seed):
            process = start(args, suite, killed)
            began = time.monotonic()
            # In the first part nothing may be there yet: then the kill falls into the time until the first batch.
            hit = kill_at(process, killed, batch, share * (0.5 * seconds if batch == 0 else seconds / work))
            done += hit
            what = "killed" if hit else "had ended"
            print(f"{what} at {batches(killed)} batches, {time.monotonic() - began:.1f} s after its start", flush=True)
        code = start(args, suite, killed).wait()
        if code != 0:
            print((folder / "killed.log").read_text(errors="replace"))
            return 1
        a, b = state(whole), state(killed)
        differing = sorted(key for key in a if a[key] != b.get(key))
        figures = len(a["scores"])
        print(
            f"{done} kills; {figures} figures, {len(a['samples'])} files of samples; "
            + (f"differing: {', '.join(differing)}" if differing else "the scorecards are equal but for the dates")
        )
        return 1 if differing or done < args.kills else 0


if __name__ == "__main__":
    raise SystemExit(main())
