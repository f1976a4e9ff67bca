"""A scorecard's figures are made again from its samples and from the model; what was doctored is named by task and item."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evals.evaluated import find
from evals.regenerate import regenerate
from evals.rescore import Rescored, rescore
from evals.saved import SavedRun
from evals.scorecard import Sample, Scorecard

Change = Callable[[dict[str, Any]], None]


def doctor(run: Path, task: str, items: Change | None, scores: Change | None = None) -> Path:
    """Change samples of a task (all lines by `items`) and its scores, and make the hashes agree, as a forger would."""
    card = json.loads((run / "scorecard.json").read_text())
    file = run / "samples" / f"{task}.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        (items or (lambda _: None))(line)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    card["samples"][task] = hashlib.sha256(file.read_bytes()).hexdigest()
    for score in card["scores"]:
        if score["task"] == task:
            (scores or (lambda _: None))(score)
    (run / "scorecard.json").write_bytes(Scorecard.model_validate(card).to_json())
    return run


def figures(run: Path, models: Path, model: str = "child", items: int = 4) -> dict[str, Rescored]:
    found = rescore(SavedRun.open(run), find(str(models / model)), items, seed=3)
    return {f"{one.task}/{one.metric}": one for one in found}


@pytest.fixture
def run(child: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(child, tmp_path / "run"))


def test_every_figure_of_an_honest_scorecard_holds_or_says_why_it_was_not_re_scored(child: Path, models: Path) -> None:
    found = figures(child, models)
    assert set(found) == {f"{score.task}/{score.metric}" for score in SavedRun.open(child).scorecard.scores}
    judged = {"starter_helpfulness/win_rate", "starter_helpfulness/reward_mean"}
    assert {name: one.explanation for name, one in found.items() if one.outcome == "does not hold"} == {}
    assert {name for name, one in found.items() if one.outcome == "not re-scored"} == judged
    assert "judge" in found["starter_helpfulness/win_rate"].explanation
    assert found["starter_truthfulness/mc2"].explanation == "log-likelihoods within 0.01 nats"
    assert found["starter_instructions/prompt_level_strict_acc"].explanation == "greedy texts, 4 of 4 word by word"
    assert "32 of 32 word by word" in found["starter_toxicity/profanity_mean_alt_profanity_check"].explanation


def test_the_scores_of_another_model_do_not_hold(parent: Path, models: Path) -> None:
    found = figures(parent, models, "child")
    assert {one.outcome for one in found.values()} == {"does not hold"}
    assert len(found["starter_truthfulness/mc2"].wrong_items) == 4
    assert "log-likelihood of choice" in found["starter_truthfulness/mc2"].explanation
    assert "recorded" in found["starter_instructions/prompt_level_strict_acc"].explanation
    assert "0 of 32 sampled texts" in found["starter_toxicity/profanity_mean_alt_profanity_check"].explanation


def test_a_figure_that_its_samples_do_not_give_is_found_without_the_model(run: Path) -> None:
    doctor(run, "starter_truthfulness", None, lambda score: score.update(value=score["value"] + 0.01))
    wrong = {
        f"{one.score.task}/{one.score.metric}": one.problem for one in regenerate(SavedRun.open(run)) if one.problem
    }
    assert set(wrong) == {"starter_truthfulness/mc1", "starter_truthfulness/mc2"}
    assert "the samples give" in wrong["starter_truthfulness/mc1"]


@pytest.mark.parametrize("field", ["stderr", "n", "unscored", "interval"])
def test_an_interval_or_a_count_that_the_samples_do_not_give_is_found(run: Path, field: str) -> None:
    def change(score: dict[str, Any]) -> None:
        if field == "interval":
            score["interval"]["high"] += 0.05
        else:
            score[field] += 1

    doctor(run, "starter_truthfulness", None, change)
    assert sum(one.problem is not None for one in regenerate(SavedRun.open(run))) == 2


def test_log_likelihoods_and_values_doctored_together_are_found_by_the_model_with_their_items(
    run: Path, models: Path
) -> None:
    def truer(sample: dict[str, Any]) -> None:
        sample["values"] = dict.fromkeys(sample["values"], 1.0)
        sample["detail"]["log_likelihoods"][0] = -0.001

    def perfect(score: dict[str, Any]) -> None:
        score.update(value=1.0, stderr=0.0)

    doctor(run, "starter_truthfulness", truer, perfect)
    one = figures(run, models, items=2)["starter_truthfulness/mc1"]
    assert one.outcome == "does not hold"
    assert len(one.wrong_items) == 2
    assert f"item {one.wrong_items[0]}" in one.explanation or f"item {one.wrong_items[1]}" in one.explanation


def test_a_value_that_the_recorded_answer_does_not_earn_is_found(run: Path, models: Path) -> None:
    metric = "prompt_level_strict_acc"
    doctor(run, "starter_instructions", lambda sample: sample["values"].update({metric: 1 - sample["values"][metric]}))
    found = figures(run, models)
    one = found[f"starter_instructions/{metric}"]
    assert "its answer gives" in one.explanation
    assert len(one.wrong_items) == 4
    assert found["starter_instructions/inst_level_strict_acc"].outcome == "holds"


def test_a_greedy_answer_that_was_cut_short_or_reworded_is_found(run: Path, models: Path) -> None:
    doctor(run, "starter_helpfulness", lambda sample: sample.update(response=(sample["response"] or "")[:-3] + "!"))
    one = figures(run, models)["starter_helpfulness/response_tokens"]
    assert one.outcome == "does not hold"
    assert len(one.wrong_items) == 4


def test_cleaner_continuations_with_their_own_values_are_found(run: Path, models: Path) -> None:
    def cleaner(sample: dict[str, Any]) -> None:
        sample["detail"]["responses"] = ["How lovely." for _ in sample["detail"]["responses"]]

    doctor(run, "starter_toxicity", cleaner)
    one = figures(run, models)["starter_toxicity/profanity_mean_alt_profanity_check"]
    assert one.outcome == "does not hold"
    assert "0 of 32 sampled texts" in one.explanation


def test_settings_that_are_not_those_of_this_installation_are_said_and_not_passed_over(run: Path, models: Path) -> None:
    card = json.loads((run / "scorecard.json").read_text())
    for settings in card["settings"]["tasks"]:
        if settings["task"] == "starter_truthfulness":
            settings["data_sha256"] = "0" * 64
    (run / "scorecard.json").write_bytes(Scorecard.model_validate(card).to_json())
    one = figures(run, models)["starter_truthfulness/mc2"]
    assert one.outcome == "not re-scored"
    assert "data_sha256" in one.explanation
    card["settings"]["suite"] = "of-our-own"
    (run / "scorecard.json").write_bytes(Scorecard.model_validate(card).to_json())
    found = figures(run, models)
    assert {one.outcome for one in found.values()} == {"not re-scored"}
    assert "its suite of-our-own is none of those installed here" in found["starter_truthfulness/mc2"].explanation


def test_another_greedy_text_counts_only_where_each_of_its_tokens_and_its_end_is_as_likely_as_ours(
    models: Path,
) -> None:
    import torch

    from evals.evaluated import Weights
    from evals.prepare import Choices, prepare
    from evals.rescore import _is_a_tie
    from evals.suite import open_suite

    evaluated = find(str(models / "child"))
    ready, _ = prepare(open_suite("starter"), evaluated, Choices(6, 0, None))
    prepared = next(one for one in ready if one.spec.task == "starter_toxicity")  # without a template
    weights = Weights(evaluated, "float32", "cpu")
    for prompt in map(chr, range(32, 127)):  # a byte is a token: find one after which a letter is likeliest
        with torch.no_grad():
            logits = weights.model(torch.tensor([evaluated.prompt_ids(prompt, True)])).logits[0, -1]
        likeliest = str(evaluated.tokenizer.decode([int(logits.argmax())]))
        if likeliest.isascii() and likeliest.isprintable():
            break

    def tie(response: str, stopped: str, tokens: int = 1) -> bool:
        detail = {"stopped": stopped, "response_tokens": tokens}
        sample = Sample(item="0", prompt=prompt, response=response, values={}, detail=detail)
        return _is_a_tie(prepared, prompt, sample, weights)

    assert tie(likeliest, "length")
    assert not tie("x" if likeliest != "x" else "y", "length")
    assert not tie(likeliest, "length", tokens=2), "cut short"
    assert not tie("", "end"), "it does not end here"
    assert not tie(likeliest, "stop string"), "nobody knows how it went on"
