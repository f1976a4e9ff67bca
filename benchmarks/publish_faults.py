"""What a reader sees, and how it ends, when something goes wrong with any request or step of a publication.

    python benchmarks/publish_faults.py --out faults.json
    python benchmarks/publish_faults.py --fault "answer lost" --scenario next --every 3

Each run publishes a tiny model with its Space, by a publisher process of its own, through a proxy on loopback to the
embedded Hub, whose store is a fresh copy; a reader without a token looks at every byte all along. Every request of a
publication without faults gets every fault once (every N-th with `--every N`), every step the publisher's own
mishaps, and every write of the Hub a full disk and kills of the Hub. Then the person at the keyboard runs `resume`, or, in
every fourth run that stopped, `rollback`, and the Hub is inspected.
tests/release/faults says what is done where.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "release")]
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

from faults.kinds import FROM_THEN_ON, ONCE  # noqa: E402
from faults.trial import HUB, OWN, STORE, Outcome, Trial  # noqa: E402
from faults.world import STEPS, Scenario, World  # noqa: E402

# A first release differs from the next where the repository is new: these faults show it.
FIRST = ("answer lost", "500, but done", "kill -9 before the answer", "Hub gone from then on")


def places(world: World, scenario: Scenario) -> tuple[list[tuple[int, str]], int]:
    """The requests of a publication without faults with their steps, and how often the Hub's disk is written.

    Of the two requests for each file of the download, which are all alike, every sixth is among them.
    """
    trial = Trial(world, scenario, "none", 0)
    outcome = trial.carry_out()
    if outcome.problems or outcome.exits != [0, 0]:
        raise RuntimeError(f"without faults: {outcome}")
    resolved = [request.number for request in trial.requests if "/resolve/" in request.path]
    left_out = set(resolved) - set(resolved[::6])
    kept = [(request.number, request.step) for request in trial.requests if request.number not in left_out]
    return kept, trial.writes


def plans(world: World, args: argparse.Namespace) -> Iterator[tuple[Scenario, str, Any]]:
    """Every (scenario, fault, where) to be tried; with `--every N` each fault begins at another request."""
    for scenario in (world.next, world.first):
        if args.scenario not in ("both", scenario.name.split()[0]):
            continue
        requests, writes = places(world, scenario)
        numbers = [number for number, step in requests if args.step in (None, step)]
        chosen = [*ONCE, *FROM_THEN_ON, *STORE, *HUB, *OWN] if scenario is world.next else [*FIRST, *OWN]
        for index, fault in enumerate(chosen):
            if args.fault and fault not in args.fault:
                continue
            if fault in OWN:
                yield from ((scenario, fault, at) for at in OWN[fault].places)
            elif fault in STORE or fault in HUB:
                yield from ((scenario, fault, at) for at in range(1 + index % args.every, writes + 1, args.every))
            else:
                yield from ((scenario, fault, at) for at in numbers[index % args.every :: args.every])


def carry_out(world: World, args: argparse.Namespace) -> list[Outcome]:
    outcomes: list[Outcome] = []
    stopped: Counter[str] = Counter()
    chosen = list(plans(world, args))
    random.Random(args.seed).shuffle(chosen)  # so that what --minutes leaves out is spread over all
    end_at = time.monotonic() + args.minutes * 60
    for scenario, fault, at in chosen:
        if time.monotonic() > end_at:
            break
        # Whether a run stops is known afterwards; each fourth place of a fault, were it to stop, is rolled back.
        stopped[fault] += 1
        end = "rollback" if stopped[fault] % 4 == 0 else "resume"
        outcome = Trial(world, scenario, fault, at, end=end).carry_out()
        outcomes.append(outcome)
        if args.out:  # after each run, so that what was seen is there if this is stopped
            args.out.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1))
        if outcome.problems:
            print(f"{scenario.name}, {fault} at {at} ({outcome.step}): {outcome.problems}\n{outcome.said}", flush=True)
        elif args.verbose:
            print(f"{scenario.name}, {fault} at {at} ({outcome.step}): {outcome.exits} {outcome.ended_by}", flush=True)
    return outcomes


def table(outcomes: Sequence[Outcome]) -> str:
    """Markdown: how many runs of a fault at each step, which command ended them, and what the reader saw."""
    shown = [outcome for outcome in outcomes if outcome.hit]
    head = ["fault", *STEPS, "runs", "publish", "resume", "rollback", "reader saw else", "bad end"]
    rows = [head, ["---"] * len(head)]
    faults = list(dict.fromkeys(outcome.fault for outcome in shown))
    for fault in [*faults, "all"]:
        mine = [outcome for outcome in shown if fault in ("all", outcome.fault)]
        steps, ends = Counter(outcome.step for outcome in mine), Counter(outcome.ended_by for outcome in mine)
        seen = sum(any("reader saw" in problem for problem in outcome.problems) for outcome in mine)
        bad = sum(any("reader saw" not in problem for problem in outcome.problems) for outcome in mine)
        numbers = [*(steps[step] for step in STEPS), len(mine), ends["publish"], ends["resume"], ends["rollback"]]
        rows.append([fault, *(str(number or "") for number in numbers), str(seen), str(bad)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--fault", action="append", choices=[*ONCE, *FROM_THEN_ON, *STORE, *HUB, *OWN], help="only this one"
    )
    parser.add_argument("--scenario", choices=("next", "first", "both"), default="both")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="every N-th request only")
    parser.add_argument("--step", choices=STEPS, help="only requests of this step")
    parser.add_argument("--minutes", type=float, default=1e6, help="begin no further run after so many minutes")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the runs")
    parser.add_argument(
        "--add", type=Path, action="append", default=[], metavar="FILE", help="outcomes of earlier runs"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write every outcome there as JSON")
    parser.add_argument("--verbose", action="store_true", help="a line for each run")
    args = parser.parse_args()
    memory = Path("/dev/shm")
    begun = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="faults-", dir=memory if memory.is_dir() else None) as scratch,
        World(Path(scratch)) as world,
    ):
        outcomes = carry_out(world, args)
    seconds = time.monotonic() - begun
    outcomes = [*(Outcome(**read) for file in args.add for read in json.loads(file.read_text())), *outcomes]
    if args.out:
        args.out.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1))
    print(table(outcomes))
    looks = sum(outcome.looks for outcome in outcomes)
    hit = sum(outcome.hit for outcome in outcomes)
    print(
        f"{len(outcomes)} runs, in {hit} of them the fault befell something, {looks} looks of the reader, {seconds:.0f} s"
    )
    return int(any(outcome.problems for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
