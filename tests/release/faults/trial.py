"""One trial: a publication that something goes wrong with, the command that ends it, and what stood there all along.

outcome = Trial(world, world.next, "answer lost", at=17).carry_out()
outcome.problems      # empty where a reader saw the old release or the new one, and the end is good
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faults.boot import BOOT, FULL
from faults.disk import Disk
from faults.good_end import barred_problems, released_problems, rolled_back_problems, seen_problems
from faults.kinds import FROM_THEN_ON, ONCE
from faults.orphans import left_behind
from faults.proxy import Request
from faults.publisher import BOOT_LIMIT, HUNG, KILLED, ROOT, TIME_LIMIT, Process
from faults.reader import Reader, State
from faults.servers import Death, Servers
from faults.world import NO_BOOT, OWNER, REPO, SPACE, STEPS, Scenario, World, files_of

from release.local_hub.store import Store

BEFORE = "before"  # a line of the journal within the step `promoted`
NARROWED = "narrowed"  # another, where a release has fewer readers than before
EXPECTED_EXITS = {0, 2, 3, 4, 5, KILLED}


@dataclass(frozen=True)
class Mishap:
    """What the publisher's own process meets: a setting of publisher.py, and the places where it is tried."""

    setting: str
    places: tuple[Any, ...]


OWN: dict[str, Mishap] = {
    "kill -9 before the journal's line": Mishap("kill_before", (*STEPS, BEFORE, NARROWED)),
    "kill -9 after the journal's line": Mishap("kill_after", (*STEPS, BEFORE, NARROWED)),
    "publisher's disk full at the journal's line": Mishap("full_at", (*STEPS, BEFORE, NARROWED)),
}
# By its size in bytes, a disk of the publisher's own for what it downloads: only root may make one.
DOWNLOAD = "publisher's disk full in the download"
if os.geteuid() == 0:
    OWN[DOWNLOAD] = Mishap("", (4096, 40_960, 122_880))
# By the number of the write: from it on, until the publisher has stopped, the Hub's disk takes nothing more.
STORE = ("Hub's disk full",)
# By the number of the write: the publisher speaks with Hubs in processes of their own, and the reader with another one
# on the same root. The deaths of each, and whether the dead start again at once.
HUB: dict[str, Callable[[int], list[list[Death]]]] = {
    "Hub kill -9 before a write": lambda at: [[Death(at)]],
    "Hub kill -9 after a write": lambda at: [[Death(at, after=True)]],
    "Hub kill -9, and twice on restart": lambda at: [[Death(at), Death(1), Death(2, after=True)]],
    "Hub kill -9, one of two": lambda at: [[Death((at + 1) // 2)], []],
}
ONE_OF_TWO = "Hub kill -9, one of two"  # it stays dead until the publication has ended, and the other goes on


@dataclass
class Outcome:
    scenario: str
    fault: str
    at: int | str | dict[str, int]
    step: str
    hit: bool
    exits: list[int]  # of the publication, and of every command after it
    ended_by: str  # publish, resume, or rollback
    booted: bool  # whether the Space was to be run and asked
    states: list[State] = field(default_factory=list)  # that a reader without a token saw
    let_in: list[State] = field(default_factory=list)  # that a reader saw for whom a private or gated release is
    looks: int = 0
    problems: list[str] = field(default_factory=list)
    said: str = ""


class Trial:
    """`at` is a request (see proxy.py), or where OWN, STORE and BOOT say. With `boot` the Space is run and asked."""

    def __init__(
        self, world: World, scenario: Scenario, fault: str, at: Any, *, end: str = "resume", boot: bool = False
    ) -> None:
        self.world, self.scenario, self.fault, self.at, self.end = world, scenario, fault, at, end
        self.boot = boot or fault in BOOT
        self.limit = BOOT_LIMIT if self.boot else TIME_LIMIT
        world.trials += 1
        self.folder = world.scratch / f"trial-{world.trials}"
        self.run = Path(shutil.copytree(scenario.run, self.folder / "run"))
        shutil.copytree(scenario.store, self.folder / "store")
        self.store: Store = world.serve(self.folder / "store")
        self.token = world.token
        self.pid = 0
        self.mend: list[Callable[[], object]] = []
        self.damaged = self.spared = self.keep = False
        self.second: tuple[Process, Path] | None = None
        self.other = False
        self.requests: list[Request] = []  # of the publication
        self.writes: list[str] = []  # the step of each
        self._died = 0
        self._step_of_death = ""

    # -- what faults do ------------------------------------------------------------------------------------------

    def new_token(self) -> None:
        self.token = self.store.create_token(OWNER)

    def start_second(self, *, other: bool = False) -> None:
        self.other = other
        source = self.scenario.other if other else self.scenario.run
        run = Path(shutil.copytree(source, self.folder / "second"))
        self.second = (self.world.publisher.start(self._publish(run), self._environment(run)), run)

    # -- the trial -----------------------------------------------------------------------------------------------

    def carry_out(self) -> Outcome:
        proxy, publisher = self.world.proxy, self.world.publisher
        proxy.step = self._step
        sabotage: dict[str, Any] = {}
        if self.fault in ONCE:
            proxy.inject(ONCE[self.fault](self), at=self.at)
        elif self.fault in FROM_THEN_ON:
            proxy.inject(FROM_THEN_ON[self.fault](self), at=self.at, lasting=True)
        else:
            proxy.inject(None)
            if self.fault in OWN and self.fault != DOWNLOAD:
                sabotage = {OWN[self.fault].setting: self.at}
            elif self.fault in BOOT:
                sabotage = {"boot": (self.fault, self.at, self._disk_of_boot())}
        known = {"old": self.scenario.old, "new": self.scenario.new}
        if self.fault == "second publisher, same tag, other bytes":
            known["other"] = files_of(self.scenario.other)
        with self._readers(known) as readers, self._servers() as servers:
            with Disk(full_at=self.at if self.fault in STORE else None, step=self._step) as disk:
                code, said = publisher.wait(self._start(sabotage), self.limit)
            self.requests, self.writes, self._full = proxy.seen, disk.steps, disk.full
            if servers is not None:
                servers.settle()
                self._died = servers.died
            outcome = Outcome(
                self.scenario.name, self.fault, self.at, self._where(), self._hit(code), [code], "publish", self.boot
            )
            outcome.said = said
            if self.second is not None:
                outcome.exits.append(publisher.wait(self.second[0], self.limit)[0])
            proxy.inject(None)
            for mend in self.mend:
                mend()
            self._end(outcome)
        anybody, *let_in = readers
        outcome.states, outcome.looks = anybody.states, sum(reader.looks for reader in readers)
        outcome.let_in = [state for reader in let_in for state in reader.states]
        outcome.problems += (barred_problems if let_in else seen_problems)(anybody, self.scenario)
        outcome.problems += [problem for reader in let_in for problem in seen_problems(reader, self.scenario)]
        outcome.problems += self._end_problems(outcome)
        outcome.problems += [f"still runs: {command}" for command in left_behind(str(self.folder))]
        if any(code not in EXPECTED_EXITS for code in outcome.exits):
            outcome.problems.append(f"exit codes {outcome.exits}" + (" (hung)" if HUNG in outcome.exits else ""))
        if not outcome.problems and not self.keep:
            shutil.rmtree(self.folder)
        return outcome

    @contextmanager
    def _readers(self, known: dict[str, dict[str, str]]) -> Iterator[list[Reader]]:
        """Anybody; and where not everybody may read the release, one who may."""
        world, scenario = self.world, self.scenario
        place = (world.netloc, REPO, SPACE, known, lambda: self._step() == "booted")
        readers = [Reader(*place, unseen=unseen(scenario) if scenario.private else ())]
        if scenario.private:
            readers.append(Reader(*place, token=world.reader, member=True))
        elif scenario.gated:
            readers.append(Reader(*place, token=world.friend, asks=True))
        with ExitStack() as stack:
            yield [stack.enter_context(reader) for reader in readers]

    @contextmanager
    def _servers(self) -> Iterator[Servers | None]:
        """The Hubs that the publisher speaks with, where they are to die; they end with the block."""
        if self.fault not in HUB:
            yield None
            return
        proxy, before = self.world.proxy, self.world.proxy.upstreams
        deaths, restart = HUB[self.fault](self.at), self.fault != ONE_OF_TWO
        root = self.folder / "store"
        with Servers(self.world.publisher, root, deaths, notice=self._notice_death, restart=restart) as servers:
            proxy.upstreams = servers.addresses
            try:
                yield servers
            finally:
                proxy.upstreams = before

    def _notice_death(self) -> None:
        self._step_of_death = self._step_of_death or self._step()

    def _start(self, sabotage: dict[str, Any]) -> Process:
        environment = self._environment(self.run)
        if self.fault == DOWNLOAD:
            environment |= {"TMPDIR": self._small_disk(self.folder / "small", self.at)}
        process = self.world.publisher.start(self._publish(self.run), environment, **sabotage)
        self.pid = process.pid
        return process

    def _small_disk(self, folder: Path, size: int) -> str:
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
        self.mend.append(lambda: subprocess.run(["umount", "-l", str(folder)], check=True))
        return str(folder)

    def _disk_of_boot(self) -> str | None:
        """The folder of the boot that is to be full."""
        if self.fault != FULL:
            return None
        if "environment" in self.at:  # where serve.py makes the environments of Spaces
            return self._small_disk(ROOT / ".slipway" / "environments", self.at["environment"])
        return self._small_disk(self.folder / "small", self.at["cache"])

    def _environment(self, run: Path) -> dict[str, str]:
        return self.world.environment(self.token, run)

    def _publish(self, run: Path) -> list[str]:
        request = ["--repo", REPO, "--tag", self.scenario.tag, "--space", *self.scenario.options]
        words = ["publish", "--run", str(run), *request]
        return words if self.boot else [*words, *NO_BOOT]

    def _end(self, outcome: Outcome) -> None:
        """Run what a person would run next, until nothing is open."""
        begun = (self.run / "journal.jsonl").is_file()  # or there is nothing to undo
        command = "rollback" if (self.end == "rollback" and begun) or self.damaged else "resume"
        for run in [self.run, *([self.second[1]] if self.second else [])]:
            begun = (run / "journal.jsonl").is_file()
            ending = [command, "--run", str(run), *(NO_BOOT if command == "resume" and not self.boot else [])]
            words = ending if begun else self._publish(run)
            code, said = self.world.publisher.run(words, self._environment(run), self.limit)
            outcome.exits.append(code)
            outcome.said += f"\n$ {' '.join(words)}\n{said}"
            allowed = {0, 2} if self.other else {0}
            if code not in allowed:
                outcome.problems.append(f"{command} ended with {code}")
            if command == "rollback":
                break
        if command == "rollback" or outcome.exits[0] != 0:
            outcome.ended_by = command

    def _end_problems(self, outcome: Outcome) -> list[str]:
        runs = [self.run, *([self.second[1]] if self.second else [])]
        if outcome.ended_by == "rollback":
            return rolled_back_problems(self.store, self.scenario)
        return released_problems(self.store, self.scenario, runs, other=self.other, booted=self.boot)

    # -- where it happened ---------------------------------------------------------------------------------------

    def _step(self) -> str:
        return step_after(self.run / "journal.jsonl")

    def _where(self) -> str:
        if self.fault in BOOT:
            return "booted"
        if self.fault in OWN:
            return {DOWNLOAD: "checked"}.get(self.fault) or (
                "promoted" if self.at in (BEFORE, NARROWED) else str(self.at)
            )
        if self.fault in STORE:
            return self._step()
        if self.fault in HUB:
            return self._step_of_death
        hit = self.world.proxy.hit
        return hit.step if hit else ""

    def _hit(self, code: int) -> bool:
        if self.fault in ONCE or self.fault in FROM_THEN_ON:
            return self.world.proxy.hit is not None and not self.spared
        if self.fault in HUB:
            return self._died > 0
        return self._full if self.fault in STORE else code != 0


def step_after(journal: Path) -> str:
    """The step that is under way."""
    try:
        lines = journal.read_bytes().rpartition(b"\n")[0].splitlines()
    except FileNotFoundError:
        return STEPS[0]
    done = [json.loads(line)["step"] for line in lines]
    return next((step for step in STEPS if step not in done), STEPS[-1])


def unseen(scenario: Scenario) -> list[str]:
    """Words that stand wherever a private release does, and nowhere else."""
    if not scenario.old:
        return [REPO]
    return [scenario.tag, *sorted({sha256 for sha256 in scenario.new.values() if sha256 not in scenario.old.values()})]
