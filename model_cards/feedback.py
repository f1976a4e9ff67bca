"""What a card says of the people and scripts whose votes went into a model: how many, how many votes, how far they agreed."""

from __future__ import annotations

from training.pretrained import feedback_behind
from training.run_record import FeedbackSource, RunRecord


def feedback_sentences(run: RunRecord) -> list[str]:
    """A sentence for each feedback.json behind the run, its parents' included; none where no votes went into it."""
    return [_sentence(feedback, _by_way_of(feedback, run)) for feedback in feedback_behind(run)]


def _by_way_of(feedback: FeedbackSource, run: RunRecord) -> str:
    """The shortest way from the votes to the run."""
    sampled = [data.sampled for data in run.data if data.sampled is not None]
    if any(data.feedback == feedback for data in run.data):
        return "Trained on votes"
    if any(feedback in model.feedback for source in sampled for model in source.reward_models):
        return "Trained on sampled answers that a reward model scored which had learned from votes"
    if any(feedback in source.feedback_behind() for source in sampled):
        return "Trained on sampled answers whose policy or prompts came of votes"
    return "Trained by way of a parent that learned from votes"


def _sentence(feedback: FeedbackSource, learned: str) -> str:
    who = []
    if feedback.people:
        who.append(f"{feedback.people} {'person' if feedback.people == 1 else 'people'}")
    if feedback.scripts:
        labellers = "labeller" if feedback.scripts == 1 else "labellers"
        who.append(f"{feedback.scripts} rule-following {labellers} (scripts, not people)")
    if feedback.alpha is None:
        agreed = "how far they agreed is not defined"
    else:
        interval = ""
        if feedback.alpha_low is not None and feedback.alpha_high is not None:
            interval = f", 95% interval {feedback.alpha_low:.3f} to {feedback.alpha_high:.3f}"
        agreed = f"Krippendorff's alpha {feedback.alpha:.3f}{interval} (1 is perfect agreement, 0 chance)"
    return f"{learned}: {feedback.votes} votes by {' and '.join(who)}; {agreed}. Record: `{feedback.record}`."
