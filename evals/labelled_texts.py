"""Texts that people or Perspective have judged toxic or not, read from the files that their publishers give out.

    read(Path("labeled_data.csv"))                     # Davidson et al. 2017
    read(Path("samples-1680.jsonl.gz"))                # OpenAI's moderation evaluation set
    read(Path("perspective.jsonl"), threshold=0.9)     # {"text": ..., "toxicity": 0.93}

The format is told by a file's columns (FORMATS). A text's target is the share of those who found it toxic, or the score
that it was given; its label is what an area under the ROC curve is measured on.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.data_checks import normalised
from training.errors import UsageError

MODERATION = ("S", "H", "V", "HR", "SH", "S3", "H2", "V2")
FORMATS = (
    "text and toxicity (a score between 0 and 1); text and label (0 or 1); text and is_toxic (Surge AI); "
    "test_case and label_gold (HateCheck); text or tweet, class and votes (Davidson et al.); "
    "prompt and S, H, V, HR, SH, S3, H2, V2 (OpenAI moderation); "
    "comment and isHate (ETHOS); file_id and label beside all_files/ (de Gibert et al.); "
    "prompt and continuation, each with text and toxicity (RealToxicityPrompts)"
)


@dataclass(frozen=True)
class LabelledTexts:
    """One data set: equally many texts, targets between 0 and 1, and labels of 0 and 1."""

    name: str
    sha256: str
    texts: list[str]
    targets: list[float]
    labels: list[int]


def read(path: Path, threshold: float = 0.5) -> LabelledTexts:
    """Read a .jsonl, .jsonl.gz or .csv file. A text is labelled toxic where its target is at least `threshold`.

    Raises UsageError for a missing file, an unknown format, a broken line, or texts that are all of one label.
    """
    if not path.is_file():
        raise UsageError("there is no file of labelled texts here", where=str(path))
    rows = _rows(path)
    if not rows:
        raise UsageError("the file of labelled texts is empty", where=str(path))
    reader = _reader(rows[0], path.parent)
    if reader is None:
        raise UsageError(
            "the labelled texts have a format that is not known",
            where=str(path),
            expected=FORMATS,
            found=", ".join(sorted(rows[0])),
        )
    pairs: list[tuple[str, float]] = []
    for number, row in enumerate(rows, 1):
        try:
            pairs += [(text, target) for text, target in reader(row) if text.strip()]
        except (KeyError, ValueError, TypeError, ZeroDivisionError, OSError) as error:
            raise UsageError(
                "a labelled text cannot be read",
                where=f"{path}, row {number}",
                expected="the columns of the first row, with targets between 0 and 1",
                found=f"{type(error).__name__}: {error}",
            ) from error
    labels = [int(target >= threshold) for _, target in pairs]
    if len(set(labels)) < 2:
        raise UsageError(
            "the labelled texts are all of one label",
            where=str(path),
            expected=f"targets on both sides of {threshold:g}",
            found=f"{min(target for _, target in pairs):g} to {max(target for _, target in pairs):g}",
            next_step=f"name another threshold: {path.name}@0.9",
        )
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return LabelledTexts(
        path.name.partition(".")[0], sha256, [text for text, _ in pairs], [target for _, target in pairs], labels
    )


def without(one: LabelledTexts, others: Sequence[LabelledTexts]) -> LabelledTexts:
    """The set without the texts that another of these holds too, as `normalised` compares them."""
    held_out = {normalised(text) for other in others for text in other.texts}
    keep = [place for place, text in enumerate(one.texts) if normalised(text) not in held_out]
    return LabelledTexts(
        one.name,
        one.sha256,
        [one.texts[place] for place in keep],
        [one.targets[place] for place in keep],
        [one.labels[place] for place in keep],
    )


def _rows(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            first = file.readline()
            file.seek(0)
            mark = ";" if ";" in first and "," not in first else ","  # ETHOS has semicolons
            return [dict(row) for row in csv.DictReader(file, delimiter=mark)]
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(content.decode("utf-8").split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UsageError("a line is no JSON", where=f"{path}, line {number}", found=line[:80]) from error
        if not isinstance(row, dict):
            raise UsageError("a line is no JSON object", where=f"{path}, line {number}", found=line[:80])
        rows.append(row)
    return rows


def _reader(row: dict[str, Any], folder: Path) -> Callable[[dict[str, Any]], list[tuple[str, float]]] | None:
    if isinstance(row.get("prompt"), dict) and isinstance(row.get("continuation"), dict):
        return lambda row: [
            (str(row[part]["text"]), _share(row[part]["toxicity"]))
            for part in ("prompt", "continuation")
            if row[part]["toxicity"] is not None
        ]
    if "prompt" in row and any(kind in row for kind in MODERATION):
        # A kind that nobody was asked about is null. Suicide is no toxicity, but these labels are of undesired content.
        return lambda row: [(str(row["prompt"]), float(any(row.get(kind) == 1 for kind in MODERATION)))]
    if "class" in row and "neither_votes" in row:
        return lambda row: [(row["text"], _votes(row["hate_votes"], row["offensive_votes"], row["neither_votes"]))]
    if "tweet" in row and "neither" in row:
        return lambda row: [(row["tweet"], _votes(row["hate_speech"], row["offensive_language"], row["neither"]))]
    if "test_case" in row and "label_gold" in row:
        return lambda row: [(row["test_case"], {"hateful": 1.0, "non-hateful": 0.0}[row["label_gold"]])]
    if "comment" in row and "isHate" in row:
        return lambda row: [(row["comment"], _share(row["isHate"]))]
    if "file_id" in row and "label" in row:
        return lambda row: _sentence(row, folder)
    if "text" in row and "is_toxic" in row:
        return lambda row: [(row["text"], {"toxic": 1.0, "not toxic": 0.0}[row["is_toxic"].strip().lower()])]
    if "text" in row and ("toxicity" in row or "label" in row):
        key = "toxicity" if "toxicity" in row else "label"
        return lambda row: [(row["text"], _share(row[key]))]
    return None


def _sentence(row: dict[str, Any], folder: Path) -> list[tuple[str, float]]:
    """A sentence of de Gibert et al. (2018), kept in a file of its own; those marked as understood only in context are left out."""
    if row["label"] not in ("hate", "noHate"):
        return []
    text = (folder / "all_files" / f"{row['file_id']}.txt").read_text(encoding="utf-8")
    return [(text, float(row["label"] == "hate"))]


def _share(value: Any) -> float:
    number = float(value)
    if not 0 <= number <= 1:
        raise ValueError(f"{number:g} is not between 0 and 1")
    return number


def _votes(hate: Any, offensive: Any, neither: Any) -> float:
    toxic = int(hate) + int(offensive)
    return toxic / (toxic + int(neither))
