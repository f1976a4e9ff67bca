"""A critic with a trunk of its own: it starts from a reward model, learns beside the policy, and is no part of what is saved."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from tiny_model import make_model, make_tokenizer, save_model, save_reward_model
from tiny_ppo import PROMPTS, classifier_of, make_ppo, recipe_in, weights

from training import ppo_loop
from training.__main__ import main
from training.critic import Critic, share_memory
from training.memory_check import need_of
from training.policy import ActorCritic
from training.ppo import PPO
from training.ppo_recipe import PPORecipe
from training.recipe import SHIPPED, LoraSettings
from training.yaml_file import load

UPPER = LoraSettings(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], layers_to_transform=[1])
ALL = LoraSettings(r=4, lora_alpha=8)


def with_critic(
    lora: LoraSettings | None = None, checkpointing: bool = False, rewards: object = None, **settings: object
) -> PPO:
    """`make_ppo` whose critic starts from the policy's own weights."""
    base = make_ppo(lora=lora is not None, **settings)
    torch.manual_seed(0)
    model = make_model()
    critic = Critic(make_model(), lora, checkpointing)
    actor = ActorCritic(model, lora, checkpointing, critic)
    recipe = base.recipe.model_copy(update={"lora": lora})
    ppo = PPO(recipe, actor, base.tokenizer, rewards or base.rewards, PROMPTS, Accelerator(cpu=True))
    torch.manual_seed(1)
    return ppo


def test_the_reward_rises_as_with_a_shared_trunk() -> None:
    ppo = with_critic(learning_rate=5e-3)
    log = [ppo.update() for _ in range(14)]
    first = torch.tensor(log[0]["scores"] + log[1]["scores"])
    last = torch.tensor(log[-2]["scores"] + log[-1]["scores"])
    error = (first.var() / len(first) + last.var() / len(last)).sqrt()
    assert last.mean() - first.mean() > 2 * error


class LikesEvenPrompts:
    """Rewards that the prompt settles, so that a critic can come to know them."""

    def score_ids(self, sequences: list[list[int]]) -> torch.Tensor:
        return torch.tensor([float(sequence[1] % 2) for sequence in sequences])


@pytest.mark.parametrize("lora", [None, ALL], ids=["full", "lora"])
def test_the_value_loss_falls_as_the_critic_comes_to_know_the_returns(lora: LoraSettings | None) -> None:
    ppo = with_critic(lora, rewards=LikesEvenPrompts(), learning_rate=1e-12, value_learning_rate=2e-2)
    losses = [ppo.update()["value_loss"] for _ in range(8)]
    assert losses[-1] < 0.5 * losses[0], losses


def test_the_shared_heads_values_are_float32_under_autocast_too() -> None:
    actor = ActorCritic(make_model(), None)
    torch.nn.init.normal_(actor.value_head.weight)
    hidden = torch.randn(2, 3, actor.value_head.in_features)
    with torch.autocast("cpu", torch.bfloat16):
        values = actor.values(hidden)
    assert torch.equal(values, actor.value_head(hidden).squeeze(-1))


def test_values_move_the_critic_alone() -> None:
    """With no gradient for the policy, a shared head would still move the trunk; the policy's own log-probabilities stay."""
    ppo = with_critic(vf_coef=1.0)
    before = weights(ppo)
    ids = torch.tensor([[1, 40, 41, 42, 50, 51]])
    _, values, _ = ppo.actor(ids, torch.ones_like(ids), 2, 1.0)
    values.sum().backward()
    moved = {name for name, weight in ppo.actor.named_parameters() if weight.grad is not None}
    assert moved
    assert all(name.startswith("critic.") for name in moved)
    assert set(ppo.actor.policy_state()) == {name for name in before if name.startswith("model.")}


@pytest.mark.parametrize("lora", [None, UPPER], ids=["full", "upper layers"])
def test_one_piece_or_eight_and_checkpointed_layers_give_the_same_step(lora: LoraSettings | None) -> None:
    ends, logs = [], []
    for pieces, checkpointing in ((1, False), (8, False), (1, True)):
        ppo = with_critic(lora, checkpointing, gradient_accumulation_steps=pieces)
        logs.append(ppo.update())
        ends.append(weights(ppo))
    for log, end in zip(logs[1:], ends[1:], strict=True):
        for figure in ("policy_loss", "value_loss", "grad_norm", "critic_grad_norm"):
            assert log[figure] == pytest.approx(logs[0][figure], rel=1e-3, abs=1e-6)
        for name, tensor in ends[0].items():
            assert torch.allclose(tensor, end[name], atol=2e-4), name


def test_a_critic_of_the_same_base_reads_the_policys_frozen_layers_and_lies_in_their_memory(tmp_path: Path) -> None:
    model = make_model()
    reward = classifier_of(model, tmp_path)
    start = classifier_of(model, tmp_path).model
    critic = Critic(start, UPPER, head=reward.model.score.weight)
    actor = ActorCritic(model, UPPER, critic=critic)
    base = make_ppo(lora=True)
    ppo = PPO(base.recipe, actor, make_tokenizer(), reward, PROMPTS, Accelerator(cpu=True))
    assert critic.frozen_layers == 1
    frozen = [weight for weight in start.parameters() if not weight.requires_grad]
    others = {weight.data_ptr() for held in (model, reward.model) for weight in held.parameters()}
    assert frozen
    assert all(weight.data_ptr() in others for weight in frozen)
    prompts = [prompt[: 2 + place % 3] for place, prompt in enumerate(PROMPTS)]  # padded on the left
    found = ppo.rollout(prompts).responses
    inputs = (found.input_ids, found.attention_mask, found.length)
    whole, cut = critic(*inputs), critic(*inputs, actor.trunk_states(*inputs[:2]))
    assert torch.allclose(whole[found.mask], cut[found.mask], atol=1e-5)
    score = reward.score_ids([prompts[0] + found.tokens()[0][:-1]])[0]
    assert whole[0, found.mask[0]][-1].item() == pytest.approx(score.item(), abs=1e-5), (
        "what a reward model says so far"
    )


def test_a_critic_that_begins_as_the_reward_model_speaks_of_scaled_rewards(tmp_path: Path) -> None:
    reward = classifier_of(make_model(), tmp_path)
    critic = Critic(classifier_of(make_model(), tmp_path).model, None, head=reward.model.score.weight)
    base = make_ppo(num_ppo_epochs=1, value_learning_rate=1e-12)
    ppo = PPO(
        base.recipe,
        ActorCritic(make_model(), None, critic=critic),
        make_tokenizer(),
        reward,
        PROMPTS,
        Accelerator(cpu=True),
    )
    ids = torch.tensor([[1, 40, 41, 42, 50, 51]])
    before = critic(ids, torch.ones_like(ids), 2)
    log = ppo.update()
    scores = torch.tensor(log["scores"])
    expected = (before - scores.mean()) / scores.std()
    assert torch.allclose(critic(ids, torch.ones_like(ids), 2), expected, atol=1e-3)
    ppo.update()
    assert torch.allclose(critic(ids, torch.ones_like(ids), 2), expected, atol=1e-3), "once only"


def test_weights_that_differ_or_learn_keep_a_memory_of_their_own() -> None:
    one, other = make_model().requires_grad_(False), make_model().requires_grad_(False)
    other.model.layers[0].mlp.up_proj.weight[0, 0] += 1e-3
    other.model.norm.weight.requires_grad_(True)
    share_memory(one, [other])
    apart = {
        name for name, weight in one.named_parameters() if weight.data_ptr() != other.get_parameter(name).data_ptr()
    }
    assert apart == {"model.layers.0.mlp.up_proj.weight", "model.norm.weight"}


def test_an_interrupted_run_ends_with_the_policy_of_one_that_was_not_and_records_where_the_critic_began(
    tmp_path: Path, tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["ppo", "--recipe", str(recipe_in(tmp_path, tiny)), "--out"]
    assert main([*words, str(tmp_path / "straight")]) == 0
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        assert main([*words, str(tmp_path / "stopped")]) == 1
    reward, kept = tmp_path / "reward", tmp_path / "kept"
    reward.rename(kept)
    save_reward_model(reward, seed=5)
    assert main([*words, str(tmp_path / "stopped")]) == 2
    assert "the critic" in capsys.readouterr().err
    shutil.rmtree(reward)
    kept.rename(reward)
    assert main([*words, str(tmp_path / "stopped")]) == 0
    straight, stopped = (json.loads((tmp_path / run / "run.json").read_text()) for run in ("straight", "stopped"))
    assert straight["checkpoint_digest"] == stopped["checkpoint_digest"]
    digests = {parent["role"]: parent["digest"] for parent in straight["parents"]}
    assert digests["critic"] == digests["reward_model"] != digests["base"]
    saved, base = (load_file(path / "model.safetensors") for path in (tmp_path / "straight" / "checkpoint", tiny))
    assert saved.keys() == base.keys(), "the policy, and nothing of the critic"


def stop_after(patch: pytest.MonkeyPatch, updates: int) -> None:
    """End a run by an exception once the state after so many updates has been saved."""
    whole = ppo_loop.save

    def save(ppo: PPO, *values: object) -> None:
        whole(ppo, *values)
        if ppo.updates_done == updates:
            raise RuntimeError("stopped by the test")

    patch.setattr(ppo_loop, "save", save)


# What both processes do: data parallel, then with half of the weights each.
LAUNCHED = """
import os, sys
from accelerate.state import AcceleratorState
from training import ppo_loop
from training.__main__ import main
os.environ["ACCELERATE_USE_FSDP"] = "false"
assert main(["ppo", "--recipe", sys.argv[1], "--out", sys.argv[2] + "/data-parallel"]) == 0
AcceleratorState._reset_state(reset_partial_state=True)
os.environ["ACCELERATE_USE_FSDP"] = "true"
assert main(["ppo", "--recipe", sys.argv[1], "--out", sys.argv[2] + "/fsdp2"]) == 0
"""


def test_two_processes_train_policy_and_critic_as_one_does_whole_and_in_parts(tmp_path: Path, tiny: Path) -> None:
    recipe = recipe_in(tmp_path, tiny)
    assert main(["ppo", "--recipe", str(recipe), "--out", str(tmp_path / "one")]) == 0
    script = tmp_path / "launched.py"
    script.write_text(LAUNCHED)
    words = ["-m", "accelerate.commands.launch", "--config_file", str(SHIPPED.parent / "launch" / "fsdp2.yaml")]
    finished = subprocess.run(
        [sys.executable, *words, "--num_processes", "2", str(script), str(recipe), str(tmp_path)],
        env={**os.environ, "ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr[-4000:]
    assert finished.stderr.count("FSDP2 on 2 processes") == 1, "the second run only"
    runs = [tmp_path / name for name in ("one", "data-parallel", "fsdp2")]
    lines = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in runs]
    weights_of = [load_file(run / "checkpoint" / "model.safetensors") for run in runs]
    assert len(lines[0]) == 3
    for place in (1, 2):
        for one, two in zip(lines[0], lines[place], strict=True):
            for key in ("reward_mean", "kl", "policy_loss", "value_loss", "grad_norm", "critic_grad_norm"):
                assert two[key] == pytest.approx(one[key], rel=1e-3, abs=1e-5), (runs[place].name, key)
        assert weights_of[place].keys() == weights_of[0].keys()
        assert all(torch.allclose(tensor, weights_of[place][name], atol=1e-4) for name, tensor in weights_of[0].items())


def test_the_memory_estimate_counts_it(tmp_path: Path, tiny: Path) -> None:
    def need(*changes: str) -> object:
        return need_of(load(recipe_in(tmp_path, tiny), PPORecipe, list(changes)), "cpu")

    shared, full, adapters = need("ppo.critic=shared"), need(), need("lora={r: 4}")
    size = sum(tensor.numel() for tensor in load_file(tmp_path / "reward" / "model.safetensors").values())
    assert (shared.critic, full.critic) == (0, 16 * size)
    assert 0 < adapters.critic < full.critic / 2
    assert full.activations == 2 * shared.activations
    assert "critic" in full.in_words()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["ppo.critic=shared", "critic_model=x"], "add 'ppo.critic: separate'"),
        (["ppo.critic=own"], "'shared' or 'separate'"),
        (["critic_model=nowhere/at-all/x"], "neither a directory nor a Hub id"),
    ],
)
def test_what_cannot_be_a_critic_is_refused(
    changes: list[str], said: str, tmp_path: Path, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ppo", "--recipe", str(recipe_in(tmp_path, tiny)), "--out", str(tmp_path / "run"), *changes]) == 2
    assert said in capsys.readouterr().err


def test_a_critic_with_another_vocabulary_or_too_short_a_context_is_refused(
    tmp_path: Path, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = save_model(tmp_path / "short", context=64)
    words = ["ppo", "--recipe", str(recipe_in(tmp_path, tiny)), "--out", str(tmp_path / "run")]
    assert main([*words, f"critic_model={short}"]) == 2
    assert "max_position_embeddings" in capsys.readouterr().err
    config = json.loads((short / "tokenizer_config.json").read_text())
    (short / "tokenizer_config.json").write_text(json.dumps({**config, "eos_token": "<|endoftext|>"}))
    assert main([*words, f"critic_model={short}"]) == 2
    assert "policy and critic do not share a vocabulary" in capsys.readouterr().err
