"""transformers behind the page: the checkpoint itself, its digest computed before it is loaded.

The digest is computed from the bytes on this machine before they are loaded: the page answers with exactly the checkpoint that
its scores were measured on, or says that it does not.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from chat_model import ChatModel, ModelSettings, Prompt, Run, Unavailable, cores
from digest import checkpoint_digest
from download import fetch
from limits import Message, Refused, Sampling
from transformers import AutoModelForCausalLM, AutoTokenizer, StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import TextStreamer

NO_MEMORY = "The machine that answers has not enough memory for this. Ask something shorter, or begin anew."


def load(settings: ModelSettings) -> TransformersModel:
    """Download (or find in the cache), check the digest, load. Raises Unavailable."""
    leave_a_core_for_the_page()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return TransformersModel(*load_checked(settings, choose_precision(settings.precision, device), device))


def load_checked(settings: ModelSettings, dtype: torch.dtype, device: str) -> tuple[Any, Any]:
    """The model, on the device, and its tokenizer, from files whose digest is the published one. Raises Unavailable."""
    folder = fetch(settings.model_id, settings.revision)
    found = checkpoint_digest(folder)
    if found != settings.checkpoint_digest:
        raise Unavailable(
            f"The files of {settings.model_id} are not the ones that this page was published for: expected "
            f"{settings.checkpoint_digest}, found {found}. Publish the Space again, or download the model again."
        )
    try:
        # From the folder whose files were hashed, not by name again: what was checked is what answers.
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True)
        model = model.to(device).eval()
    except (OSError, ValueError, RuntimeError, KeyError, MemoryError) as error:
        raise Unavailable(f"{settings.model_id} was downloaded but cannot be loaded: {error}") from error
    if tokenizer.chat_template is None:
        raise Unavailable(f"{settings.model_id} has no chat template, so it cannot hold a conversation.")
    return model, tokenizer


def leave_a_core_for_the_page() -> None:
    """One thread fewer than there are cores, unless OMP_NUM_THREADS says how many.

    A token is a row of small matrix products with a barrier after each: a thread that has to share its core with the
    server holds up all the others.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, cores() - 1))


def choose_precision(precision: str, device: str) -> torch.dtype:
    """The stated precision; "auto" is bfloat16 where the hardware multiplies it, else float32."""
    if precision == "auto":
        if device == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
        return torch.bfloat16 if cpu_multiplies_bfloat16() else torch.float32
    if precision not in ("bfloat16", "float32"):
        raise Unavailable(f"space.json asks for the precision {precision!r}; it must be auto, bfloat16 or float32.")
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def cpu_multiplies_bfloat16() -> bool:
    """Whether this processor has instructions for bfloat16 (AVX512_BF16 or AMX): without them it is emulated, slowly."""
    flags = Path("/proc/cpuinfo")
    words = flags.read_text(encoding="utf-8", errors="replace").split() if flags.is_file() else []
    return "amx_bf16" in words or "avx512_bf16" in words


class TransformersModel(ChatModel):
    """A loaded model and its tokenizer."""

    checked = "The files that answer were hashed when this page started: they have this digest."

    def __init__(self, model: Any, tokenizer: Any) -> None:
        own = getattr(model.config, "max_position_embeddings", None)
        super().__init__(own if isinstance(own, int) else None)
        self._model, self._tokenizer = model, tokenizer
        self.precision = str(model.dtype).removeprefix("torch.")
        self.device = model.device.type
        self.runtime = f"transformers {transformers.__version__}, torch {torch.__version__}, {self.device}"

    def token_ids(self, messages: list[Message]) -> list[int]:
        rendered = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
        return list(rendered["input_ids"])

    def special_tokens(self) -> list[str]:
        return [token.content for token in self._tokenizer.added_tokens_decoder.values() if token.special]

    def generate(self, prompt: Prompt, sampling: Sampling, run: Run) -> None:
        inputs = torch.tensor([prompt.ids], device=self._model.device)
        if sampling.seed is not None:
            torch.manual_seed(sampling.seed)  # one answer at a time is drawn here
        with torch.inference_mode(), enough_memory():
            self._model.generate(
                inputs,
                attention_mask=torch.ones_like(inputs),
                streamer=_Pieces(self._tokenizer, run.put),
                stopping_criteria=StoppingCriteriaList([_StopFlag(run)]),
                **arguments(sampling, self._tokenizer),
            )


@contextmanager
def enough_memory() -> Iterator[None]:
    """Where the memory does not suffice for what is within: Refused, in words. Every other error passes."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # torch has a class of its own for accelerators; its allocator for the processor raises the bare RuntimeError.
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "DefaultCPUAllocator" in str(error):
            raise Refused(NO_MEMORY) from error
        raise


def arguments(sampling: Sampling, tokenizer: Any) -> dict[str, Any]:
    """The sampling as arguments of `generate`."""
    made: dict[str, Any] = {"max_new_tokens": sampling.max_new_tokens, "do_sample": sampling.temperature > 0}
    if sampling.temperature > 0:
        made |= {"temperature": sampling.temperature, "top_p": sampling.top_p}
    if tokenizer.pad_token_id is not None:
        made["pad_token_id"] = tokenizer.pad_token_id
    return made


class _Pieces(TextStreamer):  # type: ignore[misc]
    """Text as it becomes printable, without the prompt and without special tokens."""

    def __init__(self, tokenizer: Any, put: Callable[[str], None]) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._put_piece = put

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:  # noqa: ARG002 - the thread's end marks it
        self._put_piece(text)


class _StopFlag(StoppingCriteria):  # type: ignore[misc]
    """Asked after every token: counts it, and ends the answer where nobody reads any more."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def __call__(self, input_ids: torch.Tensor, scores: object, **_: Any) -> torch.Tensor:  # noqa: ARG002
        self._run.count_token()
        return torch.full((input_ids.shape[0],), self._run.stopped, device=input_ids.device, dtype=torch.bool)
