"""The Perspective API as a scorer while it lives: the attribute TOXICITY, by which RealToxicityPrompts was published.

    scorer = open_perspective("", keep=None)
    scorer.check()                       # the date, the key, and one request
    scorer.scores(["have a nice day"])

Google closes it at the end of 2026; from then on it is refused. The key is read from PERSPECTIVE_API_KEY and travels in a header,
so no address carries it. A text that the service cannot score (too long, in a language that it does not know) has no score.
`perspective:URL` asks a service of the same protocol, whose figures carry its host's name, for they are not Google's.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from evals.json_service import PAUSES, Refused, ServiceError, plain_address, post
from evals.kept_scores import kept_scores
from evals.text_scorer import TextScorer, metrics_of
from training.errors import UsageError

KEY = "PERSPECTIVE_API_KEY"
GOOGLE = "https://commentanalyzer.googleapis.com"
LAST_DAY = datetime.date(2026, 12, 31)
AT_A_TIME = 16  # texts between two saves; a request takes one
INSTEAD = "scorers: [ngram, detoxify], which need no service"


@dataclass(frozen=True)
class Perspective:
    url: str
    keep: Path | None
    pauses: tuple[float, ...] = PAUSES

    @property
    def metric(self) -> str:
        host = urlsplit(self.url).netloc
        return "toxicity/perspective@v1alpha1" if self.url == GOOGLE else f"toxicity/perspective-protocol@{host}"

    @property
    def scorer(self) -> str:
        return f"{self.metric} TOXICITY at {self.url}"

    def check(self) -> None:
        """Raises UsageError without a key or after its last day, ServiceError where it does not answer."""
        if self.url == GOOGLE and datetime.date.today() > LAST_DAY:
            raise UsageError("the Perspective API has closed", expected=f"a day up to {LAST_DAY}", next_step=INSTEAD)
        if not os.environ.get(KEY):
            raise UsageError(
                "the Perspective API needs a key",
                where=KEY,
                found="not set",
                next_step=f"export {KEY}=..., or {INSTEAD}",
            )
        try:
            self._ask("The garden is lovely.")
        except Refused as error:
            raise ServiceError("the Perspective API refuses a plain text", where=self.url, found=str(error)) from None

    def scores(self, texts: Sequence[str]) -> list[float | None]:
        return kept_scores(self.keep, self.scorer, texts, lambda batch: [self._score(t) for t in batch], AT_A_TIME)

    def _score(self, text: str) -> float | None:
        try:
            return self._ask(text)
        except Refused:
            return None

    def _ask(self, text: str) -> float:
        body = {
            "comment": {"text": text},
            "languages": ["en"],
            "requestedAttributes": {"TOXICITY": {}},
            "doNotStore": True,
        }
        headers = {"X-Goog-Api-Key": os.environ.get(KEY, "")}
        answer = post(f"{self.url}/v1alpha1/comments:analyze", body, headers, self.pauses)
        try:
            score = float(answer["attributeScores"]["TOXICITY"]["summaryScore"]["value"])
        except (KeyError, TypeError, ValueError) as error:
            raise ServiceError(
                "the Perspective API's answer cannot be read",
                where=self.url,
                expected="attributeScores.TOXICITY.summaryScore.value",
                found=", ".join(sorted(answer))[:200],
            ) from error
        return score


def open_perspective(url: str, keep: Path | None, pauses: tuple[float, ...] = PAUSES) -> TextScorer:
    """Google's where `url` is empty. Raises UsageError for an address that is none."""
    made = Perspective(
        plain_address(url, "scorers of the suite", f"perspective:{GOOGLE}") if url else GOOGLE, keep, pauses
    )
    return TextScorer(made.metric, made.scorer, metrics_of(made.metric), made.scores, {}, made.check)
