"""What a card says of the votes behind a model."""

from __future__ import annotations

from model_cards.feedback import feedback_sentences
from training.run_record import DataSource, FeedbackSource, Hardware, ParentCheckpoint, RunRecord


def source(record: str, people: int, scripts: int, alpha: float | None = 0.71) -> FeedbackSource:
    low, high = (None, None) if alpha is None else (alpha - 0.1, alpha + 0.1)
    return FeedbackSource(
        record=record, votes=120, people=people, scripts=scripts, alpha=alpha, alpha_low=low, alpha_high=high
    )


def run(data: list[FeedbackSource], parents: list[list[FeedbackSource]]) -> RunRecord:
    return RunRecord(
        method="ppo",
        checkpoint_digest="sha256:0",
        recipe={},
        parents=[ParentCheckpoint(role="base", name="b", digest="d", feedback=behind) for behind in parents],
        data=[DataSource(id="d", split="train", sha256="0", rows=1, feedback=one) for one in data],
        seed=0,
        packages={},
        git_revision=None,
        hardware=Hardware(machine="m", processor="p", cores=1, device="cpu", memory_gib=1.0),
        started="2026-11-25T08:00:00+00:00",
        seconds=1.0,
        metrics={},
    )


def test_people_and_scripts_are_told_apart_and_agreement_stands_with_its_interval() -> None:
    (sentence,) = feedback_sentences(run([source("sha256:1", 4, 1)], []))
    assert sentence.startswith(
        "Trained on votes: 120 votes by 4 people and 1 rule-following labeller (scripts, not people)"
    )
    assert "alpha 0.710, 95% interval 0.610 to 0.810" in sentence
    assert "`sha256:1`" in sentence


def test_votes_behind_a_parent_are_told_once_and_as_such() -> None:
    behind = source("sha256:1", 3, 0, None)
    (sentence,) = feedback_sentences(run([], [[behind], [behind]]))
    assert sentence.startswith("Trained by way of a parent that learned from votes: 120 votes by 3 people")
    assert "not defined" in sentence


def test_a_model_without_votes_has_no_sentence() -> None:
    assert feedback_sentences(run([], [[]])) == []
