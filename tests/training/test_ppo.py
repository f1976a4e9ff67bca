"""PPO learns, continues after a kill on the same trajectory, and does not depend on how a batch is cut into pieces."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tiny_model import make_tokenizer, save_reward_model
from tiny_ppo import PROMPTS, make_ppo, weights

from training.__main__ import main
from training.recipe import Generation
from training.rollout import sample


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_the_reward_rises_by_more_than_twice_its_standard_error(lora: bool) -> None:
    ppo = make_ppo(lora, learning_rate=2e-2 if lora else 5e-3)
    log = [ppo.update() for _ in range(14)]
    first = torch.tensor(log[0]["scores"] + log[1]["scores"])
    last = torch.tensor(log[-2]["scores"] + log[-1]["scores"])
    error = (first.var() / len(first) + last.var() / len(last)).sqrt()
    assert last.mean() - first.mean() > 2 * error
    assert log[-1]["kl"] > log[0]["kl"]


def test_a_large_kl_coefficient_holds_the_policy_near_the_reference() -> None:
    kl = {}
    for coefficient in (0.0, 1.0):
        ppo = make_ppo(kl_coef=coefficient, learning_rate=1e-3, batch_size=128, mini_batch_size=128)
        kl[coefficient] = [ppo.update()["kl"] for _ in range(16)][-1]
    assert kl[0.0] > 2.0
    assert abs(kl[1.0]) < 0.3 * kl[0.0]


def test_an_adapted_coefficient_rises_while_the_kl_is_above_its_target_and_brings_it_down() -> None:
    kl, coefficients = {}, {}
    for target in (None, 0.5):
        ppo = make_ppo(kl_coef=0.1, kl_target=target, kl_horizon=32, learning_rate=1e-3, batch_size=64)
        log = [ppo.update() for _ in range(16)]
        kl[target] = sum(line["kl"] for line in log[-4:]) / 4
        coefficients[target] = [line["kl_coef"] for line in log]
    assert set(coefficients[None]) == {0.1}
    assert coefficients[0.5][1] == pytest.approx(0.1 * 0.6), "no KL at first: clipped to -0.2, times 64 / 32"
    assert coefficients[0.5][-1] > 0.1
    assert kl[0.5] < 0.7 * kl[None]


def test_running_scaling_divides_by_the_deviation_of_all_scores_so_far() -> None:
    ppo = make_ppo(scale_rewards="running")
    scores = []
    for _ in range(3):
        scores += ppo.update()["scores"]
        assert ppo.scale.mean == 0.0
        assert ppo.scale.std == pytest.approx(torch.tensor(scores).std().item(), rel=1e-3)


def test_equal_rewards_are_left_as_they_are_by_running_scaling() -> None:
    ppo = make_ppo(scale_rewards="running")
    ppo.rewards.score_ids = lambda sequences: torch.ones(len(sequences))
    ppo.update()
    assert ppo.scale.std == 1.0


@pytest.mark.parametrize("equal", [0.0, 0.1])
def test_the_scale_waits_for_rewards_that_differ_also_over_a_resumption(equal: float, capsys) -> None:
    ppo = make_ppo(reward_clip=None)
    score = ppo.rewards.score_ids
    ppo.rewards.score_ids = lambda sequences: torch.full((len(sequences),), equal)
    assert ppo.update()["value_loss"] < 1
    assert ppo.scale is None
    assert f"every reward so far is {equal:g}" in capsys.readouterr().err
    state = torch.load(_through_a_file(ppo.state()), weights_only=True)
    ppo.rewards.score_ids = score
    lines = [ppo.update()]
    continued = make_ppo(reward_clip=None)
    continued.load_state(state)
    lines.append(continued.update())
    assert lines[0]["scores"] == lines[1]["scores"]
    assert ppo.scale == continued.scale
    assert ppo.scale.std == pytest.approx(torch.tensor([equal] * 32 + lines[0]["scores"]).std().item(), rel=1e-3)
    assert lines[0]["value_loss"] < 100
    settled = ppo.scale
    ppo.update()
    assert ppo.scale is settled


def test_a_rollout_of_one_answer_is_learned_from_too() -> None:
    ppo = make_ppo(batch_size=1, mini_batch_size=1)
    lines = [ppo.update() for _ in range(4)]
    assert [line["reward_std"] for line in lines] == [0.0] * 4
    assert all(math.isfinite(line["value_loss"]) for line in lines)
    assert ppo.scale is not None
    assert ppo.scale.std > 0


def test_an_update_ends_early_where_the_policy_has_moved_too_far_from_the_one_that_sampled() -> None:
    assert make_ppo().update()["steps"] == 8
    ppo = make_ppo(early_stop_kl=1e-9)
    line = ppo.update()
    assert line["steps"] == 1, "the first mini batch meets the policy that sampled it"
    moved = weights(ppo)
    reference = make_ppo(num_ppo_epochs=1, batch_size=32, mini_batch_size=16)
    whole = reference.update()
    assert whole["steps"] == 2
    assert any(not torch.equal(tensor, moved[name]) for name, tensor in weights(reference).items())


def test_an_entropy_bonus_keeps_the_policy_more_open() -> None:
    left = {}
    for coefficient in (0.0, 1.0):
        ppo = make_ppo(entropy_coef=coefficient, kl_coef=0.0)
        left[coefficient] = [ppo.update()["entropy"] for _ in range(8)][-1]
    assert left[1.0] > left[0.0] + 0.1


def test_the_learning_rate_falls_linearly_to_a_tenth_and_no_further() -> None:
    ppo = make_ppo(lr_scheduler_type="linear", learning_rate=1e-3, total_episodes=96)
    rates = []
    for _ in range(4):  # one more than the run has
        ppo.update()
        rates.append(ppo.place.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([1e-3, 5.5e-4, 1e-4, 1e-4])


def test_before_the_first_step_policy_and_reference_agree_and_values_are_zero() -> None:
    for lora in (False, True):
        experience = make_ppo(lora).rollout(PROMPTS[:4])
        assert torch.allclose(experience.logprobs, experience.ref_logprobs, atol=1e-6)
        assert (experience.values == 0).all()


def test_the_reference_does_not_move_while_the_policy_learns() -> None:
    for lora in (False, True):
        ppo = make_ppo(lora)
        responses = ppo.rollout(PROMPTS[:4]).responses
        inputs = (responses.input_ids, responses.attention_mask, responses.length, 1.0)
        before = ppo.actor.reference_logprobs(*inputs)
        policy_before = ppo.actor(*inputs)[0]
        ppo.update()
        assert torch.equal(ppo.actor.reference_logprobs(*inputs), before)
        assert not torch.allclose(ppo.actor(*inputs)[0], policy_before)


def test_log_probabilities_do_not_depend_on_the_padding() -> None:
    actor, tokenizer = make_ppo().actor, make_tokenizer()
    torch.manual_seed(3)
    prompts = [[1, 50], [1, 60, 61, 62, 63, 64]]
    responses, _ = sample(actor, tokenizer, prompts, Generation(max_new_tokens=6))
    together, _, _ = actor(responses.input_ids, responses.attention_mask, responses.length, 1.0)
    for row, (prompt, answer) in enumerate(zip(prompts, responses.tokens(), strict=True)):
        ids = torch.tensor([prompt + answer])
        alone, _, _ = actor(ids, torch.ones_like(ids), len(answer), 1.0)
        assert torch.allclose(alone[0], together[row, : len(answer)], atol=1e-5)


def test_a_response_counts_up_to_and_with_its_end_of_turn_token() -> None:
    ppo = make_ppo()
    eos = ppo.tokenizer.eos_token_id
    responses = ppo.rollout(PROMPTS * 4).responses
    for tokens, ended in zip(responses.tokens(), responses.ended, strict=True):
        assert eos not in tokens[:-1]
        assert (tokens[-1] == eos) == bool(ended)


def test_one_piece_or_eight_give_the_same_step() -> None:
    ends, logs = [], []
    for steps in (1, 8):
        ppo = make_ppo(gradient_accumulation_steps=steps)
        logs.append(ppo.update())
        ends.append(weights(ppo))
    for figure in ("policy_loss", "value_loss", "entropy", "grad_norm"):
        assert logs[0][figure] == pytest.approx(logs[1][figure], rel=1e-3, abs=1e-6)
    for name, tensor in ends[0].items():
        assert torch.allclose(tensor, ends[1][name], atol=2e-4), name


@pytest.mark.parametrize("settings", [{}, {"kl_target": 1.0, "kl_horizon": 64, "scale_rewards": "running"}])
def test_a_run_continued_from_its_saved_state_is_the_run_that_was_not_interrupted(settings: dict) -> None:
    straight = make_ppo(**settings)
    for _ in range(2):
        straight.update()
    state = torch.load(_through_a_file(straight.state()), weights_only=True)
    expected = [straight.update() for _ in range(2)]
    continued = make_ppo(**settings)
    continued.load_state(state)
    found = [continued.update() for _ in range(2)]
    assert [line["scores"] for line in found] == [line["scores"] for line in expected]
    assert [line["kl_coef"] for line in found] == [line["kl_coef"] for line in expected]
    after = weights(continued)
    for name, tensor in weights(straight).items():
        assert torch.equal(tensor, after[name]), name


def test_a_killed_command_continues_and_ends_with_the_weights_of_one_that_was_not(
    tmp_path: Path, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only what is killed needs a process of its own: each imports torch and transformers first."""
    recipe = tmp_path / "ppo.yaml"
    recipe.write_text(
        f"method: ppo\nbase: {tiny}\nreward_model: {save_reward_model(tmp_path / 'reward')}\n"
        "prompts: {source: starter, heldout_split: heldout}\n"
        "max_prompt_length: 200\ndtype: float32\ngeneration: {max_new_tokens: 12}\n"
        "ppo: {total_episodes: 96, batch_size: 8, mini_batch_size: 8, num_ppo_epochs: 1, save_updates: 3}\n"
    )
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    words = ["ppo", "--recipe", str(recipe), "--out"]
    assert main([*words, str(straight)]) == 0
    command = [sys.executable, "-m", "training", *words, str(killed)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 90
    while not (killed / "metrics.jsonl").is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert (killed / "metrics.jsonl").is_file(), "it was not killed in its updates"
    assert not (killed / "run.json").exists()
    assert main([*words, str(killed)]) == 0
    digests = [json.loads((run / "run.json").read_text())["checkpoint_digest"] for run in (straight, killed)]
    assert digests[0] == digests[1]
    references = [json.loads((run / "reference.json").read_text()) for run in (straight, killed)]
    assert references[0] == references[1]
    assert references[0]["checkpoint_digest"] == digests[0]
    capsys.readouterr()
    assert main([*words, str(killed), "seed=5"]) == 2
    assert "another recipe" in capsys.readouterr().err


def _through_a_file(state: dict) -> str:
    import tempfile

    path = tempfile.mkstemp(suffix=".pt")[1]
    torch.save(state, path)
    return path
