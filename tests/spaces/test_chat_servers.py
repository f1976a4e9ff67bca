"""Servers behind the page that refuse, hang, break off or speak otherwise: what a visitor is told, and what the log is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from asked_backend import read, settings_of
from talking_model import save_talking_model, tokenizer_hashes
from tgi_stub import tgi_stub


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_talking_model(tmp_path_factory.mktemp("servers") / "checkpoint")


@pytest.fixture(scope="module")
def hashes(checkpoint: Path) -> dict[str, str]:
    return tokenizer_hashes(checkpoint)


def test_a_server_that_refuses_or_is_gone_is_told_in_words_and_never_gets_the_hubs_token(
    chat: Any, checkpoint: Path, hashes: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_for_the_hub_alone")
    monkeypatch.delenv("ENDPOINT_TOKEN", raising=False)
    refused = chat("limits").Refused
    with tgi_stub([], status=503) as stub:
        model = chat("chat_model").load(settings_of(chat, checkpoint, "endpoint", {"url": stub.url, "files": hashes}))
        with pytest.raises(refused, match="asleep or busy"):
            read(chat, model)
        assert "hf_for_the_hub_alone" not in json.dumps(stub.requests)
    with pytest.raises(refused, match="cannot be reached"):
        read(chat, model)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "ENDPOINT_TOKEN"),
        (402, "quota at the server is used up"),
        (422, "does not take this conversation"),
        (429, "busy"),
        (500, "status 500"),
    ],
)
def test_what_a_server_refuses_with_is_said_in_words(
    chat: Any, checkpoint: Path, hashes: dict[str, str], status: int, said: str
) -> None:
    with tgi_stub([], status=status) as stub:
        model = chat("chat_model").load(settings_of(chat, checkpoint, "endpoint", {"url": stub.url, "files": hashes}))
        with pytest.raises(chat("limits").Refused, match=said):
            read(chat, model)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html>asleep</html>", "does not speak OpenAI's protocol"),
        (b"data: <html>\n\n", "does not speak OpenAI's protocol"),
        (b'data: {"error": {"message": "CUDA out of memory"}}\n\n', "not enough memory"),
        (b'data: {"error": "model is overloaded"}\n\n', "busy"),
        (b'data: {"error": "secret detail"}\n\n', "failed in the middle of its answer. Try again.$"),
    ],
)
def test_what_a_server_says_beside_the_protocol_is_told_in_words(
    chat: Any, checkpoint: Path, hashes: dict[str, str], body: bytes, said: str
) -> None:
    with tgi_stub([], body=body) as stub:
        model = chat("chat_model").load(settings_of(chat, checkpoint, "endpoint", {"url": stub.url, "files": hashes}))
        with pytest.raises(chat("limits").Refused, match=said):
            read(chat, model)


def test_an_answer_of_a_server_that_hangs_is_stopped_and_its_place_is_free_at_once(
    chat: Any, checkpoint: Path, hashes: dict[str, str]
) -> None:
    event = {
        "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Once"}}],
        "created": 0,
        "id": "",
        "model": "",
    }
    body = f"data: {json.dumps(event)}\n\n".encode()
    with tgi_stub([], body=body, pause=300) as stub:
        model = chat("chat_model").load(settings_of(chat, checkpoint, "endpoint", {"url": stub.url, "files": hashes}))
        assert [progress.text for progress in read(chat, model, stop_after=1)] == ["Once"]
        assert model._answering(), "the server says no more, and the thread that reads it waits"


def _event(choice: dict[str, Any]) -> bytes:
    whole = {"id": "", "created": 0, "model": "", "choices": [{"index": 0, **choice}]}
    return b"data: " + json.dumps(whole).encode() + b"\n\n"


ONCE = _event({"delta": {"role": "assistant", "content": "Once"}, "finish_reason": None})
END = _event({"delta": {}, "finish_reason": "stop"})


@pytest.mark.parametrize("end", [b"", b"data: [DONE]\n\n"])
def test_an_answer_that_its_server_does_not_end_is_not_shown_as_whole(
    chat: Any, checkpoint: Path, hashes: dict[str, str], end: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    with tgi_stub([], body=ONCE + end) as stub:
        model = chat("chat_model").load(settings_of(chat, checkpoint, "endpoint", {"url": stub.url, "files": hashes}))
        with pytest.raises(chat("limits").Refused, match="broke off in the middle of its answer"):
            read(chat, model)
    assert "no end of the answer" in capsys.readouterr().err


@pytest.mark.parametrize(
    "odd",
    [b"event: ping\ndata: {}\n\n", b'data: {"choices": null}\n\n', b": alive\n\n", _event({"finish_reason": None})],
)
def test_an_event_that_says_nothing_is_passed_over(
    chat: Any, checkpoint: Path, hashes: dict[str, str], odd: bytes
) -> None:
    with tgi_stub([], body=ONCE + odd + ONCE + END) as stub:
        model = chat("chat_model").load(settings_of(chat, checkpoint, "endpoint", {"url": stub.url, "files": hashes}))
        assert read(chat, model)[-1].text == "OnceOnce"


@pytest.mark.parametrize("odd", [b"data: []\n\n", b"data: 5\n\n", b"data: \xff\n\n"])
def test_what_is_no_event_is_told_in_words(chat: Any, checkpoint: Path, hashes: dict[str, str], odd: bytes) -> None:
    with tgi_stub([], body=ONCE + odd + END) as stub:
        model = chat("chat_model").load(settings_of(chat, checkpoint, "endpoint", {"url": stub.url, "files": hashes}))
        with pytest.raises(chat("limits").Refused, match="does not speak OpenAI's protocol"):
            read(chat, model)


@pytest.mark.parametrize("piece", ["Once", "x" * 5_000])
def test_a_server_that_does_not_keep_to_the_longest_answer_is_read_no_longer(
    chat: Any, checkpoint: Path, hashes: dict[str, str], piece: str
) -> None:
    with tgi_stub([piece] * 400, pause=0.01) as stub:
        model = chat("chat_model").load(settings_of(chat, checkpoint, "endpoint", {"url": stub.url, "files": hashes}))
        last = read(chat, model)[-1]
        assert last.ended == "length"
        assert last.tokens <= 16
        assert len(last.text) <= 16 * 64
        assert stub.written < 200


@pytest.mark.slow
@pytest.mark.timeout(1200)  # pip, on a busy machine
def test_tgis_every_failure_is_told_in_words_and_its_own_words_are_not_in_the_log(
    checkpoint: Path, hashes: dict[str, str], tmp_path: Path
) -> None:
    from gradio_client.exceptions import AppError
    from running_bundle import ask, running_bundle, write_bundle

    token = {"id": 1, "text": "Once", "logprob": -1.0, "special": False}
    once = b"data:" + json.dumps({"index": 1, "token": token}).encode() + b"\n\n"
    with tgi_stub(["Once "] * 400, status=503, pause=0.02) as stub:
        folder = write_bundle(tmp_path / "tgi", checkpoint, hashes, "tgi", {"url": stub.url})
        with running_bundle(folder, isolated=True) as space:

            def failure() -> str:
                with pytest.raises(AppError) as error:
                    ask(space.url, "Hi")
                return str(error.value)

            for status, said in {
                401: "TGI_TOKEN",
                402: "quota at the server is used up",
                404: "is not Text Generation Inference",
                422: "does not take this conversation",
                424: "not enough memory",
                429: "busy",
                500: "not enough memory",
                503: "asleep or busy",
                504: "status 504",
            }.items():
                stub.status, stub.refusal = status, b'{"error": "SECRET: out of memory"}'
                assert said in failure()
            stub.refusal = b"<html>SECRET, asleep</html>"
            assert "status 504" in failure()
            stub.status = 200
            for body, said in {
                b"<html>SECRET</html>": "is not Text Generation Inference",
                b'data:{"error": "SECRET: CUDA out of memory", "error_type": "generation"}\n\n': "not enough memory",
                b'data:{"error": "SECRET", "error_type": "overloaded"}\n\n': "busy",
                b'data:{"error": "SECRET"}\n\n': "failed in the middle",
                b'data:{"SECRET": 1}\n\n': "is not Text Generation Inference",
                b"data:{SECRET\n\n": "is not Text Generation Inference",
                b"data:[]\n\n": "is not Text Generation Inference",
                once: "broke off in the middle of its answer",
            }.items():
                stub.body = body
                assert said in failure()
            stub.body, before = None, stub.written
            assert ask(space.url, "Hi").count("Once") == 16  # and no more is read
            assert stub.written - before < 200
    log = (tmp_path / "space.log").read_text()
    assert "the server behind the page: status 401" in log
    assert "SECRET" not in log
    assert "Traceback" not in log
