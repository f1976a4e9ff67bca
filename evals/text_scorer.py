"""Who scores generated texts one by one, by name: offline scorers, Hub classifiers, and services.

    scorer = open_scorer("detoxify", keep=Path("runs/a/.evals"))
    scorer.check()                             # everything that can be wrong before weights load: keys, files, an address
    scorer.scores(["have a nice day"])         # [0.01]; None where a text could not be scored

| name | what scores |
|---|---|
| `profanity` | alt-profanity-check, offline |
| `ngram` | the toxicity scorer that ships, offline |
| `detoxify`, `roberta-hate-speech` | classifiers from the Hub, pinned by commit (`evals.hub_classifier`) |
| `moderation:MODEL@URL` | an OpenAI-compatible moderation endpoint (`evals.moderation`) |
| `perspective` | the Perspective API, until the end of 2026 (`evals.perspective`) |
| a folder | what `train-scorer toxicity` or `train-scorer hate` wrote, or a calibration card of `python -m evals calibrate` |
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from training.errors import UsageError

PROFANITY = Path(__file__).parent / "metrics" / "profanity"
TWEETS = {"the tweets of Davidson et al. (2017), by alt-profanity-check": ""}
THRESHOLD = 0.5
MAXIMUM, PROBABILITY, MEAN = "maximum", "probability", "mean"
KINDS = ("profanity", "ngram", "detoxify", "roberta-hate-speech", "moderation:MODEL@URL", "perspective")


def _nothing() -> None:
    """Nothing is to be checked beyond what opening has checked."""


@dataclass(frozen=True)
class TextScorer:
    """From texts to scores between 0 and 1, under a name; `metrics` names the three figures by what they are."""

    name: str  # and version, as it stands in metrics
    scorer: str  # in full: which bytes or which address
    metrics: dict[str, str]
    scores: Callable[[Sequence[str]], Sequence[float | None]]
    beside: dict[str, float]  # figures to read its figures beside
    check: Callable[[], None] = _nothing
    trained_on: dict[str, str] = field(
        default_factory=dict
    )  # what it learned from -> the file's SHA-256, "" where unknown


def metrics_of(name: str) -> dict[str, str]:
    """The three figures of a scorer called `name`, which stands in each."""
    return {MAXIMUM: f"{name} expected maximum", **{one: f"{name} {one}" for one in (PROBABILITY, MEAN)}}


def open_scorer(name: str, keep: Path | None = None) -> TextScorer:
    """The scorer of this name; nothing is loaded or asked yet. What is dear to score again is kept in `keep`.

    Raises UsageError where there is none of this name, or it is not whole.
    """
    from evals.hub_classifier import CLASSIFIERS, open_classifier
    from evals.moderation import open_moderation
    from evals.perspective import open_perspective

    if name == "profanity":
        return _profanity_scorer()
    if name in CLASSIFIERS:
        return open_classifier(CLASSIFIERS[name], keep)
    kind, _, rest = name.partition(":")
    if kind == "moderation":
        return open_moderation(rest, keep)
    if kind == "perspective":
        return open_perspective(rest, keep)
    return _offline(name, keep)


def _offline(name: str, keep: Path | None) -> TextScorer:
    from evals.calibration import CARD, CalibrationCard, kind_of
    from evals.calibration import KIND as CALIBRATION
    from evals.embedding_scorer import KIND as EMBEDDING
    from evals.toxicity_scorer import SHIPPED, ToxicityScorer

    folder = Path(name)
    if name != "ngram" and not folder.is_dir():
        raise UsageError(
            "there is no scorer of this name",
            expected="one of " + ", ".join(KINDS) + ", or the folder of one",
            found=name,
            next_step="correct the name, or train one: python -m evals train-scorer toxicity --data FILE --out DIR",
        )
    if name != "ngram" and kind_of(folder / CARD) == CALIBRATION:
        card = CalibrationCard.read(folder / CARD)
        opened = open_scorer(card.opened_as, keep)
        card.require(opened.scorer, folder / CARD)
        return replace(opened, beside={**opened.beside, **card.beside()})
    if name != "ngram" and kind_of(folder / CARD) == EMBEDDING:
        return _hate(folder, keep)
    scorer = ToxicityScorer.open(SHIPPED if name == "ngram" else folder)
    return TextScorer(
        scorer.metric,
        scorer.scorer,
        metrics_of(scorer.metric),
        scorer.scores,
        {f"the scorer's AUC on {one.name} ({one.protocol})": one.auc.value for one in scorer.card.calibration},
        trained_on={one.name: one.sha256 for one in scorer.card.trained_on} | TWEETS,
    )


def _hate(folder: Path, keep: Path | None) -> TextScorer:
    from evals.embedding_scorer import AT_A_TIME, EmbeddingScorer
    from evals.kept_scores import kept_scores

    scorer = EmbeddingScorer.open(folder)
    return TextScorer(
        scorer.metric,
        scorer.scorer,
        metrics_of(scorer.metric),
        lambda texts: kept_scores(keep, scorer.scorer, texts, scorer.probabilities, AT_A_TIME),
        {f"the scorer's AUC on {one.name} ({one.protocol})": one.auc.value for one in scorer.card.calibration},
        scorer.check,
        {one.name: one.sha256 for one in scorer.card.trained_on},
    )


def _profanity_scorer() -> TextScorer:
    package = "alt-profanity-check"
    return TextScorer(
        "profanity",
        f"{package} {importlib.metadata.version(package)}",
        {
            MAXIMUM: "profanity_max_alt_profanity_check",
            PROBABILITY: "profanity_probability_alt_profanity_check",
            MEAN: "profanity_mean_alt_profanity_check",
        },
        _profanity,
        {},
        trained_on=TWEETS,
    )


def _profanity(texts: Sequence[str]) -> list[float]:
    import evaluate

    found: list[float] = evaluate.load(str(PROFANITY)).compute(predictions=list(texts))["profanity"]
    return found
