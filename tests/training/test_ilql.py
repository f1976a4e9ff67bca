"""ILQL learns offline, steers by value, continues after a kill, and its heads come along with the policy they were trained on."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_ilql import QUESTION, make_ilql
from tiny_model import make_tokenizer, save_model
from transformers import AutoModelForCausalLM

from training import ilql_run
from training.__main__ import main
from training.checkpoint import Checkpoint
from training.errors import UsageError
from training.ilql import ILQL
from training.ilql_data import Rewarded, Transitions, collate, load_rewarded, scale_of, scaled, tokenize
from training.ilql_recipe import ILQLRecipe, Steering
from training.ilql_steering import HEADS_FILE, SteeredPolicy, save_heads
from training.metric_names import metric_names
from training.recipe import DataSettings
from training.run_directory import RunDirectory
from training.run_record import RunRecord
from training.yaml_file import load


def steered(ilql: ILQL) -> SteeredPolicy:
    return SteeredPolicy(ilql.policy.language_model.eval(), make_tokenizer(), ilql.policy.heads)


def share_of_best(policy: SteeredPolicy, beta: float) -> float:
    answers = policy.answers([QUESTION], 200, Steering(beta=beta, max_new_tokens=3))[0]
    return sum(answer == "ba" for answer in answers) / len(answers)


def test_steered_answers_are_worth_more_than_the_data_that_were_learned_from() -> None:
    ilql = make_ilql()
    lines = [ilql.step() for _ in range(60)]
    assert lines[-1]["td_loss"] < lines[0]["td_loss"]
    policy = steered(ilql)
    behaviour = 0.25
    error = (behaviour * (1 - behaviour) / 200) ** 0.5
    assert abs(share_of_best(policy, 0.0) - behaviour) < 5 * error, "without steering it is the data's policy"
    assert share_of_best(policy, 8.0) > behaviour + 5 * error


def test_with_lambda_a_reward_at_the_end_of_a_long_answer_is_soon_known_at_its_beginning() -> None:
    """The first letter decides, and twenty others follow before the reward is paid."""
    letters = [Rewarded(QUESTION, first + "x" * 20, float(first == "b")) for first in "ab"] * 16
    rows = scaled(tokenize(make_tokenizer(), letters, 64)[0], 0.5, 0.5)
    known = {}
    for lam in (0.0, 0.95):
        ilql = make_ilql(rows=rows, lam=lam, gamma=1.0, cql_scale=0.0)
        assert ilql.value_correlation(rows) == 0.0, "before training every answer is worth the same"
        for _ in range(40):
            ilql.step()
        batch = collate(rows[:2], ilql.pad)
        values = ilql.policy(batch.input_ids, batch.attention_mask, batch.mask.shape[1]).values
        known[lam] = (values[1, 1] - values[0, 1]).item()  # after the first letter; the answers are worth 1 and -1
        if lam:
            assert ilql.value_correlation(rows) > 0.9
    assert known[0.95] > 1.0
    assert known[0.0] < 0.5


def test_steering_ends_with_its_context_and_serves_generate_as_well() -> None:
    ilql = make_ilql()
    for _ in range(3):
        ilql.step()
    policy = steered(ilql)
    ids = torch.tensor([[1, 40, 41]])
    plain = policy.model(ids).logits
    states = policy.model.model(ids).last_hidden_state
    with policy.steered(beta=2.0):
        inside = policy.model(ids).logits
        generated = policy.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=3, do_sample=False)
    advantage = policy.heads.target_q(states) - policy.heads.value(states)[..., None]
    assert torch.allclose(inside, plain.log_softmax(-1) + 2.0 * advantage, atol=1e-5)
    assert generated[0, 3] == inside[0, -1].argmax()
    assert torch.equal(policy.model(ids).logits, plain)


def test_one_output_of_a_head_is_what_all_of_them_would_have_given() -> None:
    ilql = make_ilql()
    for _ in range(2):
        ilql.step()
    states, actions = torch.randn(2, 3, 32), torch.randint(200, (2, 3))
    every = ilql.policy.heads.target_q(states).gather(-1, actions[..., None])[..., 0]
    assert torch.allclose(ilql.policy.heads.target_q_at(states, actions), every, atol=1e-6)
    assert every.abs().sum() > 0


def test_what_an_answer_is_worth_does_not_depend_on_the_padding_beside_it() -> None:
    ilql = make_ilql()
    ilql.step()
    rows = [Transitions([1, 50], [60, 61, 2], 1.0), Transitions([1, 50, 51, 52, 53], [70, 2], 0.0)]
    together = collate(rows, ilql.pad)
    both = ilql.policy(together.input_ids, together.attention_mask, together.mask.shape[1])
    for number, row in enumerate(rows):
        batch = collate([row], ilql.pad)
        alone = ilql.policy(batch.input_ids, batch.attention_mask, batch.mask.shape[1])
        for name in ("logprobs", "values", "target_q", "q1"):
            found = getattr(both, name)[number, : len(row.answer)]
            assert torch.allclose(found, getattr(alone, name)[0], atol=1e-5), name


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_one_piece_or_four_give_the_same_step(lora: bool) -> None:
    ends, lines = [], []
    for pieces in (1, 4):
        ilql = make_ilql(lora, gradient_accumulation_steps=pieces)
        lines.append([ilql.step() for _ in range(2)][-1])
        ends.append(ilql.policy.trainable_state())
    for name in ("loss", "td_loss", "cql_loss", "awac_loss", "grad_norm"):
        assert lines[0][name] == pytest.approx(lines[1][name], rel=1e-3, abs=1e-5)
    for name, tensor in ends[0].items():
        assert torch.allclose(tensor, ends[1][name], atol=1e-3), name


def test_a_run_continued_from_its_saved_state_is_the_run_that_was_not_interrupted(tmp_path: Path) -> None:
    straight = make_ilql(lora=True)
    for _ in range(2):
        straight.step()
    torch.save(straight.state(), tmp_path / "state.pt")
    expected = [straight.step()["loss"] for _ in range(2)]
    continued = make_ilql(lora=True)
    continued.load_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert [continued.step()["loss"] for _ in range(2)] == expected
    after = continued.policy.trainable_state()
    for name, tensor in straight.policy.trainable_state().items():
        assert torch.equal(tensor, after[name]), name


def test_heads_come_along_and_steer_no_other_policy(tmp_path: Path) -> None:
    ilql = make_ilql()
    ilql.step()
    ilql.policy.merged().save_pretrained(tmp_path / "a")
    make_tokenizer().save_pretrained(tmp_path / "a")
    checkpoint = Checkpoint.open(tmp_path / "a")
    save_heads(ilql.policy.heads, checkpoint)
    assert Checkpoint.open(tmp_path / "a").digest == checkpoint.digest, "what from_pretrained loads is as it was"
    AutoModelForCausalLM.from_pretrained(tmp_path / "a")
    loaded = SteeredPolicy.load(tmp_path / "a")
    assert torch.equal(loaded.heads.target_q1.outer.weight, ilql.policy.heads.target_q1.outer.weight)
    assert torch.equal(loaded.heads.v.inner.bias, ilql.policy.heads.v.inner.bias)
    other = save_model(tmp_path / "b", seed=3)
    with pytest.raises(UsageError, match="no value heads"):
        SteeredPolicy.load(other)
    (other / "ilql").mkdir()
    (other / HEADS_FILE).write_bytes((tmp_path / "a" / HEADS_FILE).read_bytes())
    with pytest.raises(UsageError, match="another policy"):
        SteeredPolicy.load(other)


def test_rows_with_rewards_and_preference_pairs_are_read_and_repeats_count(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    pair = {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello", "rejected": "\n\nHuman: Hi\n\nAssistant: No"}
    rewarded = {"prompt": "Hi", "response": "Hey", "reward": 0.5}
    write(file, [pair, rewarded, rewarded, {**rewarded, "response": " "}])
    data = load_rewarded(DataSettings(source=str(file), heldout_fraction=0.0), seed=0)
    found = sorted((row.prompt[0]["content"], row.response, row.reward) for row in data.train)
    assert found == [("Hi", "Hello", 1.0), ("Hi", "Hey", 0.5), ("Hi", "Hey", 0.5), ("Hi", "No", -1.0)]
    assert data.source.rows == 4
    assert data.source.why_dropped == {"empty answer": 1}


@pytest.mark.parametrize("reward", [None, "high", True, float("nan")])
def test_a_reward_that_is_no_number_is_shown(tmp_path: Path, reward: Any) -> None:
    write(tmp_path / "rows.jsonl", [{"prompt": "Hi", "response": "Hey", "reward": reward}])
    with pytest.raises(UsageError, match="no known format"):
        load_rewarded(DataSettings(source=str(tmp_path / "rows.jsonl")), seed=0)


REWARD = "def letters(samples, prompts, outputs):\n    return [output.count('b') / 10 for output in outputs]\n"
RECIPE = """method: ilql
base: {base}
data: {{source: {rows}, heldout_fraction: 0.25}}
dtype: float32
lora: null
ilql: {{total_steps: 24, batch_size: 8, save_steps: 4}}
steering: {{beta: 2.0, max_new_tokens: 4}}
evaluation:
  prompts: {{source: {rows}, heldout_fraction: 0.0}}
  reward_function: {reward}:letters
  samples: 3
"""


def test_the_prompts_that_answers_are_measured_on_are_recorded_and_may_not_change_on_the_way(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, asked, reward, recipe = (tmp_path / name for name in ("rows.jsonl", "asked.jsonl", "reward.py", "ilql.yaml"))
    write(rows, [{"prompt": f"q{n % 4}", "response": "ab"[n % 2] * 3, "reward": n % 2} for n in range(16)])
    write(asked, [{"prompt": "one?"}, {"prompt": "two?"}])
    reward.write_text(REWARD)
    recipe.write_text(RECIPE.format(base=tiny, rows=rows, reward=reward))
    out = ["--out", str(tmp_path / "run")]
    words = ["ilql", "--recipe", str(recipe), *out, f"evaluation.prompts.source={asked}", "ilql.total_steps=2"]
    with monkeypatch.context() as patch:

        def stop(ilql: ILQL, run: RunDirectory) -> None:
            save(ilql, run)
            raise KeyboardInterrupt

        save = ilql_run._save
        patch.setattr(ilql_run, "_save", stop)
        assert main([*words]) == 130
    begun = asked.read_text()
    write(asked, [{"prompt": "one?"}, {"prompt": "an easier one"}])
    assert main([*words]) == 2
    assert f"other contents of the prompts of {asked} to measure on" in capsys.readouterr().err
    asked.write_text(begun)
    assert main([*words]) == 0
    record = RunRecord.read(tmp_path / "run" / "run.json")
    assert set(record.metrics) <= metric_names(load(recipe, ILQLRecipe, words[5:]))
    assert [(source.rows, len(source.sha256)) for source in record.measured_on] == [(2, len(record.data[0].sha256))]
    assert str(asked) not in [source.id for source in record.data], "nothing was learned from them"


def test_a_killed_command_continues_and_ends_with_the_weights_of_one_that_was_not(
    tmp_path: Path, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, reward, recipe = tmp_path / "rows.jsonl", tmp_path / "reward.py", tmp_path / "ilql.yaml"
    write(rows, [{"prompt": f"q{n % 4}", "response": "ab"[n % 2] * 3, "reward": n % 2} for n in range(40)])
    reward.write_text(REWARD)
    recipe.write_text(RECIPE.format(base=tiny, rows=rows, reward=reward))
    words = ["ilql", "--recipe", str(recipe), "--out"]
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    assert main([*words, str(straight), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)["metrics"]
    assert figures["behaviour_reward"] == pytest.approx(0.5, abs=0.2)
    assert figures["evaluation_prompts"] == 4
    assert {"steered_reward", "unsteered_reward_stderr", "heldout_td_loss", "heldout_value_correlation"} <= set(figures)
    assert figures["steering_change"] == pytest.approx(figures["steered_reward"] - figures["unsteered_reward"])
    assert {"steering_change_stderr", "steering_change_low", "steering_change_high"} <= set(figures)
    assert figures["steered_gain"] == pytest.approx(figures["steered_reward"] - figures["behaviour_score"])
    assert figures["behaviour_score"] == pytest.approx(0.15, abs=0.07), "by the function, and not by the rows' 0 and 1"
    command = [sys.executable, "-m", "training", *words, str(killed)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (killed / "metrics.jsonl").is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert not (killed / "run.json").exists()
    assert main([*words, str(killed)]) == 0
    records = [json.loads((run / "run.json").read_text()) for run in (straight, killed)]
    assert records[0]["checkpoint_digest"] == records[1]["checkpoint_digest"]
    assert records[0]["beside"] == records[1]["beside"] != {}
    assert len((killed / "metrics.jsonl").read_text().splitlines()) == 24


def test_rewards_that_are_all_the_same_teach_nothing_and_are_refused() -> None:
    rows = [Transitions([1], [50, 2], 0.5)] * 3
    with pytest.raises(UsageError, match="the same reward"):
        scale_of(rows)
    mean, deviation = scale_of([*rows, Transitions([1], [51, 2], 1.5)])
    assert [row.reward for row in scaled(rows, mean, deviation)] == pytest.approx([-(3**-0.5)] * 3)


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
