"""What sampling computed anyway, kept for PPO: log-probabilities and values of the responses, and the frozen layers' states.

    kept = KeptFromSampling(actor, rows=16, prompt_width=48, longest=32, temperature=1.0)
    with kept.watching():
        decode(model, prompts, ..., observe=kept.observe)
    kept.logprobs, kept.values          # (B, longest), and kept.trunk (B, P+longest, D)

It saves PPO the policy's whole pass over each rollout. Sums run in another order than in a whole pass, so the last bits differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from training.chosen_tokens import chosen_logprobs
from training.policy import ActorCritic


class KeptFromSampling:
    """Filled by `observe`, a pass at a time. Off the responses' mask its numbers say nothing; nor do values beside a critic."""

    def __init__(self, actor: ActorCritic, rows: int, prompt_width: int, longest: int, temperature: float) -> None:
        model = actor.language_model
        device, width = model.device, prompt_width + longest
        self.actor, self.temperature, self.prompt_width = actor, temperature, prompt_width
        # Made here and not in the passes: what is made in inference mode may not take part in training.
        self.logprobs = torch.zeros(rows, longest, device=device)
        self.values = torch.zeros(rows, longest, device=device)
        self.trunk: Tensor | None = None
        if actor.frozen_layers:
            size = model.config.get_text_config().hidden_size
            self.trunk = torch.zeros(rows, width, size, device=device, dtype=model.dtype)
        self._passes = 0
        self._states: Tensor | None = None  # of the pass in hand: (rows, tokens, D)
        self._hidden: Tensor | None = None  # what enters the projection: (rows, 1, D)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """While open, the model's passes leave their states here."""
        model = self.actor.language_model
        hooks = [model.get_output_embeddings().register_forward_pre_hook(self._take_hidden)]
        if self.trunk is not None:
            layer = model.base_model.layers[self.actor.frozen_layers - 1]
            hooks.append(layer.register_forward_hook(self._take_states))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def observe(self, rows: list[int], logits: Tensor, chosen: Tensor | None) -> None:
        """See `decode`: one pass, of these rows, with the tokens chosen after it."""
        step, self._passes = self._passes, self._passes + 1
        if self.trunk is not None:
            assert self._states is not None
            if step == 0:
                self.trunk[:, : self.prompt_width] = self._states
            else:
                self.trunk[rows, self.prompt_width + step - 1] = self._states[:, 0]
        if chosen is not None:
            assert self._hidden is not None
            likely, _ = chosen_logprobs(logits[:, None], chosen[:, None], False, self.temperature)
            self.logprobs[rows, step] = likely[:, 0]
            if self.actor.critic is None:
                self.values[rows, step] = self.actor.values(self._hidden)[:, -1]

    def _take_hidden(self, _module: Any, inputs: Any) -> None:
        self._hidden = inputs[0]

    def _take_states(self, _module: Any, _inputs: Any, output: Any) -> None:
        self._states = output[0] if isinstance(output, tuple) else output
