"""Publishing end to end on the embedded Hub, with the commands, in fresh processes where a stranger would be in one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from tiny_run import change_weights, rescore

from release.__main__ import main
from release.hub_client import HubClient
from release.hub_files import HUB_OWN_FILE
from release.plan import make_plan
from release.publish import publish
from release.records import Receipt
from release.request import Request
from training.errors import GateRefused, UsageError
from training.run_record import RunRecord

LOAD_BY_NAME = """
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], revision=sys.argv[2])
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1], revision=sys.argv[2])
ids = tokenizer("The capital of France is", return_tensors="pt")
out = model.generate(**ids, max_new_tokens=16, do_sample=False)
print(out[0, ids["input_ids"].shape[1]:].tolist())
"""


def parent_of(run: Path) -> str:
    parent = RunRecord.read(run / "run.json").parent("base")
    assert parent is not None
    return parent.digest


def visible_paths(endpoint: str, repo_id: str, revision: str = "main") -> frozenset[tuple[str, str]] | None:
    """What a reader without a token sees: paths and object ids; None where there is nothing to see."""
    try:
        with urllib.request.urlopen(f"{endpoint}/api/models/{repo_id}/tree/{revision}?recursive=true") as answer:
            return frozenset((entry["path"], entry["oid"]) for entry in json.load(answer) if entry["type"] == "file")
    except urllib.error.HTTPError as error:
        error.close()
        return None


@pytest.fixture(scope="module")
def released(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory, hub_with_owner) -> Path:
    """The tiny run, released as slipway/released v1.0.0 by the command."""
    running, token = hub_with_owner
    run = Path(shutil.copytree(tiny_run, tmp_path_factory.mktemp("released") / "run"))
    environment = os.environ | {"HF_ENDPOINT": running.endpoint, "HF_TOKEN": token}
    command = [sys.executable, "-m", "release", "publish", "--run", str(run), "--repo", "slipway/released", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["already_released"] is False
    assert token not in done.stdout + done.stderr
    return run


def test_a_release_is_one_commit_with_exactly_the_planned_files_and_a_tag(released: Path, hub: HubClient) -> None:
    receipt = Receipt.read(released / "receipt.json")
    repository = hub.repository("slipway/released")
    assert repository is not None
    assert repository.branches == {"main": receipt.commit}
    assert repository.tags == {"v1.0.0": receipt.commit}
    assert not repository.private
    assert [commit.title for commit in hub.history("slipway/released")] == ["Release v1.0.0", "initial commit"]
    planned = {entry.path for entry in receipt.files} | {"plan.json", HUB_OWN_FILE}
    assert set(hub.tree("slipway/released", "main")) == planned


def test_from_pretrained_by_id_and_tag_answers_as_the_local_model_did(
    released: Path, hub: HubClient, tmp_path: Path
) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path)}
    command = [sys.executable, "-c", LOAD_BY_NAME, "slipway/released", "v1.0.0"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == Receipt.read(released / "receipt.json").probe.greedy


def test_publishing_again_says_that_it_is_released_and_changes_nothing(
    released: Path, hub: HubClient, capsys: pytest.CaptureFixture[str]
) -> None:
    before = hub.history("slipway/released")
    assert main(["publish", "--run", str(released), "--repo", "slipway/released"]) == 0
    assert "already released" in capsys.readouterr().out
    assert hub.history("slipway/released") == before


def test_the_same_tag_with_other_bytes_is_refused_with_exit_2(
    released: Path, hub: HubClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(released, tmp_path / "run"))
    parent = parent_of(run)
    digest = change_weights(run / "checkpoint", lambda tensors: tensors["model.norm.weight"].add_(0.1))
    rescore(run, digest, parent)
    before = hub.repository("slipway/released")
    bundle = (run / "bundle" / "plan.json").read_bytes()
    for verb in ("plan", "publish"):
        assert main([verb, "--run", str(run), "--repo", "slipway/released"]) == 2
        assert "was released from this run already" in capsys.readouterr().err
    assert (run / "bundle" / "plan.json").read_bytes() == bundle == (run / "plan.json").read_bytes()
    (run / "receipt.json").unlink()  # on another machine only the Hub knows
    (run / "journal.jsonl").unlink()
    assert main(["plan", "--run", str(run), "--repo", "slipway/released"]) == 0
    assert main(["publish", "--run", str(run), "--repo", "slipway/released"]) == 2
    assert "choose a new --tag" in capsys.readouterr().err
    assert hub.repository("slipway/released") == before


def test_a_refused_gate_sends_nothing_to_the_hub(
    run: Path, hub: HubClient, repo_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change_weights(run / "checkpoint", lambda tensors: tensors["model.norm.weight"].add_(0.01))
    assert main(["publish", "--run", str(run), "--repo", repo_id]) == 3
    said = capsys.readouterr()
    assert "scorecard_pinned" in said.err
    assert "sha256:" in said.err
    assert hub.repository(repo_id) is None


def test_a_file_changed_after_the_plan_is_refused_with_exit_3_and_nothing_on_the_hub(
    run: Path, hub: HubClient, repo_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "--run", str(run), "--repo", repo_id]) == 0
    change_weights(run / "checkpoint", lambda tensors: tensors["model.norm.weight"].add_(0.01))
    assert main(["publish", "--run", str(run), "--repo", repo_id]) == 3
    assert "changed after the plan" in capsys.readouterr().err
    assert hub.repository(repo_id) is None


def test_a_file_changed_during_the_upload_never_reaches_main(
    run: Path, hub: HubClient, repo_id: str, load_here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_plan(run, Request(repo_id))
    create_commit = hub.api.create_commit

    def change_meanwhile(*args: object, **kwargs: object) -> object:
        done = create_commit(*args, **kwargs)
        (run / "bundle" / "config.json").unlink()
        (run / "bundle" / "config.json").write_text("{}")
        return done

    monkeypatch.setattr(hub.api, "create_commit", change_meanwhile)
    with pytest.raises(GateRefused, match="changed after the plan"):
        publish(run, hub)
    assert [commit.title for commit in hub.history(repo_id)] == ["initial commit"]
    assert visible_paths(hub.endpoint, repo_id) is None


def test_a_dry_run_plans_and_sends_nothing(run: Path, hub: HubClient, repo_id: str) -> None:
    assert main(["publish", "--run", str(run), "--repo", repo_id, "--dry-run"]) == 0
    assert (run / "plan.json").is_file()
    assert hub.repository(repo_id) is None


def test_a_private_release_is_not_visible_to_readers(run: Path, hub: HubClient, repo_id: str, load_here: None) -> None:
    make_plan(run, Request(repo_id, private=True))
    receipt, _ = publish(run, hub)
    assert visible_paths(hub.endpoint, repo_id) is None
    assert hub.resolve(repo_id, "v1.0.0") == receipt.commit


def test_readers_see_nothing_or_the_first_release_then_the_first_or_the_second(
    run: Path, hub: HubClient, repo_id: str, load_here: None
) -> None:
    seen: list[frozenset[tuple[str, str]] | None] = []
    ended = threading.Event()

    def poll() -> None:
        while not ended.is_set():
            seen.append(visible_paths(hub.endpoint, repo_id))

    reader = threading.Thread(target=poll)
    reader.start()
    try:
        make_plan(run, Request(repo_id))
        publish(run, hub)
        first = visible_paths(hub.endpoint, repo_id)
        parent = parent_of(run)
        rescore(run, change_weights(run / "checkpoint", lambda tensors: tensors["model.norm.weight"].add_(1)), parent)
        (run / "samples" / "starter_bias.jsonl").unlink(missing_ok=True)
        make_plan(run, Request(repo_id, tag="v2.0.0"))
        publish(run, hub)
    finally:
        ended.set()
        reader.join()
    second = visible_paths(hub.endpoint, repo_id)
    assert first is not None
    assert second is not None
    assert first != second
    assert len(seen) > 20, "the reader must have been there throughout"
    assert set(seen) <= {None, first, second}
    order = [state for index, state in enumerate(seen) if index == 0 or state != seen[index - 1]]
    assert order == [state for state in (None, first, second) if state in order]


def test_files_of_the_last_release_that_the_next_one_lacks_are_gone(
    run: Path, hub: HubClient, repo_id: str, load_here: None
) -> None:
    (run / "checkpoint" / "notes.txt").write_text("the first one's notes\n")
    make_plan(run, Request(repo_id))
    publish(run, hub)
    (run / "checkpoint" / "notes.txt").unlink()
    make_plan(run, Request(repo_id, tag="v2.0.0"))
    publish(run, hub)
    assert "notes.txt" in hub.tree(repo_id, "v1.0.0")
    assert "notes.txt" not in hub.tree(repo_id, "main")


def test_resume_without_a_begun_publication_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resume", "--run", str(run)]) == 2
    assert "no publication of this run has begun" in capsys.readouterr().err


def test_publishing_without_a_plan_is_refused(run: Path, hub: HubClient) -> None:
    with pytest.raises(UsageError, match="no plan"):
        publish(run, hub)
