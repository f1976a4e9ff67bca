"""The model behind the chat page: the same digest as training's, checked before it is loaded; prompts that fit."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from training.checkpoint import Checkpoint


def _settings(chat: Any, folder: Path, digest: str | None = None, precision: str = "float32") -> Any:
    digest = Checkpoint.open(folder).digest if digest is None else digest
    return chat("chat_model").ModelSettings(str(folder), None, digest, precision)


@pytest.fixture(scope="module")
def model(chat: Any, scripted_checkpoint: Path) -> Any:
    return chat("chat_model").load(_settings(chat, scripted_checkpoint))


def test_the_page_computes_the_digest_by_the_same_rule_as_training(
    chat: Any, scripted_checkpoint: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(scripted_checkpoint, folder)
    for name in ("README.md", "run.json", "samples/a.jsonl", ".git/config.json", "sub/config.json", "modeling.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    for name in ("additional_chat_templates/tools.jinja", "chat_templates/a.jinja", "vocab.txt", "merges.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    assert chat("digest").checkpoint_digest(folder) == Checkpoint.open(folder).digest
    from training import checkpoint

    assert checkpoint.BEHAVIOUR_FILES | {checkpoint.WEIGHTS_INDEX} == chat("digest").BEHAVIOUR_FILES


def test_a_checkpoint_whose_bytes_changed_is_not_loaded(chat: Any, scripted_checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(scripted_checkpoint, folder)
    digest = Checkpoint.open(folder).digest
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(chat("chat_model").Unavailable, match="are not the ones that this page was published for"):
        chat("chat_model").load(_settings(chat, folder, digest))


def test_a_hub_that_cannot_be_reached_is_named_as_the_reason(chat: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    settings = chat("chat_model").ModelSettings("org/nowhere", "0" * 40, "sha256:" + "0" * 64, "auto")
    with pytest.raises(chat("chat_model").Unavailable, match="not in the cache, and the Hub cannot be reached"):
        chat("chat_model").load(settings)


def test_an_unknown_precision_is_refused(chat: Any) -> None:
    with pytest.raises(chat("chat_model").Unavailable, match="must be auto, bfloat16 or float32"):
        chat("transformers_model").choose_precision("int3", "cpu")


def test_the_oldest_turns_are_left_out_until_the_prompt_fits(chat: Any, model: Any) -> None:
    turn = [{"role": "user", "content": "word " * 600}, {"role": "assistant", "content": "fine"}]
    now = {"role": "user", "content": "now"}
    whole = model.prompt([*turn, now], 256)
    assert whole.left_out == 0
    cut = model.prompt([{"role": "system", "content": "Be brief."}, *turn, *turn, *turn, *turn, now], 256)
    assert cut.left_out == 4
    assert len(cut.ids) <= 2048 - 256
    with pytest.raises(chat("limits").Refused, match="Shorten it"):
        model.prompt([{"role": "user", "content": "word " * 2000}], 256)


def test_an_answer_streams_ends_and_frees_its_place(chat: Any, model: Any) -> None:
    sampling = chat("limits").Sampling(temperature=0, top_p=1, max_new_tokens=16)
    finished: list[bool] = []

    async def read() -> list[Any]:
        prompt = model.prompt([{"role": "user", "content": "Hi"}], 16)
        seen = [progress async for progress in model.answer(prompt, sampling, lambda: finished.append(True))]
        await asyncio.sleep(0.05)
        return seen

    last = asyncio.run(read())[-1]
    assert (last.text, last.ended, last.tokens) == ("Hello there.", "end", 3)
    assert finished == [True]


def test_a_failure_while_generating_reaches_the_reader_and_frees_the_place(chat: Any, model: Any) -> None:
    sampling = chat("limits").Sampling(temperature=0, top_p=1, max_new_tokens=-5)
    finished: list[bool] = []

    async def read() -> None:
        prompt = model.prompt([{"role": "user", "content": "Hi"}], 16)
        try:
            async for _ in model.answer(prompt, sampling, lambda: finished.append(True)):
                pass
        finally:
            await asyncio.sleep(0.05)

    with pytest.raises(ValueError, match="max_new_tokens"):
        asyncio.run(read())
    assert finished == [True]


def test_an_answer_for_which_the_memory_does_not_suffice_is_refused_in_words(
    chat: Any, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(model._model, "generate", lambda *_, **__: torch.empty(2**50))  # a petabyte
    with pytest.raises(chat("limits").Refused, match="not enough memory"):
        asyncio.run(_read_all(chat, model))
    with pytest.raises(RuntimeError, match="must match"), chat("transformers_model").enough_memory():
        torch.ones(2) + torch.ones(3)  # another error is no lack of memory


def test_an_answer_is_made_in_the_context_of_its_visitor(
    chat: Any, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ZeroGPU reads from it who asks, and whose quota the answer takes."""
    from gradio.context import LocalContext

    seen: list[object] = []
    monkeypatch.setattr(model._model, "generate", lambda *_, **__: seen.append(LocalContext.request.get(None)))

    async def visit(request: str) -> None:
        LocalContext.request.set(request)  # type: ignore[arg-type]
        await _read_all(chat, model)

    asyncio.run(visit("first"))
    asyncio.run(visit("second"))
    assert seen == ["first", "second"]


async def _read_all(chat: Any, model: Any) -> None:
    prompt = model.prompt([{"role": "user", "content": "Hi"}], 16)
    async for _ in model.answer(prompt, chat("limits").Sampling(0, 1, 16), lambda: None):
        pass


def test_a_page_without_its_model_says_why_and_reports_itself_unhealthy(chat: Any, bundle: Path) -> None:
    from starlette.applications import Starlette
    from starlette.testclient import TestClient

    space = chat("chat_model").read_space(bundle) | {"checkpoint_digest": "sha256:" + "0" * 64}
    answers = chat("answers").Answers(space)
    answers.load()
    client = TestClient(Starlette(routes=[chat("app").health_route(answers)]))
    assert client.get("/health").status_code == 503
    assert "expected sha256:000" in client.get("/health").json()["reason"]
    with pytest.raises(chat("limits").Refused, match="The model cannot answer"):
        asyncio.run(answers.loaded())
    assert "expected sha256:000" in chat("about").unavailable(answers.reason)
    assert "not loaded" in chat("about").header(space, answers.model)


def test_a_page_whose_model_could_not_be_had_tries_again_at_a_message(chat: Any, bundle: Path) -> None:
    module = chat("answers")
    space = chat("chat_model").read_space(bundle)
    answers = module.Answers(space | {"model_id": "/nowhere"})
    answers.load()
    assert answers.model is None
    answers.space = space
    with pytest.raises(chat("limits").Refused):  # it has just tried
        asyncio.run(answers.loaded())
    answers._tried_at -= module.SECONDS_BETWEEN_LOADS + 1
    assert asyncio.run(answers.loaded()) is answers.model
    assert answers.model is not None
    assert answers.reason == ""
