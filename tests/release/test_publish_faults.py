"""A short version of benchmarks/publish_faults.py: one place for each kind of fault, where it hurts most."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faults.boot import KILL, PORT, WRONG
from faults.trial import Trial
from faults.world import World

# fault, the step and the request that it befalls, the command that ends it, what publish says
BY_REQUEST = [
    ("answer lost", "promoted", "POST */commit/main", "resume", 0),
    ("500, but done, from then on", "promoted", "POST */commit/main", "resume", 5),
    ("bit flipped in the request", "promoted", "POST */commit/main", "resume", 0),
    ("bit flipped in the answer", "checked", "GET */model.safetensors", "resume", 4),
    ("kill -9 before the answer", "staged", "POST */commit/*", "resume", -9),
    ("token revoked", "tagged", "POST */tag/*", "resume", 5),
    ("file changed", "staged", "POST */preupload/*", "resume", 3),
    ("bit flipped in the store", "staged", "POST */commit/*", "rollback", 4),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("faults"), others=False) as world:
        yield world


def test_without_faults_a_reader_sees_the_old_release_and_then_the_new_one(world: World) -> None:
    outcome = Trial(world, world.next, "none", 0).carry_out()
    assert outcome.problems == [], outcome.said
    assert outcome.exits == [0, 0]
    assert (outcome.states[0][0], outcome.states[-1][0]) == ("old", "new")


@pytest.mark.parametrize(("fault", "step", "part", "end", "code"), BY_REQUEST)
def test_a_fault_in_a_request_shows_readers_nothing_but_the_old_release_or_the_new_one(
    fault: str, step: str, part: str, end: str, code: int, world: World
) -> None:
    outcome = Trial(world, world.next, fault, (step, part), end=end).carry_out()
    assert outcome.problems == [], outcome.said
    assert outcome.hit
    assert outcome.step == step
    assert outcome.exits[0] == code, outcome.said
    assert ("hub fsck --root ROOT --set-aside" in outcome.said) == (code == 4), outcome.said


@pytest.mark.parametrize(
    ("fault", "place", "end"),
    [
        ("kill -9 after the journal's line", "promoted", "rollback"),
        ("kill -9 after the journal's line", "before", "resume"),
        ("publisher's disk full at the journal's line", "checked", "resume"),
        ("Hub's disk full", 30, "resume"),
        ("Hub kill -9, and twice on restart", 26, "resume"),
        ("Hub kill -9, one of two", 27, "publish"),
    ],
)
def test_a_kill_or_a_full_disk_at_a_step_ends_well(fault: str, place: Any, end: str, world: World) -> None:
    outcome = Trial(world, world.next, fault, place, end=end).carry_out()
    assert outcome.problems == [], outcome.said
    assert outcome.hit
    assert outcome.ended_by == end


@pytest.mark.parametrize(
    ("fault", "place", "code"),
    [(KILL, "deaf", -9), (WRONG, "another revision", 4), (PORT, "before it starts", 4)],
)
def test_a_boot_that_goes_wrong_is_rolled_back_and_leaves_no_process(
    fault: str, place: str, code: int, world: World
) -> None:
    outcome = Trial(world, world.next, fault, place, end="rollback").carry_out()
    assert outcome.problems == [], outcome.said
    assert outcome.exits == [code, 0], outcome.said
    assert {state[0] for state in outcome.states} <= {"old", "new"}


def test_a_first_release_that_is_killed_and_rolled_back_was_never_seen(world: World) -> None:
    outcome = Trial(world, world.first, "kill -9 after the journal's line", "promoted", end="rollback").carry_out()
    assert outcome.problems == [], outcome.said
    assert {state[0] for state in outcome.states} == {"nothing"}


@pytest.mark.parametrize(
    ("scenario", "fault", "place", "end"),
    [
        ("private next", "kill -9 after the journal's line", "space", "rollback"),
        ("gated next", "answer lost", ("promoted", "POST */commit/main"), "resume"),
    ],
)
def test_a_release_that_is_not_for_all_is_seen_by_those_alone_for_whom_it_is(
    scenario: str, fault: str, place: Any, end: str, world: World
) -> None:
    outcome = Trial(world, world.scenario(scenario), fault, place, end=end).carry_out()
    assert outcome.problems == [], outcome.said
    assert outcome.hit
    assert "new" in {state[0] for state in outcome.let_in}
    assert {state[0] for state in outcome.states} <= {"old", "nothing", "shut"}


def test_what_was_rolled_back_is_not_published_again(world: World, tmp_path: Path) -> None:
    trial = Trial(world, world.next, "kill -9 after the journal's line", "promoted", end="rollback")
    trial.keep = True
    assert trial.carry_out().problems == []
    code, said = world.publisher.run(["resume", "--run", str(trial.run)], world.environment(trial.token, tmp_path))
    assert code == 2
    assert "was released and rolled back" in said
