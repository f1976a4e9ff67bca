"""Energy is read or estimated, the record says which and from what, and what cannot be known is missing."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
import yaml

from training.__main__ import main
from training.energy import Circumstances, listed_watts, measuring, processor_source, spent
from training.energy_record import Energy, Price, total
from training.recipe import SFTRecipe
from training.run_directory import RunDirectory
from training.run_record import RunRecord
from training.sft import train_sft
from training.yaml_file import Settings, load

ON_IRON = "processor\t: 0\nmodel name\t: AMD EPYC 9654 96-Core Processor\nphysical id\t: {}\nflags\t\t: fpu vme sse2\n"


class Recipe(Settings):
    dtype: str = "float32"


def busy(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def test_an_estimate_names_its_power_and_lies_between_nothing_and_that_power_all_along(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(socket.socket, "connect", lambda _socket, address: asked.append(address))
    monkeypatch.setattr("codecarbon.core.cpu.is_rapl_available", lambda *_: False)
    clock = time.monotonic()
    with measuring(Circumstances(cpu_watts=40.0, grid="56", price="2 EUR")):
        busy(1.2)
        found = spent()
    assert found is not None
    assert found.kwh is not None
    assert 0 < found.kwh <= 40 * (time.monotonic() - clock) / 3_600_000 * 1.01
    assert found.estimate
    assert "the 40 W stated" in found.method
    assert found.grams_co2e == pytest.approx(found.kwh * 56)
    assert asked == [], "nobody is asked over a network"
    assert spent() is None, "nothing is measured outside"


def test_a_counter_goes_before_a_stated_power_and_a_stated_power_before_a_list() -> None:
    stated = Circumstances(cpu_watts=40.0)
    assert processor_source(stated, True, "") == ("the processor's RAPL counters", None, "")
    assert processor_source(stated, False, ON_IRON.format(0))[1] == 40.0
    two_of_them = ON_IRON.format(0) + ON_IRON.format(1)
    assert processor_source(Circumstances(), False, two_of_them)[1] == 2 * 360.0


def test_a_power_that_nobody_knows_is_missing_with_the_reason() -> None:
    virtual = ON_IRON.format(0).replace("sse2", "sse2 hypervisor")
    for text, why in ((virtual, "a virtual machine"), (ON_IRON.format(0).replace("EPYC 9654", "X"), "in no list")):
        how, watts, said = processor_source(Circumstances(), False, text)
        assert (how, watts) == (None, None)
        assert why in said
        assert "--cpu-watts" in said
    assert listed_watts("Processor Of Nobody 1") is None


def test_the_attempts_of_a_run_are_added_and_one_that_was_not_measured_leaves_the_whole_unknown(tmp_path: Path) -> None:
    def attempt(kwh: float | None, method: str = "counter") -> Energy:
        return Energy(kwh=kwh, parts=["processor"] if kwh else [], estimate=False, method=method)

    both = total([attempt(0.25), attempt(0.5)])
    assert both == attempt(0.75)
    assert total([attempt(0.25), attempt(None, "nobody looked")]) == attempt(None, "nobody looked")
    assert total([]) is None
    run = RunDirectory.open(tmp_path / "run", Recipe())
    seen = []
    for _ in range(2):
        with measuring(Circumstances(cpu_watts=40.0)):
            busy(0.1)
            run.note_energy()
            seen.append(total(list(run._energy().values())))
    assert seen[0] is not None
    assert seen[1] is not None
    assert 0 < (seen[0].kwh or 0) < (seen[1].kwh or 0)
    run.note_energy()  # by a process that measures nothing
    last = total(list(run._energy().values()))
    assert last is not None
    assert last.kwh is None


def test_measuring_a_run_changes_no_byte_of_what_it_trains(
    tmp_path: Path, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "Colour?", "completion": "blue"}\n' * 2)
    recipe = {
        "method": "sft",
        "base": str(tiny),
        "dtype": "float32",
        "lora": None,
        "args": {"max_steps": 2, "save_steps": 1, "per_device_train_batch_size": 1},
        "data": {"source": str(tmp_path / "rows.jsonl")},
        "max_length": 60,
    }
    file = tmp_path / "sft.yaml"
    file.write_text(yaml.safe_dump(recipe))
    words = ["sft", "--recipe", str(file), "--out", str(tmp_path / "measured")]
    assert main([*words, "--cpu-watts", "40", "--price", "1.20 EUR", "--grid", "FRA"]) == 0
    record = RunRecord.read(tmp_path / "measured" / "run.json")
    assert record.energy is not None
    assert record.energy.kwh
    assert record.energy.grid is not None
    assert record.energy.grid.startswith("France")
    assert record.price == Price(per_hour=1.2, currency="EUR")
    unmeasured = train_sft(load(file, SFTRecipe), tmp_path / "unmeasured")
    assert unmeasured.energy is None
    assert unmeasured.checkpoint_digest == record.checkpoint_digest
    capsys.readouterr()


@pytest.mark.parametrize(
    ("option", "value", "why"),
    [("--price", "cheap", "1.20 EUR"), ("--grid", "XYZ", "alpha-3"), ("--cpu-watts", "-3", "watts, e.g. 65")],
)
def test_an_option_that_cannot_be_is_told(
    option: str, value: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["base", "nowhere", "--out", str(tmp_path / "out"), f"{option}={value}"]) == 2
    assert why in capsys.readouterr().err
