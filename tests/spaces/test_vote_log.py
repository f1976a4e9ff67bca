"""A log of votes that outlives kills, full disks and a Hub that is away."""

from __future__ import annotations

import errno
import json
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from feedback_space import make_pairs, modules_of, write_space
from made_votes import labeller

from release.local_hub.server import RunningHub, running_hub
from training.__main__ import main

OWN = ("vote_log", "vote_dataset", "vote_files", "limits")


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with modules_of(write_space(tmp_path / "space", make_pairs(9), gold_every=4), OWN, monkeypatch) as found:
        yield found


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


def test_a_bucket_that_takes_no_appending_gets_a_file_for_each_vote(
    modules: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """hf-mount by its default: a file that is there is opened for writing anew or not at all (its `open`, EPERM)."""
    opened = Path.open

    def mounted(file: Path, mode: str = "r", *more: Any, **options: Any) -> Any:
        if mode == "ab" and file.exists():
            raise PermissionError(errno.EPERM, "Operation not permitted", str(file))
        return opened(file, mode, *more, **options)

    monkeypatch.setattr(Path, "open", mounted)
    log = modules["vote_log"].VoteLog(folder, None)
    for number in range(3):
        log.append(line(number))
    assert {vote["vote_id"] for vote in log.earlier()} == {line(number)["vote_id"] for number in range(3)}
    assert len(list(folder.glob("*.jsonl"))) == 3


def test_a_folder_that_is_mounted_no_more_is_named_and_nothing_is_said_to_be_pushed(
    modules: Any, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = modules["vote_log"].VoteLog(folder, "org/votes")
    log.append(line(1))
    folder.rename(folder.with_name("away"))
    with pytest.raises(FileNotFoundError):
        log.append(line(2))
    assert log.health() == {"unpushed": None, "problem": "FileNotFoundError: No such file or directory"}
    assert "could not be written, and its labeller was told" in capsys.readouterr().err
    folder.with_name("away").rename(folder)
    log.append(line(3))
    assert log.health() == {"unpushed": 2, "problem": ""}


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


def test_nothing_is_pushed_into_a_public_dataset_and_the_page_says_so_until_it_is_private(
    modules: Any, dataset: str, folder: Path
) -> None:
    from huggingface_hub import create_repo, list_repo_files, update_repo_settings

    create_repo(dataset, repo_type="dataset", private=False)
    log = modules["vote_log"].VoteLog(folder, dataset)
    log.append(line(1))
    log.start()
    log.stop()
    assert f"hf repos settings {dataset} --type dataset --private" in log.health()["problem"]
    assert log.withheld == log.health()["problem"]
    assert log.health()["unpushed"] == 1
    assert not [path for path in list_repo_files(dataset, repo_type="dataset") if path.startswith("votes/")]
    update_repo_settings(dataset, repo_type="dataset", private=True)
    log.push()
    assert there(dataset) == ["vote-0001"]


def test_a_forgotten_labeller_leaves_every_file_on_the_disk_also_where_nothing_is_new(
    modules: Any, dataset: str, folder: Path
) -> None:
    first = modules["vote_log"].VoteLog(folder, dataset)
    first.append(line(1, "ben"))
    first.append(line(2))
    first.push()
    assert main(["feedback", dataset, "--forget", labeller("ben")]) == 0
    again = modules["vote_log"].VoteLog(folder, dataset)  # the next start, before anybody votes
    assert [vote["vote_id"] for vote in again.earlier()] == ["vote-0002"]
    again.push()
    assert labeller("ben") not in b"".join(file.read_bytes() for file in folder.glob("*.jsonl")).decode()
    assert json.loads((folder / "forgotten.json").read_text()) == [labeller("ben")]
    assert again.unpushed() == 0
    again.append(line(3))
    assert again.unpushed() == 1
    again.push()
    assert there(dataset) == ["vote-0002", "vote-0003"]


def test_a_start_with_another_salt_is_refused_with_the_way_on(modules: Any, dataset: str, folder: Path) -> None:
    mark_of = modules["vote_dataset"].mark_of
    first = modules["vote_log"].VoteLog(folder / "one", dataset, salt_mark=mark_of(b"salt"))
    first.append(line(1))
    first.push()
    same = modules["vote_log"].VoteLog(folder / "two", dataset, salt_mark=mark_of(b"salt"))
    assert [vote["vote_id"] for vote in same.earlier()] == ["vote-0001"]
    other = modules["vote_log"].VoteLog(folder / "three", dataset, salt_mark=mark_of(b"another"))
    with pytest.raises(modules["limits"].Unavailable, match="Set the secret LABELLER_SALT"):
        other.earlier()
    other.append(line(2))  # as where the Hub was away at the start
    other.start()
    other.stop()
    assert "another salt" in other.withheld
    assert there(dataset) == ["vote-0001"]


def test_a_forgotten_list_that_is_none_is_named_and_pushing_goes_on_when_it_is_mended(
    modules: Any, dataset: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub import upload_file

    def upload(content: bytes) -> None:
        upload_file(path_or_fileobj=content, path_in_repo="forgotten.json", repo_id=dataset, repo_type="dataset")

    log = modules["vote_log"].VoteLog(folder, dataset, seconds_between_pushes=0.05)
    log.append(line(1))
    log.push()
    upload(b"no list")
    log.append(line(2))
    log.start()
    for _ in range(600):
        if log.problem:
            break
        time.sleep(0.05)
    assert f"forgotten.json of {dataset} is not JSON" in log.health()["problem"]
    assert "Traceback" in capsys.readouterr().err
    upload(b"[]")
    log.stop()
    assert there(dataset) == ["vote-0001", "vote-0002"]
    assert log.health() == {"unpushed": 0, "problem": ""}


@pytest.mark.parametrize("name", ["org/my votes", "votes", "a/b/c"])
def test_what_is_no_datasets_id_is_refused_before_there_is_a_vote(modules: Any, folder: Path, name: str) -> None:
    with pytest.raises(modules["limits"].Unavailable, match="not the id of a dataset"):
        modules["vote_log"].VoteLog(folder, name)
