"""The layers below the lowest adapter: they never change, so what they make of a rollout is computed once.

    count = frozen_layers(model)                                    # 20 of 30
    states = trunk_states(model, count, input_ids, mask, positions) # (B, L, D), without gradients
    with layers_from(model, count):
        model(inputs_embeds=states, ...)                            # the same logits as model(input_ids=...)

Policy, reference and every epoch of PPO read the same states and go through the upper layers only. So does a reward
model of the same base whose adapters began no lower.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

CHECKED_TOKENS = 8
WINDOWS = ("sliding_window", "attention_chunk_size")  # in a config: how many tokens back some layers see


def frozen_layers(model: Any) -> int:
    """How many of the lowest layers learn nothing, where the model can be cut there; else 0.

    It can be cut where its base model keeps its decoder layers in `layers`, and what the cut model computes of a few
    tokens is what the whole one does, also beyond the window of layers that see only the last tokens. A model that scales its
    embeddings, or passes more between layers, is not cut.
    """
    layers = getattr(model.base_model, "layers", None)
    if not isinstance(layers, nn.ModuleList):
        return 0
    inside = {id(parameter) for parameter in layers.parameters()}
    if any(parameter.requires_grad and id(parameter) not in inside for parameter in model.parameters()):
        return 0
    learning = [place for place, layer in enumerate(layers) if any(p.requires_grad for p in layer.parameters())]
    count = min(learning, default=0)
    return count if count and _can_be_cut(model, count) else 0


def same_layers(model: Any, other: Any, count: int) -> bool:
    """Whether the embeddings and the `count` lowest layers of `other` are those of `model`, to the bit.

    Then `other` may be given what `trunk_states` made of the tokens with `model`.
    """
    ours, theirs = model.base_model, other.base_model
    if not count or type(ours) is not type(theirs) or len(theirs.layers) <= count:
        return False
    if _windows(ours.config, count) != _windows(theirs.config, count):
        return False
    for mine, its in zip(_trunk(ours, count), _trunk(theirs, count), strict=True):
        tensors, others = mine.state_dict(), its.state_dict()
        if tensors.keys() != others.keys() or not all(torch.equal(tensors[name], others[name]) for name in tensors):
            return False
    ids, mask, positions = _few_tokens(model)  # equal weights may still be used differently, by another config
    return torch.equal(
        trunk_states(model, count, ids, mask, positions), trunk_states(other, count, ids, mask, positions)
    )


def trunk_states(model: Any, count: int, input_ids: Tensor, attention_mask: Tensor, positions: Tensor) -> Tensor:
    """What the first `count` layers make of the tokens, `(B, L, D)`, without gradients."""
    found: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
        found.append(output[0] if isinstance(output, tuple) else output)

    hook = model.base_model.layers[count - 1].register_forward_hook(keep)
    try:
        with torch.no_grad(), _layers(model, slice(0, count)):
            model.base_model(
                input_ids=input_ids, attention_mask=attention_mask, position_ids=positions, use_cache=False
            )
    finally:
        hook.remove()
    return found[0]


@contextmanager
def layers_from(model: Any, count: int) -> Iterator[None]:
    """While open, the model has only its layers from `count` on, and takes `trunk_states` as `inputs_embeds`."""
    with _layers(model, slice(count, None)):
        yield


@contextmanager
def _layers(model: Any, part: slice) -> Iterator[None]:
    base = model.base_model
    whole, kinds = base.layers, _kinds(base.config)
    base.layers = nn.ModuleList(list(whole)[part])
    if kinds is not None:  # transformers takes a layer's mask by its place among those that are there
        base.config.layer_types = kinds[part]
    try:
        yield
    finally:
        base.layers = whole
        if kinds is not None:
            base.config.layer_types = kinds


def _kinds(config: Any) -> list[str] | None:
    """What each layer sees (all tokens, the last ones, ...), where the config says it."""
    kinds = getattr(config, "layer_types", None)
    return None if kinds is None else list(kinds)


def _windows(config: Any, count: int) -> tuple[Any, ...]:
    """How far the lowest layers see."""
    return (_kinds(config) or [])[:count], *(getattr(config, name, None) for name in WINDOWS)


@contextmanager
def _narrow(config: Any) -> Iterator[None]:
    """While open, windows are narrower than the few tokens of a check, so that what they hide is checked too."""
    found = {name: value for name in WINDOWS if isinstance(value := getattr(config, name, None), int)}
    try:
        for name in found:
            setattr(config, name, CHECKED_TOKENS // 2)
        yield
    finally:
        for name, value in found.items():
            setattr(config, name, value)


def _trunk(base: Any, count: int) -> list[nn.Module]:
    return [base.get_input_embeddings(), *list(base.layers)[:count]]


def _few_tokens(model: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, attention mask and positions of two short sequences, for checks. Each `(2, CHECKED_TOKENS)`"""
    device = next(model.parameters()).device
    ids = torch.arange(2 * CHECKED_TOKENS, device=device).view(2, -1) % model.config.get_text_config().vocab_size
    mask = torch.ones_like(ids)
    return ids, mask, mask.cumsum(dim=1) - 1


@torch.no_grad()
def _can_be_cut(model: Any, count: int) -> bool:
    ids, mask, positions = _few_tokens(model)
    training = model.training
    model.eval()
    try:
        with _narrow(model.base_model.config):
            whole = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits
            states = trunk_states(model, count, ids, mask, positions)
            with layers_from(model, count):
                cut = model(inputs_embeds=states, attention_mask=mask, position_ids=positions, use_cache=False).logits
    finally:
        model.train(training)
    return bool(torch.allclose(whole, cut, rtol=1e-3, atol=1e-3))
