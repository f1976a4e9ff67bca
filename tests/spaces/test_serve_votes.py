"""Where `spaces/serve.py` keeps votes and salt of a Space from a Hub: in one folder, whichever revision runs."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

SERVE = Path(__file__).resolve().parents[2] / "spaces" / "serve.py"


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script as a module, which keeps what it keeps in the test's own folder."""
    monkeypatch.setattr("sys.path", ["", *__import__("sys").path])  # it puts the project's root at the first place
    spec = importlib.util.spec_from_file_location("serve_as_module", SERVE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "KEPT", tmp_path)
    return module


def test_the_salt_and_votes_of_the_newest_revision_of_before_are_carried_over_once(serve: Any, tmp_path: Path) -> None:
    import os

    for number, revision in enumerate(("b" * 40, "a" * 40)):
        votes = tmp_path / "spaces" / "org--fb" / revision / "votes"
        votes.mkdir(parents=True)
        (votes / "salt").write_text(revision)
        os.utime(votes / "salt", (1_000 + number, 1_000 + number))
    folder = serve._lasting_votes("org/fb")
    assert folder == tmp_path / "votes" / "org--fb"
    assert (folder / "salt").read_text() == "a" * 40
    (tmp_path / "spaces" / "org--fb" / ("b" * 40) / "votes" / "salt").write_text("later")
    assert serve._lasting_votes("org/fb") == folder
    assert (folder / "salt").read_text() == "a" * 40
    assert not serve._lasting_votes("org/new").exists(), "the page makes it"
