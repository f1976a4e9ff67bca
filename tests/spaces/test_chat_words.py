"""What the page says: while it waits, of an answer that broke off, of what was scored, and of a Hub that refuses."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest

DIGEST = "sha256:" + "0" * 64
SCORE = {
    "group": "truthfulness",
    "label": "MC2",
    "value": 0.5,
    "low": 0.4,
    "high": 0.6,
    "unit": "fraction",
    "n": 10,
    "unscored": 0,
    "higher_is_better": True,
    "task": "truthfulqa",
}


def _model(chat: Any, generate: Any, **facts: Any) -> Any:
    """A model that answers by this function and has these facts."""
    methods = {"token_ids": lambda *_: [1], "special_tokens": lambda _: [], "generate": generate}
    made = type("Model", (chat("chat_model").ChatModel,), methods)(None)
    vars(made).update({"runtime": "none", "precision": "float32", "checked": "yes", **facts})
    return made


def _notes(chat: Any, model: Any, thumbs: Any = None) -> list[tuple[str, str]]:
    """Every text and note of one answer through what all visitors share."""
    answers = chat("answers").Answers({"title": "x"}, thumbs)
    answers.model = model
    request = SimpleNamespace(session_hash="one", request=None)

    async def ask() -> list[tuple[str, str]]:
        given = answers.on_page("Hi", [], "", 0, 1, 16, request)
        return [said async for said in given]

    return asyncio.run(ask())


def _says(*pieces: str, before: float = 0.0, then: Exception | None = None) -> Any:
    def generate(_: Any, prompt: Any, sampling: Any, run: Any) -> None:
        time.sleep(before)
        for piece in pieces:
            run.count_token()
            run.put(piece)
        if then is not None:
            raise then

    return generate


def test_somebody_who_waits_for_the_first_token_is_told_so_unless_it_comes_at_once(chat: Any) -> None:
    slow = _notes(chat, _model(chat, _says("Hello.", before=1.5)))
    assert slow[0] == ("", "Waiting for the first word.")
    assert slow[-1][0] == "Hello."
    assert "Waiting" not in slow[-1][1]
    assert sum("Waiting" in note for _, note in slow) == 1


def test_an_answer_that_broke_off_is_not_kept_to_be_rated(
    chat: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("gradio.Warning", lambda *_, **__: None)
    remembered: list[str] = []
    thumbs = SimpleNamespace(remember=lambda *given, **_: remembered.append(given[2]))
    broken = chat("limits").Refused("The server broke off.")
    assert _notes(chat, _model(chat, _says("Hello", then=broken)), thumbs)[-1] == (
        "Hello",
        "Not answered: The server broke off.",
    )
    assert remembered == []
    _notes(chat, _model(chat, _says("Hello.")), thumbs)
    assert remembered == ["Hello."]
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("backend", "facts", "said"),
    [
        ("transformers", {}, "Measured on these bytes, float32 on cpu, suite starter."),
        ("zerogpu", {"precision": "bfloat16"}, "not in bfloat16, which answers here"),
        ("llama.cpp", {"precision": "Q8_0"}, "not in Q8_0, which answers here"),
        ("endpoint", {"checked": None, "precision": "the server's"}, "not on the server that answers here"),
    ],
)
def test_figures_are_said_to_be_of_these_bytes_only_where_these_answer_in_the_scored_precision(
    chat: Any, backend: str, facts: dict[str, Any], said: str
) -> None:
    space = {
        "model_id": "org/name",
        "tag": "v1.0",
        "revision": "0" * 40,
        "checkpoint_digest": DIGEST,
        "precision": "auto",
        "backend": backend,
        "scores": [SCORE],
        "scored_in": "float32 on cpu, suite starter",
        "verify_command": "python -m release verify org/name@v1.0",
    }
    shown = chat("about").details(space, _model(chat, _says(), **facts))
    assert said in shown
    assert ("these bytes" in shown) == (backend == "transformers")
    assert "Measured on the published checkpoint, float32 on cpu" in chat("about").details(space, None)


@pytest.mark.parametrize(
    ("token", "status", "said"),
    [
        ("hf_wrong", 401, "the HF_TOKEN that is set is not valid"),
        ("hf_without_rights", 403, "the HF_TOKEN that is set is not of an account that may read it"),
        (None, 401, "set HF_TOKEN as a secret of the Space"),
        (None, 500, "status 500"),
    ],
)
def test_a_hub_that_refuses_is_told_in_words_and_its_own_words_stand_in_the_log_alone(
    chat: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    token: str | None,
    status: int,
    said: str,
) -> None:
    from httpx2 import Request, Response
    from huggingface_hub.errors import HfHubHTTPError

    def refuse(*_: Any, **__: Any) -> None:
        response = Response(status, request=Request("GET", "http://hub.example/api"))
        raise HfHubHTTPError("Client error for url 'http://hub.example/api'", response=response)

    module = chat("download")
    monkeypatch.setattr(module, "snapshot_download", refuse)
    monkeypatch.setattr(module, "get_token", lambda: token)
    with pytest.raises(chat("limits").Unavailable, match=said) as refusal:
        module.fetch("org/name", "0" * 40)
    assert "hub.example" not in str(refusal.value)
    assert "http://hub.example/api" in capsys.readouterr().err


def test_a_repository_that_a_token_does_not_show_is_not_said_to_lack_a_token(
    chat: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from httpx2 import Request, Response
    from huggingface_hub.errors import RepositoryNotFoundError

    def refuse(*_: Any, **__: Any) -> None:
        response = Response(404, request=Request("GET", "http://hub.example/api"))
        raise RepositoryNotFoundError("404", response=response)

    module = chat("download")
    monkeypatch.setattr(module, "snapshot_download", refuse)
    for token, said in (
        ("hf_x", "that is set is not of an account that may read it"),
        (None, "set HF_TOKEN as a secret"),
    ):
        monkeypatch.setattr(module, "get_token", lambda token=token: token)
        with pytest.raises(chat("limits").Unavailable, match=said):
            module.fetch("org/name", "0" * 40)
