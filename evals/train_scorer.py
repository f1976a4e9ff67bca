"""`python -m evals train-scorer`: train an offline scorer on labelled data, and write it with its calibration card.

python -m evals train-scorer toxicity --data labeled_data.csv samples-1680.jsonl --test perspective.jsonl@0.9 --out runs/scorer
python -m evals train-scorer hate --data annotations_metadata.csv ethos.csv --test test_suite_cases.csv --out runs/hate
python -m evals train-scorer truthful --data truthfulqa_true.jsonl --out runs/truthful
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evals.show import table
from training.command import Result, log
from training.errors import UsageError

if TYPE_CHECKING:
    from evals.auc import Auc
    from evals.labelled_texts import LabelledTexts
    from evals.truth_judge import Aspect


def train_toxicity(data: Sequence[str], test: Sequence[str], out: Path, name: str, version: str) -> Result:
    """Read, train, measure, write OUT. Raises UsageError for data that cannot be read or stand in both lists."""
    from evals.toxicity_scorer import train

    training, unseen = _sets(data, test, name, version)
    scorer = train(name, version, training, unseen)
    scorer.write(out)
    card = scorer.card
    rows = [
        [one.name, one.protocol, str(one.auc.n), _figure(one.auc), _figure(one.profanity), _figure(one.difference)]
        for one in card.calibration
    ]
    head = ["labelled set", "how", "texts", "AUC", "alt-profanity-check", "difference"]
    summary = [scorer.scorer, "", *table(head, rows), "", card.note, f"written: {out}"]
    return {"summary": "\n".join(summary), "scorer": scorer.scorer, **card.model_dump(mode="json")}


def train_hate(data: Sequence[str], test: Sequence[str], out: Path, name: str, version: str, encoder: str) -> Result:
    """Read, embed, train, measure, write OUT. Raises UsageError as `train_toxicity` does, HubError for an encoder out of reach."""
    from evals.embedding_scorer import train_embedding

    training, unseen = _sets(data, test, name, version)
    scorer = train_embedding(name, version, encoder, training, unseen)
    scorer.write(out)
    rows = [[one.name, one.protocol, str(one.auc.n), _figure(one.auc)] for one in scorer.card.calibration]
    summary = [scorer.scorer, "", *table(["labelled set", "how", "texts", "AUC"], rows), "", f"written: {out}"]
    return {"summary": "\n".join(summary), "scorer": scorer.scorer, **scorer.card.model_dump(mode="json")}


def _sets(
    data: Sequence[str], test: Sequence[str], name: str, version: str
) -> tuple[list[LabelledTexts], list[LabelledTexts]]:
    """What to train on, and what to measure on alone."""
    for part in (name, version):
        if not part or not all(sign.isalnum() or sign in ".-_" for sign in part):
            raise UsageError(
                "a scorer's name and version stand in metrics", expected="letters, digits, . - _", found=part
            )
    training, unseen = [labelled(word) for word in data], [labelled(word) for word in test]
    for twice in {one.sha256 for one in training} & {one.sha256 for one in unseen}:
        raise UsageError(
            "a file stands both in --data and in --test",
            found=next(one.name for one in training if one.sha256 == twice),
            next_step="leave it out of --data: what is tested must not be trained on",
        )
    for one in [*training, *unseen]:
        log(f"{one.name}: {len(one.texts):,} texts, {sum(one.labels):,} toxic")
    return training, unseen


def train_judge(aspect: Aspect, data: Sequence[str], test: Sequence[str], out: Path) -> Result:
    """A judge of generated answers, from one file of labelled ones; its folds are by question, so it takes no --test."""
    from evals.truth_judge import train_judge as train

    if len(data) != 1 or test:
        raise UsageError(
            f"a judge of {aspect} answers is trained on one file, and measured on the questions that are left out of it",
            expected="--data FILE, and no --test",
            found=" ".join([*data, *test]),
        )
    judge = train(Path(data[0]), aspect)
    judge.write(out)
    card = judge.card
    counted = f"{card.answers:,} answers to {card.questions:,} questions, {card.split}"
    return {
        "summary": f"{judge.scorer}\n{counted}\nwritten: {out}",
        "scorer": judge.scorer,
        **card.model_dump(mode="json"),
    }


def labelled(word: str) -> LabelledTexts:
    """FILE, or FILE@THRESHOLD."""
    from evals.labelled_texts import read

    name, at, threshold = word.rpartition("@")
    if not at or Path(word).is_file():
        return read(Path(word))
    try:
        return read(Path(name), float(threshold))
    except ValueError as error:
        raise UsageError("a threshold is a number between 0 and 1", expected="FILE or FILE@0.9", found=word) from error


def _figure(area: Auc) -> str:
    return f"{area.value:.3f} [{area.low:.3f}, {area.high:.3f}]"
