"""What training and scoring took: hardware, time, energy, emissions and cost, as a table of run.json and scorecard.json.

Made here when a card is written, and again when it is checked. What is not known is said, and never zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evals.presentation import markdown_text
from evals.scorecard import Scorecard
from model_cards.facts import Facts
from training.energy_record import Energy, Price
from training.run_record import RunRecord

BEGIN, END = "<!-- expenses:begin -->", "<!-- expenses:end -->"


@dataclass(frozen=True)
class Expense:
    """One command's: `what` is the column's head."""

    what: str
    hardware: str
    seconds: float
    energy: Energy | None
    price: Price | None


def expense_lines(facts: Facts, *, copying: bool = False) -> list[str]:
    """The table, and a line below it for each way in which an energy was found. Empty where there is no record.

    What it took to copy a checkpoint says nothing of the model; cards from before 2026-11-28 (`copying`) tell it.
    """
    columns = [
        *([_of_training(facts.run)] if facts.run and (copying or not facts.copied) else []),
        *([_of_scoring(facts.card)] if facts.card else []),
    ]
    if not columns:
        return []
    rows: list[tuple[str, Callable[[Expense], str], bool]] = [
        ("Hardware", lambda one: markdown_text(one.hardware), True),
        ("Time", lambda one: duration(one.seconds), True),
        ("Energy", _energy, True),
        ("Emissions", _emissions, any(one.energy and one.energy.grams_co2e is not None for one in columns)),
        ("Cost", _cost, any(one.price for one in columns)),
    ]
    table = [_line("", [one.what for one in columns]), "|---" * (len(columns) + 1) + "|"]
    table += [_line(name, [tell(one) for one in columns]) for name, tell, wanted in rows if wanted]
    return table + _methods(columns)


def emissions_metadata(facts: Facts) -> dict[str, str | float] | None:
    """`co2_eq_emissions` in the Hub's metadata, in grams: of the training, where they are known."""
    energy = facts.run.energy if facts.run else None
    if facts.run is None or facts.copied or energy is None or energy.grams_co2e is None:
        return None
    return {
        "emissions": float(f"{energy.grams_co2e:.4g}"),
        "source": f"{energy.method}; {energy.grams_per_kwh:g} g/kWh ({energy.grid})",
        "training_type": "fine-tuning",
        "hardware_used": _hardware(facts.run),
    }


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _of_training(run: RunRecord) -> Expense:
    what = "Copying it" if run.method == "base" else "Training"
    return Expense(what, _hardware(run), run.seconds, run.energy, run.price)


def _of_scoring(card: Scorecard) -> Expense:
    settings = card.settings
    return Expense("Scoring", f"{settings.device}, {settings.dtype}", card.seconds, card.energy, card.price)


def _hardware(run: RunRecord) -> str:
    machine = run.hardware
    return f"{machine.processor}, {machine.cores} cores, {machine.memory_gib} GiB; trained on {machine.device}"


def _energy(one: Expense) -> str:
    if one.energy is None:
        return "not measured"
    if one.energy.kwh is None:
        return "not known"
    figure = f"{one.energy.kwh:.3g} kWh" if one.energy.kwh >= 0.01 else f"{1000 * one.energy.kwh:.3g} Wh"
    return f"about {figure}, estimated" if one.energy.estimate else figure


def _emissions(one: Expense) -> str:
    grams = one.energy.grams_co2e if one.energy else None
    return "not known" if grams is None else f"{grams:.3g} g CO2 equivalent"


def _cost(one: Expense) -> str:
    if one.price is None:
        return "not stated"
    return f"{one.price.cost(one.seconds):.4f} {one.price.currency} at {one.price.per_hour:g} an hour"


def _methods(columns: Sequence[Expense]) -> list[str]:
    """How each figure was found, once where they were found alike."""
    told: dict[str, list[str]] = {}
    for one in columns:
        if one.energy is not None:
            told.setdefault(_method(one.energy), []).append(one.what)
    lines = [f"- {' and '.join(what)}: {markdown_text(how)}." for how, what in told.items()]
    return ["", "Of the energy:", "", *lines] if lines else []


def _method(energy: Energy) -> str:
    if energy.kwh is None:
        return f"not known, for {energy.method}"
    counted = f"{' and '.join(energy.parts)} only; memory, disks, power supply and cooling are not in it"
    grid = f"; {energy.grams_per_kwh:g} g of CO2 equivalent a kWh ({energy.grid})" if energy.grams_per_kwh else ""
    return f"{energy.method}; {counted}{grid}"


def _line(name: str, cells: Sequence[str]) -> str:
    return "| " + " | ".join([name, *cells]) + " |"
