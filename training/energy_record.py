"""What a command took of electricity and money, as a record: run.json and scorecard.json hold it, the card tells it."""

from __future__ import annotations

from collections.abc import Sequence

from training.records import Record


class Energy(Record):
    """Electricity in kWh, where it can be known. Only what `parts` names is in it: no memory, disks, power supply or cooling."""

    kwh: float | None  # None: not known, and `method` says why
    parts: list[str]  # of "processor", "GPU"
    estimate: bool  # some of it was computed from a stated power, not read from a counter
    method: str  # how it was read or estimated, from what, and by what version
    grid: str | None = None  # where `grams_per_kwh` comes from
    grams_per_kwh: float | None = None  # CO2 equivalent; None where nobody said where the machine stands

    @property
    def grams_co2e(self) -> float | None:
        """Emissions of generating it; None where the energy or the grid is not known."""
        return None if self.kwh is None or self.grams_per_kwh is None else self.kwh * self.grams_per_kwh


class Price(Record):
    """What the user pays for the machine."""

    per_hour: float
    currency: str

    def cost(self, seconds: float) -> float:
        return self.per_hour * seconds / 3600


def total(attempts: Sequence[Energy]) -> Energy | None:
    """The energy of a run's attempts together. Not known where one of them is not; None where nothing was measured at all."""
    if not attempts:
        return None
    unknown = next((one for one in attempts if one.kwh is None), None)
    if unknown is not None:
        return unknown
    methods, last = sorted({one.method for one in attempts}), attempts[-1]
    grids = {(one.grid, one.grams_per_kwh) for one in attempts}
    return Energy(
        kwh=sum(one.kwh or 0.0 for one in attempts),
        parts=sorted(set.intersection(*(set(one.parts) for one in attempts)), reverse=True),
        estimate=any(one.estimate for one in attempts),
        method="; then ".join(methods),
        grid=last.grid if len(grids) == 1 else None,
        grams_per_kwh=last.grams_per_kwh if len(grids) == 1 else None,
    )
