"""From votes to data: what counts and why not, pairs and marked answers, the split, the record and its lineage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_votes import NEW, answer, gold_vote, labeller, vote, write

from training.__main__ import main
from training.data import load_preferences
from training.demonstrations import load_feedback
from training.errors import UsageError
from training.feedback_record import FeedbackRecord
from training.feedback_report import analyse, markdown
from training.recipe import DataSettings
from training.records import sha256_of_file
from training.vote_checks import Rules, position_bias, screen
from training.vote_preferences import held_out_prompts, marked_rows, preference_rows, split_by_prompt
from training.votes import Sampling, Vote, read_votes

PEOPLE = ("ann", "ben", "cem")


@pytest.fixture
def votes() -> list[Vote]:
    """Three people, twelve pairs, sides as drawn: all prefer blue, but for one who is wrong now and then."""
    found = []
    for who in PEOPLE:
        for pair in range(12):
            swapped = (pair + len(who) + ord(who[0])) % 2 == 0
            right = "b" if swapped else "a"
            wrong = who == "cem" and pair % 5 == 0
            found.append(vote(pair, ("a" if swapped else "b") if wrong else right, who, swapped=swapped))
    return found


def reasons(votes: list[Vote], rules: Rules | None = None, forgotten: set[str] | None = None) -> dict[str, str]:
    return {one.vote_id: one.reason for one in screen(votes, forgotten or set(), rules or Rules())[1]}


def test_a_pair_is_the_same_pair_whichever_side_its_answers_were_on() -> None:
    one, other = vote(1, "a"), vote(1, "b", "ben", swapped=True)
    assert one.pair_id == other.pair_id != vote(2, "a").pair_id
    assert one.verdict == other.verdict != vote(1, "b").verdict
    assert {vote(pair, "a").verdict for pair in range(20)} == {"first", "second"}  # the better one is not always first
    assert vote(1, "tie").verdict == "tie"


def test_a_vote_with_an_unknown_key_or_a_name_for_a_labeller_is_refused_with_its_line(tmp_path: Path) -> None:
    good = vote(1, "a").model_dump(mode="json")
    for key, value in (("address", "10.0.0.1"), ("labeller", "ann@example.org"), ("choice", "A")):
        file = tmp_path / "votes.jsonl"
        file.write_text(json.dumps(good) + "\n" + json.dumps(good | {key: value}) + "\n")
        with pytest.raises(UsageError, match=rf"line 2, field {key}"):
            read_votes([str(file)])


def test_a_last_line_that_a_kill_cut_off_is_left_out_and_named(tmp_path: Path) -> None:
    file = write(tmp_path / "votes.jsonl", [vote(1, "a"), vote(2, "a")])
    file.write_bytes(file.read_bytes()[:-40])
    read = read_votes([str(file)])
    assert len(read.votes) == 1
    assert read.torn == ["votes.jsonl, line 2"]


def test_repeats_second_votes_and_votes_without_consent_do_not_count() -> None:
    again = vote(1, "a")
    changed_mind = vote(1, "b", number=7)
    no_consent = vote(2, "a", consent=None)
    assert reasons([vote(1, "a"), again, changed_mind, no_consent, vote(3, "a")]) == {
        again.vote_id: "repeat of a vote by its id",
        changed_mind.vote_id: "second vote of this labeller on this pair",
        no_consent.vote_id: "no consent",
    }


def test_votes_on_a_cut_answer_are_counted_and_gold_votes_are_one_or_several() -> None:
    one = vote(1, "a")
    cut = one.model_copy(update={"a": one.a.model_copy(update={"cut": True})})
    report = analyse([cut, vote(2, "b"), gold_vote(0, "a")], [], 0)
    assert report.cut_votes == 1
    assert "1 vote on gold items" in markdown(report, [])
    assert "1 vote is on pairs of which an answer was cut" in markdown(report, [])
    assert "cut" not in markdown(analyse([vote(1, "a"), vote(2, "b")], [], 0), [])


def test_where_everybody_asked_for_deletion_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "forgotten.json").write_text(json.dumps([labeller("ann")]))
    with pytest.raises(UsageError, match="asked for deletion"):
        read_votes([str(tmp_path)])


def test_only_so_many_votes_of_one_labeller_count(votes: list[Vote]) -> None:
    dropped = reasons(votes, Rules(cap=10))
    assert len(dropped) == 6
    assert set(dropped.values()) == {"beyond 10 votes of one labeller"}


def test_a_labeller_who_fails_gold_items_does_not_count(votes: list[Vote]) -> None:
    gold = [gold_vote(n, "a", "ann") for n in range(3)] + [gold_vote(n, "a" if n else "b", "ben") for n in range(3)]
    kept, dropped = screen([*votes, *gold], set(), Rules(gold_accuracy=0.7))
    assert {one.labeller for one in dropped} == {labeller("ben")}
    assert {one.reason for one in dropped} == {"the labeller failed gold items: 2 of 3 right"}
    assert len(kept) == 2 * 12 + 3


def test_a_labeller_who_picks_one_side_does_not_count_and_chance_alone_excludes_nobody(votes: list[Vote]) -> None:
    lazy = [vote(pair, "a", "dan", swapped=pair % 2 == 0) for pair in range(20)]
    dropped = screen([*votes, *lazy], set(), Rules())[1]
    assert {one.labeller for one in dropped} == {labeller("dan")}
    assert "picks one side: A 20, B 0 times" in dropped[0].reason


def test_a_person_who_does_not_read_does_not_count_and_a_script_may_be_fast() -> None:
    fast = [vote(pair, "a", "eve", swapped=pair % 2 == 0, decision_seconds=0.4) for pair in range(6)]
    assert set(reasons(fast).values()) == {"the labeller does not read: 6 of 6 votes faster than 2 s"}
    assert reasons([one.model_copy(update={"labeller_kind": "script"}) for one in fast]) == {}
    one_fast = [vote(pair, "a", "ann", decision_seconds=1.0 if pair == 0 else 9.0) for pair in range(6)]
    assert reasons(one_fast) == {one_fast[0].vote_id: "decided in less than 2 s"}


def test_a_bias_towards_one_side_shows_in_the_test_and_drawn_sides_do_not(votes: list[Vote]) -> None:
    fair = position_bias(votes)
    biased = position_bias([vote(pair, "a", swapped=pair % 2 == 0) for pair in range(16)])
    assert fair is not None
    assert biased is not None
    assert fair.p > 0.3
    assert biased.p == pytest.approx(2 / 2**16)
    assert position_bias([vote(1, "tie")]) is None


def test_a_pair_becomes_a_row_by_most_votes_and_ties_become_none() -> None:
    rows, undecided = preference_rows(
        [
            *(vote(1, "a", "ann"), vote(1, "a", "ben", swapped=True), vote(1, "b", "cem", swapped=True)),
            *(vote(2, "a", "ann"), vote(2, "b", "ben")),
            *(vote(3, "tie", "ann"), vote(3, "both_bad", "ben")),
            gold_vote(1, "a"),
        ]
    )
    assert [(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows] == [("blue 1", "red 1")]
    assert sorted(rows[0]["votes"].values()) == [0, 0, 0, 1, 2]
    assert undecided == {"as many votes for one answer as for the other": 1, "only ties and both bad": 1}


def test_a_better_answer_is_preferred_to_both_and_good_for_kto() -> None:
    own = [vote(1, "a", better_answer=" green "), vote(1, "a", "ben", better_answer="blue 1")]
    pairs = [(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in preference_rows(own)[0]]
    assert sorted(pairs) == [("blue 1", "red 1"), ("green", "blue 1"), ("green", "red 1")]
    marked = {row["completion"][0]["content"]: row["label"] for row in marked_rows(own)}
    assert marked == {"blue 1": True, "red 1": False, "green": True}


def test_both_answers_are_bad_for_kto_where_most_say_so() -> None:
    own = [vote(1, "both_bad", "ann"), vote(1, "both_bad", "ben"), vote(1, "a", "cem")]
    assert [row["label"] for row in marked_rows(own)] == [False, False]


def test_the_rows_of_one_prompt_are_all_trained_on_or_all_held_out(votes: list[Vote]) -> None:
    rows = preference_rows([one.model_copy(update={"better_answer": "green"}) for one in votes])[0]
    train, test = split_by_prompt(rows, held_out_prompts(rows, 0.25, seed=1))
    assert len(train) + len(test) == len(rows) == 36
    assert len(test) == 9
    assert not {str(row["prompt"]) for row in train} & {str(row["prompt"]) for row in test}


def test_the_report_finds_the_better_model_and_how_far_people_agree(votes: list[Vote]) -> None:
    report = analyse(*screen(votes, set(), Rules()), seed=0)
    assert (report.votes, report.pairs, report.people, report.scripts) == (36, 12, 3, 0)
    assert (report.nominal.units, report.nominal.values) == (12, 36)
    assert report.nominal.alpha is not None
    assert 0.6 < report.nominal.alpha < 1  # 33 of 36 say blue
    first, second = report.ratings
    assert first.system.startswith("org/new@aaaaaaaaaa")
    assert first.low > second.high
    assert [one.votes for one in report.labellers] == [12, 12, 12]


def test_votes_on_two_answers_of_one_system_rate_nothing_and_are_counted_apart(votes: list[Vote]) -> None:
    copied = NEW.model_copy(update={"repo_id": "org/a-copy", "revision": None})  # the same bytes under another name
    own = [
        vote(100 + n, "a", a=answer(f"one {n}"), b=answer(f"other {n}", copied if n else NEW), number=100 + n)
        for n in range(3)
    ]
    report, without = analyse([*votes, *own], [], seed=0), analyse(votes, [], seed=0)
    assert (report.votes, report.same_system_votes, without.same_system_votes) == (39, 3, 0)
    assert report.ratings == without.ratings
    assert "Left out here: 3 votes on two answers of one system" in markdown(report, ["v.jsonl"])
    assert "same_system_votes" not in json.loads(without.to_json()), "a report without them is as it was"
    alone = markdown(analyse(own, [], seed=0), ["v.jsonl"])
    assert "No two models, or samplings of one, were compared." in alone
    assert "Left out here: 3 votes" in alone


def test_two_samplings_of_one_model_are_two_systems() -> None:
    warm = answer("warm").model_copy(update={"sampling": Sampling(temperature=0.7, top_p=0.9, max_new_tokens=32)})
    report = analyse([vote(n, "a", a=warm, b=answer(f"cold {n}")) for n in range(4)], [], seed=0)
    assert (report.same_system_votes, len(report.ratings)) == (0, 2)


@pytest.mark.parametrize(
    ("cast", "why"),
    [
        ([vote(n, "a") for n in range(3)], "no two labellers judged one pair"),
        ([vote(n, "tie", who) for n in range(3) for who in ("ann", "ben")], "all verdicts are equal"),
        ([gold_vote(n, "a") for n in range(3)], "no two labellers judged one pair"),
    ],
)
def test_why_alpha_is_not_defined_is_said(cast: list[Vote], why: str) -> None:
    assert f"Alpha is not defined: {why}" in markdown(analyse(cast, [], seed=0), ["v.jsonl"])


def test_the_command_writes_data_that_reward_and_kto_read_and_a_record_that_pins_it(
    votes: list[Vote], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "in" / "votes.jsonl", [*votes, *[gold_vote(n, "a", "ann") for n in range(3)]])
    out = tmp_path / "feedback"
    command = ["feedback", str(file), "--out", str(out), "--json"]
    assert main(command) == 0
    printed = json.loads(capsys.readouterr().out)
    record = FeedbackRecord.read(out / "feedback.json")
    assert printed["votes"] == record.votes == 36
    assert record.gold_votes == 3
    assert record.inputs[0].sha256 == sha256_of_file(file)
    assert all(output.sha256 == sha256_of_file(out / output.path) for output in record.outputs)
    assert {one.kind for one in record.labellers.values()} == {"person"}
    assert "3 people" in (out / "report.md").read_text()
    settings = DataSettings(source=str(out / "preferences"), heldout_split="test")
    data = load_preferences(settings, seed=0)
    assert (len(data.train), len(data.heldout)) == (10, 2)
    assert data.train[0].chosen.startswith("blue")
    assert data.source.feedback is not None
    assert data.source.feedback.record == f"sha256:{sha256_of_file(out / 'feedback.json')}"
    assert (data.source.feedback.votes, data.source.feedback.people) == (36, 3)
    assert len(load_feedback(DataSettings(source=str(out / "kto"), heldout_split="test"), seed=0).train) == 20

    before = (out / "feedback.json").stat().st_mtime_ns
    assert main(command) == 0
    assert (out / "feedback.json").stat().st_mtime_ns == before
    assert main([*command, "--cap", "3"]) == 2
    assert "another analysis" in capsys.readouterr().err


def test_data_that_was_changed_after_its_record_is_refused(votes: list[Vote], tmp_path: Path) -> None:
    out = tmp_path / "feedback"
    assert main(["feedback", str(write(tmp_path / "votes.jsonl", votes)), "--out", str(out)]) == 0
    train = out / "preferences" / "train.jsonl"
    train.write_text(train.read_text().replace("blue", "green"))
    with pytest.raises(UsageError, match="not what its votes gave"):
        load_preferences(DataSettings(source=str(train), heldout_fraction=0.0), seed=0)


def test_every_excluded_vote_is_named_with_its_reason(votes: list[Vote], tmp_path: Path) -> None:
    forgotten = tmp_path / "forgotten.json"
    forgotten.write_text(json.dumps([labeller("cem")]))
    file = write(tmp_path / "votes" / "one.jsonl", [*votes, votes[0]])
    out = tmp_path / "feedback"
    assert main(["feedback", str(file), "--out", str(out)]) == 0
    lines = [json.loads(line) for line in (out / "exclusions.jsonl").read_text().splitlines()]
    assert len(lines) == 13
    assert {line["reason"] for line in lines if line["labeller"] == labeller("cem")} == {
        "deletion request of the labeller"
    }
    record = FeedbackRecord.read(out / "feedback.json")
    assert record.why_excluded == {"deletion request of the labeller": 12, "repeat of a vote by its id": 1}
    assert labeller("cem") not in record.labellers


def test_votes_of_which_none_counts_are_refused_with_what_was_dropped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "votes.jsonl", [vote(2, "a", consent=None)])
    assert main(["feedback", str(file), "--out", str(tmp_path / "feedback")]) == 2
    assert "1 no consent" in capsys.readouterr().err
    assert not (tmp_path / "feedback" / "feedback.json").exists()


def test_ties_are_reported_and_what_is_bad_on_both_sides_is_data_for_kto(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ties = [vote(1, "tie", "ann"), vote(1, "tie", "ben")]
    assert main(["feedback", str(write(tmp_path / "ties.jsonl", ties)), "--out", str(tmp_path / "ties")]) == 0
    assert "collect more votes" in capsys.readouterr().out
    assert sorted(file.name for file in (tmp_path / "ties").iterdir()) == [
        *("exclusions.jsonl", "feedback.json", "report.json", "report.md")
    ]
    bad = [*ties, vote(2, "both_bad", "ann")]
    assert main(["feedback", str(write(tmp_path / "bad.jsonl", bad)), "--out", str(tmp_path / "bad")]) == 0
    following = capsys.readouterr().out.splitlines()[-1]
    assert following.startswith("next: python -m training kto ")
    assert "heldout_fraction=0" in following, "there is no test.jsonl"
    assert [json.loads(line)["label"] for line in (tmp_path / "bad/kto/train.jsonl").read_text().splitlines()] == [
        *(False, False)
    ]


def test_the_next_command_names_only_what_was_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One prompt leaves nothing to hold out; answers that are all bad make KTO's rows and no preferences."""
    for number, (choice, expected) in enumerate({"a": "reward", "both_bad": "kto"}.items()):
        file, out = write(tmp_path / f"{choice}.jsonl", [vote(number, choice)]), tmp_path / choice
        assert main(["feedback", str(file), "--out", str(out)]) == 0
        printed = capsys.readouterr().out
        assert f"next: python -m training {expected} " in printed
        assert "heldout_split" not in printed
        assert (out / "preferences").exists() == (choice == "a")
