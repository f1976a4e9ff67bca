"""What a gate looks at: the bundle, which is exactly what would be pushed, and the run that it was made from."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.scorecard import Scorecard
from model_cards.signer import Signer
from release.policy import Policy
from release.probe import Loaded, load, take_probe
from release.records import Probe, Verdict
from training.checkpoint import FileEntry, changes_behaviour, manifest_digest
from training.errors import SlipwayError
from training.run_record import RunRecord

if TYPE_CHECKING:
    from evals.regenerate import Regenerated

# Of the release itself, of its parent, and of models beside it.
SCORECARDS = r"(baseline/|beside/[^/]+/)?scorecard\.json"


@dataclass(frozen=True)
class Candidate:
    """A bundle on its way out. What is expensive (loading the model) is done once, for whoever asks first."""

    run: Path
    bundle: Path
    files: tuple[FileEntry, ...]
    policy: Policy
    repo_id: str
    card_error: SlipwayError | None = None  # why no card could be rendered
    waivers: Mapping[str, str] = field(default_factory=dict)  # gate -> why its refusal is accepted
    signer: Signer | None = None  # whose name is public by the signature
    space: str | None = None  # the chat Space that is asked for beside it
    # As a Hub gave them, of the bases that the card or the record names and of those behind them.
    base_licences: Mapping[str, str | None] = field(default_factory=dict)
    base_models: Mapping[str, Sequence[str]] = field(default_factory=dict)  # what their cards name as base

    @cached_property
    def digest(self) -> str:
        """The checkpoint's digest, from the bundle's own bytes."""
        return manifest_digest(tuple(entry for entry in self.files if changes_behaviour(Path(entry.path))))

    @cached_property
    def scorecard(self) -> Scorecard | None:
        return Scorecard.read(self.bundle / "scorecard.json") if self.has("scorecard.json") else None

    @cached_property
    def baseline(self) -> Scorecard | None:
        name = "baseline/scorecard.json"
        return Scorecard.read(self.bundle / name) if self.has(name) else None

    @cached_property
    def run_record(self) -> RunRecord | None:
        return RunRecord.read(self.bundle / "run.json") if self.has("run.json") else None

    @cached_property
    def loaded(self) -> Loaded:
        """The model as `from_pretrained` loads it. Raises UsageError where it does not."""
        return load(self.bundle)

    @cached_property
    def probe(self) -> Probe:
        """What the loaded model says to a fixed text. Raises UsageError where it does not load."""
        return take_probe(self.loaded)

    @cached_property
    def regenerated(self) -> dict[str, Regenerated]:
        """Every figure of the bundle's scorecards, by folder, task and metric, as its samples give it."""
        from evals.regenerate import regenerate
        from evals.saved import SavedRun

        scored = [entry.path for entry in self.files if re.fullmatch(SCORECARDS, entry.path)]
        folders = [
            path.removesuffix("scorecard.json") for path in sorted(scored, key=lambda path: (path.count("/"), path))
        ]
        return {
            f"{name}{one.score.task}/{one.score.metric}": one
            for name in folders
            for one in regenerate(SavedRun.open(self.bundle / name))
        }

    @property
    def parent_digest(self) -> str | None:
        """The digest of the checkpoint that training began from; None where unknown, or for the base itself."""
        record = self.run_record
        parent = record.parent("base") if record else None
        return parent.digest if parent and parent.digest != self.digest else None

    @property
    def only_looked_at(self) -> bool:
        """Whether this is somebody's directory as it lies, and no bundle that was made to be released."""
        return self.run == self.bundle

    def has(self, name: str) -> bool:
        return any(entry.path == name for entry in self.files)


Gate = Callable[[Candidate], Verdict]


def passed(gate: str, explanation: str, **evidence: Any) -> Verdict:
    return Verdict(gate=gate, outcome="passed", evidence=evidence, explanation=explanation)


def refused(gate: str, explanation: str, *, remedy: str, **evidence: Any) -> Verdict:
    return Verdict(gate=gate, outcome="refused", evidence=evidence, explanation=explanation, remedy=remedy)


def skipped(gate: str, explanation: str, **evidence: Any) -> Verdict:
    return Verdict(gate=gate, outcome="skipped", evidence=evidence, explanation=explanation)


def first_of(problems: Sequence[str], most: int = 5) -> str:
    """Problems as one explanation, which says how many it leaves out; the evidence has them all."""
    rest = f"; and {len(problems) - most} more" if len(problems) > most else ""
    return "; ".join(problems[:most]) + rest
