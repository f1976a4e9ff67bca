"""What a Hub says of the licences of the models that a release was made from, and of those that these were made from.

    look(hub, Path("runs/a"))      # runs/a/base_licences.json; whether anything new was found
    read(Path("runs/a"))           # Lineage({"org/base": "mit", "org/gone": None}, {"org/base": ["org/gone"]})

`publish` looks before it plans, for a plan makes no connection. The gate `license_compatible` compares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from model_cards.author import read_author_card
from model_cards.facts import hub_id
from release.gates.licences import MADE_FROM, bases_named, licence_of_family
from release.hub_reader import HubReader
from training.command import log
from training.errors import UsageError
from training.records import Record
from training.run_record import RunRecord

FILE = "base_licences.json"
GENERATIONS = 8  # from a release to its furthest base; what lies behind stays unknown, and the gate says so
MODELS = 40  # that are asked about, where cards name many


@dataclass(frozen=True)
class Lineage:
    """By a model's id: the licence that its card names, None where it is on no card that the Hub has; and its bases."""

    licences: dict[str, str | None] = field(default_factory=dict)
    bases: dict[str, list[str]] = field(default_factory=dict)


class BaseLicences(Record):
    """A Lineage as it was found. Until 2026-11-29 without bases."""

    schema_version: int = 1
    endpoint: str
    licences: dict[str, str | None]
    bases: dict[str, list[str]] = {}


def look(hub: HubReader, run: Path) -> bool:
    """Ask the Hub about what the run was made from; whether that is other than what was known. Raises HubError.

    Of a run that was trained here the record has the parents' licences, so what counts is what lies behind them.
    """
    record = RunRecord.read(run / "run.json") if (run / "run.json").is_file() else None
    if record is None or record.method == "base":
        now = ask(hub, run / "checkpoint" / "README.md")
        nothing = not now.licences
    else:
        parents = [parent for parent in record.parents if parent.role in MADE_FROM]
        parents += [data.sampled.policy for data in record.data if data.sampled]
        now = trace(hub, [parent.hub_id for parent in parents if parent.hub_id])
        nothing = not now.bases
    if nothing or now == read(run):
        return False
    BaseLicences(endpoint=hub.endpoint, licences=now.licences, bases=now.bases).write(run / FILE)
    return True


def ask(hub: HubReader, card: Path) -> Lineage:
    """What lies behind a checkpoint, by the bases that its card names. Raises HubError."""
    try:
        author = read_author_card(card)
    except UsageError:
        return Lineage()  # card_complete says what is wrong with it
    return trace(hub, bases_named(author.metadata) if author else [])


def trace(hub: HubReader, named: Sequence[str]) -> Lineage:
    """The models of these names and those that their cards name as bases, and so on, each asked about once. Raises HubError."""
    found = Lineage()
    generation = list(named)
    for _ in range(GENERATIONS):
        names = [name for name in dict.fromkeys(generation) if hub_id(name) == name and name not in found.licences]
        for name in names[: MODELS - len(found.licences)]:
            licence, bases = hub.origin(name) or (None, [])
            found.licences[name] = licence_of_family(name) or licence
            if bases:
                found.bases[name] = bases
            _tell(hub, name, found)
        generation = [base for name in names for base in found.bases.get(name, [])]
    return found


def _tell(hub: HubReader, name: str, found: Lineage) -> None:
    licence, bases = found.licences[name], found.bases.get(name)
    made = f", and was made from {', '.join(bases)}" if bases else ""
    log(
        f"its base {name} is under {licence}{made}"
        if licence
        else f"the licence of its base {name} is not on {hub.endpoint}{made}"
    )


def read(run: Path) -> Lineage:
    """What was found; empty where nobody has looked."""
    if not (run / FILE).is_file():
        return Lineage()
    record = BaseLicences.read(run / FILE)
    return Lineage(record.licences, record.bases)
