"""What a new user gets wrong is said with what to type next, works when it is typed, and leaves nothing behind."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest
from tiny_model import save_model

from release.__main__ import main
from release.bundle import files_of
from release.elsewhere import name_licence, run_for
from release.gates.candidate import Candidate
from release.gates.private import no_local_paths
from release.hub_client import HubClient
from release.policy import load_policy
from training.errors import UsageError
from training.run_record import ParentCheckpoint, RunRecord


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "mine")


def test_a_mistyped_licence_is_told_before_anything_is_copied_and_a_wrong_one_is_corrected_by_the_same_command(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, run = Path(shutil.copytree(model, tmp_path / "mine")), tmp_path / "run"
    words = ["plan", "--checkpoint", str(source), "--run", str(run), "--repo", "me/mine", "--license"]
    assert main([*words, "apach-2.0"]) == 2
    assert "the same command with --license apache-2.0, if that is meant" in capsys.readouterr().err
    assert main([*words, "ours"]) == 2
    assert "license_name and license_link" in capsys.readouterr().err
    assert not run.exists()
    licences = []
    for said in ("mit", "apache-2.0", None):
        run_for(str(source), run, "me/mine", "v1.0.0", said)
        licences.append(RunRecord.read(run / "run.json").parents[0].license)
    (source / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n# Mine\n")
    run_for(str(source), run, "me/mine", "v1.0.0", None)
    licences.append(RunRecord.read(run / "run.json").parents[0].license)
    assert licences == ["mit", "apache-2.0", "apache-2.0", "cc-by-4.0"], "a card that was added later counts"
    with pytest.raises(UsageError, match="card names another licence"):
        run_for(str(source), run, "me/mine", "v1.0.0", "mit")


def test_the_licence_of_what_a_run_was_made_from_can_be_named_where_no_record_has_it(run: Path) -> None:
    record = RunRecord.read(run / "run.json")
    adapter = ParentCheckpoint(role="adapter", name="theirs", digest="sha256:0")
    base = record.parents[0].model_copy(update={"license": None})
    record.model_copy(update={"parents": [base, adapter]}).write(run / "run.json")
    name_licence(run, "apache-2.0")
    assert [parent.license for parent in RunRecord.read(run / "run.json").parents] == ["apache-2.0", "apache-2.0"]
    name_licence(run, "mit")
    assert [parent.license for parent in RunRecord.read(run / "run.json").parents] == ["mit", "mit"], "it was a slip"
    (run / "journal.jsonl").write_text("")
    name_licence(run, "mit")
    with pytest.raises(UsageError, match="publication of this run has begun"):
        name_licence(run, "apache-2.0")


def test_a_licence_that_the_record_itself_knows_is_not_named_otherwise(run: Path) -> None:
    with pytest.raises(UsageError, match="record names the licence"):
        name_licence(run, "mit")
    assert not (run / "named_licence.json").exists()


def test_a_refused_plan_says_each_thing_once_and_what_to_type_for_it(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = RunRecord.read(run / "run.json")
    unknown = record.parents[0].model_copy(update={"license": None, "name": str(tmp_path / "sft" / "checkpoint")})
    record.model_copy(update={"parents": [unknown]}).write(run / "run.json")
    baseline = run / "baseline" / "scorecard.json"
    words = ["plan", "--run", str(run), "--repo", "me/mine"]
    content = baseline.read_bytes()
    baseline.unlink()
    assert main(words) == 3
    told = capsys.readouterr()
    both = told.out + told.err
    assert both.count("the card's metadata names no license") == both.count("no baseline/scorecard.json") == 1
    assert f"--license ID, the licence of {tmp_path}/sft/checkpoint, which its own card names" in told.err
    again = f"python -m evals run {run}/checkpoint --suite starter --out {run} --baseline"
    first = f"python -m evals run {tmp_path}/sft/checkpoint --suite starter --out runs/parent"
    assert f"-> {first}, then {again} runs/parent" in told.err
    (tmp_path / "sft").mkdir()
    (tmp_path / "sft" / "scorecard.json").write_bytes(content)
    assert main([*words, "--license", "apache-2.0"]) == 3
    assert f"-> {again} {tmp_path}/sft\n" in capsys.readouterr().err


def test_a_run_that_is_not_there_is_said_to_be_missing_before_anything_is_begun(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "--run", str(tmp_path / "none"), "--repo", "me/mine"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: there is no such run")
    assert not (tmp_path / "none").exists()


def test_a_licence_that_is_none_is_not_proposed_again(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["plan", "--checkpoint", str(model), "--run", str(tmp_path / "run"), "--repo", "me/mine"]
    assert main([*words, "--license", "other"]) == 2
    assert "--license other," not in capsys.readouterr().err


def test_an_adapter_is_told_how_to_be_merged_and_a_folder_too_high_which_one_is_meant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter, nested = tmp_path / "adapter", tmp_path / "nested"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/base"}))
    (nested / "model").mkdir(parents=True)
    (nested / "model" / "config.json").write_text("{}")
    assert main(["check", str(adapter)]) == 2
    assert f"python -m training merge {adapter} --base org/base --out runs/merged" in capsys.readouterr().err
    assert main(["publish", "--checkpoint", str(nested), "--repo", "me/mine"]) == 2
    assert f"give {nested / 'model'} instead" in capsys.readouterr().err


def test_what_is_not_there_is_said_and_nothing_is_left_of_it(
    hub: HubClient, repo_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, gone = tmp_path / "run", tmp_path / "gone"
    assert main(["publish", "--checkpoint", "nowhere", "--run", str(run), "--repo", repo_id]) == 5
    assert "there is no directory nowhere" in capsys.readouterr().err
    assert not run.exists()
    for words in (["rollback"], ["last-release", "--repo", repo_id]):
        assert main([*words, "--run", str(gone)]) == 2
        told = capsys.readouterr().err
        assert "there is no such run" in told
        assert f"{gone}\n" in told, "the run that was named, and no scratch folder in it"
    assert main(["supersede", repo_id, "--by", f"{repo_id[:30]}-none"]) == 2
    assert "next" in capsys.readouterr().err


def test_a_hub_that_does_not_get_its_port_writes_no_token(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        words = ["--port", str(taken.getsockname()[1]), "--token-file", str(tmp_path / "token")]
        assert main(["hub", "--root", str(tmp_path / "hub"), *words]) == 2
    assert not (tmp_path / "token").exists()


@pytest.mark.parametrize(
    ("line", "outcome"),
    [
        ('"base_model_name_or_path": "/tmp/w/jane/my-model"', "refused"),
        ('"_name_or_path": "/scratch/jane.doe/secret-project/llama"', "refused"),
        ("see /mnt/nfs/jane/ckpt", "refused"),
        ("kept in /data/customers/acme.jsonl", "refused"),
        ("put it in /tmp/cache, or ask https://example.org/data/a/b and /v1/models", "passed"),
    ],
)
def test_paths_into_the_places_where_people_keep_files_are_refused(tmp_path: Path, line: str, outcome: str) -> None:
    (tmp_path / "notes.txt").write_text(line + "\n")
    candidate = Candidate(tmp_path, tmp_path, tuple(files_of(tmp_path)), load_policy("external"), "me/mine")
    assert no_local_paths(candidate).outcome == outcome
