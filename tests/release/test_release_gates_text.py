"""The gates on what a release says: secrets, personal data, paths of a machine, licences."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from gate_verdicts import refusals, verdicts

from release.gates.private import _passwords, _secrets


@pytest.mark.parametrize(
    ("secret", "kind"),
    [
        ("hf_" + "a" * 34, "Hub token"),
        ("AKIA" + "ABCDEFGHIJKLMNOP", "AWS Access Key"),
        ("-----BEGIN OPENSSH " + "PRIVATE KEY-----", "private key"),
        ("https://someone:" + "hunter2secret@host.org/", "Basic Auth Credentials"),
        ("xoxb-" + "1234567890-abcdefghij", "Slack Token"),
        ("glpat-" + "A1b2" * 5, "GitLab token"),
        ("WANDB_API_KEY: " + "0123456789" * 4, "W&B key"),
        ("password: " + "hunter2hunter2", "password or key by its name"),
        ('"client_secret": "' + 'k3jh4k5jh3"', "password or key by its name"),
    ],
)
def test_a_secret_in_a_text_file_is_refused_by_line_and_never_shown(run: Path, secret: str, kind: str) -> None:
    (run / "checkpoint" / "notes.txt").write_text(f"first line\nkey = {secret}\n")
    verdict = verdicts(run)["no_secrets"]
    assert f"a {kind} in notes.txt, line 2" in verdict.explanation
    assert secret not in verdict.model_dump_json()


@pytest.mark.parametrize("name", ["train.log", "settings.toml", "notebook.ipynb", "Modelfile", "NOTICE"])
def test_a_file_is_read_by_what_it_holds_and_not_by_its_name(run: Path, name: str) -> None:
    told = "hf_" + "a" * 34 + " of jane.doe@hospital.org in /home/jane/models"
    (run / "checkpoint" / name).write_text(f"first line\n{told}\n")
    found = verdicts(run)
    for gate in ("no_secrets", "no_personal_data", "no_local_paths"):
        assert f"{name}, line 2" in found[gate].explanation
    (run / "checkpoint" / name).write_bytes(told.encode("utf-16"))
    assert f"{name}, line 1" in verdicts(run)["no_secrets"].explanation


@pytest.mark.parametrize(
    "text",
    [
        '"eos_token": "<|im_end|>"',
        "wandb==0.28.0",
        '"wandb_commit": "' + "0123456789" * 4 + '"',
        'api_key=os.environ["KEY1"]',
        'client = OpenAI(api_key="token-abc123")',
        '"api_key_env": "OPENAI_API_KEY2"',
        "password: ${PASS1234}",
        "The password: 8 characters or more",
    ],
)
def test_what_only_looks_like_a_secret_is_none(text: str) -> None:
    assert not [*_secrets(text), *_passwords("settings.yaml", text)]


def test_cards_show_how_a_key_is_set_and_samples_say_what_they_like() -> None:
    for name in ("README.md", "samples/starter.jsonl", "baseline/samples/starter.jsonl"):
        assert not list(_passwords(name, "password = " + "hunter2hunter2"))


def test_a_token_in_a_vocabulary_is_a_secret_too(run: Path) -> None:
    file = run / "checkpoint" / "tokenizer.json"
    content = json.loads(file.read_text())
    content["model"]["note"] = "hf_" + "a" * 34
    file.write_text(json.dumps(content))
    assert "a Hub token in tokenizer.json" in verdicts(run)["no_secrets"].explanation


@pytest.mark.parametrize("path", ["/home/someone/models/base", "/Users/someone/base", "{run}/checkpoint"])
def test_a_path_of_a_machine_in_a_record_is_refused(run: Path, path: str) -> None:
    record = json.loads((run / "run.json").read_text())
    record["recipe"]["base"] = path.replace("{run}", str(run.resolve()))
    (run / "run.json").write_text(json.dumps(record))
    assert "run.json" in refusals(run)["no_local_paths"]


def test_an_unknown_licence_of_the_parent_leaves_the_card_without_one(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    record["parents"][0]["license"] = None
    (run / "run.json").write_text(json.dumps(record))
    assert "names no license" in refusals(run)["license_present"]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("write to jane.doe@hospital.org", "e-mail address"),
        ("call +44 20 7946 0958 today", "phone number"),
        ("paid with 4111 1111 1111 1111", "payment card"),
        ("to DE89 3704 0044 0532 0130 00", "bank account"),
    ],
)
def test_personal_data_in_a_record_is_refused_by_kind_and_line_and_only_counted_in_samples(
    run: Path, text: str, kind: str
) -> None:
    (run / "checkpoint" / "notes.txt").write_text(f"first line\n{text}\n")
    verdict = verdicts(run)["no_personal_data"]
    assert f"a {kind} in notes.txt, line 2" in verdict.explanation
    assert text not in verdict.model_dump_json()
    (run / "checkpoint" / "notes.txt").unlink()
    file = next((run / "samples").glob("*.jsonl"))
    file.write_text(file.read_text() + json.dumps({"response": text}) + "\n")
    verdict = verdicts(run)["no_personal_data"]
    assert (verdict.outcome, verdict.evidence["in_samples"]) == ("passed", {kind: 1})


def test_numbers_that_look_like_cards_accounts_or_phones_are_none(run: Path) -> None:
    (run / "checkpoint" / "notes.txt").write_text(
        "0.4111111111111111 4111111111111112 DE00370400440532013000 user@example.org 2026-11-25 sha256 "
        + "4" * 64
        + " sha256:97f24a4111111111111111b6d24\n"
    )
    assert verdicts(run)["no_personal_data"].outcome == "passed"


@pytest.mark.parametrize(
    ("parent", "said"),
    [
        ("apache-2.0", None),
        ("cc-by-nc-4.0", None),
        ("Llama 3.1", None),
        ("cc-by-nc-nd-4.0", "allows no derivatives"),
        (None, "is not known"),
    ],
)
def test_the_parents_licence_must_allow_the_cards(run: Path, parent: str | None, said: str | None) -> None:
    record = json.loads((run / "run.json").read_text())
    record["parents"][0]["license"] = parent
    (run / "run.json").write_text(json.dumps(record))
    refused = refusals(run).get("license_compatible")
    assert refused is None if said is None else said in str(refused), refused


def test_a_licence_that_a_second_parent_does_not_allow_is_refused_by_name(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    record["parents"].append(record["parents"][0] | {"role": "adapter", "name": "their-adapter", "license": "gpl-3.0"})
    (run / "run.json").write_text(json.dumps(record))
    assert "their-adapter is under gpl-3.0, which does not allow apache-2.0" in refusals(run)["license_compatible"]


@pytest.mark.parametrize(
    ("license", "said"),
    [
        ("apache-2.0", None),
        (
            "cc-by-nc-4.0",
            "their-policy, whose answers were learned from, is under cc-by-nc-4.0, which does not allow apache-2.0",
        ),
        (None, "the licence of their-policy, whose answers were learned from, is not known"),
    ],
)
def test_the_licence_of_a_model_whose_answers_were_learned_from_must_allow_the_cards(
    run: Path, license: str | None, said: str | None
) -> None:
    record = json.loads((run / "run.json").read_text())
    policy = record["parents"][0] | {"name": "their-policy", "license": license}
    rows = {"id": "rows.jsonl", "split": "train", "sha256": "0", "rows": 2}
    sampled = {"record": "0", "n": 4, "policy": policy, "reward_models": [], "rewards": [], "prompts": rows}
    record["data"] = [rows | {"sampled": sampled}]
    (run / "run.json").write_text(json.dumps(record))
    refused = refusals(run).get("license_compatible")
    assert refused is None if said is None else said in str(refused), refused
