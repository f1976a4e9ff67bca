"""Who scores a task's answers: the task itself, or what the suite names for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.saved import SavedRun
from evals.scorecard import Sample

if TYPE_CHECKING:
    from evals.endpoint_judge import EndpointJudge
    from evals.helpfulness import Judge
    from evals.prepare import Prepared
    from evals.respond import Circumstances
    from evals.scoring import Figure


@dataclass(frozen=True)
class Judges:
    """Who says whether an answer helps: a reward model, a model behind an endpoint, both, or nobody."""

    reward: Judge | None = None
    endpoint: EndpointJudge | None = None


def score_answers(
    one: Prepared,
    answers: list[list[Any]],
    judges: Judges,
    parent: SavedRun | None,
    folder: Path,
    circumstances: Circumstances,
) -> tuple[list[Sample], list[Figure]]:
    """Each item's values, and the task's figures. What judges say is kept in `folder`, so that a repetition is free."""
    from evals.scoring import score_by_task
    from evals.text_scorer import open_scorer
    from evals.toxicity import score_toxicity

    if one.spec.scoring in ("profanity", "toxicity"):
        return score_toxicity(one, answers, [open_scorer(name, folder) for name in one.spec.text_scorers])
    if one.spec.scoring == "judge":
        return _judged(one, answers, judges, parent, folder)
    if one.spec.scoring == "truthfulness":
        from evals.hub_judge import open_judges
        from evals.truthfulness import score_truthfulness

        truth = open_judges(one.spec.judges, circumstances.dtype, circumstances.device, folder)
        return score_truthfulness(one, answers, truth)
    if one.spec.scoring == "bias":
        from evals.bias import score_bias

        return score_bias(one, answers)
    return score_by_task(one, answers)


def _judged(
    one: Prepared, answers: list[list[Any]], judges: Judges, parent: SavedRun | None, folder: Path
) -> tuple[list[Sample], list[Figure]]:
    """Against the answers that the suite names, else the parent's, else nobody's."""
    from evals.helpfulness import WIN_RATE, in_order, score_helpfulness
    from evals.preferences import METRIC as JUDGED_WIN_RATE
    from evals.preferences import add_verdicts

    theirs: list[Sample] | None = None
    scorer, against, opponent = None, "", None
    if one.reference:
        theirs, against = one.reference.samples, one.reference.against
    elif parent is not None and one.settings.task in parent.scorecard.samples:
        name = one.settings.task
        scorer = {s.metric: s.scorer for s in parent.scorecard.scores if s.task == name}.get("reward_mean")
        theirs, opponent = in_order(one, parent.samples(name)), parent.scorecard.model.digest
    samples, figures = score_helpfulness(one, answers, judges.reward, theirs, folder, scorer, against)
    if judges.endpoint is not None and theirs is not None:
        prompts = [one.task.user_text(request) for request in one.requests]
        samples, figures = add_verdicts(samples, figures, prompts, judges.endpoint, theirs, folder, against)
    return samples, [
        replace(figure, against=opponent) if figure.metric in (WIN_RATE, JUDGED_WIN_RATE) else figure
        for figure in figures
    ]
