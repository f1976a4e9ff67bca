"""A compute plan agrees with the papers that it cites, with the models that it describes, and with itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from training.__main__ import main
from training.compute_plan import (
    GPUS,
    SCALING_LAWS,
    PostTraining,
    flops_of,
    hours_for,
    ppo_flops,
    reward_flops,
    sft_flops,
    shape_for,
)
from training.device_memory import STRATEGIES, device_memory, layer_activations
from training.isoflop_plot import billions, isoflop_png
from training.plan_command import llama_config
from training.ppo_recipe import PPORecipe
from training.recipe import RewardRecipe, SFTRecipe
from training.yaml_file import load

GOPHER = 5.76e23  # FLOPs of Gopher, which Chinchilla was given (Hoffmann et al. 2022, section 4)


def told(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict]:
    code = main(["plan", *words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_chinchillas_budget_buys_its_70_billion_parameters_and_its_1_4_trillion_tokens() -> None:
    """The paper names 40 to 70 billion for this budget (section 4), and trained 70; the corrected fit is within 6% of both."""
    parameters, tokens = SCALING_LAWS["besiroglu"].optimum(GOPHER)
    assert parameters == pytest.approx(70e9, rel=0.06)
    assert tokens == pytest.approx(1.4e12, rel=0.06)


def test_the_original_fit_gives_the_40_billion_that_the_paper_drew_from_it() -> None:
    """Figure 4: "We project the optimal model size given the Gopher FLOP budget to be 40B parameters"."""
    parameters, tokens = SCALING_LAWS["hoffmann"].optimum(GOPHER)
    assert parameters == pytest.approx(40e9, rel=0.02)
    assert tokens == pytest.approx(2.4e12, rel=0.02)
    assert SCALING_LAWS["hoffmann"].exponent == pytest.approx(0.4565, abs=1e-3)  # table 2: 0.46
    assert SCALING_LAWS["besiroglu"].exponent == pytest.approx(0.5126, abs=1e-3)


@pytest.mark.parametrize(
    ("parameters", "flops", "tokens"),
    [(4e8, 1.92e19, 8.0e9), (1e9, 1.21e20, 20.2e9), (1e10, 1.23e22, 205.1e9), (67e9, 5.76e23, 1.5e12)],
)
def test_the_corrected_fit_agrees_with_the_papers_first_approach(
    parameters: float, flops: float, tokens: float
) -> None:
    """Hoffmann et al. 2022, table 3."""
    found = SCALING_LAWS["besiroglu"].optimum(flops)
    assert found == (pytest.approx(parameters, rel=0.12), pytest.approx(tokens, rel=0.12))


@pytest.mark.parametrize("law", SCALING_LAWS.values(), ids=SCALING_LAWS.keys())
def test_the_optimum_is_where_the_loss_is_least_and_its_budget_leads_back_to_it(law) -> None:
    parameters, tokens = law.optimum(1e21)
    assert 6 * parameters * tokens == pytest.approx(1e21)
    for factor in (0.97, 1.03):
        assert law.loss(parameters * factor, tokens / factor) > law.loss(parameters, tokens)
    assert law.budget(parameters) == pytest.approx(1e21)


@pytest.mark.parametrize("size", [1.35e8, 1e9, 7e9, 7e10])
def test_a_shape_is_a_model_of_transformers_with_just_as_many_parameters(size: float) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = shape_for(size, 32_768)
    config = {key: value for key, value in llama_config(shape, 2048).items() if key not in ("model_type", "dtype")}
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**config))
    assert sum(parameter.numel() for parameter in model.parameters()) == shape.parameters
    assert shape.parameters == pytest.approx(size, rel=0.05)
    assert shape.heads * shape.head_dim == shape.width
    assert shape.heads % shape.kv_heads == 0
    assert shape.heads >= 3 * shape.kv_heads


def test_every_size_from_ten_million_to_ten_trillion_has_a_shape_near_it() -> None:
    for step in range(121):
        size = 1e7 * 10 ** (step / 20)
        shape = shape_for(size, 32_768)
        assert shape.parameters == pytest.approx(size, rel=0.06), size
        assert shape.heads % shape.kv_heads == 0


def test_states_are_those_of_the_zero_papers_first_figure() -> None:
    """Rajbhandari et al. 2020, figure 1: 7.5 billion parameters on 64 devices."""
    found = {name: strategy.states(7_500_000_000, 64) / 1e9 for name, strategy in STRATEGIES.items()}
    expected = {"DDP": 120, "ZeRO-1": 31.4, "ZeRO-2": 16.6, "ZeRO-3": 1.9, "FSDP full shard": 1.9}
    assert found == {name: pytest.approx(value, abs=0.05) for name, value in expected.items()}


def test_dividing_more_never_costs_a_device_more_states_and_checkpointing_less_memory() -> None:
    estimates = device_memory(shape_for(7e9, 32_768), devices=8, micro_batch=2, context=2048)
    states = [estimate.states for estimate in estimates]
    assert states == sorted(states, reverse=True)
    assert all(each.total(checkpointing=True) < each.total(checkpointing=False) for each in estimates)


def test_the_activation_estimate_is_near_what_autograd_keeps() -> None:
    """A real layer keeps more: transformers' RMSNorm keeps float32 copies. The estimate is its order, not its bytes."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = shape_for(2e7, 512)
    config = {key: value for key, value in llama_config(shape, 2048).items() if key not in ("model_type", "dtype")}
    model = LlamaForCausalLM(LlamaConfig(**config, attn_implementation="sdpa")).to(torch.bfloat16)
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    tokens = 128
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.model(input_ids=torch.ones(1, tokens, dtype=torch.long))
    estimate = shape.layers * layer_activations(shape) * tokens
    assert 1.0 <= sum(kept.values()) / estimate < 1.8


def test_what_follows_pretraining_is_counted_token_by_token() -> None:
    plan = PostTraining(sft_examples=10, sft_epochs=3, pairs=20, episodes=30, ppo_epochs=2, example_tokens=100)
    assert sft_flops(7.0, plan) == 6 * 7 * 10 * 3 * 100
    assert reward_flops(7.0, plan) == 6 * 7 * 20 * 2 * 100
    assert ppo_flops(7.0, 5.0, plan) == (6 * 7 + 2 * 5 + 6 * 7 * 2) * 30 * 100


def test_hours_on_machines_are_a_budget_that_takes_just_those_hours(capsys) -> None:
    code, plan = told(capsys, "--gpus", "64", "--gpu", "h100-sxm", "--hours", "24", "--utilisation", "0.5")
    assert code == 0
    assert plan["flops"] == flops_of(GPUS["h100-sxm"], 64, 24, 0.5) == 989e12 * 64 * 24 * 3600 * 0.5
    assert plan["stages"][0]["hours"] == pytest.approx(24)
    assert hours_for(plan["flops"], GPUS["h100-sxm"], 128, 0.5) == pytest.approx(12)


def test_a_models_size_is_a_plan_for_that_size(capsys) -> None:
    code, plan = told(capsys, "--parameters", "7e9", "--gpus", "8", "--gpu", "a100-80gb")
    assert code == 0
    assert plan["optimum"]["parameters"] == pytest.approx(7e9)
    fits = {row["strategy"]: row["fits_checkpointed"] for row in plan["memory"]}
    assert fits == {"DDP": False, "ZeRO-1": True, "ZeRO-2": True, "ZeRO-3": True, "FSDP full shard": True}


def test_the_recipes_that_a_plan_writes_are_read_and_carry_its_amounts(tmp_path: Path, capsys) -> None:
    code, plan = told(capsys, "--flops", "1e19", "--pairs", "1000", "--episodes", "2048", "--out", str(tmp_path))
    assert code == 0
    assert load(tmp_path / "sft.yaml", SFTRecipe).data.limit == 12_725
    reward = load(tmp_path / "reward.yaml", RewardRecipe)
    ppo = load(tmp_path / "ppo.yaml", PPORecipe)
    assert (reward.data.limit, ppo.ppo.total_episodes) == (1000, 2048)
    assert json.loads((tmp_path / "plan.json").read_text())["shape"] == plan["shape"]
    assert {Path(file).name for file in plan["files"]} == {file.name for file in tmp_path.iterdir()}
    assert (tmp_path / "isoflop.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_plan_draws_the_same_curve() -> None:
    law = SCALING_LAWS["besiroglu"]
    assert isoflop_png(law, 1e20) == isoflop_png(law, 1e20) != isoflop_png(law, 2e20)
    assert [billions(count) for count in (999, 1.35e8, 7e10, 1.4e12)] == ["999", "135 M", "70 B", "1.4 T"]


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ([], "nothing to plan from"),
        (["--flops", "1e20", "--parameters", "1e9"], "more than one thing"),
        (["--flops=-1e20"], "--flops is not a number"),
        (["--flops", "nan"], "--flops is not a number"),
        (["--parameters", "0"], "--parameters is not a number"),
        (["--hours", "3", "--gpu", "h200"], "only together with the machines"),
        (["--hours", "3", "--gpu", "h100", "--gpus", "2"], "unknown GPU"),
        (["--flops", "1e20", "--utilisation", "1.2"], "--utilisation is not a number"),
        (["--flops", "1e20", "--gpus", "0"], "--gpus is not a count"),
        (["--flops", "1e20", "--gpus", "9" * 350], "--gpus is not a count"),
        (["--parameters", "1e200"], "--parameters is not a number"),
        (["--flops", "1e20", "--example-tokens", "1"], "--example-tokens is not a count"),
        (["--parameters", "1000"], "too small for its vocabulary"),
    ],
)
def test_bad_input_is_explained(words: list[str], what: str, capsys) -> None:
    code, answer = told(capsys, *words)
    assert code == 2
    assert what in answer["error"]["what"]
    assert all(answer["error"][part] for part in ("where", "expected", "found", "next"))


def test_planning_needs_no_torch() -> None:
    script = (
        "import sys\nfrom training.__main__ import main\n"
        "assert main(['plan', '--flops', '1e21']) == 0\n"
        "assert not {'torch', 'transformers', 'matplotlib'} & set(sys.modules)\n"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
