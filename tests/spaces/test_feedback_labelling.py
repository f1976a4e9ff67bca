"""What a labeller is shown and what becomes a vote; and a log of votes that outlives kills and a Hub that is away."""

from __future__ import annotations

import importlib
import json
import resource
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from feedback_space import make_pairs, write_space
from made_votes import labeller

from release.local_hub.server import RunningHub, running_hub
from training.__main__ import main
from training.votes import Vote, read_votes

OWN = ("labelling", "vote_log", "notice", "limits")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_space(tmp_path / "space", make_pairs(9), gold_every=4)


@pytest.fixture
def modules(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The bundle's modules, as its app imports them, and none of another Space of the same name."""
    monkeypatch.syspath_prepend(str(bundle))
    taken = {name: sys.modules.pop(name) for name in OWN if name in sys.modules}
    yield {name: importlib.import_module(name) for name in OWN}
    for name in OWN:
        sys.modules.pop(name, None)
    sys.modules.update(taken)


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


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningHub, str]]:
    """A running Hub, and the token of its user `labels`."""
    with running_hub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub, hub.store.create_user("labels")


@pytest.fixture
def dataset(hub: tuple[RunningHub, str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The id of a dataset of the test's own, and an environment that may write it."""
    from huggingface_hub import constants, hf_api

    # huggingface_hub reads HF_ENDPOINT when it is imported, which is long ago.
    endpoint = hub[0].endpoint
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(hf_api.api, "endpoint", endpoint)
    monkeypatch.setenv("HF_TOKEN", hub[1])
    return f"labels/{request.node.name[:40].strip('_')}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "votes"


def line(number: int, who: str = "ann") -> dict[str, Any]:
    return {"vote_id": f"vote-{number:04}", "labeller": labeller(who)}


def there(dataset: str) -> list[str]:
    from huggingface_hub import snapshot_download

    copy = Path(snapshot_download(dataset, repo_type="dataset"))
    return sorted(
        json.loads(row)["vote_id"] for file in copy.glob("votes/*.jsonl") for row in file.read_text().splitlines()
    )


def test_a_full_disk_takes_back_the_part_of_a_line_that_it_took(modules: Any, tmp_path: Path) -> None:
    log = modules["vote_log"].VoteLog(tmp_path / "votes", None)
    log.append(line(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (log.file.stat().st_size + 10, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            log.append(line(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    log.append(line(3))
    again = modules["vote_log"].VoteLog(tmp_path / "votes", None)
    assert [vote["vote_id"] for vote in again.earlier()] == [line(1)["vote_id"], line(3)["vote_id"]]


def test_votes_are_pushed_to_a_private_dataset_and_those_of_a_killed_run_at_the_next_start(
    modules: Any, dataset: str, folder: Path
) -> None:
    from huggingface_hub import dataset_info

    first = modules["vote_log"].VoteLog(folder, dataset)
    first.append(line(1))
    first.push()
    assert there(dataset) == ["vote-0001"]
    assert dataset_info(dataset).private
    first.append(line(2))  # and killed: nothing pushes it, and a third is cut off in the middle
    with first.file.open("ab") as file:
        file.write(b'{"vote_id": "vote-00')
    second = modules["vote_log"].VoteLog(folder, dataset)
    assert second.unpushed() == 1
    assert {vote["vote_id"] for vote in second.earlier()} == {"vote-0001", "vote-0002"}
    second.start()
    second.append(line(4))
    second.stop()
    assert there(dataset) == ["vote-0001", "vote-0002", "vote-0004"]
    assert second.unpushed() == 0


def test_a_start_on_another_disk_knows_what_was_pushed(modules: Any, dataset: str, folder: Path) -> None:
    first = modules["vote_log"].VoteLog(folder / "one", dataset)
    first.append(line(1))
    first.push()
    assert [vote["vote_id"] for vote in modules["vote_log"].VoteLog(folder / "two", dataset).earlier()] == ["vote-0001"]


def test_pushing_twice_makes_one_commit(modules: Any, dataset: str, folder: Path) -> None:
    from huggingface_hub import list_repo_commits

    log = modules["vote_log"].VoteLog(folder, dataset)
    log.append(line(1))
    log.push()
    before = len(list_repo_commits(dataset, repo_type="dataset"))
    log.push()
    (folder / "pushed.json").unlink()  # a kill between the commit and this file
    log.push()
    assert len(list_repo_commits(dataset, repo_type="dataset")) == before


def test_a_forgotten_labeller_is_not_pushed_and_not_kept_on_the_disk(modules: Any, dataset: str, folder: Path) -> None:
    from huggingface_hub import upload_file

    log = modules["vote_log"].VoteLog(folder, dataset)
    log.append(line(1))
    log.append(line(2, "ben"))
    log.push()
    forgotten = json.dumps([labeller("ben")]).encode()
    upload_file(path_or_fileobj=forgotten, path_in_repo="forgotten.json", repo_id=dataset, repo_type="dataset")
    log.append(line(3, "ben"))
    log.append(line(4))
    log.push()
    assert there(dataset) == ["vote-0001", "vote-0004"]
    assert [vote["vote_id"] for vote in modules["vote_log"].VoteLog(folder, None).earlier()] == [
        "vote-0001",
        "vote-0004",
    ]


def test_a_deletion_request_makes_a_revision_without_the_votes_and_the_space_does_not_bring_them_back(
    modules: Any, dataset: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub import list_repo_commits

    log = modules["vote_log"].VoteLog(folder, dataset)
    for number, who in enumerate(("ann", "ben", "ann")):
        log.append(line(number, who))
    log.push()
    before = len(list_repo_commits(dataset, repo_type="dataset"))
    command = ["feedback", dataset, "--forget", labeller("ann"), "--json"]
    assert main(command) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["removed"] == {dataset: 2}
    commits = list_repo_commits(dataset, repo_type="dataset")
    assert len(commits) == before + 1
    assert commits[0].commit_id == printed["commits"][dataset]
    assert there(dataset) == ["vote-0001"]
    log.append(line(9))
    log.append(line(10, "ben"))
    log.push()
    assert there(dataset) == ["vote-0001", "vote-0010"]
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["removed"] == {dataset: 0}
    assert main(["feedback", f"{dataset}@{commits[1].commit_id}", "--forget", labeller("ann")]) == 2


def test_without_a_hub_votes_are_kept_and_the_problem_is_named(
    modules: Any, dataset: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    log = modules["vote_log"].VoteLog(folder, dataset, seconds_between_pushes=0.05)
    log.append(line(1))
    log.start()
    log.stop()
    assert "status 40" in log.problem
    assert log.unpushed() == 1
    assert "not pushed" in capsys.readouterr().err


def test_a_dataset_that_the_token_may_not_make_is_named_before_there_is_a_vote(
    modules: Any, dataset: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = modules["vote_log"].VoteLog(folder, "somebody-else/votes")
    log.start()
    log.stop()
    assert "status 403" in log.problem
    assert "not pushed" in capsys.readouterr().err


def test_votes_go_to_a_mounted_disk_or_bucket_where_there_is_one(
    modules: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    votes = modules["vote_log"]
    monkeypatch.delenv("VOTES_DIR", raising=False)
    monkeypatch.setattr(votes, "PERSISTENT", tmp_path / "data")
    assert votes.votes_folder(tmp_path / "app") == tmp_path / "app" / "votes"
    (tmp_path / "data").mkdir()
    assert votes.votes_folder(tmp_path / "app") == tmp_path / "data" / "votes"
    votes.VoteLog(votes.votes_folder(tmp_path / "app"), None).append({"vote_id": "1"})
    again = votes.VoteLog(votes.votes_folder(tmp_path / "elsewhere"), None)  # the next start, from another image
    assert [vote["vote_id"] for vote in again.earlier()] == ["1"]
    monkeypatch.setenv("VOTES_DIR", str(tmp_path / "own"))
    assert votes.votes_folder(tmp_path / "app") == tmp_path / "own"


def test_the_salt_is_drawn_once_and_read_by_nobody_else(modules: Any, tmp_path: Path) -> None:
    salt = modules["vote_log"].salt_of(tmp_path)
    assert salt == modules["vote_log"].salt_of(tmp_path)
    assert (tmp_path / "salt").stat().st_mode & 0o077 == 0


def test_a_votes_schema_has_no_room_for_more(open_space: Any, bundle: Path) -> None:
    vote_all(open_space(), "ann", most=1)
    line = next(iter((bundle / "votes").glob("*.jsonl"))).read_text()
    assert set(json.loads(line)) == set(Vote.model_fields)
