"""transformers on ZeroGPU: a GPU is lent for the seconds of an answer, to the function that asks for it.

The platform wants the model on cuda when the module is loaded, no torch.compile, and one of the torch versions that it knows
(requirements-zerogpu.txt). What a lent function yields reaches the page piece by piece.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gradio as gr
import torch
from chat_model import ModelSettings, Prompt, Run
from limits import NEW_TOKENS_MOST, Refused, Sampling
from transformers import TextIteratorStreamer
from transformers_model import TransformersModel, arguments, choose_precision, enough_memory, load_checked

import spaces  # Hugging Face's own package; first, for it prepares torch

SECONDS_LEAST, TOKENS_A_SECOND = 15, 20  # how long a GPU is asked for: short lends come sooner

_LOADED: list[tuple[Any, Any]] = []  # the model and its tokenizer, where the lent function finds them


def load(settings: ModelSettings) -> ZeroGpuModel:
    """Download, check the digest, load, and place on cuda, as the platform wants it. Raises Unavailable."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, tokenizer = load_checked(settings, choose_precision(settings.precision, device), device)
    _LOADED[:] = [(model, tokenizer)]
    return ZeroGpuModel(model, tokenizer)


class ZeroGpuModel(TransformersModel):
    """The same checkpoint, answered for on a GPU that is lent for each answer."""

    def generate(self, prompt: Prompt, sampling: Sampling, run: Run) -> None:
        answer = answer_on_gpu(prompt.ids, arguments(sampling, self._tokenizer))
        try:
            for piece in answer:
                if run.stopped:
                    break
                run.count_token()
                run.put(piece)
        finally:
            answer.close()


def seconds_needed(ids: list[int], settings: dict[str, Any]) -> int:  # noqa: ARG001 - called with what the answer gets
    """How long a GPU is asked for."""
    return SECONDS_LEAST + min(settings["max_new_tokens"], NEW_TOKENS_MOST) // TOKENS_A_SECOND


@spaces.GPU(duration=seconds_needed)  # type: ignore[untyped-decorator]
def answer_on_gpu(ids: list[int], settings: dict[str, Any]) -> Iterator[str]:
    """The answer's text, piece by piece. Runs where the GPU is, which is another process on ZeroGPU."""
    model, tokenizer = _LOADED[0]
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
    inputs = torch.tensor([ids], device=model.device)
    stop = threading.Event()

    def stopped(input_ids: torch.Tensor, scores: object, **_: Any) -> torch.Tensor:  # noqa: ARG001
        return torch.full((input_ids.shape[0],), stop.is_set(), device=input_ids.device, dtype=torch.bool)

    def work() -> None:
        try:
            with torch.inference_mode(), enough_memory():
                model.generate(
                    inputs,
                    attention_mask=torch.ones_like(inputs),
                    streamer=streamer,
                    stopping_criteria=[stopped],
                    **settings,
                )
        finally:
            streamer.end()

    with ThreadPoolExecutor(1) as pool:  # waits for its thread
        answer = pool.submit(work)
        try:
            yield from (piece for piece in streamer if piece)
            answer.result()  # raises what generate raised
        except Refused as refusal:  # of another class the platform tells the page no more than its name
            raise gr.Error(str(refusal), title="Not answered", print_exception=False) from refusal
        finally:
            stop.set()
