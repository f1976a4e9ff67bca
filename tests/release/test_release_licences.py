"""The licence of a checkpoint from elsewhere is held against that of the base which its card names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_model import save_model

from release import base_licences
from release.__main__ import main
from release.base_licences import Lineage, trace
from release.bundle import files_of
from release.gates.candidate import Candidate
from release.gates.licences import licence_of_family, license_compatible
from release.hub_client import HubClient
from release.policy import load_policy
from release.records import Verdict
from training.run_record import RunRecord


def verdict(
    directory: Path, licence: str, base: str | None, lineage: Lineage | None = None, **known: str | None
) -> Verdict:
    """Of a directory whose card names this licence and this base; `known` are licences that a Hub gave, by `org__name`, or
    `lineage` all that it gave."""
    named = f"base_model: {base}\n" if base else ""
    (directory / "README.md").write_text(f"---\nlicense: {licence}\n{named}---\n# Mine\n")
    given = lineage or Lineage({name.replace("__", "/"): value for name, value in known.items()})
    entries, policy = tuple(files_of(directory)), load_policy("external")
    return license_compatible(
        Candidate(
            directory, directory, entries, policy, "me/mine", base_licences=given.licences, base_models=given.bases
        )
    )


@pytest.mark.parametrize(
    ("licence", "base", "outcome", "said"),
    [
        ("llama3.1", "meta-llama/Llama-3.1-8B", "passed", "llama3.1 is allowed by meta-llama/Llama-3.1-8B (llama3.1)"),
        ("mit", "meta-llama/Llama-3.1-8B", "refused", "Llama-3.1-8B is under llama3.1, which does not allow mit"),
        ("apache-2.0", "[somebody/Gemma-2-9b-it, org/b]", "refused", "is under gemma, which does not allow apache-2.0"),
        ("mit", "org/base", "skipped", "the licence of org/base, which the card names as its base, is not known here"),
        ("mit", None, "skipped", "the card names no base_model"),
    ],
)
def test_a_card_is_never_allowed_its_licence_by_itself(
    tmp_path: Path, licence: str, base: str | None, outcome: str, said: str
) -> None:
    found = verdict(tmp_path, licence, base)
    assert (found.outcome, said in found.explanation) == (outcome, True), found.explanation


def test_what_a_hub_says_of_the_base_counts_where_its_family_tells_nothing(tmp_path: Path) -> None:
    assert verdict(tmp_path, "mit", "org/base", org__base="apache-2.0").outcome == "passed"
    assert verdict(tmp_path, "mit", "org/base", org__base="cc-by-nc-4.0").outcome == "refused"
    assert verdict(tmp_path, "mit", "org/base", org__base=None).outcome == "skipped"


@pytest.mark.parametrize(
    ("name", "licence"),
    [
        ("meta-llama/Meta-Llama-3-8B", "llama3"),
        ("meta-llama/Llama-2-7b-hf", "llama2"),
        ("unsloth/Llama-3.2-1B-Instruct", "llama3.2"),
        ("codellama/CodeLlama-7b-hf", "llama2"),
        ("google/gemma-3-4b-it", "gemma"),
        ("google/gemma-7b", "gemma"),
        ("google/gemma-4-E2B", None),
        ("TinyLlama/TinyLlama-1.1B-Chat-v1.0", None),
    ],
)
def test_the_licence_of_a_family_goes_with_its_name(name: str, licence: str | None) -> None:
    assert licence_of_family(name) == licence


def test_publish_asks_the_hub_for_the_licence_of_the_base_and_check_of_an_id_too(
    hub: HubClient, repo_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = repo_id[:50].rstrip("-") + "-base"
    hub.api.create_repo(base)
    hub.api.upload_file(path_or_fileobj=b"---\nlicense: cc-by-nc-4.0\n---\n", path_in_repo="README.md", repo_id=base)
    source, run = save_model(tmp_path / "mine"), tmp_path / "run"
    (source / "README.md").write_text(
        f"---\nlicense: mit\nbase_model: {base}\npipeline_tag: text-generation\n---\n# Mine\n"
    )
    words = ["--checkpoint", str(source), "--run", str(run), "--repo", repo_id]
    assert main(["plan", *words]) == 0, "a plan has no network"
    assert "is not known here" in capsys.readouterr().out
    assert main(["publish", *words]) == 3
    assert f"{base} is under cc-by-nc-4.0, which does not allow mit" in capsys.readouterr().err
    assert base_licences.read(run) == Lineage({base: "cc-by-nc-4.0"})
    assert hub.repository(repo_id) is None


def upload_card(hub: HubClient, repo_id: str, *, licence: str, bases: list[str]) -> None:
    hub.api.create_repo(repo_id)
    card = f"---\nlicense: {licence}\nbase_model: {json.dumps(bases)}\n---\n"
    hub.api.upload_file(path_or_fileobj=card.encode(), path_in_repo="README.md", repo_id=repo_id)


def test_the_licences_behind_a_base_are_followed_in_a_circle_too(hub: HubClient, repo_id: str, tmp_path: Path) -> None:
    near, far = f"{repo_id[:40].rstrip('-')}-near", f"{repo_id[:40].rstrip('-')}-far"
    upload_card(hub, near, licence="apache-2.0", bases=[far])
    upload_card(hub, far, licence="cc-by-nc-4.0", bases=[near, "meta-llama/Llama-3.1-8B", "somebody/gone"])
    lineage = trace(hub, [near])
    assert lineage.licences == {
        near: "apache-2.0",
        far: "cc-by-nc-4.0",
        "meta-llama/Llama-3.1-8B": "llama3.1",
        "somebody/gone": None,
    }
    found = verdict(tmp_path, "mit", near, lineage)
    assert found.outcome == "refused"
    assert f"{far}, from which {near} was made, is under cc-by-nc-4.0, which does not allow mit" in found.explanation
    assert found.evidence["behind"][far] == {"license": "cc-by-nc-4.0", "made": near}
    assert f"Llama-3.1-8B, from which {far} was made, is under llama3.1" in found.explanation


def test_a_base_behind_the_base_that_no_hub_knows_passes_nothing(tmp_path: Path) -> None:
    lineage = Lineage({"org/base": "mit", "org/root": None}, {"org/base": ["org/root"]})
    found = verdict(tmp_path, "mit", "org/base", lineage)
    assert found.outcome == "skipped"
    assert "the licence of org/root, from which org/base was made, is not known here" in found.explanation


def test_what_lies_behind_the_parent_of_a_run_is_asked_as_well(
    run: Path, hub: HubClient, repo_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    near, far = f"{repo_id[:40].rstrip('-')}-near", f"{repo_id[:40].rstrip('-')}-far"
    upload_card(hub, near, licence="apache-2.0", bases=[far])
    upload_card(hub, far, licence="cc-by-nc-4.0", bases=[])
    record = RunRecord.read(run / "run.json")
    parents = [parent.model_copy(update={"hub_id": near}) for parent in record.parents]
    record.model_copy(update={"parents": parents}).write(run / "run.json")
    assert main(["publish", "--run", str(run), "--repo", repo_id, "--license", "apache-2.0"]) == 3
    assert f"{far}, from which {near} was made, is under cc-by-nc-4.0" in capsys.readouterr().err
