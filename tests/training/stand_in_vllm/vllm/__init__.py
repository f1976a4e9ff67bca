"""A stand-in for vLLM, which needs a GPU: the part of its API that training/vllm_rollouts.py calls, over a transformers model.

It takes no argument that is not written here, and is as strict as an engine that sleeps: at level 2 its weights are gone until they
are loaded again, and asking it anything while a part of it sleeps is an error.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch


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


class _Model:
    """What `apply_model` hands out: names are those of the checkpoint, and a name that it does not have is an error."""

    def __init__(self, model: Any) -> None:
        self.model = model

    @torch.no_grad()
    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        held = dict(self.model.named_parameters())
        loaded = set()
        for name, weight in weights:
            assert held[name].shape == weight.shape, name
            held[name].copy_(weight)
            loaded.add(name)
        return loaded


class LLM:
    made: list[LLM] = []

    def __init__(
        self,
        model: str,
        *,
        dtype: str = "auto",
        seed: int | None = None,
        max_model_len: int | None = None,
        gpu_memory_utilization: float = 0.9,
        enable_sleep_mode: bool = False,
    ) -> None:
        from transformers import AutoModelForCausalLM

        assert os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0", "the model could not be reached"
        assert 0 < gpu_memory_utilization <= 1
        self._seed = seed
        self._model = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)).eval()
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

    def apply_model(self, func: Callable[[Any], Any]) -> list[Any]:
        assert "weights" not in self._asleep
        found = func(_Model(self._model))
        self.loads.append(torch.cat([weight.detach().flatten().clone() for weight in self._model.parameters()]))
        return [found]

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
            logits = self._model(torch.tensor([prompt + tokens])).logits[0, -1].float()
            if settings.temperature == 0:
                tokens.append(int(logits.argmax()))
            else:
                chances = torch.softmax(logits / settings.temperature, dim=-1)
                tokens.append(int(torch.multinomial(chances, 1, generator=draws)))
        return tokens
