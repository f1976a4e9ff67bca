"""What a reader sees, and how it ends, when something goes wrong with any request or step of a publication.

    python benchmarks/publish_faults.py --out faults.json
    python benchmarks/publish_faults.py --fault "answer lost" --scenario next --every 3
    python benchmarks/publish_faults.py --boots 100 --minutes 70 --out faults.json
    python benchmarks/publish_faults.py --scenario private --scenario gated --boots 4 --minutes 20

Each run publishes a tiny model with its Space, by a publisher process of its own, through a proxy on loopback to the
embedded Hub, whose store is a fresh copy; a reader without a token looks at every byte all along, and at the Hub's pages
and lists where the release is private; beside them, where it is private or gated, one who may read it. Every request of a
publication without faults gets every fault once (every N-th with `--every N`), every step the publisher's own
mishaps, every write of the Hub a full disk and kills of the Hub, and the boot of the Space what boots meet. The Space is run
for real and asked where the fault befalls that step or a later one, and in a sample of the others, for it takes ten seconds of
a processor. Then the person at the keyboard runs `resume`, or, in every fourth run that stopped (every second of the boot's own
faults), `rollback`; the Hub is inspected, and whether anything that the publisher started still runs.
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

from faults.boot import BOOT  # noqa: E402
from faults.kinds import FROM_THEN_ON, ONCE  # noqa: E402
from faults.trial import DOWNLOAD, HUB, NARROWED, OWN, STORE, Outcome, Trial  # noqa: E402
from faults.world import AFTER_BOOT, STEPS, Scenario, World  # noqa: E402

# A first release differs from the next where the repository is new: these faults show it.
FIRST = ("answer lost", "500, but done", "kill -9 before the answer", "Hub gone from then on")
NAMES = {"both": ["next", "first"], **{word: [f"{word} next", f"{word} first"] for word in ("private", "gated")}}

Plan = tuple[Scenario, str, Any, bool]  # the fault, where it befalls, and whether the Space is booted


def places(world: World, scenario: Scenario, *, boot: bool) -> tuple[list[tuple[int, str]], list[str]]:
    """The requests of a publication without faults with their steps, and the steps of the writes to the Hub's disk.

    Of the two requests for each file of the download, which are all alike, every sixth is among them.
    """
    trial = Trial(world, scenario, "none", 0, boot=boot)
    outcome = trial.carry_out()
    if outcome.problems or outcome.exits != [0, 0]:
        raise RuntimeError(f"without faults: {outcome}")
    resolved = [request.number for request in trial.requests if "/resolve/" in request.path]
    left_out = set(resolved) - set(resolved[::6])
    kept = [(request.number, request.step) for request in trial.requests if request.number not in left_out]
    return kept, trial.writes


def scenarios(world: World, asked: Sequence[str]) -> list[Scenario]:
    """`both` are the next and the first release for everybody, `private` and `gated` both with these readers."""
    names = [name for word in asked for name in NAMES.get(word, [word])]
    return [world.scenario(name) for name in dict.fromkeys(names)]


def plans(world: World, args: argparse.Namespace) -> Iterator[Plan]:
    """Everything that is to be tried; with `--every N` each fault begins at another request."""
    for scenario in scenarios(world, args.scenario or ["both"]):
        faults = [*ONCE, *FROM_THEN_ON, *STORE, *HUB, *OWN, *BOOT] if scenario.old else [*FIRST, *OWN, *BOOT]
        wanted = [(index, fault) for index, fault in enumerate(faults) if not args.fault or fault in args.fault]
        own = all(fault in OWN or fault in BOOT for _, fault in wanted)
        requests, writes = ([], []) if own else places(world, scenario, boot=args.boots != 0)
        for index, fault in wanted:
            if fault in BOOT:
                found = [(at, "booted") for at in BOOT[fault]]
            elif fault in OWN:
                narrows = bool(scenario.options)
                found = [(at, "checked" if fault == DOWNLOAD else at) for at in OWN[fault].places]
                found = [place for place in found if narrows or place[0] != NARROWED]
            else:
                befallen = list(enumerate(writes, 1)) if fault in STORE or fault in HUB else requests
                found = befallen[index % args.every :: args.every]
            yield from (
                (scenario, fault, at, step in AFTER_BOOT) for at, step in found if not args.step or step in args.step
            )


def chosen_plans(world: World, args: argparse.Namespace) -> list[Plan]:
    """In random order, so that what --minutes leaves out is spread over all. Those that need a boot are thinned to
    `--boots`, the boot's own faults kept first; and every `--boot-others`-th of the others boots too."""
    every = list(plans(world, args))
    random.Random(args.seed).shuffle(every)
    booted = sorted((plan for plan in every if plan[3]), key=lambda plan: plan[1] not in BOOT)[: args.boots]
    others = [plan for plan in every if not plan[3]]
    sampled = [(*plan[:3], index % args.boot_others == 0) for index, plan in enumerate(others)]
    mixed = [*booted, *sampled]
    random.Random(args.seed).shuffle(mixed)
    return mixed


def carry_out(world: World, args: argparse.Namespace) -> list[Outcome]:
    outcomes: list[Outcome] = []
    stopped: Counter[str] = Counter()
    end_at = time.monotonic() + args.minutes * 60
    for scenario, fault, at, boot in chosen_plans(world, args):
        if time.monotonic() > end_at:
            break
        # Whether a run stops is known afterwards; each fourth place of a fault, were it to stop, is rolled back.
        stopped[fault] += 1
        end = "rollback" if stopped[fault] % (2 if fault in BOOT else 4) == 0 else "resume"
        began = time.monotonic()
        outcome = Trial(world, scenario, fault, at, end=end, boot=boot).carry_out()
        outcomes.append(outcome)
        if args.out:  # after each run, so that what was seen is there if this is stopped
            args.out.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1))
        if outcome.problems:
            print(f"{scenario.name}, {fault} at {at} ({outcome.step}): {outcome.problems}\n{outcome.said}", flush=True)
        elif args.verbose:
            print(
                f"{scenario.name}, {fault} at {at} ({outcome.step}): {outcome.exits} "
                f"{outcome.ended_by}{', booted' if boot else ''}, {time.monotonic() - began:.0f} s",
                flush=True,
            )
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
        "--fault", action="append", choices=[*ONCE, *FROM_THEN_ON, *STORE, *HUB, *OWN, *BOOT], help="only this one"
    )
    parser.add_argument(
        "--scenario", action="append", choices=("next", "first", *NAMES), help="may be repeated (default: both)"
    )
    parser.add_argument("--every", type=int, default=1, metavar="N", help="every N-th request only")
    parser.add_argument("--step", action="append", choices=STEPS, help="only what befalls this step")
    parser.add_argument(
        "--boots", type=int, metavar="N", help="at most so many of the runs that have to boot the Space"
    )
    parser.add_argument(
        "--boot-others", type=int, default=20, metavar="N", help="boot it in every N-th of the other runs too"
    )
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
    booted = sum(outcome.booted for outcome in outcomes)
    print(
        f"{len(outcomes)} runs, {booted} of them with the Space booted, in {hit} the fault befell something, "
        f"{looks} looks of the reader, {seconds:.0f} s"
    )
    return int(any(outcome.problems for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
