"""What really happens to publishers: kills at every step, lost answers, wrong tokens, a Hub that is down or busy."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from release.__main__ import main
from release.hub_client import HubClient
from release.journal import Journal
from release.local_hub.server import RunningHub
from release.plan import make_plan
from release.publish import publish
from release.records import Receipt
from release.request import Request
from training.errors import HubError, UsageError, VerificationMismatch

STEPS = ("repository", "staged", "checked", "before", "promoted", "tagged", "cleaned", "visible", "receipt")


class Killed(BaseException):
    """Stands for a kill: nothing of ours catches it."""


@pytest.mark.parametrize("moment", ["before its line", "after its line"])
def test_a_kill_at_any_step_and_the_same_command_give_exactly_one_release(
    moment: str, run: Path, hub: HubClient, repo_id: str, load_here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_plan(run, Request(repo_id))
    record = Journal.record
    killed: list[str] = []

    def record_and_die(journal: Journal, step: str, **data: Any) -> None:
        first_time = step not in killed
        killed.append(step)
        if first_time and moment == "before its line":
            raise Killed
        record(journal, step, **data)
        if first_time:
            raise Killed

    monkeypatch.setattr(Journal, "record", record_and_die)
    for _ in STEPS:
        with pytest.raises(Killed):
            publish(run, hub)
    assert list(dict.fromkeys(killed)) == list(STEPS)
    receipt, already = publish(run, hub)
    assert already, "the kill at the last step came after the receipt"
    assert_one_release(hub, repo_id, receipt)


def assert_one_release(hub: HubClient, repo_id: str, receipt: Receipt) -> None:
    assert [commit.title for commit in hub.history(repo_id)] == ["Release v1.0.0", "initial commit"]
    repository = hub.repository(repo_id)
    assert repository is not None
    assert repository.branches == {"main": receipt.commit}
    assert repository.tags == {"v1.0.0": receipt.commit}
    assert not repository.private


def test_sigkill_and_resume_give_exactly_one_release(run: Path, hub: HubClient, repo_id: str) -> None:
    make_plan(run, Request(repo_id))
    journal = run / "journal.jsonl"
    command = [sys.executable, "-m", "release", "publish", "--run", str(run), "--repo", repo_id]
    for lines in (1, 2, 4):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while process.poll() is None:
            if journal.is_file() and journal.read_bytes().count(b"\n") >= lines:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.001)
        assert process.stderr is not None
        said = process.stderr.read().decode()
        process.stderr.close()
        assert process.wait() in (0, -signal.SIGKILL), said
    assert main(["resume", "--run", str(run)]) == 0
    assert_one_release(hub, repo_id, Receipt.read(run / "receipt.json"))


def test_ctrl_c_exits_130_and_the_same_command_continues(
    run: Path, hub: HubClient, repo_id: str, load_here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    command = ["publish", "--run", str(run), "--repo", repo_id]
    with monkeypatch.context() as patch:
        patch.setattr("release.publish.Publication._promote", interrupt)
        assert main(command) == 130
    assert main(command) == 0
    assert_one_release(hub, repo_id, Receipt.read(run / "receipt.json"))


@pytest.mark.parametrize("which", [1, 2])
def test_a_commit_whose_answer_was_lost_is_found_and_not_made_again(
    which: int, run: Path, hub: HubClient, repo_id: str, load_here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_plan(run, Request(repo_id))
    create_commit, calls = hub.api.create_commit, []

    def lose_the_answer(*args: object, **kwargs: object) -> object:
        done = create_commit(*args, **kwargs)
        calls.append(done)
        if len(calls) == which:  # the first stages, the second promotes
            raise httpx2.ReadError("the connection was closed")
        return done

    monkeypatch.setattr(hub.api, "create_commit", lose_the_answer)
    receipt, _ = publish(run, hub)
    assert len(calls) == 2
    assert_one_release(hub, repo_id, receipt)


def test_a_commit_that_fails_in_passing_is_sent_again(
    run: Path, hub: HubClient, repo_id: str, load_here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_plan(run, Request(repo_id))
    create_commit, calls = hub.api.create_commit, []

    def fail_twice(*args: object, **kwargs: object) -> object:
        calls.append(args)
        if len(calls) <= 2:
            raise httpx2.ReadError("the connection was closed")
        return create_commit(*args, **kwargs)

    monkeypatch.setattr(hub.api, "create_commit", fail_twice)
    receipt, _ = publish(run, hub)
    assert_one_release(hub, repo_id, receipt)


def test_somebody_elses_commit_is_never_overwritten_unseen(
    run: Path, hub: HubClient, repo_id: str, load_here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_plan(run, Request(repo_id))
    create_commit = hub.api.create_commit

    def come_first(*args: Any, **kwargs: Any) -> object:
        if kwargs["revision"] == "main":
            hub.api.upload_file(path_or_fileobj=b"theirs", path_in_repo="theirs.txt", repo_id=repo_id)
        return create_commit(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(hub.api, "create_commit", come_first)
        patch.setattr(hub.api, "upload_file", _upload_with(create_commit))
        with pytest.raises(HubError, match="somebody else committed to main"):
            publish(run, hub)
    with pytest.raises(UsageError, match=r"removed   theirs\.txt"):
        publish(run, hub)
    receipt, _ = publish(run, hub, replace_files=True)
    assert hub.resolve(repo_id, "main") == receipt.commit
    assert "theirs.txt" not in hub.tree(repo_id, "main")


def _upload_with(create_commit: Callable[..., Any]) -> Callable[..., Any]:
    from huggingface_hub import CommitOperationAdd

    def upload(*, path_or_fileobj: bytes, path_in_repo: str, repo_id: str) -> object:
        return create_commit(repo_id, [CommitOperationAdd(path_in_repo, path_or_fileobj)], commit_message="Theirs")

    return upload


def test_bytes_that_come_back_otherwise_are_never_released(
    run: Path, hub: HubClient, hub_with_owner: tuple[RunningHub, str], repo_id: str, load_here: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    make_plan(run, Request(repo_id))
    download = hub.api.snapshot_download

    def flip(*args: Any, **kwargs: Any) -> str:
        folder = download(*args, **kwargs)
        file = Path(folder) / "model.safetensors"
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.resolve().chmod(0o644)
        file.resolve().write_bytes(content)
        return str(folder)

    with monkeypatch.context() as patch:
        patch.setattr(hub.api, "snapshot_download", flip)
        with pytest.raises(VerificationMismatch, match=r"model\.safetensors"):
            publish(run, hub)
    repository = hub.repository(repo_id)
    assert repository is not None
    assert repository.private
    assert set(repository.branches) == {"main"}
    assert [commit.title for commit in hub.history(repo_id)] == ["initial commit"]


def command(run: Path, repo_id: str) -> list[str]:
    return ["publish", "--run", str(run), "--repo", repo_id, "--json"]


def error_of(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return dict(json.loads(capsys.readouterr().out)["error"])


def test_a_wrong_token_is_exit_5_and_is_not_printed(
    run: Path, hub: HubClient, repo_id: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_plan(run, Request(repo_id))
    capsys.readouterr()
    wrong = "hf_" + "x" * 34
    monkeypatch.setenv("HF_TOKEN", wrong)
    assert main(command(run, repo_id)) == 5
    said = capsys.readouterr()
    error = json.loads(said.out)["error"]
    assert "does not accept the token" in error["what"]
    assert error["where"] == hub.endpoint
    assert "HF_TOKEN" in error["next"]
    assert wrong not in said.out + said.err


def test_no_token_is_exit_5_with_what_to_set(
    run: Path, hub: HubClient, repo_id: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_plan(run, Request(repo_id))
    capsys.readouterr()
    monkeypatch.delenv("HF_TOKEN")
    assert main(command(run, repo_id)) == 5
    assert "HF_TOKEN" in error_of(capsys)["next"]


def test_a_repository_of_somebody_else_is_exit_5(
    run: Path, hub: HubClient, hub_with_owner: tuple[RunningHub, str], capsys: pytest.CaptureFixture[str]
) -> None:
    running, _ = hub_with_owner
    stranger = HubClient.connect(running.endpoint, running.store.create_user("stranger"))
    stranger.create_repository("stranger/theirs", private=False)
    for repo_id in ("stranger/theirs", "stranger/new"):
        make_plan(run, Request(repo_id))
        capsys.readouterr()
        assert main(command(run, repo_id)) == 5
        error = error_of(capsys)
        assert "may not do that" in error["what"]
        assert "namespace of your own" in error["next"]
    assert [commit.title for commit in stranger.history("stranger/theirs")] == ["initial commit"]


def test_a_token_that_may_only_read_is_exit_5(
    run: Path, hub: HubClient, hub_with_owner: tuple[RunningHub, str], repo_id: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    make_plan(run, Request(repo_id))
    capsys.readouterr()
    monkeypatch.setenv("HF_TOKEN", hub_with_owner[0].store.create_token("slipway", "read"))
    assert main(command(run, repo_id)) == 5
    assert "may not do that" in error_of(capsys)["what"]


def test_a_hub_that_is_down_is_exit_5_and_names_its_address(
    run: Path, hub: HubClient, repo_id: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_plan(run, Request(repo_id))
    capsys.readouterr()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    monkeypatch.setattr("release.hub_reader.time.sleep", lambda _: None)
    assert main(command(run, repo_id)) == 5
    error = error_of(capsys)
    assert "cannot be reached" in error["what"]
    assert error["where"] == endpoint
    assert "release hub" in error["next"]


def test_a_busy_hub_is_waited_for_as_long_as_it_asks_and_said_to_be(
    hub: HubClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub.utils import hf_raise_for_status

    waited: list[float] = []
    monkeypatch.setattr("release.hub_reader.time.sleep", waited.append)
    answers = [429, 503]
    whoami = hub.api.whoami

    def busy() -> Any:
        if answers:
            request = httpx2.Request("GET", f"{hub.endpoint}/api/whoami-v2")
            hf_raise_for_status(httpx2.Response(answers.pop(0), headers={"Retry-After": "7"}, request=request))
        return whoami()

    monkeypatch.setattr(hub.api, "whoami", busy)
    assert hub.user() == "slipway"
    assert waited == [7.0, 7.0]
    assert capsys.readouterr().err.count("trying again in 7 s") == 2


def test_hf_xet_is_given_seconds_for_a_dead_hub_unless_the_user_has_said_otherwise(
    hub: HubClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_XET_CLIENT_RETRY_MAX_DURATION", "600s")
    monkeypatch.delenv("HF_XET_CLIENT_RETRY_MAX_ATTEMPTS")
    HubClient.connect(hub.endpoint)
    assert os.environ["HF_XET_CLIENT_RETRY_MAX_DURATION"] == "600s"
    assert os.environ["HF_XET_CLIENT_RETRY_MAX_ATTEMPTS"] == "3"


def test_the_environment_of_the_tests_reaches_the_client(hub: HubClient) -> None:
    assert hub.endpoint == os.environ["HF_ENDPOINT"]
    assert hub.user() == "slipway"
