"""Two CPU processes under FSDP2, each with half of the weights, train as one process does: SFT, reward model and PPO."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM
from two_launches import METHODS, launch, same_whatever_the_launch, stop_when_first_saved, train, write_recipes

from training import ppo_loop, trl_run

CONFIGURATION = Path(trl_run.__file__).parent / "launch" / "fsdp2.yaml"
# What both processes do: each method from the start, on from one process's saved state, and up to a state of their own.
LAUNCHED = """
import sys
from two_launches import METHODS, stop_when_first_saved, train
for method in METHODS:
    assert train(method, sys.argv[1], "two") == 0
    assert train(method, sys.argv[1], "one-then-two") == 0
stop_when_first_saved()
for method in METHODS:
    assert train(method, sys.argv[1], "two-then-one") == 1
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    return write_recipes(tmp_path_factory.mktemp("sharding"), tiny)


def test_two_processes_with_half_of_the_weights_each_train_as_one_does(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(trl_run._Journal, "on_save", trl_run._Journal.on_save)  # put back after what follows
        patch.setattr(ppo_loop, "save", ppo_loop.save)
        stop_when_first_saved()
        for method in METHODS:
            assert train(method, folder, "one-then-two") == 1
    said = launch(folder, LAUNCHED, CONFIGURATION)
    shares = [
        tuple(int(number.replace(",", "")) for number in found)
        for found in re.findall(r"holds (\S+) of (\S+) weights", said)
    ]
    assert len(shares) == 9
    assert all(here < 0.52 * every for here, every in shares), shares
    for method in METHODS:
        weights = same_whatever_the_launch(method, folder)
    loaded, report = AutoModelForCausalLM.from_pretrained(folder / "ppo-two" / "checkpoint", output_loading_info=True)
    assert not report["missing_keys"]
    assert loaded.num_parameters() == sum(tensor.numel() for tensor in weights.values())
