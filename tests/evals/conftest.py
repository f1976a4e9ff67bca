"""A tiny model, its child and a judge, and what `evals run` makes of them: run once, read by many tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tiny_model import save_model, save_reward_model

from evals.run import Request, evaluate

CONTEXT = 2048  # every byte is a token
LIMIT = 6


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """parent/, child/ and judge/: checkpoints of other seeds. Tests that change one copy it first."""
    folder = tmp_path_factory.mktemp("models")
    save_model(folder / "parent", seed=0, context=CONTEXT)
    save_model(folder / "child", seed=1, context=CONTEXT)
    save_reward_model(folder / "judge", seed=2, context=CONTEXT)
    return folder


@pytest.fixture(scope="session")
def asked(models: Path) -> Request:
    """The starter suite on a sample of the parent; `replace` what a test varies."""
    return Request(
        source=str(models / "parent"),
        suite="starter",
        out=Path("unset"),
        judge=models / "judge",
        limit=LIMIT,
        dtype="float32",
        device="cpu",
    )


@pytest.fixture(scope="session")
def parent(asked: Request, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The parent's run. Not to be changed."""
    out = tmp_path_factory.mktemp("runs") / "parent"
    evaluate(replace(asked, out=out))
    return out


@pytest.fixture(scope="session")
def child(asked: Request, models: Path, parent: Path) -> Path:
    """The child's run beside its parent's. Not to be changed."""
    out = parent.parent / "child"
    evaluate(replace(asked, source=str(models / "child"), out=out, baseline=parent))
    return out
