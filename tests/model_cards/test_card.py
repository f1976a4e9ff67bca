"""A card says what the records say, and a card that says anything else is found out."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from evals.scorecard import Scorecard
from model_cards.__main__ import main
from model_cards.card import render_card
from model_cards.check import SECTIONS, check_card
from model_cards.signer import KeylessSigner
from model_cards.suggestions import suggestions
from release.local_hub.card_check import check_card as check_as_the_hub
from training.energy_record import Energy, Price
from training.errors import UsageError
from training.run_record import RewardSource, RunRecord

MakeRun = Callable[..., Path]
REPO, TAG = "slipway/tiny", "v1.0.0"


def readme(run: Path, **changes: Any) -> str:
    return render_card(run, repo_id=REPO, tag=TAG, **changes).files["README.md"].decode()


def head(text: str) -> dict:
    return yaml.safe_load(text.split("---\n")[1])


def written(run: Path) -> Path:
    """The card on disk, where `check` finds it."""
    assert main(["render", str(run), "--repo", REPO, "--tag", TAG]) == 0
    return run / "bundle-preview" / "README.md"


def test_the_metadata_names_licence_parent_relation_data_language_and_task(make_run: MakeRun) -> None:
    metadata = head(readme(make_run()))
    assert metadata["license"] == "apache-2.0"
    assert metadata["base_model"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert metadata["base_model_relation"] == "finetune"
    assert metadata["datasets"] == ["Anthropic/hh-rlhf"]
    assert metadata["language"] == ["en"]
    assert metadata["pipeline_tag"] == "text-generation"
    assert metadata["library_name"] == "transformers"
    assert {"rlhf", "ppo"} <= set(metadata["tags"])


def test_a_card_names_a_reward_function_where_no_reward_model_gave_the_rewards(make_run: MakeRun) -> None:
    run = make_run()
    assert "by PPO against a reward model, with" in readme(run)
    record = RunRecord.read(run / "run.json")
    source = RewardSource(kind="function", name="judge.py:judge", sha256="7" * 64)
    record.model_copy(update={"parents": record.parents[:1], "rewards": [source]}).write(run / "run.json")
    assert "by PPO against a reward function, with" in readme(run)


def test_every_headline_score_stands_with_its_interval_beside_the_parents(make_run: MakeRun) -> None:
    run = make_run()
    text = readme(run)
    parent = json.loads((run / "baseline" / "scorecard.json").read_text())
    for score in json.loads((run / "scorecard.json").read_text())["scores"]:
        if not score["headline"]:
            continue
        line = next(line for line in text.splitlines() if f"`{score['task']}/{score['metric']}`" in line)
        theirs = next(s for s in parent["scores"] if (s["task"], s["metric"]) == (score["task"], score["metric"]))
        for one in (score, theirs):
            for value in (one["value"], one["interval"]["low"], one["interval"]["high"]):
                shown = f"{100 * value:.1f}" if one["unit"] == "fraction" else f"{value:.2f}"
                assert shown in line.replace("−", "-"), (shown, line)


def test_a_card_that_was_just_rendered_has_nothing_wrong_with_it(make_run: MakeRun) -> None:
    run = make_run()
    written(run)
    assert check_card(run) == []
    assert main(["check", str(run)]) == 0


def test_a_digit_changed_in_the_score_table_is_found_with_what_was_measured(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run()
    card = written(run)
    text = card.read_text()
    line = next(line for line in text.splitlines() if line.startswith("|") and "`truth/mc2`" in line)
    assert "80.0" in line
    card.write_text(text.replace(line, line.replace("80.0", "90.0", 1)))
    assert main(["check", str(run)]) == 2
    said = capsys.readouterr().out
    assert "truth/mc2: the card says" in said
    assert "**90.0%**" in said
    assert "**80.0%**" in said


def test_a_headline_score_left_out_is_found(make_run: MakeRun) -> None:
    run = make_run()
    card = written(run)
    lines = [line for line in card.read_text().splitlines() if "`swear/rate_some_checker`" not in line]
    card.write_text("\n".join(lines))
    assert any("swear/rate_some_checker is missing" in problem.what for problem in check_card(run))


@pytest.mark.parametrize(
    ("old", "new", "check"),
    [
        ("license: apache-2.0", "license: apache", "metadata"),
        ("pipeline_tag: text-generation", "pipeline_tag: bananas", "metadata"),
        ("base_model: HuggingFaceTB/SmolLM2-135M-Instruct", "base_model: ../runs/base", "metadata"),
        ("## How to verify it", "## Other", "sections"),
        ("## Citation", "See /home/someone/notes.\n\n## Citation", "paths"),
        ("](figures/training.png)", "](figures/none.png)", "links"),
    ],
)
def test_what_makes_a_card_unfit_is_named(make_run: MakeRun, old: str, new: str, check: str) -> None:
    run = make_run()
    card = written(run)
    text = card.read_text()
    assert old in text
    card.write_text(text.replace(old, new, 1))
    assert check in {problem.check for problem in check_card(run)}


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        (b"---\nlicense: mit\n---\n# A model\n", 0, "nothing is wrong"),
        (b"---\n1: 2\nlicense: mit\n---\n# A model\n", 2, "the key 1 is no text"),
        (b"---\nlicense: mit\n---\n# Mod\xe8le\n", 2, "line 4"),
    ],
    ids=["no pipeline_tag", "a number for a key", "Latin-1"],
)
def test_odd_cards_are_told_from_bad_ones(tmp_path: Path, content: bytes, code: int, said: str, capsys) -> None:
    card = tmp_path / "README.md"
    text = b"".join(b"\n## %s\n" % name.encode() for name in SECTIONS)
    card.write_bytes(content + text)
    assert main(["check", str(card)]) == code
    found = capsys.readouterr()
    assert said in found.out + found.err


def test_what_a_card_could_say_is_listed_and_refuses_nothing(
    tmp_path: Path, make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = tmp_path / "README.md"
    bare.write_text("---\nlicense: mit\npipeline_tag: text-generation\n---\n# A model\n\n[More Information Needed]\n")
    found = {(one.check, one.where) for one in suggestions(bare.read_text())}
    missing = {"language", "library_name", "base_model", "datasets", "tags", "model-index"}
    assert found == {*(("recommended", key) for key in missing), ("placeholder", "line 7")}
    run = make_run()
    left = {one.where for one in suggestions(written(run).read_text())}
    assert left <= {"datasets", "model-index", "base_model"}, "of our own cards only what nobody knows is missing"
    capsys.readouterr()
    assert main(["check", str(run), "--json"]) == 0
    assert {one["where"] for one in json.loads(capsys.readouterr().out)["suggestions"]} == left


def test_no_path_of_the_machine_and_no_name_of_a_local_run_gets_into_the_card(make_run: MakeRun) -> None:
    text = readme(make_run())
    in_the_models_words = text.count("Sure! /home/me is a folder.")
    assert text.count("/home/me") == in_the_models_words
    assert "/work/runs" not in text
    assert "/tmp/data" not in text


def test_the_hub_accepts_the_metadata(make_run: MakeRun) -> None:
    assert check_as_the_hub(readme(make_run()), "model") == ([], [])


def test_a_run_without_scores_gets_a_card_that_claims_nothing(make_run: MakeRun) -> None:
    text = readme(make_run(scored=False, baseline=False))
    assert "has not been scored" in text
    assert "model-index" not in text


def test_a_scorecard_of_another_digest_gets_no_card(make_run: MakeRun) -> None:
    run = make_run()
    weights = run / "checkpoint" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x07")
    with pytest.raises(UsageError, match="another checkpoint"):
        render_card(run, repo_id=REPO, tag=TAG)


def test_the_same_run_gives_the_same_bytes(make_run: MakeRun) -> None:
    run = make_run()
    assert render_card(run, repo_id=REPO, tag=TAG).files == render_card(run, repo_id=REPO, tag=TAG).files


def test_figures_are_png_with_a_text_for_those_who_cannot_see_them(make_run: MakeRun) -> None:
    bundle = render_card(make_run(), repo_id=REPO, tag=TAG)
    text = bundle.files["README.md"].decode()
    for name in ("scores", "training"):
        assert bundle.files[f"figures/{name}.png"].startswith(b"\x89PNG")
        alt = re.search(rf"!\[([^\]]+)\]\(figures/{name}\.png\)", text)
        assert alt
        assert len(alt.group(1)) > 40


def test_how_to_verify_is_a_command_that_exists(make_run: MakeRun) -> None:
    assert f"python -m release verify {REPO}@{TAG}" in readme(make_run())


@pytest.mark.slow
def test_the_snippet_of_the_card_runs_as_it_is_printed(make_run: MakeRun, tmp_path: Path) -> None:
    import os

    from huggingface_hub import HfApi
    from tiny_model import save_model

    from release.local_hub.server import running_hub

    code = re.search(r"```python\n(.*?)```", readme(make_run()), re.DOTALL)
    assert code
    with running_hub(tmp_path / "hub") as hub:
        api = HfApi(endpoint=hub.endpoint, token=hub.store.create_user("slipway"))
        api.create_repo(REPO)
        api.upload_folder(repo_id=REPO, folder_path=save_model(tmp_path / "tiny", context=512))
        api.create_tag(REPO, tag=TAG)
        finished = subprocess.run(
            [sys.executable, "-c", code.group(1)],
            env={**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "hf")},
            capture_output=True,
            text=True,
            check=False,
        )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip()


def test_the_bill_of_materials_is_valid_cyclonedx_and_names_base_data_code_and_scores(make_run: MakeRun) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    run = make_run()
    content = render_card(run, repo_id=REPO, tag=TAG).files["bom.cdx.json"].decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(content) is None
    bill = json.loads(content)
    record = RunRecord.read(run / "run.json")
    model = bill["metadata"]["component"]
    assert (model["group"], model["name"], model["version"]) == ("slipway", "tiny", TAG)
    assert {"name": "slipway:checkpoint_digest", "value": record.checkpoint_digest} in model["properties"]
    assert bill["metadata"]["tools"]["components"][0].get("version") == record.git_revision
    by_type = {
        kind: [one for one in bill["components"] if one["type"] == kind] for kind in ("data", "machine-learning-model")
    }
    assert [one["hashes"][0]["content"] for one in by_type["data"]] == [data.sha256 for data in record.data]
    base = next(one for one in by_type["machine-learning-model"] if one["bom-ref"].startswith("parent:base"))
    parent = record.parent("base")
    assert parent is not None
    assert {"name": "slipway:checkpoint_digest", "value": parent.digest} in base["properties"]
    metrics = model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert len(metrics) == len(Scorecard.read(run / "scorecard.json").scores)
    assert set(bill["dependencies"][0]["dependsOn"]) == {one["bom-ref"] for one in bill["components"]}


def test_a_checkpoint_without_records_has_a_bill_that_guesses_nothing(make_run: MakeRun) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    run = make_run(record=False, scored=False, baseline=False)
    content = render_card(run, repo_id=REPO, tag=TAG).files["bom.cdx.json"].decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(content) is None
    assert json.loads(content)["components"] == []


def test_a_card_says_at_a_glance_what_it_is_what_training_changed_and_whom_to_cite(make_run: MakeRun) -> None:
    card = readme(make_run())
    assert "| Architecture | LlamaForCausalLM |" in card
    assert "| Licence | apache-2.0 |" in card
    assert "**What training changed:** better on `help/win_rate`" in card
    assert "@article{ouyang2022training," in card
    assert "| Energy | not measured | not measured |" in card
    assert "[bom.cdx.json](bom.cdx.json)" in card
    bare = readme(make_run("bare", record=False, scored=False, baseline=False))
    assert "What training changed" not in bare
    assert "@article" not in bare


def test_a_signed_release_says_by_which_key_and_a_waived_gate_why(make_run: MakeRun) -> None:
    run = make_run()
    card = readme(run, signer="sha256:" + "c" * 64, waivers={"no_secrets": "a token of <a> test"})
    assert "--key slipway.pub" in card
    assert "It is signed by the key `sha256:" + "c" * 64 in card
    assert "- `no_secrets`: a token of &#60;a&#62; test" in card
    assert "waived" not in readme(run)


def test_a_keyless_signature_is_checked_by_identity_and_provider(make_run: MakeRun) -> None:
    signer = KeylessSigner(identity="o'hara@slipway.dev", identity_provider="https://accounts.google.com")
    card = readme(make_run(), signer=signer)
    assert """--identity 'o'"'"'hara@slipway.dev' --identity-provider https://accounts.google.com\n""" in card
    assert "It is signed by o'hara&#64;slipway.dev, as https://accounts.google.com knows it, without a key" in card
    assert "`model_signing verify sigstore`" in card
    private = signer.model_copy(update={"trust_config": "sha256:" + "d" * 64})
    assert "--trust-config trust.json\n" in readme(make_run("private"), signer=private)


def took(run: Path, energy: Energy | None, price: Price | None = None) -> str:
    """The card of a run that took so much."""
    record = RunRecord.read(run / "run.json")
    record.model_copy(update={"energy": energy, "price": price}).write(run / "run.json")
    return readme(run)


ESTIMATED = Energy(
    kwh=0.0024,
    parts=["processor"],
    estimate=True,
    method="codecarbon 3.3.2, the whole machine: the processor estimated from its load and the 65 W stated",
    grid="France, 2023, codecarbon 3.3.2",
    grams_per_kwh=56.0,
)


def test_energy_stands_with_what_it_was_estimated_from_emissions_and_cost_only_where_somebody_said_how_to_count(
    make_run: MakeRun,
) -> None:
    run = make_run()
    text = took(run, ESTIMATED, Price(per_hour=1.2, currency="EUR"))
    assert "| Energy | about 2.4 Wh, estimated | not measured |" in text
    assert "| Emissions | 0.134 g CO2 equivalent | not known |" in text
    assert "| Cost | 0.0637 EUR at 1.2 an hour | not stated |" in text  # of 191 s
    assert "estimated from its load and the 65 W stated; processor only" in text
    emissions = head(text)["co2_eq_emissions"]
    assert emissions["emissions"] == pytest.approx(0.1344)
    assert "France" in emissions["source"]
    assert check_as_the_hub(text, "model") == ([], [])
    bare = took(run, ESTIMATED.model_copy(update={"grid": None, "grams_per_kwh": None}))
    assert "co2_eq_emissions" not in head(bare)
    assert "| Emissions" not in bare
    assert "| Cost" not in bare


def test_an_energy_that_is_not_known_is_no_zero(make_run: MakeRun) -> None:
    unknown = Energy(kwh=None, parts=[], estimate=False, method="a virtual machine shows no counter")
    text = took(make_run(), unknown)
    assert "| Energy | not known | not measured |" in text
    assert "- Training: not known, for a virtual machine shows no counter." in text


@pytest.mark.parametrize(
    ("before", "after"), [("2.4 Wh", "2.3 Wh"), ("0.0637 EUR", "0.06 EUR"), ("<!-- expenses:begin -->", "")]
)
def test_what_it_took_is_held_against_the_records(make_run: MakeRun, before: str, after: str) -> None:
    run = make_run()
    took(run, ESTIMATED, Price(per_hour=1.2, currency="EUR"))
    card = written(run)
    assert check_card(run) == []
    card.write_text(card.read_text().replace(before, after))
    assert any(problem.where == "What it took" for problem in check_card(run))
