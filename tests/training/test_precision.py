"""The precision of a run: by the hardware where it is left open, and the same when the run continues elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from training import precision
from training.precision import chosen_dtype
from training.recipe import SFTRecipe
from training.run_directory import RunDirectory, with_chosen_dtype


def processor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: str) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(f"processor\t: 0\nflags\t\t: fpu sse2 {flags}\nbugs\t: none\n")
    monkeypatch.setattr(precision, "CPUINFO", file)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("avx2 fma", "float32"), ("avx512f avx512_bf16", "bfloat16"), ("amx_tile amx_bf16", "bfloat16")],
)
def test_auto_is_bfloat16_only_where_the_processor_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: str, expected: str
) -> None:
    processor(monkeypatch, tmp_path, flags)
    assert chosen_dtype("auto", "cpu") == expected


def test_what_is_asked_for_is_taken_and_emulation_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    processor(monkeypatch, tmp_path, "avx2")
    assert chosen_dtype("bfloat16", "cpu") == "bfloat16"
    assert "emulates it" in capsys.readouterr().err
    assert chosen_dtype("float32", "cpu") == "float32"
    assert capsys.readouterr().err == ""


def test_a_run_continues_in_the_precision_that_it_began_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    recipe = SFTRecipe.model_validate({"method": "sft", "base": "b", "data": {"source": "starter"}})
    processor(monkeypatch, tmp_path, "avx512_bf16")
    begun = with_chosen_dtype(recipe, tmp_path / "run")
    assert begun.dtype == "bfloat16"
    RunDirectory.open(tmp_path / "run", begun)
    processor(monkeypatch, tmp_path, "avx2")
    assert with_chosen_dtype(recipe, tmp_path / "run").dtype == "bfloat16"
    assert with_chosen_dtype(recipe, tmp_path / "another").dtype == "float32"
