"""A whole turn: rule-following labellers vote in a browser; their votes become a reward model, a policy and a card that says so."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from feedback_space import FeedbackSpace, make_pairs, write_space
from tiny_model import save_model

from model_cards.card import render_card
from training.__main__ import main
from training.feedback_record import FeedbackRecord
from training.records import sha256_of_file
from training.run_record import RunRecord

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "flywheel"))

from labeller import cast_votes

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
LORA = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}


def no_um(prompt: str, a: str, b: str) -> str:
    """The answer that does not ramble."""
    return "b" if a.startswith("um") else "a"


def mostly_no_um(prompt: str, a: str, b: str) -> str:
    """The same, but for prompts about bees, which it gets wrong."""
    return no_um(prompt, b, a) if "bees" in prompt else no_um(prompt, a, b)


@pytest.fixture(scope="module")
def votes(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of at least 60 votes: three labellers on twenty pairs, the Space killed between the first and the second."""
    from playwright.sync_api import sync_playwright

    space = FeedbackSpace(write_space(tmp_path_factory.mktemp("turn") / "space", make_pairs(20), gold_every=100))
    space.start()
    thanked = 0
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=[*FLAGS, "--disable-sync"])
            for code, rule in (("rules one", no_um), ("rules two", no_um), ("rules three", mostly_no_um)):
                context = browser.new_context()
                page = context.new_page()
                page.set_default_timeout(60_000)
                thanked += cast_votes(page, space.url, code, rule)
                context.close()
                if code == "rules one":
                    space.kill()
                    space.start()
            browser.close()
    finally:
        space.stop()
    assert len(space.votes) == thanked >= 60
    return space.folder / "votes"


def recipe(folder: Path, value: dict[str, Any]) -> Path:
    file = folder / f"{value['method']}.yaml"
    file.write_text(yaml.safe_dump({"dtype": "float32", "lora": LORA, **value}))
    return file


@pytest.mark.slow
def test_votes_become_a_reward_model_a_policy_and_a_card_that_names_them(votes: Path, tmp_path: Path) -> None:
    base = save_model(tmp_path / "base" / "checkpoint")
    feedback, reward, rloo = tmp_path / "feedback", tmp_path / "reward", tmp_path / "rloo"
    assert main(["feedback", str(votes), "--out", str(feedback)]) == 0
    record = FeedbackRecord.read(feedback / "feedback.json")
    assert record.votes == 60
    assert (record.people, record.scripts) == (0, 3)
    assert record.alpha is not None
    assert 0.8 < record.alpha < 1
    report = json.loads((feedback / "report.json").read_text())
    assert report["ratings"][0]["system"].startswith("org/new")
    assert report["ratings"][0]["low"] > report["ratings"][1]["high"]
    assert report["sides"]["p"] > 0.001

    settings: dict[str, Any] = {
        "method": "reward",
        "base": str(base),
        "data": {"source": str(feedback / "preferences"), "heldout_split": "test"},
        "max_length": 256,
        "args": {"max_steps": 12, "per_device_train_batch_size": 4, "learning_rate": 1e-2},
    }
    assert main(["reward", "--recipe", str(recipe(tmp_path, settings)), "--out", str(reward)]) == 0
    behind = RunRecord.read(reward / "run.json").data[0].feedback
    assert behind is not None
    assert behind.record == f"sha256:{sha256_of_file(feedback / 'feedback.json')}"

    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"Tell me {n} things"}) + "\n" for n in range(20)))
    settings = {
        "method": "rloo",
        "base": str(base),
        "reward_model": str(reward),
        "prompts": {"source": str(prompts)},
        "generation": {"max_new_tokens": 6},
        "args": {"max_steps": 2, "per_device_train_batch_size": 8, "learning_rate": 1e-3},
    }
    assert main(["rloo", "--recipe", str(recipe(tmp_path, settings)), "--out", str(rloo)]) == 0
    policy = RunRecord.read(rloo / "run.json")
    scorer = policy.parent("reward_model")
    assert scorer is not None
    assert scorer.feedback == [behind]

    for run, how in ((reward, "Trained on votes"), (rloo, "Trained by way of a parent")):
        card = render_card(run, repo_id="org/name", tag="v1.0.0").readme
        assert "60 votes by 3 rule-following labellers (scripts, not people)" in card
        assert f"Krippendorff's alpha {record.alpha:.3f}" in card
        assert behind.record in card
        assert how in card
