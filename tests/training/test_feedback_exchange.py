"""Votes to and from other tools, and a deletion request that reaches everything downstream."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from made_votes import NEW, OLD, answer, gold_vote, labeller, vote, write

from training.__main__ import main
from training.feedback_forget import without
from training.feedback_pairs import Pair
from training.run_record import DataSource, FeedbackSource, Hardware, ParentCheckpoint, RunRecord
from training.vote_preferences import preference_rows
from training.votes import Turn, Vote, pair_id, read_votes


@pytest.fixture
def votes() -> list[Vote]:
    return [
        vote(1, "a", "ann", reason="because", better_answer="green"),
        vote(1, "b", "ben", swapped=True),
        vote(2, "tie", "ann"),
        vote(2, "both_bad", "ben"),
        gold_vote(1, "b", "ben", known="b"),
    ]


def exchange(*words: str | Path) -> int:
    return main(["feedback-exchange", *map(str, words)])


@pytest.mark.parametrize("tool", ["argilla", "label-studio"])
def test_votes_come_back_from_another_tool_as_they_went(tool: str, votes: list[Vote], tmp_path: Path) -> None:
    file, there, back = write(tmp_path / "votes.jsonl", votes), tmp_path / "there.json", tmp_path / "back.jsonl"
    assert exchange("export", file, "--format", tool, "--out", there) == 0
    assert exchange("import", there, "--format", tool, "--out", back, "--salt", "s", "--consent", "firm") == 0
    found = read_votes([str(back)]).votes

    def kept(vote: Vote) -> tuple[Any, ...]:
        return (
            vote.pair_id,
            vote.a,
            vote.b,
            vote.choice,
            vote.reason,
            vote.better_answer,
            vote.gold_id,
            vote.gold_choice,
        )

    assert sorted(map(kept, found), key=str) == sorted(map(kept, votes), key=str)
    assert len({vote.labeller for vote in found}) == 2
    # They are the same votes of the same people, so that both files together hold no more than one.
    assert {vote.vote_id: vote for vote in found} == {vote.vote_id: vote for vote in votes}
    assert {vote.labeller for vote in read_votes([str(file), str(back)]).votes} == {vote.labeller for vote in votes}
    assert preference_rows(found) == preference_rows(votes)
    again = tmp_path / "again.jsonl"
    assert exchange("import", there, "--format", tool, "--out", again, "--salt", "s", "--consent", "firm") == 0
    assert [vote.vote_id for vote in read_votes([str(again)]).votes] == [vote.vote_id for vote in found]


def test_label_studio_is_told_of_no_user_whom_it_does_not_know_and_a_vote_changed_there_stays_its_labellers(
    votes: list[Vote], tmp_path: Path
) -> None:
    file, there, back = write(tmp_path / "votes.jsonl", votes[:1]), tmp_path / "there.json", tmp_path / "back.jsonl"
    assert exchange("export", file, "--format", "label-studio", "--out", there) == 0
    [task] = json.loads(there.read_text())
    [annotation] = task["annotations"]
    assert "completed_by" not in annotation
    annotation["completed_by"] = 1  # as Label Studio gives it: the user who imported
    annotation["result"][0]["value"]["choices"] = ["b"]
    of_another = {"completed_by": 2, "result": [GOOD]}
    there.write_text(json.dumps([task | {"annotations": [annotation, of_another]}]))
    assert exchange("import", there, "--format", "label-studio", "--out", back, "--salt", "s", "--consent", "firm") == 0
    changed, new = read_votes([str(back)]).votes
    assert (changed.choice, changed.labeller) == ("b", votes[0].labeller)
    assert new.labeller != votes[0].labeller


@pytest.mark.parametrize("tool", ["argilla", "label-studio"])
def test_exported_pairs_do_not_show_labellers_which_model_is_which(tool: str, tmp_path: Path) -> None:
    prompt, one, other = [Turn(role="user", content="Hello?")], answer("Hi.", NEW), answer("What?", OLD)
    pair = Pair(pair_id=pair_id(prompt, one, other), prompt=prompt, one=one, other=other)
    file, out = tmp_path / "pairs.jsonl", tmp_path / "out.json"
    file.write_text(json.dumps(pair.model_dump(mode="json")) + "\n")
    assert exchange("export", file, "--format", tool, "--out", out) == 0
    record = json.loads(out.read_text())[0]
    shown = record["fields"] if tool == "argilla" else {k: v for k, v in record["data"].items() if k != "slipway"}
    assert {shown["answer_a"], shown["answer_b"]} == {"Hi.", "What?"}
    assert "org/new" not in json.dumps(shown)
    if tool == "label-studio":
        assert "slipway" not in out.with_suffix(".xml").read_text()


def test_a_pairwise_region_of_label_studio_is_a_choice_of_a_side(tmp_path: Path) -> None:
    def annotation(selected: str, **changes: Any) -> dict[str, Any]:
        region = {"from_name": "pw", "to_name": "a,b", "type": "pairwise", "value": {"selected": selected}}
        return {
            "completed_by": 7,
            "result": [region],
            "lead_time": 4.5,
            "created_at": "2026-01-01T10:00:00.5Z",
            **changes,
        }

    data = {"prompt": "Hello?", "answer_a": "Hi.", "answer_b": "What?"}
    file, out = tmp_path / "export.json", tmp_path / "votes.jsonl"
    file.write_text(
        json.dumps(
            [
                {"data": data, "annotations": [annotation("right"), annotation("left", was_cancelled=True)]},
                {"data": data, "annotations": []},
            ]
        )
    )
    assert exchange("import", file, "--format", "label-studio", "--out", out, "--salt", "s", "--consent", "c") == 0
    (found,) = read_votes([str(out)]).votes
    assert (found.choice, found.decision_seconds, found.a.maker) == ("b", 4.5, None)


def test_an_import_without_a_salt_or_with_other_fields_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "records.json", tmp_path / "votes.jsonl"
    file.write_text(json.dumps([{"fields": {"text": "x"}, "responses": {}}]))
    assert exchange("import", file, "--format", "argilla", "--out", out) == 2
    assert "--salt SECRET --consent NAME" in capsys.readouterr().err
    assert exchange("import", file, "--format", "argilla", "--out", out, "--salt", "s", "--consent", "c") == 2
    assert "record 1" in capsys.readouterr().err
    assert not out.exists()


GOOD = {"from_name": "preference", "value": {"choices": ["a"]}}


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"created_at": "yesterday"}, "Invalid isoformat"),
        ({"lead_time": -1.0}, "decision_seconds"),
        ({"result": "a"}, "task 1"),
        ({"result": [GOOD, {"from_name": "reason", "value": {"text": 7}}]}, "a text was expected"),
        ({"completed_by": None}, "who judged"),
    ],
)
def test_what_label_studio_does_not_write_is_refused_with_its_task(
    changes: dict[str, Any], found: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = _refused(tmp_path, "label-studio", _task({"completed_by": 7, "result": [GOOD]} | changes), capsys)
    assert found in error
    assert "task 1" in error


@pytest.mark.parametrize(
    ("tool", "record"),
    [
        ("label-studio", {"annotations": 3}),
        ("label-studio", {"data": {"slipway": "no JSON"}}),
        ("label-studio", {"data": {"slipway": "[]"}}),
        ("argilla", {"responses": {"preference": [{"value": "a", "user_id": None}]}}),
        ("argilla", {"responses": {"preference": 3}}),
    ],
)
def test_a_record_of_another_shape_is_refused_with_its_place(
    tool: str, record: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = {"prompt": "Hello?", "answer_a": "Hi.", "answer_b": "What?"}
    whole = {"fields": texts} | record | {"data": texts | record.get("data", {})}
    assert f"{'task' if tool == 'label-studio' else 'record'} 1" in _refused(tmp_path, tool, whole, capsys)


def test_a_text_may_be_one_text_or_lines_or_none_and_a_time_may_have_an_offset(tmp_path: Path) -> None:
    texts = [
        {"from_name": "better_answer", "value": {"text": "six"}},
        {"from_name": "reason", "value": {"text": ["a", "b"]}},
    ]
    whole = _task({"completed_by": 7, "result": [GOOD, *texts], "created_at": "2026-01-01T10:00:00+02:00"})
    (found,) = _imported(tmp_path, "label-studio", whole)
    assert (found.better_answer, found.reason, found.voted_at) == ("six", "a\nb", "2026-01-01T08:00:00+00:00")
    responses = {"preference": [{"value": "a", "user_id": "u"}], "reason": [{"value": None, "user_id": "u"}]}
    (found,) = _imported(
        tmp_path, "argilla", {"fields": whole["data"], "responses": responses | {"better_answer": None}}
    )
    assert found.reason is None


def test_a_file_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for action in ("export", "import"):
        assert exchange(action, tmp_path / "none", "--format", "argilla", "--out", tmp_path / "out") == 2
        assert "no such file" in capsys.readouterr().err


def test_blank_lines_are_no_votes_and_a_file_without_any_is_refused(
    votes: list[Vote], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "votes.jsonl", votes)
    file.write_text(file.read_text().replace("\n", "\n\n"))
    assert exchange("export", file, "--format", "argilla", "--out", tmp_path / "out.json") == 0
    assert "with 5 votes" in capsys.readouterr().out
    file.write_text("\n\n")
    assert exchange("export", file, "--format", "argilla", "--out", tmp_path / "none.json") == 2
    assert "there is nothing to export" in capsys.readouterr().err
    assert not (tmp_path / "none.json").exists()


def _task(annotation: dict[str, Any]) -> dict[str, Any]:
    return {"data": {"prompt": "Hello?", "answer_a": "Hi.", "answer_b": "What?"}, "annotations": [annotation]}


def _import(folder: Path, tool: str, record: dict[str, Any]) -> int:
    (folder / "there.json").write_text(json.dumps([record]))
    words = ("--format", tool, "--out", folder / "back.jsonl", "--salt", "s", "--consent", "c")
    return exchange("import", folder / "there.json", *words)


def _imported(folder: Path, tool: str, record: dict[str, Any]) -> list[Vote]:
    assert _import(folder, tool, record) == 0
    return read_votes([str(folder / "back.jsonl")]).votes


def _refused(folder: Path, tool: str, record: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> str:
    assert _import(folder, tool, record) == 2
    return capsys.readouterr().err


# Deletion


def test_a_line_of_another_labeller_stays_as_it_was(votes: list[Vote], tmp_path: Path) -> None:
    content = write(tmp_path / "votes.jsonl", votes).read_bytes()
    kept, removed = without(content + b'{"cut off', labeller("ann"))
    assert removed == 2
    assert kept.splitlines() == [line for line in content.splitlines() if labeller("ann").encode() not in line]


def run_record(folder: Path, method: str, digest: str, data: list[DataSource], parents: list[ParentCheckpoint]) -> None:
    RunRecord(
        method=method,
        checkpoint_digest=digest,
        recipe={},
        parents=parents,
        data=data,
        seed=0,
        packages={},
        git_revision=None,
        hardware=Hardware(machine="m", processor="p", cores=1, device="cpu", memory_gib=1.0),
        started="2026-11-25T08:00:00+00:00",
        seconds=1.0,
        metrics={},
    ).write(folder / "run.json")


def test_a_deletion_takes_votes_out_and_names_everything_downstream(
    votes: list[Vote], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, folder = tmp_path / "runs", tmp_path / "votes"
    write(folder / "votes" / "one.jsonl", votes)
    assert main(["feedback", str(folder), "--out", str(runs / "feedback"), "--json"]) == 0
    other = write(tmp_path / "other.jsonl", [vote(3, "a", "cem")])
    assert main(["feedback", str(other), "--out", str(runs / "elsewhere"), "--json"]) == 0
    from training.feedback_record import feedback_source

    def source(name: str) -> tuple[DataSource, FeedbackSource]:
        behind = feedback_source(runs / name / "preferences")
        assert behind is not None
        return DataSource(id=name, split="train", sha256="0", rows=1, feedback=behind), behind

    data, behind = source("feedback")
    run_record(runs / "reward", "reward", "sha256:reward", [data], [])
    parent = ParentCheckpoint(role="reward_model", name="reward", digest="sha256:reward", feedback=[behind])
    run_record(runs / "ppo", "ppo", "sha256:ppo", [], [parent])
    run_record(runs / "untouched", "reward", "sha256:untouched", [source("elsewhere")[0]], [])
    capsys.readouterr()

    command = ["feedback", str(folder), "--forget", labeller("ann"), "--runs", str(runs), "--json"]
    assert main(command) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["removed"] == {str(folder): 2}
    assert [(one["what"], one["digest"]) for one in printed["used_by"]][1:] == [
        ("ppo", "sha256:ppo"),
        ("reward", "sha256:reward"),
    ]
    assert printed["used_by"][0]["path"] == str(runs / "feedback" / "feedback.json")
    assert len(printed["used_by"]) == 3
    read = read_votes([str(folder)])
    assert {vote.labeller for vote in read.votes} == {labeller("ben")}
    assert read.forgotten == {labeller("ann")}
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["removed"] == {str(folder): 0}


def test_a_name_is_no_labeller_and_a_report_is_not_written_beside_a_deletion(
    votes: list[Vote], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "votes.jsonl", votes)
    assert main(["feedback", str(tmp_path), "--forget", "ann"]) == 2
    assert main(["feedback", str(tmp_path), "--forget", labeller("ann"), "--out", str(tmp_path / "out")]) == 2
    assert main(["feedback", str(tmp_path)]) == 2
    assert len(read_votes([str(tmp_path)]).votes) == len(votes)
    capsys.readouterr()


def test_a_user_of_label_studio_is_one_labeller_whether_an_export_writes_their_id_or_all_of_them(
    tmp_path: Path,
) -> None:
    whole = _task({"completed_by": 3, "result": [GOOD]})
    whole["annotations"].append({"completed_by": {"id": 3, "email": "e@x"}, "result": [GOOD]})
    assert len({vote.labeller for vote in _imported(tmp_path, "label-studio", whole)}) == 1


def test_a_deletion_names_files_that_are_no_records_and_passes_them_over(
    votes: list[Vote], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, runs = tmp_path / "votes", tmp_path / "runs"
    write(folder / "votes.jsonl", votes)
    assert main(["feedback", str(folder), "--out", str(runs / "feedback"), "--json"]) == 0
    foreign = {"a/scorecard.json": '{"a": 1}', "b/run.json": "{", "c/feedback.json": '{"of": "another tool"}'}
    foreign |= {"d/best_of_n.json": "[]", "e/scorecard.json": "[]"}
    for name, content in foreign.items():
        (runs / name).parent.mkdir()
        (runs / name).write_text(content)
    capsys.readouterr()
    command = ["feedback", str(folder), "--forget", labeller("ann"), "--runs", str(runs)]
    assert main([*command, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["removed"] == {str(folder): 2}
    assert [one["path"] for one in printed["used_by"]] == [str(runs / "feedback" / "feedback.json")]
    assert {one["path"] for one in printed["not_read"]} == {str(runs / name) for name in foreign}
    assert main(command) == 0
    assert f"not looked into: {runs / 'a/scorecard.json'}" in capsys.readouterr().out


def test_a_folder_of_runs_that_is_not_there_is_refused_before_anything_is_deleted(
    votes: list[Vote], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "votes" / "votes.jsonl", votes)
    before = file.read_bytes()
    command = ["feedback", str(file.parent), "--forget", labeller("ann")]
    assert main([*command, "--runs", str(tmp_path / "none")]) == 2
    assert "no such folder of runs" in capsys.readouterr().err
    assert main(["feedback", str(file.parent), str(file), *command[2:]]) == 2
    assert file.read_bytes() == before
    assert not (file.parent / "forgotten.json").exists()
