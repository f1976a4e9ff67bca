"""The tables beside the headline scores: the alignment tax, toxicity by scorer and framing, and who judged."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from evals.scorecard import Score, Scorecard
from model_cards.__main__ import main
from model_cards.card import render_card
from model_cards.check import check_card
from model_cards.more_tables import judge_lines, toxicity_lines, toxicity_tables
from training.run_record import RunRecord

MakeRun = Callable[..., Path]


def with_scores(card: Scorecard, change: Callable[[Score], list[Score]]) -> Scorecard:
    return card.model_copy(update={"scores": [new for score in card.scores for new in change(score)]})


def not_aligned_for(run: Path, task: str) -> None:
    """As if the task were one that alignment is not for, in the run's scorecard and its parent's."""
    for file in (run / "scorecard.json", run / "baseline" / "scorecard.json"):
        other = with_scores(
            Scorecard.read(file),
            lambda score: [score.model_copy(update={"group": "other"}) if score.task == task else score],
        )
        other.write(file)


def test_the_alignment_tax_stands_as_paired_changes_and_is_held_against_the_records(make_run: MakeRun) -> None:
    run = make_run()
    text = render_card(run, repo_id="slipway/tiny", tag="v1.0.0").readme
    assert "### Alignment tax" not in text
    assert "such as gsm8k or hellaswag, was not measured" in text
    not_aligned_for(run, "truth")
    assert main(["render", str(run), "--repo", "slipway/tiny", "--tag", "v1.0.0"]) == 0
    card = run / "bundle-preview" / "README.md"
    block = card.read_text().partition("<!-- tax:begin -->")[2].partition("<!-- tax:end -->")[0]
    assert "`truth/mc2` ↑ | 30.0% [" in block, "16 of 20 right, where the parent had 6"
    assert "▲ better +50.0 pp [" in block
    assert "was not measured: the suite has none" not in card.read_text()
    assert check_card(run) == []
    card.write_text(card.read_text().replace("+50.0 pp", "+55.0 pp", 1).replace("▲ better +50.0", "▲ better +55.0"))
    assert any(problem.where == "Alignment tax" for problem in check_card(run))


def test_toxicity_has_a_row_for_each_framing_kind_of_prompt_and_scorer(make_run: MakeRun) -> None:
    card = Scorecard.read(make_run() / "scorecard.json")

    def framed(score: Score) -> list[Score]:
        """The one toxicity score as RealToxicityPrompts' figures: two framings, two kinds of prompts."""
        if score.task != "swear":
            return [score]
        what = "expected maximum over 25 continuations of a prompt"
        kinds = {"": what, "_toxic": f"{what}; prompt_kind toxic only"}
        return [
            score.model_copy(update={"task": f"rtp_{framing}", "metric": f"max{kind}", "description": told})
            for framing in ("biased", "basic")
            for kind, told in kinds.items()
        ]

    lines = toxicity_lines(with_scores(card, framed), None)
    assert [line.split(" | ")[0] for line in lines[2:6]] == [
        "| `rtp_basic`: no instruction before the prompt, all",
        "| `rtp_basic`: no instruction before the prompt, toxic",
        "| `rtp_biased`: an instruction to be maximally biased and offensive, all",
        "| `rtp_biased`: an instruction to be maximally biased and offensive, toxic",
    ]
    assert lines[6:] == ["", "Scorer: some-checker 1.0."]
    assert toxicity_lines(card, None) == [], "one figure is in the table of scores already"


def test_many_kinds_of_prompts_are_folded_below_the_framings(make_run: MakeRun) -> None:
    def framed(score: Score) -> list[Score]:
        if score.task != "swear":
            return [score]
        what = "expected maximum over 25 continuations of a prompt"
        kinds = {"": what} | {f"_{kind}": f"{what}; category {kind} only" for kind in "abcdefg"}
        return [
            score.model_copy(update={"task": f"rtp_{framing}", "metric": f"max{kind}", "description": told})
            for framing in ("biased", "basic")
            for kind, told in kinds.items()
        ]

    card = with_scores(Scorecard.read(make_run() / "scorecard.json"), framed)
    shown, folded = toxicity_tables(card, None)
    assert (sum("`rtp_" in line for line in shown), sum("`rtp_" in line for line in folded)) == (2, 14)
    assert toxicity_lines(card, None) == shown + folded


@pytest.mark.parametrize("extra", [0, 5])
def test_each_judge_has_one_line_however_many_figures_it_gave(make_run: MakeRun, extra: int) -> None:
    card = Scorecard.read(make_run() / "scorecard.json")
    many = with_scores(
        card,
        lambda score: (
            [score, *(score.model_copy(update={"metric": f"rate_{number}"}) for number in range(extra))]
            if score.task == "swear"
            else [score]
        ),
    )
    lines = judge_lines(many)
    assert len(lines) == 4
    assert lines[2] == "| reward model 9f2c | `help`: `win_rate`, `mean_reward` |"
    assert ("and 2 more" in lines[3]) == bool(extra)


def test_a_card_of_other_words_lacks_only_what_it_does_not_speak_of(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    head = "---\npipeline_tag: text-generation\nlibrary_name: transformers\n---\n"
    card.write_text(head + "# Ours\n## Evaluation\n## Bias, Risks, and Limitations\n## Usage\n### Training data\n")
    assert {(problem.check, problem.where) for problem in check_card(card)} == {
        ("metadata", "license"),
        ("sections", "README.md"),
    }
    missing = [problem.what for problem in check_card(card) if problem.check == "sections"]
    assert missing == ["no section such as “How to verify it”", "no section such as “Citation”"]


def test_a_card_of_a_release_from_before_equal_differences_had_a_rule_is_still_right(tmp_path: Path) -> None:
    released = Path(__file__).parent.parent / "release" / "released" / "v0.1"
    text = (released / "README.md").read_text()
    assert "≈ +0.0 pp [+0.0, +0.0]" in text, "written when equal differences had an interval of no width"
    assert check_card(released) == []
    copied = tmp_path / "v0.1"
    shutil.copytree(released, copied)
    (copied / "README.md").write_text(text.replace("[+0.0, +0.0]", "[+0.0, +0.1]"))
    assert {problem.check for problem in check_card(copied)} == {"numbers"}


def test_a_metric_of_a_single_value_stands_without_an_interval(make_run: MakeRun) -> None:
    run = make_run()
    record = RunRecord.read(run / "run.json")
    record.model_copy(update={"metrics": {"heldout_auc": 1.0, "heldout_auc_low": None}}).write(run / "run.json")
    text = render_card(run, repo_id="slipway/tiny", tag="v1.0.0").readme
    assert "| `heldout_auc_low` | none, of a single value |" in text
