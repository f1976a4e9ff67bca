"""`python -m evals calibrate`: how well a scorer tells toxic texts from others on labelled sets, as a card beside its figures.

    python -m evals calibrate detoxify --test labeled_data.csv perspective.jsonl@0.9 --out runs/detoxify

The card, in DIR/card.json, says which scorer it is of, in full, and its area under the ROC curve with DeLong's 95% interval on each
set. A suite that names the folder among its scorers (`scorers: [runs/detoxify]`) gets the scorer with these figures beside its
own. Texts that the scorer could not score are left out, and counted. What the scorer learned from tells nothing new of it: a
file that it was trained on is marked, and the names of all are listed, for a part of one, or another form, is not recognised.
A folder has the card of one scorer; sets that it was measured on before stay on it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from evals.auc import Auc, auc
from evals.labelled_texts import LabelledTexts
from evals.show import table
from evals.text_scorer import open_scorer
from training.command import Result, log
from training.errors import UsageError
from training.records import Record

CARD = "card.json"
KIND: Literal["calibration"] = "calibration"


class CalibratedOn(Record):
    """One labelled set."""

    name: str
    sha256: str  # of the file
    auc: Auc
    unscored: int
    trained_on: bool = False  # this very file


class CalibrationCard(Record):
    schema_version: int = 1
    kind: Literal["calibration"] = KIND
    opened_as: str  # the name by which `open_scorer` knows it
    scorer: str  # in full, with version and commit
    trained_on: list[str] = []  # what the scorer learned from, where it says so
    calibration: list[CalibratedOn]

    def beside(self) -> dict[str, float]:
        return {
            f"the scorer's AUC on {one.name}{' (trained on it)' if one.trained_on else ''}": one.auc.value
            for one in self.calibration
        }

    def require(self, scorer: str, where: Path) -> None:
        """Raise UsageError where the card is of another scorer, or another version of it."""
        if scorer != self.scorer:
            raise UsageError(
                "the calibration is of another scorer",
                where=str(where),
                expected=scorer,
                found=self.scorer,
                next_step=f"python -m evals calibrate {self.opened_as} --test FILE --out {where.parent}",
            )


def kind_of(file: Path) -> str | None:
    """Which kind of card this is; None for a toxicity scorer's, which names no kind, and for what is no card at all."""
    try:
        kind = json.loads(file.read_bytes()).get("kind")
    except (OSError, ValueError, AttributeError):
        return None
    return str(kind) if kind is not None else None


def calibrate(name: str, tests: Sequence[LabelledTexts], out: Path) -> Result:
    """Score every text, write OUT/card.json.

    Raises UsageError where a scorer is not there or scores nothing of a set, or where OUT has the card of another.
    """
    scorer = open_scorer(name, out / ".evals")
    before = _of_before(name, scorer.scorer, out)
    scorer.check()
    learned = set(scorer.trained_on.values())
    found = [_on(one, scorer.scores(one.texts), trained_on=one.sha256 in learned) for one in tests]
    now = {one.sha256 for one in found}
    found = [*(one for one in before if one.sha256 not in now), *found]
    card = CalibrationCard(opened_as=name, scorer=scorer.scorer, trained_on=list(scorer.trained_on), calibration=found)
    card.write(out / CARD)
    rows = [
        [
            f"{c.name} (trained on it)" if c.trained_on else c.name,
            str(c.auc.n),
            str(c.auc.positives),
            str(c.unscored),
            f"{c.auc.value:.3f} [{c.auc.low:.3f}, {c.auc.high:.3f}]",
        ]
        for c in found
    ]
    lines = [
        scorer.scorer,
        "",
        *table(["labelled set", "texts", "toxic", "unscored", "AUC"], rows),
        *(
            [f"It learned from {'; '.join(card.trained_on)}: figures on texts of these are too good."]
            if card.trained_on
            else []
        ),
        "",
        f"written: {out / CARD}",
    ]
    return {"summary": "\n".join(lines), **card.model_dump(mode="json")}


def _of_before(name: str, scorer: str, out: Path) -> list[CalibratedOn]:
    """What OUT's card says of this very scorer; nothing where there is none, or one of another version of it.

    Raises UsageError where the card is of another scorer, or is no calibration: it would be replaced.
    """
    file = out / CARD
    if not file.is_file():
        return []
    kind = kind_of(file)
    card = CalibrationCard.read(file) if kind == KIND else None
    if card is not None and card.scorer == scorer:
        return card.calibration
    if card is not None and card.opened_as == name:
        log(f"{file}: was of {card.scorer}, and is now of {scorer}")
        return []
    raise UsageError(
        "the folder has the card of another scorer, which this one would replace"
        if card
        else "the folder is a scorer's own",
        where=str(file),
        expected=f"no card, or a calibration of {scorer}",
        found=f"a calibration of {card.scorer}"
        if card
        else f"the card of a trained scorer{f' ({kind})' if kind else ''}",
        next_step=f"python -m evals calibrate {name} --test FILE --out {out.with_name(out.name + '-calibration')}",
    )


def _on(one: LabelledTexts, scores: Sequence[float | None], *, trained_on: bool) -> CalibratedOn:
    pairs = [(label, score) for label, score in zip(one.labels, scores, strict=True) if score is not None]
    if len({label for label, _ in pairs}) < 2:
        raise UsageError(
            f"the scorer scored too few texts of {one.name} for an area under the curve",
            expected="texts of both labels",
            found=f"{len(pairs)} of {len(one.texts)} scored",
        )
    log(f"{one.name}: {len(pairs):,} of {len(one.texts):,} texts scored")
    area = auc([label for label, _ in pairs], [score for _, score in pairs])
    return CalibratedOn(
        name=one.name, sha256=one.sha256, auc=area, unscored=len(scores) - len(pairs), trained_on=trained_on
    )
