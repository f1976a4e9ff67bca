"""The feedback Space's files and its publication: pinned, without torch or Slipway, private, and the same when asked again."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest
from made_votes import NEW, OLD, answer

from release.__main__ import main
from release.feedback_bundle import build_feedback_bundle
from release.hub_client import HubClient
from training.errors import UsageError
from training.feedback_pairs import Pair
from training.votes import Turn, pair_id


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    prompt, one, other = [Turn(role="user", content="Hello?")], answer("Hi.", NEW), answer("What?", OLD)
    pair = Pair(pair_id=pair_id(prompt, one, other), prompt=prompt, one=one, other=other)
    file = tmp_path / "pairs.jsonl"
    file.write_text(json.dumps(pair.model_dump(mode="json")) + "\n")
    return file


@pytest.fixture(autouse=True)
def kept_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Salts are kept in a folder of the test, not in that of pages which are run from this clone."""
    monkeypatch.setattr("release.feedback_salt.KEPT", tmp_path / "kept")


def test_the_bundle_is_flat_pinned_and_needs_no_model(pairs: Path) -> None:
    files = build_feedback_bundle(pairs=pairs, votes_dataset="org/votes", title="Judge")
    assert {"app.py", "page.py", "labelling.py", "vote_log.py", "limits.py", "README.md", "space.json"} <= set(files)
    assert not any("/" in path for path in files)
    requirements = files["requirements.txt"].decode()
    assert "gradio==" in requirements
    assert "torch" not in requirements
    space = json.loads(files["space.json"])
    for name in ("pairs", "gold"):
        assert space[f"{name}_sha256"] == hashlib.sha256(files[f"{name}.jsonl"]).hexdigest()
    assert files == build_feedback_bundle(pairs=pairs, votes_dataset="org/votes", title="Judge")


def test_what_the_bundle_imports_is_in_it_or_in_its_requirements(pairs: Path) -> None:
    import ast

    files = build_feedback_bundle(pairs=pairs, votes_dataset=None, title="Judge")
    wanted = {
        name.split(".")[0]
        for path, content in files.items()
        if path.endswith(".py")
        for node in ast.walk(ast.parse(content))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [str(node.module)]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    own = {path.removesuffix(".py") for path in files if path.endswith(".py")}
    listed = {line.split("==")[0].replace("-", "_") for line in files["requirements.txt"].decode().splitlines()}
    own |= {"live", "visitors"}  # where nothing answers live, the app does not import them
    assert wanted - own - set(sys.stdlib_module_names) <= listed


def test_pairs_that_are_none_and_numbers_below_one_are_refused(pairs: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text(pairs.read_text() + '{"prompt": []}\n')
    with pytest.raises(UsageError, match="line 2"):
        build_feedback_bundle(pairs=bad, votes_dataset=None, title="Judge")
    with pytest.raises(UsageError, match="--gold-every"):
        build_feedback_bundle(pairs=pairs, votes_dataset=None, title="Judge", gold_every=0)
    for seconds in (0.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="--seconds-between-pushes"):
            build_feedback_bundle(pairs=pairs, votes_dataset=None, title="Judge", seconds_between_pushes=seconds)
    with pytest.raises(UsageError, match="no such file"):
        build_feedback_bundle(pairs=tmp_path / "nowhere.jsonl", votes_dataset=None, title="Judge")


def test_the_space_is_published_in_one_commit_beside_a_private_dataset_and_once(
    pairs: Path, hub: HubClient, repo_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    votes = f"{repo_id}-votes"
    command = ["feedback-space", "--pairs", str(pairs), "--space", repo_id, "--votes", votes, "--json"]
    assert main(command) == 0
    first = json.loads(capsys.readouterr().out)
    assert set(first["files"]) <= set(hub.tree(repo_id, first["commit"], "space"))
    dataset, space = hub.repository(votes, "dataset"), hub.repository(repo_id, "space")
    assert dataset is not None
    assert space is not None
    assert dataset.private
    assert space.private
    assert space.main == first["commit"]
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["commit"] == first["commit"]


def test_a_space_without_a_place_is_refused(pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["feedback-space", "--pairs", str(pairs)]) == 2
    assert "--out DIR, --space ORG/NAME" in capsys.readouterr().err


def test_a_team_brings_gold_items_of_its_own(pairs: Path, tmp_path: Path) -> None:
    own = tmp_path / "gold.jsonl"
    turns = [{"role": "user", "content": "2 + 2?"}]
    rows = [
        {"prompt": "1 + 1?", "better": "2", "worse": "3"},
        {"gold_id": "four", "prompt": turns, "better": "4", "worse": "5"},
    ]
    own.write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = build_feedback_bundle(pairs=pairs, votes_dataset=None, title="Judge", gold=own)
    first, second = (json.loads(line) for line in files["gold.jsonl"].splitlines())
    assert (first["prompt"], first["gold_id"][:5]) == ([{"role": "user", "content": "1 + 1?"}], "gold-")
    assert (second["gold_id"], second["better"]) == ("four", "4")
    assert json.loads(files["space.json"])["gold_sha256"] == hashlib.sha256(files["gold.jsonl"]).hexdigest()


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('{"prompt": "1?", "better": "2"}', "worse"),
        ('{"prompt": "1?", "better": "2", "worse": "2 "}', "the same text"),
        ('{"prompt": [{"role": "assistant", "content": "a"}], "better": "2", "worse": "3"}', "user's turn"),
        ("not JSON", "line 1"),
        ("", "no gold items"),
    ],
)
def test_what_is_no_gold_item_is_refused_by_line(line: str, found: str, pairs: Path, tmp_path: Path) -> None:
    own = tmp_path / "gold.jsonl"
    own.write_text(line)
    with pytest.raises(UsageError, match=found):
        build_feedback_bundle(pairs=pairs, votes_dataset=None, title="Judge", gold=own)


def test_a_public_dataset_of_votes_is_refused_before_the_space_is_made(
    pairs: Path, hub: HubClient, repo_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    votes = f"{repo_id}-votes"
    hub.create_repository(votes, "dataset", private=False)
    assert main(["feedback-space", "--pairs", str(pairs), "--space", repo_id, "--votes", votes]) == 2
    assert f"hf repos settings {votes} --type dataset --private" in capsys.readouterr().err
    assert hub.repository(repo_id, "space") is None


def test_a_space_gets_a_salt_once_and_none_that_would_make_others_of_its_labellers(
    pairs: Path,
    hub: HubClient,
    repo_id: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("LABELLER_SALT", raising=False)
    votes = f"{repo_id}-votes"
    command = ["feedback-space", "--pairs", str(pairs), "--space", repo_id, "--votes", votes]
    assert main(command) == 0
    assert "LABELLER_SALT was drawn and set" in capsys.readouterr().out
    assert "LABELLER_SALT" in hub.api.get_space_secrets(repo_id)
    kept = tmp_path / "kept" / "votes" / repo_id.replace("/", "--") / "salt"
    drawn = kept.read_text()
    assert kept.stat().st_mode & 0o077 == 0, "nobody else reads it"
    assert main(command) == 0
    assert "LABELLER_SALT is set, and stays" in capsys.readouterr().out
    hub.api.delete_space_secret(repo_id, "LABELLER_SALT")
    assert main(command) == 0
    assert f"was set to the salt in {kept.parent}" in capsys.readouterr().out, "as a page that is run here has it"
    assert kept.read_text() == drawn

    mark = hashlib.sha256(b"ours").hexdigest()
    for path, content in (("votes/a.jsonl", b"{}"), ("labeller_salt.sha256", mark.encode())):
        hub.api.delete_space_secret(repo_id, "LABELLER_SALT") if path.startswith("votes") else None
        hub.api.upload_file(path_or_fileobj=content, path_in_repo=path, repo_id=votes, repo_type="dataset")
        assert main(command) == 0
        assert "warning: " in capsys.readouterr().out
        assert "LABELLER_SALT" not in hub.api.get_space_secrets(repo_id)
    monkeypatch.setenv("LABELLER_SALT", "another")
    assert main(command) == 2
    assert "not the salt" in capsys.readouterr().err
    monkeypatch.setenv("LABELLER_SALT", "ours")
    assert main(command) == 0
    assert "set from this environment" in capsys.readouterr().out


def test_an_id_that_no_hub_takes_is_refused_before_a_folder_is_written(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "space"
    assert main(["feedback-space", "--pairs", str(pairs), "--out", str(out), "--votes", "a/my votes"]) == 2
    assert "--votes your-name/my-model" in capsys.readouterr().err
    assert not out.exists()
