"""Attention as grouped products: the kernel's numbers and gradients, and only where it pays."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from training.checkpoint import Checkpoint
from training.grouped_attention import GROUPED, LONGEST, attend
from training.pretrained import load_policy

MODULE = SimpleNamespace(is_causal=True, num_key_value_groups=3, training=True)  # three query heads for each of keys


def states(length: int, dtype: torch.dtype = torch.bfloat16) -> list[torch.Tensor]:
    """Query (2, 6, L, 8), key and value (2, 2, L, 8)."""
    draw = torch.Generator().manual_seed(0)
    return [torch.randn(2, heads, length, 8, generator=draw).to(dtype).requires_grad_() for heads in (6, 2, 2)]


def padded_mask(length: int, padding: int) -> torch.Tensor:
    """(2, 1, L, L): causal; the first sequence begins after `padding` tokens, which may see nothing."""
    mask = torch.ones(2, 1, length, length, dtype=torch.bool).tril()
    mask[0, :, :, :padding] = False
    return mask


def in_float64(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    return [each.detach().double().requires_grad_() for each in tensors]


def test_outputs_and_gradients_are_the_kernels_within_bfloat16_where_sequences_are_padded() -> None:
    mine, mask = states(12), padded_mask(12, padding=5)
    exact = in_float64(mine)
    ours, _ = attend(MODULE, *mine, mask)
    theirs, _ = sdpa_attention_forward(MODULE, *exact, mask)
    weights = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weights[0, :5] = 0  # what padding sees is nobody's business, but it must be finite
    assert torch.isfinite(ours).all()
    torch.testing.assert_close(ours.double() * (weights != 0), theirs.nan_to_num() * (weights != 0), atol=0.03, rtol=0)
    (ours.double() * weights).sum().backward()
    (theirs.nan_to_num() * weights).sum().backward()
    for got, expected in zip(mine, exact, strict=True):
        assert torch.isfinite(got.grad).all()
        torch.testing.assert_close(got.grad.double(), expected.grad, atol=0.1, rtol=0.05)


def test_without_a_mask_a_token_sees_all_up_to_itself() -> None:
    tensors = states(9)
    with_mask, _ = attend(MODULE, *tensors, padded_mask(9, padding=0))
    without, _ = attend(MODULE, *tensors, None)
    assert torch.equal(with_mask, without)


def test_one_new_token_sees_all_before_it_in_every_dtype() -> None:
    query, key, value = states(10, torch.float32)
    ours, _ = attend(MODULE, query[:, :, -1:], key, value, None)
    theirs, _ = sdpa_attention_forward(MODULE, query, key, value, padded_mask(10, padding=0))
    torch.testing.assert_close(ours[:, 0], theirs[:, -1])


@pytest.mark.parametrize(
    ("length", "dtype", "dropout"),
    [(LONGEST + 1, torch.bfloat16, 0.0), (12, torch.float32, 0.0), (12, torch.bfloat16, 0.5)],
    ids=["long", "float32", "dropout"],
)
def test_the_kernel_keeps_what_it_does_better(length: int, dtype: torch.dtype, dropout: float) -> None:
    tensors, mask = states(length, dtype), padded_mask(length, padding=0)
    torch.manual_seed(3)
    ours, _ = attend(MODULE, *tensors, mask, dropout=dropout)
    torch.manual_seed(3)
    theirs, _ = sdpa_attention_forward(MODULE, *tensors, mask, dropout=dropout)
    assert torch.equal(ours, theirs)


def test_a_policy_in_training_uses_it_and_a_saved_one_does_not_ask_for_it(tiny: Path, tmp_path: Path) -> None:
    model, _ = load_policy(Checkpoint.open(tiny), "bfloat16")
    assert model.config._attn_implementation == GROUPED
    model.save_pretrained(tmp_path)
    assert GROUPED not in (tmp_path / "config.json").read_text()
