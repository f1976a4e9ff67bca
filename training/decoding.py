"""Batched decoding of many prompts, several samples each: what rollouts and every generation task run on.

    rows = decode(model, prompts, samples=8, settings, uniforms)     # token ids, without the stop token

Three things make it several times as fast on a CPU as `model.generate`, and none changes what is decoded:
the samples of one prompt share its prefill; keys and values are written into a buffer of the final length instead of
being copied at every step; and attention runs as grouped matrix products (training/grouped_attention.py). Rows that have
ended leave the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer, LinearAttentionCacheLayerMixin

from training.errors import UsageError
from training.grouped_attention import grouped_attention

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ATTENTION_CACHE = "past_key_values"
NUCLEUS_CANDIDATES = 1024  # enough for almost every nucleus; a row for which it is not gets its whole vocabulary sorted


@dataclass(frozen=True)
class Decoding:
    """How tokens are chosen. temperature 0 is greedy, whatever `top_p` says."""

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0


@torch.inference_mode()
def decode(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    samples: int,
    decoding: Decoding,
    uniforms: Tensor,
    stop_tokens: Sequence[int],
    ended: Callable[[int, list[int]], bool] | None = None,
    observe: Callable[[list[int], Tensor, Tensor | None], None] | None = None,
    keep_stop: bool = False,
) -> list[list[int]]:
    """Decode `samples` continuations of every prompt; row `p * samples + s` is sample s of prompt p.

    `uniforms` is (rows, max_new_tokens) in [0, 1): the only randomness, so that a row's tokens depend on its own
    numbers and not on the batch that it is in. `ended(row, tokens)` may end a row early, e.g. at a stop string.
    The stop token itself is returned with `keep_stop` only.

    `observe(rows, logits, chosen)` sees each pass: which rows it was of (the first pass reads all prompts), their logits
    `(rows, V)` and the tokens `(rows,)` chosen from them. Every row's last token is then read as well, by a last pass if need be,
    in which nothing is chosen (None). Rows that have ended may be among those observed; what is chosen for them says nothing.
    """
    cache = _cache(model, max(len(prompt) for prompt in prompts) + decoding.max_new_tokens)
    uniforms, stops = uniforms.to(model.device), set(stop_tokens)
    rows, name = _Rows(len(prompts) * samples, keep_stop), _cache_argument(model)
    with grouped_attention(model):
        logits, mask = _read_prompts(model, prompts, cache, samples)  # (B, V), (B, W)
        positions = mask.sum(1)  # (B,) of the next token
        for step in range(decoding.max_new_tokens):
            chosen = choose(logits, uniforms[rows.placed, step], decoding)  # (B,)
            if observe is not None:
                observe(rows.placed, logits, chosen)
            unread = list(rows.alive)  # a row that ends in this step has a last token that was not read
            rows.take(chosen.tolist(), stops, ended)
            done = not any(rows.alive) or step + 1 == decoding.max_new_tokens
            if done and observe is None:
                break
            keep = rows.worth_moving(rows.alive if observe is None else unread)
            if keep is not None:
                indices = torch.tensor(keep, device=model.device)
                _select(cache, indices)
                chosen, mask, positions = chosen[indices], mask[indices], positions[indices]
            mask = torch.cat([mask, mask.new_ones(len(chosen), 1)], dim=1)
            logits = model(
                input_ids=chosen[:, None],
                attention_mask=mask if name == ATTENTION_CACHE else mask[:, -1:],
                position_ids=positions[:, None],
                use_cache=True,
                **{name: cache},
            ).logits[:, -1]
            positions = positions + 1
            if done and observe is not None:
                observe(rows.placed, logits, None)
                break
    return rows.tokens


def _read_prompts(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], cache: Cache, samples: int
) -> tuple[Tensor, Tensor]:
    """One pass over the prompts, padded on the left to W: logits (B, V) and mask (B, W), a row for each sample of each."""
    device = model.device
    width = max(len(prompt) for prompt in prompts)
    ids = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)  # (P, W)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
    # As an index, not as the number 1: a slice of the hidden states is not contiguous, and for such an input the
    # projection becomes a batched product with one copy of the vocabulary's whole matrix for each prompt.
    last = torch.tensor([width - 1], device=device)
    output = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=(mask.cumsum(1) - 1).clamp(min=0),
        use_cache=True,
        logits_to_keep=last,
        **{_cache_argument(model): cache},
    )
    if samples > 1:
        _repeat(cache, len(prompts), samples)
    return output.logits[:, -1].repeat_interleave(samples, dim=0), mask.repeat_interleave(samples, dim=0)


class _Rows:
    """What has been decoded of each row, and which rows stand in the batch."""

    def __init__(self, count: int, keep_stop: bool) -> None:
        self.keep_stop = keep_stop
        self.placed = list(range(count))  # the row that stands at each place of the batch
        self.alive = [True] * count
        self.tokens: list[list[int]] = [[] for _ in range(count)]

    def take(self, chosen: list[int], stops: set[int], ended: Callable[[int, list[int]], bool] | None) -> None:
        """Append the tokens chosen at the places of the batch, and end the rows that they end."""
        for row, token in zip(self.placed, chosen, strict=True):
            if not self.alive[row]:
                continue
            if token in stops:
                self.alive[row] = False
                if self.keep_stop:
                    self.tokens[row].append(token)
                continue
            self.tokens[row].append(token)
            if ended is not None and ended(row, self.tokens[row]):
                self.alive[row] = False

    def worth_moving(self, wanted: list[bool]) -> list[int] | None:
        """Let rows that are not wanted leave the batch; return the places that stay, or None where all do."""
        keep = [place for place, row in enumerate(self.placed) if wanted[row]]
        if len(keep) > 0.75 * len(self.placed):  # moving the cache costs about as much as a quarter of a step
            return None
        self.placed = [self.placed[place] for place in keep]
        return keep


def choose(logits: Tensor, uniforms: Tensor, decoding: Decoding) -> Tensor:
    """The next token of each row: greedy, or drawn from the nucleus (Holtzman et al. 2020) by inverting its CDF.

    logits (B, V), uniforms (B,) -> (B,). Probabilities are computed in float32. The nucleus is the smallest set of the
    most likely tokens that holds at least `top_p`.
    """
    if decoding.temperature == 0.0:
        return logits.argmax(dim=-1)
    probabilities = torch.softmax(logits.float() / decoding.temperature, dim=-1)
    size = logits.shape[-1]
    if decoding.top_p >= 1.0 and not decoding.top_k:
        # The whole distribution needs no order. Summed in float64, or the tail of the vocabulary would be rounded away.
        mass = probabilities.cumsum(dim=-1, dtype=torch.float64)
        place = torch.searchsorted(mass, uniforms.to(mass.dtype)[:, None] * mass[:, -1:], right=True)
        return place.clamp(max=size - 1)[:, 0]
    if decoding.top_k:
        return _draw_from_top(probabilities, uniforms, decoding.top_p, min(decoding.top_k, size), renormalise=True)[0]
    chosen, reached = _draw_from_top(probabilities, uniforms, decoding.top_p, min(NUCLEUS_CANDIDATES, size))
    if not bool(
        reached.all()
    ):  # a few rows in a hundred; sorting the vocabulary for all would cost more than the model
        wide = ~reached
        chosen[wide] = _draw_from_top(probabilities[wide], uniforms[wide], decoding.top_p, size)[0]
    return chosen


def _draw_from_top(
    probabilities: Tensor, uniforms: Tensor, top_p: float, count: int, renormalise: bool = False
) -> tuple[Tensor, Tensor]:
    """Draw from the nucleus among the `count` likeliest tokens; and whether these hold all of it. (B, V) -> (B,), (B,).

    `renormalise` takes `top_p` as a share of what these tokens hold, as top-k followed by top-p does.
    """
    top, order = probabilities.topk(count, dim=-1)  # (B, C)
    mass = top.cumsum(dim=-1)
    target = top_p * (mass[:, -1:] if renormalise else 1.0)
    kept = (mass - top) < target  # the token that crosses the threshold belongs to the nucleus
    cumulative = (top * kept).cumsum(dim=-1)
    point = uniforms.to(cumulative.dtype)[:, None] * cumulative[:, -1:]
    place = (cumulative <= point).sum(dim=-1)
    place = torch.minimum(place, kept.sum(dim=-1) - 1)  # rounding must not step over the last token
    whole = count == probabilities.shape[-1]
    return order.gather(1, place[:, None])[:, 0], (mass[:, -1] >= top_p) | whole


class _Buffer(DynamicLayer):  # type: ignore[misc]  # transformers is read without its types
    """Keys and values of one layer in a buffer of the final length, (B, heads, capacity, D)."""

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity, self.length = capacity, 0
        self.is_initialized: bool = False

    def update(self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
            batch, heads, _, _ = key_states.shape
            self.key_buffer = key_states.new_empty(batch, heads, self.capacity, key_states.shape[-1])
            self.value_buffer = value_states.new_empty(batch, heads, self.capacity, value_states.shape[-1])
        end = self.length + key_states.shape[-2]
        self.key_buffer[:, :, self.length : end] = key_states
        self.value_buffer[:, :, self.length : end] = value_states
        self.length = end
        return self._view()

    def batch_repeat_interleave(self, repeats: int) -> None:
        self.key_buffer = self.key_buffer.repeat_interleave(repeats, dim=0)
        self.value_buffer = self.value_buffer.repeat_interleave(repeats, dim=0)
        self._view()

    def batch_select_indices(self, indices: Tensor) -> None:
        self.key_buffer, self.value_buffer = self.key_buffer[indices], self.value_buffer[indices]
        self._view()

    def _view(self) -> tuple[Tensor, Tensor]:
        self.keys, self.values = self.key_buffer[:, :, : self.length], self.value_buffer[:, :, : self.length]
        return self.keys, self.values


def _cache_argument(model: PreTrainedModel) -> str:
    """The name that the model takes its cache by: models of state spaces (Mamba, FalconMamba) have one of their own.

    Given by another name it would be taken for an option of a kernel, and each step would forget all before it. These models
    have no attention, and their mask is of the tokens that a pass reads, not of all before.
    """
    taken = signature(model.forward).parameters
    for name in (ATTENTION_CACHE, "cache_params"):
        if name in taken:
            return name
    raise UsageError(
        "this kind of model cannot be decoded in batches",
        where=type(model).__name__,
        expected=f"a forward that takes {ATTENTION_CACHE} or cache_params",
        found=", ".join(taken),
        next_step="python -m evals run ... --backend hf",
    )


def _repeat(cache: Cache, prompts: int, samples: int) -> None:
    """Each prompt's entry `samples` times. Layers that keep a state have no method of that name; as beams they can be reordered."""
    places = torch.arange(prompts).repeat_interleave(samples)
    for layer in cache.layers:
        if isinstance(layer, LinearAttentionCacheLayerMixin):
            layer.reorder_cache(places)
        else:
            layer.batch_repeat_interleave(samples)


def _select(cache: Cache, indices: Tensor) -> None:
    """The entries at these places of the batch, of whatever kind of layer."""
    for layer in cache.layers:
        if isinstance(layer, LinearAttentionCacheLayerMixin):
            layer.reorder_cache(indices)
        else:
            layer.batch_select_indices(indices)


def _cache(model: PreTrainedModel, capacity: int) -> Cache:
    """A buffered cache where every layer attends to everything before it, else the model's own."""
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None)
    plain = not getattr(config, "sliding_window", None) and (not kinds or set(kinds) == {"full_attention"})
    if plain and getattr(config, "num_kv_shared_layers", None) in (None, 0):
        return Cache(layers=[_Buffer(capacity) for _ in range(config.num_hidden_layers)])
    return DynamicCache(config=model.config)
