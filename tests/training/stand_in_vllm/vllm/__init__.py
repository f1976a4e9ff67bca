"""A stand-in for vLLM 0.32: the part of its API that training/vllm_rollouts.py calls, over a transformers model.

It takes no argument that is not written here, and is as strict as an engine that sleeps: at level 2 its weights are gone until they
are loaded again, and asking it anything while a part of it sleeps is an error. `LLM.device = "cpu"` makes it the CPU build, which
does not sleep, computes with packed copies, and does not pack a head anew that is the embedding (as vLLM itself was seen to do).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch

from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead


@dataclass(kw_only=True)
class SamplingParams:
    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    max_tokens: int | None = 16
    detokenize: bool = True


class _Model(torch.nn.Module):
    """What `apply_model` hands out."""

    def __init__(self, head: ParallelLMHead) -> None:
        super().__init__()
        self.lm_head = head


class LLM:
    made: list[LLM] = []
    device = "cuda"

    def __init__(
        self,
        model: str,
        *,
        dtype: str = "auto",
        seed: int | None = None,
        max_model_len: int | None = None,
        gpu_memory_utilization: float = 0.9,
        enable_sleep_mode: bool = False,
        enforce_eager: bool = False,
    ) -> None:
        from transformers import AutoModelForCausalLM

        if self.device == "cpu" and enable_sleep_mode:
            raise ValueError("Sleep mode is not supported on current platform.")
        assert enforce_eager == (self.device == "cpu"), "a compiled model keeps the packed weights that it saw"

        assert os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0", "the model could not be reached"
        assert 0 < gpu_memory_utilization <= 1
        self._seed = seed
        self._model = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)).eval()
        self._head = ParallelLMHead(self._model.lm_head, packs=self.device == "cpu")
        self._longest, self._may_sleep = max_model_len, enable_sleep_mode
        self._asleep: set[str] = set()
        self._cached = False  # keys and values of prompts, by weights that may since have changed
        self.loads: list[torch.Tensor] = []  # all weights as they were after each time that they were loaded
        LLM.made.append(self)

    def sleep(self, level: int = 1) -> None:
        assert self._may_sleep, "enable_sleep_mode"
        self._asleep, self._cached = {"weights", "kv_cache"}, False
        if level == 2:
            with torch.no_grad():
                for weight in self._model.parameters():
                    weight.fill_(float("nan"))

    def wake_up(self, tags: list[str] | None = None) -> None:
        for tag in tags or list(self._asleep):
            assert tag in ("weights", "kv_cache"), tag
            self._asleep.discard(tag)

    @torch.no_grad()
    def collective_rpc(self, method: str, *, kwargs: dict[str, Any]) -> list[None]:
        """`reload_weights`: names are those of the checkpoint; one that it does not have, or that does not come, is an error."""
        assert (method, set(kwargs)) == ("reload_weights", {"weights_iterator"})
        assert "weights" not in self._asleep
        held = dict(self._model.named_parameters())
        for name, weight in kwargs["weights_iterator"]:
            assert held[name].shape == weight.shape, name
            held.pop(name).copy_(weight)
        assert not held, f"not loaded: {sorted(held)}"
        if not self._model.config.tie_word_embeddings:
            self._head.pack()
        self.loads.append(torch.cat([weight.detach().flatten().clone() for weight in self._model.parameters()]))
        return [None]

    def apply_model(self, func: Callable[[Any], Any]) -> list[Any]:
        assert "weights" not in self._asleep
        return [func(_Model(self._head))]

    def reset_prefix_cache(self) -> bool:
        self._cached = False
        return True

    @torch.no_grad()
    def generate(
        self, prompts: list[dict[str, list[int]]], sampling_params: list[SamplingParams], *, use_tqdm: bool = True
    ) -> list[Any]:
        assert not self._asleep, self._asleep
        assert not use_tqdm, "bars are the run's own"
        assert not self._cached, "keys and values of older weights"
        self._cached = True
        answers = []
        for prompt, settings in zip(prompts, sampling_params, strict=True):
            assert set(prompt) == {"prompt_token_ids"}
            tokens = self._answer(prompt["prompt_token_ids"], settings)
            answers.append(SimpleNamespace(outputs=[SimpleNamespace(token_ids=tokens)]))
        return answers

    def _answer(self, prompt: list[int], settings: SamplingParams) -> list[int]:
        """One token after the other, without a cache. The token that ends an answer is among its tokens."""
        assert (settings.n, settings.top_p) == (1, 1.0)
        assert settings.max_tokens is not None
        assert len(prompt) + settings.max_tokens <= (self._longest or 0)
        draws = torch.Generator().manual_seed(settings.seed or 0)
        ends = set(settings.stop_token_ids or ())
        if not settings.ignore_eos:
            ends.add(self._model.config.eos_token_id)
        tokens: list[int] = []
        while len(tokens) < settings.max_tokens and not ends & set(tokens):
            states = self._model.model(torch.tensor([prompt + tokens])).last_hidden_state
            logits = self._head.logits(states)[0, -1].float()
            if settings.temperature == 0:
                tokens.append(int(logits.argmax()))
            else:
                chances = torch.softmax(logits / settings.temperature, dim=-1)
                tokens.append(int(torch.multinomial(chances, 1, generator=draws)))
        return tokens
