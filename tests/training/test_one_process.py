"""Commands that are work for one process refuse to be launched as several, before they write anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.__main__ import main


@pytest.mark.parametrize(
    "words",
    [
        "best-of-n --recipe best-of-n-starter --out {out}",
        "merge adapter --base base --out {out}",
        "sweep --method ppo --recipe ppo-starter --over sweep.yaml --out {out}",
        "base smollm2-135m-instruct --out {out}",
        "report {out}",
        "feedback votes --out {out}",
        "feedback-pairs base --out {out}",
    ],
)
def test_a_command_for_one_process_is_refused_by_each_of_several(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    out = tmp_path / "out"
    given = words.format(out=out).split()
    assert main(given) == 2
    assert f"{given[0]} is work for one process" in capsys.readouterr().err
    assert not out.exists()
