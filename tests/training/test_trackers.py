"""What a run reports to a tracker arrives there; a tracker that is not installed is told before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers.integrations import integration_utils

from training import trl_run
from training.__main__ import main
from training.trackers import named

RECIPES = {
    "ppo": "method: ppo\nbase: nowhere\nreward_model: nowhere\nprompts: {source: starter}\nreport_to: wandb\n",
    "ilql": "method: ilql\nbase: nowhere\ndata: {source: starter}\nreport_to: [tensorboard, wandb]\n",
    "sft": "method: sft\nbase: nowhere\ndata: {source: starter}\nargs: {report_to: wandb}\n",
}


@pytest.mark.parametrize("method", sorted(RECIPES))
def test_a_tracker_that_is_not_installed_is_refused_before_the_base_is_looked_for(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr(integration_utils, "is_wandb_available", lambda: False)  # wherever the tests run
    monkeypatch.setattr(integration_utils, "is_tensorboard_available", lambda: True)
    (tmp_path / "recipe.yaml").write_text(RECIPES[method])
    assert main([method, "--recipe", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert "report to wandb, which is not installed" in said
    assert "pip install wandb" in said


@pytest.mark.parametrize(("value", "said"), [("tensorbord", "no such tracker"), ("true", "no such tracker")])
def test_what_is_no_tracker_is_refused(value: str, said: str, tmp_path: Path, capsys) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPES["sft"].replace("wandb", value))
    assert main(["sft", "--recipe", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "run")]) == 2
    assert said in capsys.readouterr().err


def test_none_and_repeats_are_no_trackers() -> None:
    assert named(None) == named("none") == named(["none"]) == []
    assert named(["wandb", "trackio", "wandb", "none"]) == ["wandb", "trackio"]


def test_tensorboard_has_each_update_of_an_interrupted_ppo_run_once(tmp_path: Path, tiny: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard, which is no dependency")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    judge = tmp_path / "judge.py"
    judge.write_text(
        "from pathlib import Path\n"
        "CALLS = Path(__file__).with_suffix('.calls')\n"
        "def judge(samples, prompts, outputs):\n"
        "    calls = len(CALLS.read_text()) if CALLS.is_file() else 0\n"
        "    CALLS.write_text('.' * (calls + 1))\n"
        "    if calls == 3:\n"
        "        raise KeyboardInterrupt\n"
        "    return [len(output) for output in outputs]\n"
    )
    (tmp_path / "recipe.yaml").write_text(
        f"method: ppo\nbase: {tiny}\nreward_function: {judge}:judge\nreport_to: tensorboard\n"
        "prompts: {source: starter, heldout_fraction: 0.0, limit: 8}\nmax_prompt_length: 200\ndtype: float32\n"
        "generation: {max_new_tokens: 4}\nppo: {total_episodes: 16, batch_size: 4, num_ppo_epochs: 1, save_updates: 2}\n"
    )
    command = ["ppo", "--recipe", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "run")]
    assert main(command) == 130, "in the fourth update; the third is logged and not saved"
    assert main(command) == 0
    told = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    told.Reload()
    assert [event.step for event in told.Scalars("reward_mean")] == [1, 2, 3, 4]
    assert "scores" not in told.Tags()["scalars"]


def test_tensorboard_has_each_step_of_an_interrupted_run_of_trls_once(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard, which is no dependency")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (tmp_path / "recipe.yaml").write_text(
        f"method: sft\nbase: {tiny}\ndtype: float32\nlora: null\ndata: {{source: starter, limit: 8}}\nmax_length: 250\n"
        "args: {report_to: tensorboard, max_steps: 6, logging_steps: 1, save_steps: 2, per_device_train_batch_size: 2}\n"
    )
    command = ["sft", "--recipe", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "run")]
    interrupt_at(5, monkeypatch)
    assert main(command) == 130
    monkeypatch.undo()
    assert main(command) == 0
    told = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    told.Reload()
    assert [event.step for event in told.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]


def test_a_run_of_trls_that_continues_has_a_name_of_its_own_in_trackers_that_only_add(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []

    def named_run(self: object, args: object, *_: object, **more: object) -> None:
        names.append(args.run_name)

    monkeypatch.setattr(trl_run._Journal, "on_epoch_begin", named_run)
    (tmp_path / "recipe.yaml").write_text(
        f"method: sft\nbase: {tiny}\ndtype: float32\nlora: null\ndata: {{source: starter, limit: 8}}\nmax_length: 250\n"
        "args: {max_steps: 4, logging_steps: 1, save_steps: 2, per_device_train_batch_size: 2}\n"
    )
    command = ["sft", "--recipe", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "run")]
    with monkeypatch.context() as patch:
        interrupt_at(3, patch)
        assert main(command) == 130
    assert main(command) == 0
    assert (names[0], names[-1]) == ("run", "run-from-step-3")
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert "train_loss" not in last, "it would be the losses of the last attempt over the steps of both"


def interrupt_at(step: int, patch: pytest.MonkeyPatch) -> None:
    """Have the keyboard interrupt a run of TRL's at the end of a step, after it was logged and before it is saved."""

    def on_log(self: object, args: object, state: object, *_: object, **more: object) -> None:
        told(self, args, state, *_, **more)
        if state.global_step == step:
            raise KeyboardInterrupt

    told = trl_run._Journal.on_log
    patch.setattr(trl_run._Journal, "on_log", on_log)
