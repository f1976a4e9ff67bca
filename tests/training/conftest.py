"""A tiny Llama with its tokenizer, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_model import make_tokenizer, save_model


@pytest.fixture(scope="session")
def tokenizer():
    return make_tokenizer()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint directory; tests that change it copy it first."""
    return save_model(tmp_path_factory.mktemp("tiny") / "checkpoint")
