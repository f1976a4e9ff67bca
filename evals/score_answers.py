"""Who scores a task's answers: the task itself, or what the suite names for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.saved import SavedRun
from evals.scorecard import Sample

if TYPE_CHECKING:
    from evals.helpfulness import Judge
    from evals.prepare import Prepared
    from evals.respond import Circumstances
    from evals.scoring import Figure


def score_answers(
    one: Prepared,
    answers: list[list[Any]],
    judge: Judge | None,
    parent: SavedRun | None,
    folder: Path,
    circumstances: Circumstances,
) -> tuple[list[Sample], list[Figure]]:
    """Each item's values, and the task's figures. What judges say is kept in `folder`, so that a repetition is free."""
    from evals.helpfulness import score_helpfulness
    from evals.scoring import score_by_task
    from evals.toxicity import open_scorer, score_toxicity

    if one.spec.scoring in ("profanity", "toxicity"):
        return score_toxicity(one, answers, [open_scorer(name) for name in one.spec.text_scorers])
    if one.spec.scoring == "judge":
        name = one.settings.task
        if parent is None or name not in parent.scorecard.samples:
            return score_helpfulness(one, answers, judge, None, folder)
        scorers = {score.metric: score.scorer for score in parent.scorecard.scores if score.task == name}
        theirs = parent.samples(name)
        return score_helpfulness(one, answers, judge, theirs, folder, scorers.get("reward_mean"))
    if one.spec.scoring == "truthfulness":
        from evals.hub_judge import open_judges
        from evals.truthfulness import score_truthfulness

        judges = open_judges(one.spec.judges, circumstances.dtype, circumstances.device, folder)
        return score_truthfulness(one, answers, judges)
    if one.spec.scoring == "bias":
        from evals.bias import score_bias

        return score_bias(one, answers)
    return score_by_task(one, answers)
