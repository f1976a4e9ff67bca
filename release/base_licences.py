"""What a Hub says of the licences of the models that a card from elsewhere names as its base.

    look(hub, Path("runs/a"))      # runs/a/base_licences.json; whether anything new was found
    read(Path("runs/a"))           # {"org/base": "mit", "org/gone": None}

`publish` looks before it plans, for a plan makes no connection. The gate `license_compatible` compares.
"""

from __future__ import annotations

from pathlib import Path

from model_cards.author import read_author_card
from model_cards.facts import hub_id
from release.gates.licences import bases_named, licence_of_family
from release.hub_reader import HubReader
from training.command import log
from training.errors import UsageError
from training.records import Record
from training.run_record import RunRecord

FILE = "base_licences.json"


class BaseLicences(Record):
    """The licence that each base's card names; None where there is no such repository, or it names none."""

    schema_version: int = 1
    endpoint: str
    licences: dict[str, str | None]


def look(hub: HubReader, run: Path) -> bool:
    """Ask the Hub about the bases that the card in `run/checkpoint` names; whether that is other than what was known.

    Nothing is asked of a run that was trained here, whose record has its parents' licences. Raises HubError.
    """
    record = RunRecord.read(run / "run.json") if (run / "run.json").is_file() else None
    if record is not None and record.method != "base":
        return False
    now = ask(hub, run / "checkpoint" / "README.md")
    before = read(run)
    if not now or now == before:
        return False
    BaseLicences(endpoint=hub.endpoint, licences=now).write(run / FILE)
    return True


def ask(hub: HubReader, card: Path) -> dict[str, str | None]:
    """The licences of the bases that a card names and whose family tells none. Raises HubError."""
    try:
        author = read_author_card(card)
    except UsageError:
        return {}  # card_complete says what is wrong with it
    named = bases_named(author.metadata) if author else []
    asked = [name for name in named if hub_id(name) == name and licence_of_family(name) is None]
    found = {name: hub.licence(name) for name in asked}
    for name, licence in found.items():
        log(
            f"its base {name} is under {licence}"
            if licence
            else f"the licence of its base {name} is not on {hub.endpoint}"
        )
    return found


def read(run: Path) -> dict[str, str | None]:
    """What was found; empty where nobody has looked."""
    return BaseLicences.read(run / FILE).licences if (run / FILE).is_file() else {}
