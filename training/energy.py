"""Energy of a command, by codecarbon and without a network: what counters say, else an estimate that says so, else nothing.

    with measuring(Circumstances(cpu_watts=65.0)):
        ...
        spent()                     # Energy, of this process so far

A figure is read from RAPL counters (processor) and NVML or AMD SMI (GPU). Where a processor has no counter, its energy is
estimated from a power: the one that the user states, or that which codecarbon's list has for this model. A virtual machine has an
unknown share of its processor, so that no list can help there: without a stated power the figure is missing, never zero.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.energy_record import Energy, Price
from training.errors import UsageError

if TYPE_CHECKING:
    from codecarbon import OfflineEmissionsTracker

PRICE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Z]{3})")


@dataclass(frozen=True)
class Circumstances:
    """What the user knows and the machine does not tell."""

    cpu_watts: float | None = None  # of the processor, or of this machine's share of it, at full load
    grid: str | None = None  # a country's ISO 3166 alpha-3 code, or grams of CO2 equivalent a kWh
    price: str | None = None  # an hour of the machine, "1.20 EUR"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options by which a user says what the machine does not."""
    group = parser.add_argument_group("energy and cost, which the record and the card tell")
    group.add_argument(
        "--cpu-watts", type=float, metavar="W", help="the processor's power at full load, to estimate from"
    )
    group.add_argument("--grid", metavar="ISO|G", help="country (FRA) or grams of CO2 a kWh, for emissions")
    group.add_argument("--price", metavar="'N CUR'", help="what an hour of this machine costs, e.g. '1.20 EUR'")


def circumstances(args: argparse.Namespace) -> Circumstances:
    """Those of a command line. Raises UsageError where one cannot be."""
    given = Circumstances(args.cpu_watts, args.grid, args.price)
    if given.cpu_watts is not None and not 0 < given.cpu_watts < 100_000:
        raise UsageError(
            "--cpu-watts is no power of a processor", expected="watts, e.g. 65", found=str(given.cpu_watts)
        )
    grid_of(given.grid)
    price_of(given.price)
    return given


def as_options(given: Circumstances) -> list[str]:
    """The same on a command line, for a process that trains."""
    told = {"--cpu-watts": given.cpu_watts, "--grid": given.grid, "--price": given.price}
    return [f"{option}={value}" for option, value in told.items() if value is not None]


def price_of(text: str | None) -> Price | None:
    """Raises UsageError for what is no price."""
    if text is None:
        return None
    found = PRICE.fullmatch(text.strip())
    if found is None:
        raise UsageError("--price is no price of an hour", expected="a number and a currency, '1.20 EUR'", found=text)
    return Price(per_hour=float(found[1]), currency=found[2])


def grid_of(text: str | None) -> tuple[str, float] | tuple[None, None]:
    """Where the figure comes from, and grams of CO2 equivalent a kWh. Raises UsageError for an unknown country."""
    if text is None:
        return None, None
    try:
        return "as stated with --grid", float(text)
    except ValueError:
        pass
    from codecarbon.input import DataSource

    countries = DataSource().get_global_energy_mix_data()  # type: ignore[no-untyped-call]
    found = countries.get(text.upper())
    if found is None:
        raise UsageError(
            "codecarbon knows no such country", expected="an ISO 3166 alpha-3 code (FRA), or grams a kWh", found=text
        )
    return f"{found['country_name']}, {found['year']}, codecarbon {version('codecarbon')}", found["carbon_intensity"]


@dataclass
class Meter:
    """A tracker of codecarbon's that runs, or the reason why there is none."""

    given: Circumstances
    tracker: OfflineEmissionsTracker | None
    method: str
    estimate: bool
    parts: list[str]
    last: dict[str, float] = field(default_factory=dict)  # kWh by part
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def read(self) -> Energy:
        """The energy since the meter was started."""
        grid, grams = grid_of(self.given.grid)
        if self.tracker is not None:
            self.tracker.flush()
        kwh = sum(self.last.get(part, 0.0) for part in self.parts) if self.tracker is not None else None
        if kwh == 0.0:  # counters that never moved: it did take some
            return Energy(kwh=None, parts=[], estimate=False, method=f"no reading ({self.method})")
        return Energy(
            kwh=kwh, parts=self.parts, estimate=self.estimate, method=self.method, grid=grid, grams_per_kwh=grams
        )


_current: ContextVar[Meter | None] = ContextVar("energy meter", default=None)


@contextmanager
def measuring(given: Circumstances) -> Iterator[Meter | None]:
    """Measure what happens inside. Only the first process of a machine does, and reads the whole machine."""
    if os.environ.get("LOCAL_RANK", "0") != "0":
        yield None
        return
    meter = _start(given)
    token = _current.set(meter)
    try:
        yield meter
    finally:
        _current.reset(token)
        if meter.tracker is not None:
            meter.tracker.stop()


def meter() -> Meter | None:
    """The meter that measures here, if one does."""
    return _current.get()


def spent() -> Energy | None:
    """The energy since the measuring began; None where nothing is measured."""
    found = _current.get()
    return found.read() if found else None


def price() -> Price | None:
    """What an hour costs, if the user said so."""
    found = _current.get()
    return price_of(found.given.price) if found else None


def _start(given: Circumstances) -> Meter:
    """Begin to measure, if there is anything to read or to estimate from."""
    from codecarbon.core import cpu, gpu

    logging.getLogger("codecarbon").setLevel(logging.CRITICAL)  # it warns of guesses, which are not taken here

    by = f"codecarbon {version('codecarbon')}"
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8") if info.is_file() else ""
    how, watts, why = processor_source(given, cpu.is_rapl_available(), text)
    known = [how] if how else []
    parts = ["processor"] if how else []
    if gpu.is_nvidia_system() or gpu.is_rocm_system():
        parts.append("GPU")
        known.append(f"the GPUs' counters, by {'NVML' if gpu.is_nvidia_system() else 'AMD SMI'}")
    method = f"{by}, the whole machine: {'; '.join(known)}" + (f"; {why}" if why and known else "")
    meter = Meter(given, None, method if known else why, watts is not None, parts)
    if known:
        meter.tracker = _tracker(meter.last, watts)
        meter.tracker.start()
    return meter


def processor_source(given: Circumstances, counters: bool, cpuinfo: str) -> tuple[str | None, float | None, str]:
    """How the processor's energy can be known, the watts that it is estimated from, and else why it cannot be known.

    `counters` is whether RAPL can be read, `cpuinfo` the text of /proc/cpuinfo.
    """
    if counters:
        return "the processor's RAPL counters", None, ""
    if given.cpu_watts is not None:
        return f"the processor estimated from its load and the {given.cpu_watts:g} W stated", given.cpu_watts, ""
    if re.search(r"^flags\s*:.*\bhypervisor\b", cpuinfo, re.MULTILINE):
        return None, None, "a virtual machine shows no counter of its processor, and no power was stated (--cpu-watts)"
    model = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    each = listed_watts(model[1].strip()) if model else None
    watts = each * _sockets(cpuinfo) if each is not None else None
    if watts is None:
        return None, None, "the processor shows no counter, its power is in no list, and none was stated (--cpu-watts)"
    return f"the processor estimated from its load and the {watts:g} W of codecarbon's list", watts, ""


def _sockets(cpuinfo: str) -> int:
    """How many processors it speaks of."""
    return max(1, len(set(re.findall(r"^physical id\s*:\s*(\d+)$", cpuinfo, re.MULTILINE))))


def listed_watts(model: str) -> float | None:
    """The thermal design power that codecarbon lists for a processor; None where it lists none (it then guesses by cores)."""
    from codecarbon.core.cpu import TDP

    unasked = TDP.__new__(TDP)  # its constructor asks this machine, and guesses
    found: float | None = unasked._get_cpu_power_from_registry(model)
    return found


def _tracker(last: dict[str, float], watts: float | None) -> OfflineEmissionsTracker:
    """A tracker that writes and sends nothing: its readings go to `last`."""
    from codecarbon import OfflineEmissionsTracker
    from codecarbon.output_methods.base_output import BaseOutput

    class Readings(BaseOutput):
        def out(self, total: Any, delta: Any) -> None:  # noqa: ARG002
            last.update({"processor": total.cpu_energy, "GPU": total.gpu_energy})

    return OfflineEmissionsTracker(
        country_iso_code="USA",  # it insists on one; its emissions are not read
        force_carbon_intensity_g_co2e_kwh=1.0,
        tracking_mode="machine",
        force_cpu_power=watts,
        output_methods=[],
        output_handlers=[Readings()],
        api_call_interval=-1,
        allow_multiple_runs=True,
        log_level="critical",
    )
