"""Our decoder decodes what `generate` decodes, and draws from the distribution that it says."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from tiny_model import make_model

from training.decoding import Decoding, choose, decode

PROMPTS = [[5, 9, 80, 41], [7], [100, 101, 102, 103, 104, 105, 106, 107, 108], [60, 61]]
STOP = 2


def by_generate(model, prompt: list[int], tokens: int) -> list[int]:
    output = model.generate(
        input_ids=torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=tokens,
        do_sample=False,
        eos_token_id=STOP,
        pad_token_id=0,
    )[0, len(prompt) :].tolist()
    return output[: output.index(STOP)] if STOP in output else output


def uniforms(rows: int, tokens: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(rows, tokens, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module", params=["grouped heads", "a head each", "sliding window"])
def model(request):
    from tiny_model import make_config
    from transformers import LlamaForCausalLM, MistralConfig, MistralForCausalLM

    if request.param == "grouped heads":
        return make_model(seed=3).eval()
    torch.manual_seed(4)
    settings = make_config().to_dict() | {"num_key_value_heads": 4}
    if request.param == "a head each":
        return LlamaForCausalLM(type(make_config())(**settings)).eval()
    settings = {key: value for key, value in settings.items() if key not in ("model_type", "architectures")}
    return MistralForCausalLM(MistralConfig(**(settings | {"sliding_window": 6}))).eval()


@pytest.mark.parametrize("samples", [1, 3])
def test_greedy_decoding_of_a_padded_batch_equals_generate_on_each_prompt(model, samples: int) -> None:
    expected = [by_generate(model, prompt, 24) for prompt in PROMPTS]
    rows = decode(model, PROMPTS, samples, Decoding(24), uniforms(len(PROMPTS) * samples, 24), [STOP])
    assert rows == [row for row in expected for _ in range(samples)]
    assert any(len(set(row)) > 3 for row in rows), "a model that repeats one token tells nothing"


def test_rows_that_end_leave_the_batch_without_changing_the_others(model) -> None:
    """Each row's own most frequent token as the stop token makes rows end at different steps."""
    whole = [by_generate(model, prompt, 24) for prompt in PROMPTS]
    stops = [whole[0][5], whole[1][2]]
    expected = []
    for row in whole:
        ends = [place for place, token in enumerate(row) if token in stops]
        expected.append(row[: ends[0]] if ends else row)
    rows = decode(model, PROMPTS, 1, Decoding(24), uniforms(4, 24), [STOP, *stops])
    assert rows == expected
    assert len({len(row) for row in rows}) > 1


@pytest.mark.parametrize("kind", ["states alone", "states beside attention"])
def test_models_that_keep_a_state_decode_as_generate_does_with_samples_and_rows_that_end(kind: str) -> None:
    """Mamba takes its cache by another name, and its layers' entries can neither be repeated nor selected by the usual methods."""
    from transformers import JambaConfig, JambaForCausalLM, MambaConfig, MambaForCausalLM

    small = {"vocab_size": 300, "hidden_size": 32, "initializer_range": 0.4}
    torch.manual_seed(0)
    if kind == "states alone":
        model = MambaForCausalLM(MambaConfig(**small, state_size=8, num_hidden_layers=2)).eval()
    else:
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "attn_layer_period": 2, "attn_layer_offset": 1}
        experts = {"intermediate_size": 64, "num_experts": 2, "mamba_d_state": 8, "use_mamba_kernels": False}
        model = JambaForCausalLM(JambaConfig(**small, **heads, **experts, num_hidden_layers=4)).eval()
    whole = [by_generate(model, prompt, 12) for prompt in PROMPTS]
    assert any(len(set(row)) > 3 for row in whole)
    rows = decode(model, PROMPTS, 3, Decoding(12), uniforms(12, 12), [STOP])
    assert rows == [row for row in whole for _ in range(3)]
    stops = [whole[0][5], whole[1][2]]
    ends = [next((place for place, token in enumerate(row) if token in stops), len(row)) for row in whole]
    assert len(set(ends)) > 1
    rows = decode(model, PROMPTS, 1, Decoding(12), uniforms(4, 12), [STOP, *stops])
    assert rows == [row[:end] for row, end in zip(whole, ends, strict=True)]


def test_a_row_may_be_ended_early_by_its_reader(model) -> None:
    rows = decode(
        model, PROMPTS, 1, Decoding(12), uniforms(4, 12), [], lambda row, tokens: row == 1 and len(tokens) == 3
    )
    assert [len(row) for row in rows] == [12, 3, 12, 12]


def test_the_models_attention_is_put_back_after_decoding(model) -> None:
    before = model.config._attn_implementation
    decode(model, PROMPTS, 1, Decoding(2), uniforms(4, 2), [STOP])
    assert model.config._attn_implementation == before == "sdpa"


@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_what_a_row_draws_depends_on_its_own_numbers_and_not_on_its_batch(model, top_p: float) -> None:
    decoding = Decoding(16, temperature=1.0, top_p=top_p)
    numbers = uniforms(8, 16)
    together = decode(model, PROMPTS, 2, decoding, numbers, [STOP])
    alone = [
        row
        for place, prompt in enumerate(PROMPTS)
        for row in decode(model, [prompt], 2, decoding, numbers[2 * place : 2 * place + 2], [STOP])
    ]
    assert together == alone
    assert len({tuple(row) for row in together}) == 8, "samples of one prompt must differ"


def p_value(counts: torch.Tensor, expected: torch.Tensor) -> float:
    return float(stats.chisquare(counts.numpy(), expected.numpy()).pvalue)


LOGITS = torch.tensor([2.0, 1.0, 0.5, 0.0, -0.5, -1.0, -3.0])
DRAWS = 40_000


@pytest.mark.parametrize("temperature", [1.0, 0.7, 1.5])
def test_the_whole_distribution_is_drawn_from_where_nothing_is_cut(temperature: float) -> None:
    numbers = uniforms(DRAWS, 1, seed=1)[:, 0]
    drawn = choose(LOGITS.expand(DRAWS, -1), numbers, Decoding(1, temperature=temperature))
    expected = torch.softmax(LOGITS.double() / temperature, -1) * DRAWS
    assert p_value(torch.bincount(drawn, minlength=7).double(), expected) > 0.01


@pytest.mark.parametrize(("top_p", "kept"), [(0.9, 4), (0.5, 1), (0.6, 2), (0.999, 7)])
def test_the_nucleus_is_the_smallest_set_that_holds_top_p(top_p: float, kept: int) -> None:
    probabilities = torch.softmax(LOGITS.double(), -1)
    size = next(k for k in range(1, 8) if probabilities[:k].sum() >= top_p)
    assert size == kept
    numbers = uniforms(DRAWS, 1, seed=2)[:, 0]
    drawn = choose(LOGITS.expand(DRAWS, -1), numbers, Decoding(1, temperature=1.0, top_p=top_p))
    counts = torch.bincount(drawn, minlength=7).double()
    assert counts[kept:].sum() == 0
    if kept > 1:
        assert p_value(counts[:kept], probabilities[:kept] / probabilities[:kept].sum() * DRAWS) > 0.01


def test_a_nucleus_wider_than_the_first_candidates_is_drawn_from_whole() -> None:
    size = 2000
    logits = torch.zeros(1, size)
    numbers = uniforms(DRAWS, 1, seed=3)[:, 0]
    drawn = choose(logits.expand(DRAWS, -1), numbers, Decoding(1, temperature=1.0, top_p=0.9))
    seen = len(drawn.unique())
    assert 0.99 * 0.9 * size < seen <= 0.9 * size + 1


def test_top_k_draws_from_the_k_likeliest() -> None:
    numbers = uniforms(DRAWS, 1, seed=4)[:, 0]
    drawn = choose(LOGITS.expand(DRAWS, -1), numbers, Decoding(1, temperature=1.0, top_k=3))
    counts = torch.bincount(drawn, minlength=7).double()
    assert counts[3:].sum() == 0
    assert p_value(counts[:3], torch.softmax(LOGITS[:3].double(), -1) * DRAWS) > 0.01


@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_the_highest_number_draws_a_likely_token_and_never_one_of_no_mass(top_p: float) -> None:
    logits = torch.tensor([[3.0, 2.0, float("-inf"), 1.0, float("-inf")]])
    highest = torch.tensor([1 - 2**-53], dtype=torch.float64)
    assert choose(logits, highest, Decoding(1, temperature=1.0, top_p=top_p)).item() in (0, 1, 3)
    assert choose(logits, torch.zeros(1, dtype=torch.float64), Decoding(1, temperature=1.0, top_p=top_p)).item() == 0


def test_no_temperature_is_greedy_whatever_else_is_set() -> None:
    assert choose(LOGITS[None], torch.tensor([0.99]), Decoding(1, temperature=0.0, top_p=0.5)).item() == 0
