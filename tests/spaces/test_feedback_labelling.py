"""What a labeller is shown and what becomes a vote."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from feedback_space import make_pairs, modules_of, write_space
from made_votes import labeller

from training.votes import Vote, read_votes

OWN = ("labelling", "vote_log", "vote_dataset", "vote_files", "notice", "limits")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_space(tmp_path / "space", make_pairs(9), gold_every=4)


@pytest.fixture
def modules(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with modules_of(bundle, OWN, monkeypatch) as found:
        yield found


@pytest.fixture
def open_space(modules: Any, bundle: Path) -> Any:
    """`open_space()` is the bundle's Labelling, on the same folder of votes each time."""

    def open_it(**changes: Any) -> Any:
        space = json.loads((bundle / "space.json").read_text()) | {"notice": "notice", **changes}
        pairs = modules["labelling"].read_lines(bundle / "pairs.jsonl", space["pairs_sha256"])
        gold = modules["labelling"].read_lines(bundle / "gold.jsonl", space["gold_sha256"])
        log = modules["vote_log"].VoteLog(bundle / "votes", None)
        return modules["labelling"].Labelling(space, pairs, gold, log, b"salt")

    return open_it


def vote_all(labelling: Any, code: str, choice: str = "a", most: int = 1000) -> list[Any]:
    who = labelling.labeller(code, "script")
    seen = []
    while len(seen) < most and (shown := labelling.next(who)) is not None:
        labelling.vote(who, shown.vote_id, choice, "", "")
        seen.append(shown)
    return seen


def test_a_labeller_sees_every_pair_once_and_a_gold_item_in_each_block(open_space: Any) -> None:
    seen = vote_all(open_space(), "ann")
    keys = [shown.key for shown in seen]
    assert len(keys) == len(set(keys))
    assert sum(shown.gold_id is None for shown in seen) == 9
    for start in (0, 4, 8):
        assert sum(shown.gold_id is not None for shown in seen[start : start + 4]) == 1


def test_sides_are_drawn_for_each_labeller(open_space: Any) -> None:
    labelling = open_space(votes_per_pair=40)
    left = Counter(shown.a["text"].startswith("um") for n in range(20) for shown in vote_all(labelling, f"code {n}"))
    assert 60 < left[True] < 140  # of about 180 pairs and gold items


def test_labellers_who_look_at_the_same_time_give_no_more_votes_to_a_pair_than_were_asked_for(
    open_space: Any, modules: Any
) -> None:
    labelling = open_space(votes_per_pair=3, gold_every=1000)
    people = [labelling.labeller(f"code {n}", "script") for n in range(10)]
    votes: Counter[str] = Counter()
    while looking := [(who, shown) for who in people if (shown := labelling.next(who)) is not None]:
        for who, shown in looking:
            labelling.vote(who, shown.vote_id, "a", "", "")
            votes[shown.key] += 1
    pairs = {key: count for key, count in votes.items() if count > 1 or not key.startswith("gold")}
    assert {count for key, count in pairs.items() if key in labelling._pairs} == {3}


def test_a_pair_that_somebody_left_open_is_shown_to_others_after_a_while(
    open_space: Any, modules: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    labelling = open_space(votes_per_pair=1, votes_per_labeller=500, gold_every=1000)
    gone, later = labelling.labeller("gone", "script"), labelling.labeller("later", "script")
    left = labelling.next(gone)
    seen = vote_all(labelling, "later")
    assert left.gold_id is not None or left.key not in {shown.key for shown in seen}
    monkeypatch.setattr(modules["labelling"], "LOOKING_SECONDS", -1.0)
    assert left.gold_id is not None or labelling.next(later).key == left.key


def test_what_is_written_is_a_vote_as_the_analysis_reads_it(open_space: Any, bundle: Path) -> None:
    vote_all(open_space(), "ann")
    read = read_votes([str(bundle / "votes")])
    assert {vote.labeller_kind for vote in read.votes} == {"script"}
    assert {vote.pair_id for vote in read.votes if vote.gold_id is None} == {pair.pair_id for pair in make_pairs(9)}
    gold = [vote for vote in read.votes if vote.gold_id is not None]
    assert gold
    assert all((vote.a if vote.gold_choice == "a" else vote.b).maker is None for vote in gold)
    known = {item["gold_id"]: item for item in map(json.loads, (bundle / "gold.jsonl").read_text().splitlines())}
    assert all(
        (vote.a if vote.gold_choice == "a" else vote.b).text == known[str(vote.gold_id)]["better"] for vote in gold
    )


def test_a_labeller_is_a_salted_hash_of_code_and_kind(open_space: Any) -> None:
    labelling = open_space()
    person, script = labelling.labeller("Ann", "person"), labelling.labeller("ann", "script")
    assert person == labelling.labeller(" ann ", "person")
    assert person.labeller != script.labeller
    assert len(person.labeller) == 64
    assert labeller("ann") not in (person.labeller, script.labeller)


def test_a_second_click_and_an_old_page_do_not_count(open_space: Any, modules: Any, bundle: Path) -> None:
    labelling = open_space()
    who = labelling.labeller("ann", "script")
    shown = labelling.next(who)
    labelling.vote(who, shown.vote_id, "a", "", "")
    with pytest.raises(modules["limits"].Refused, match="voted on already"):
        labelling.vote(who, shown.vote_id, "b", "", "")
    assert len(read_votes([str(bundle / "votes")]).votes) == 1


def test_a_persons_double_click_votes_once(
    open_space: Any, modules: Any, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = [100.0]
    monkeypatch.setattr(modules["labelling"], "clock", lambda: seconds[0])
    labelling = open_space()
    who = labelling.labeller("ann", "person")
    first = labelling.next(who)
    seconds[0] += 5
    labelling.vote(who, first.vote_id, "a", "", "")
    second = labelling.next(who)
    seconds[0] += 0.2
    with pytest.raises(modules["limits"].Refused, match="double click"):
        labelling.vote(who, second.vote_id, "a", "", "")
    assert labelling.next(who) == second
    assert [vote.decision_seconds for vote in read_votes([str(bundle / "votes")]).votes] == [5.0]


def test_a_reload_shows_the_same_pair_on_the_same_sides(open_space: Any) -> None:
    labelling = open_space()
    who = labelling.labeller("ann", "person")
    assert labelling.next(who) == labelling.next(who)


def test_texts_and_codes_that_are_too_long_are_refused_and_nothing_is_written(
    open_space: Any, modules: Any, bundle: Path
) -> None:
    labelling, refused = open_space(), modules["limits"].Refused
    who = labelling.labeller("ann", "person")
    shown = labelling.next(who)
    for reason, better, choice in (("x" * 1001, "", "a"), ("", "x" * 4001, "a"), ("", "", "left"), (7, "", "a")):
        with pytest.raises(refused):
            labelling.vote(who, shown.vote_id, choice, reason, better)
    for code in ("", "ab", "x" * 65, None):
        with pytest.raises(refused):
            labelling.labeller(code, "person")
    assert not list((bundle / "votes").glob("*.jsonl"))


def test_a_labeller_who_asked_for_deletion_is_told_that_no_more_is_taken(
    open_space: Any, modules: Any, bundle: Path
) -> None:
    who = open_space().labeller("ann", "person")
    (bundle / "votes" / "forgotten.json").write_text(json.dumps([who.labeller]))
    again = open_space()
    with pytest.raises(modules["limits"].Refused, match="deleted at their request"):
        again.labeller("ann", "person")
    assert again.labeller("ben", "person")


def test_only_codes_that_were_handed_out_are_let_in(open_space: Any, modules: Any) -> None:
    labelling = open_space(codes=["ann-7"])
    labelling.labeller("ann-7", "person")
    with pytest.raises(modules["limits"].Refused, match="not known"):
        labelling.labeller("ben-7", "person")


def test_pairs_that_were_begun_are_finished_before_others_and_the_cap_holds(open_space: Any) -> None:
    labelling = open_space(votes_per_pair=2, votes_per_labeller=5)
    first = {shown.key for shown in vote_all(labelling, "ann") if shown.gold_id is None}
    second = {shown.key for shown in vote_all(labelling, "ben") if shown.gold_id is None}
    assert len(first | second) <= 5
    assert labelling.voted(labelling.labeller("ann", "script")) == 5


def test_after_a_restart_nobody_sees_a_pair_again(open_space: Any) -> None:
    before = {shown.key for shown in vote_all(open_space(), "ann", most=6)}
    after = {shown.key for shown in vote_all(open_space(), "ann")}
    assert before
    assert after
    assert not before & after


def test_pairs_other_than_those_of_space_json_are_refused(modules: Any, bundle: Path) -> None:
    with pytest.raises(ValueError, match="not the file that this page was made with"):
        modules["labelling"].read_lines(bundle / "pairs.jsonl", "0" * 64)


# The log


def test_a_votes_schema_has_no_room_for_more(open_space: Any, bundle: Path) -> None:
    vote_all(open_space(), "ann", most=1)
    line = next(iter((bundle / "votes").glob("*.jsonl"))).read_text()
    assert set(json.loads(line)) == set(Vote.model_fields)
