"""PPO-ptx: what is mixed in, its loss and gradient, and that a policy forgets less with it."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from tiny_model import make_model, make_tokenizer
from tiny_ppo import PROMPTS, LikesLowTokens, weights

from training.chat import UNLEARNED, answer_sequence
from training.errors import UsageError
from training.policy import ActorCritic
from training.ppo import PPO
from training.ppo_recipe import PPORecipe, PPOSettings, PTXSettings
from training.ppo_run import train_ppo
from training.ptx import Labelled, Mixing, heldout_loss, learned_tokens, load_ptx, summed_loss
from training.recipe import DataSettings, Generation, LoraSettings

UPPER = LoraSettings(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], layers_to_transform=[1])
TEXTS = ["the cat sat on the mat", "the dog sat on the log", "a cat and a dog sat", "the mat and the log"]


def some_sequences() -> list[Labelled]:
    tokenizer = make_tokenizer()
    asked = [answer_sequence(tokenizer, [{"role": "user", "content": "Hi"}], text) for text in ("Hello!", "Good day.")]
    whole = tokenizer("plain text")["input_ids"]
    return [*asked, (whole, whole)]


def file_of(folder: Path, rows: list[dict]) -> str:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def test_the_loss_is_the_sum_over_learned_tokens_whatever_the_padding() -> None:
    model, sequences = make_model(), some_sequences()
    expected = 0.0
    for ids, labels in sequences:
        logprobs = torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), dim=-1)
        for place in range(1, len(ids)):
            if labels[place] != UNLEARNED:
                expected -= logprobs[place - 1, ids[place]].item()
    assert summed_loss(model, sequences, pad=2).item() == pytest.approx(expected, rel=1e-5)
    found = heldout_loss(model, sequences, 2)
    assert found == pytest.approx(expected / learned_tokens(sequences), rel=1e-5)
    assert learned_tokens(sequences) == len("Hello!") + 1 + len("Good day.") + 1 + len("plain text") - 1


def test_the_gradient_of_the_loss_agrees_with_finite_differences() -> None:
    model, sequences = make_model(), some_sequences()
    weight = model.model.layers[1].mlp.down_proj.weight
    summed_loss(model, sequences, pad=2).backward()
    torch.manual_seed(0)
    direction = torch.randn_like(weight)
    slope = (weight.grad * direction).sum().item()
    step, ends = 1e-3, []
    for sign in (1, -1):
        with torch.no_grad():
            weight.add_(sign * step * direction)
            ends.append(summed_loss(model, sequences, pad=2).item())
            weight.sub_(sign * step * direction)
    assert slope == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=2e-2)


def test_demonstrations_learn_answers_only_and_texts_are_cut_into_pieces(tmp_path: Path, tokenizer) -> None:
    rows = [
        {"text": "0123456789" * 3},
        {"prompt": "Hi", "completion": "x" * 5},
        {"prompt": "Hi", "completion": "x" * 100},
        {"prompt": "Hi", "chosen": "a", "rejected": "b"},
    ]
    data = DataSettings(source=file_of(tmp_path, rows), heldout_fraction=0.0)
    found = load_ptx(PTXSettings(data=data, max_length=64), tokenizer, seed=0)
    pieces = load_ptx(PTXSettings(data=data, max_length=12), tokenizer, seed=0).train
    assert sorted(learned_tokens([one]) for one in found.train) == [2, 6, 30]
    assert [len(ids) for ids, _ in pieces] == [12, 12, 7]
    assert [token for ids, _ in pieces for token in ids][-1] == tokenizer.eos_token_id
    assert found.source.why_dropped == {"longer than 64 tokens": 1}
    assert (found.source.rows, found.source.rows_dropped) == (3, 1)


def test_a_text_begins_with_bos_where_the_tokenizer_writes_one_and_only_its_first_piece_does(tmp_path: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = make_tokenizer()
    bos, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    settings = PTXSettings(
        data=DataSettings(source=file_of(tmp_path, [{"text": "0123456789"}]), heldout_fraction=0.0), max_length=9
    )
    words = tokenizer("0123456789")["input_ids"]
    assert [ids for ids, _ in load_ptx(settings, tokenizer, 0).train] == [words[:9], [*words[9:], end]]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{tokenizer.bos_token} $A", special_tokens=[(tokenizer.bos_token, bos)]
    )
    assert [ids for ids, _ in load_ptx(settings, tokenizer, 0).train] == [[bos, *words[:8]], [*words[8:], end]]


@pytest.mark.parametrize(
    ("row", "settings", "said"),
    [
        ({"body": "x"}, {}, r"no known format[\s\S]*\{text\}"),
        ({"text": "x"}, {"system": "Be brief."}, r"no place for a system message"),
        ({"prompt": "Hi", "completion": "x" * 99}, {}, r"longer than 32 tokens"),
    ],
)
def test_data_that_cannot_be_mixed_in_is_refused(tmp_path: Path, tokenizer, row, settings: dict, said: str) -> None:
    data = DataSettings(source=file_of(tmp_path, [row]), heldout_fraction=0.0, **settings)
    with pytest.raises(UsageError, match=said):
        load_ptx(PTXSettings(data=data, max_length=32), tokenizer, seed=0)


def make_mixed(
    coef: float, lora: LoraSettings | None = None, rows: int = 4, **settings: object
) -> tuple[PPO, list[Labelled]]:
    """PPO towards low tokens, with texts mixed in whose letters are tokens of either kind."""
    tokenizer = make_tokenizer()
    mixed = [(ids, ids) for ids in tokenizer(TEXTS)["input_ids"]]
    values = {
        "total_episodes": 640,
        "mini_batch_size": 16,
        "kl_coef": 0.01,
        "lr_scheduler_type": "constant",
        **settings,
    }
    recipe = PPORecipe(
        method="ppo",
        base="unused",
        reward_model="unused",
        prompts=DataSettings(source="starter"),
        ptx=PTXSettings(data=DataSettings(source="unused"), coef=coef, batch_size=rows),
        dtype="float32",
        lora=lora,
        generation=Generation(max_new_tokens=8),
        ppo=PPOSettings(**values),
    )
    torch.manual_seed(0)
    actor = ActorCritic(make_model(), lora)
    mixing = Mixing(mixed, recipe.ptx, 2, 0) if coef else None
    ppo = PPO(recipe, actor, tokenizer, LikesLowTokens(len(tokenizer), 4), PROMPTS, Accelerator(cpu=True), mixing)
    torch.manual_seed(1)
    return ppo, mixed


@pytest.mark.parametrize("lora", [None, UPPER], ids=["full", "adapters-on-the-upper-layer"])
def test_a_policy_forgets_less_of_what_is_mixed_in(lora: LoraSettings | None) -> None:
    losses, rewards = {}, {}
    for coef in (0.0, 1.0):
        ppo, mixed = make_mixed(coef, lora, learning_rate=2e-2 if lora else 5e-3)
        assert ppo.actor.frozen_layers == (1 if lora else 0)
        log = [ppo.update() for _ in range(8)]
        losses[coef] = heldout_loss(ppo.actor.language_model, mixed, 2)
        rewards[coef] = log[-1]["reward_mean"] - log[0]["reward_mean"]
        assert ("ptx_loss" in log[0]) == (coef > 0)
    assert losses[1.0] < losses[0.0] - 0.1
    assert rewards[0.0] > 0


def test_a_step_adds_the_coefficient_times_the_gradient_of_the_mean_loss() -> None:
    gradients = {}
    for coef in (0.0, 0.5):
        ppo, mixed = make_mixed(coef, num_ppo_epochs=1, batch_size=16, max_grad_norm=1e9)
        kept: dict[str, torch.Tensor] = {}
        step = ppo.place.optimizer.step
        ppo.place.optimizer.step = lambda ppo=ppo, kept=kept, step=step: (
            kept.update({name: p.grad.clone() for name, p in ppo.actor.model.named_parameters()}),
            step(),
        )
        before = make_model()
        ppo.update()
        gradients[coef] = kept
    (summed_loss(before, mixed, 2) / learned_tokens(mixed)).backward()
    for name, parameter in before.named_parameters():
        difference = gradients[0.5][name] - gradients[0.0][name]
        assert torch.allclose(difference, 0.5 * parameter.grad, atol=2e-5), name


def test_pieces_do_not_change_a_mixed_step_and_a_saved_run_goes_on_with_the_next_rows() -> None:
    ends = []
    for pieces in (1, 4):
        ppo, _ = make_mixed(1.0, gradient_accumulation_steps=pieces)
        ends.append((ppo.update()["ptx_loss"], weights(ppo)))
    assert ends[0][0] == pytest.approx(ends[1][0], rel=1e-4)
    for name, tensor in ends[0][1].items():
        assert torch.allclose(tensor, ends[1][1][name], atol=2e-4), name
    straight, _ = make_mixed(1.0, rows=3)
    straight.update()
    state = copy.deepcopy(straight.state())
    expected = straight.update()
    continued, _ = make_mixed(1.0, rows=3)
    continued.load_state(state)
    assert continued.update()["ptx_loss"] == expected["ptx_loss"]


def test_a_coefficient_of_zero_measures_the_data_and_changes_nothing(tiny: Path, tmp_path: Path) -> None:
    texts = file_of(tmp_path, [{"text": text} for text in TEXTS])
    function = tmp_path / "judge.py"
    function.write_text("def judge(outputs, **_):\n    return [float(len(set(output))) for output in outputs]\n")
    records = []
    for name, coef in (("plain", None), ("measured", 0.0), ("mixed", 1.0)):
        data = DataSettings(source=texts, heldout_fraction=0.5)
        recipe = PPORecipe(
            method="ppo",
            base=str(tiny),
            reward_function=f"{function}:judge",
            prompts=DataSettings(source="starter", limit=8, heldout_fraction=0.0),
            ptx=None if coef is None else PTXSettings(data=data, coef=coef, batch_size=2),
            max_prompt_length=200,
            dtype="float32",
            generation=Generation(max_new_tokens=8),
            ppo=PPOSettings(total_episodes=16, batch_size=8, mini_batch_size=8, num_ppo_epochs=2),
        )
        records.append(train_ppo(recipe, tmp_path / name))
    plain, measured, mixed = records
    assert plain.checkpoint_digest == measured.checkpoint_digest != mixed.checkpoint_digest
    assert measured.metrics["ptx_heldout_loss_before"] == mixed.metrics["ptx_heldout_loss_before"]
    assert mixed.metrics["ptx_heldout_loss_after"] < measured.metrics["ptx_heldout_loss_after"]
    assert [source.rows for source in mixed.data] == [8, 2]


TWO_PROCESSES = """
import sys, torch
from tiny_ppo import weights
from test_ptx import UPPER, make_mixed

found = []
for lora in (None, UPPER):  # equal rewards, no value loss and no penalty: only what is mixed in moves the weights
    quiet = {"vf_coef": 0.0, "kl_coef": 0.0, "scale_rewards": False, "num_ppo_epochs": 1, "learning_rate": 1e-3}
    ppo, _ = make_mixed(1.0, lora, rows=4, batch_size=16, mini_batch_size=8, **quiet)
    ppo.rewards.score_ids = lambda sequences: torch.zeros(len(sequences))
    loss = ppo.update()["ptx_loss"]
    after = torch.cat([tensor.flatten() for tensor in weights(ppo).values()])
    everyone = ppo.accelerator.gather(after[None])
    assert all(torch.equal(everyone[0], one) for one in everyone), "the processes have drifted apart"
    found.append((loss, after))
if ppo.accelerator.is_main_process:
    torch.save(found, sys.argv[1])
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_mix_in_what_one_does(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(TWO_PROCESSES)
    tests = Path(__file__).parent
    paths = [str(tests), str(tests.parent), str(tests.parents[1])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    found = []
    for launch in ([], ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]):
        out = tmp_path / f"{len(launch)}.pt"
        subprocess.run([sys.executable, *launch, str(script), str(out)], env=environment, check=True, timeout=280)
        found.append(torch.load(out))
    for (one_loss, one), (two_loss, two) in zip(*found, strict=True):
        assert two_loss == pytest.approx(one_loss, rel=1e-5)
        assert torch.allclose(one, two, atol=1e-5)
