"""Two CPU processes under DeepSpeed's ZeRO-3, each with half of the weights, train as one process does: SFT, reward model, PPO.

The first launch has DeepSpeed compile a part of its own, which takes a C++ compiler, ninja, and a minute of a core.
"""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest
from two_launches import METHODS, launch, same_whatever_the_launch, stop_when_first_saved, train, write_recipes

from training import ppo_loop, trl_run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="DeepSpeed is an extra: slipway[zero3]"),
    pytest.mark.skipif(shutil.which("g++") is None, reason="no g++: DeepSpeed compiles a part of its own"),
]
CONFIGURATION = Path(trl_run.__file__).parent / "launch" / "zero3.yaml"
# As in test_sharding.py. DeepSpeed would leave weights as small as these whole on both processes.
LAUNCHED = """
import sys
from accelerate.utils import DeepSpeedPlugin
from two_launches import stop_when_first_saved, train

whole = DeepSpeedPlugin.__post_init__

def in_parts(plugin):
    whole(plugin)
    plugin.hf_ds_config.config["zero_optimization"]["stage3_param_persistence_threshold"] = 0

DeepSpeedPlugin.__post_init__ = in_parts
assert train(METHOD, sys.argv[1], "two") == 0
assert train(METHOD, sys.argv[1], "one-then-two") == 0
stop_when_first_saved()
assert train(METHOD, sys.argv[1], "two-then-one") == 1
"""


@pytest.mark.timeout(1200)
def test_two_processes_under_zero3_train_as_one_does_and_either_continues_what_the_other_began(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_recipes(tmp_path, tiny)
    with monkeypatch.context() as patch:
        patch.setattr(trl_run._Journal, "on_save", trl_run._Journal.on_save)  # put back after what follows
        patch.setattr(ppo_loop, "save", ppo_loop.save)
        stop_when_first_saved()
        for method in METHODS:
            assert train(method, folder, "one-then-two") == 1
    said = ""
    for method in METHODS:  # a launch each, as people have it: the first's configuration stays with the process
        script = LAUNCHED.replace("METHOD", repr(method))
        said += launch(folder, script, CONFIGURATION, timeout=1100, DS_ACCELERATOR="cpu", OMP_NUM_THREADS="1")
    assert said.count("this one holds 13,440 of 26,880 weights") == 3  # SFT
    assert said.count("this one holds 13,920 of 27,840 weights") == 3  # the reward model with its adapters
    assert said.count("this one holds 26,897 of 53,793 weights") == 3  # PPO's policy, reference and value head
    for method in METHODS:
        same_whatever_the_launch(method, folder)
