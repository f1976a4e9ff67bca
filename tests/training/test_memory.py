"""A run that surely needs more memory than there is is refused before it begins, with the numbers; one that fits is not."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import yaml
from datasets import Dataset
from tiny_model import save_reward_model
from transformers import AutoModelForCausalLM

from training.__main__ import METHODS, main
from training.checkpoint import Checkpoint
from training.compute_plan import Shape
from training.errors import UsageError
from training.memory_check import free_memory, need_of
from training.memory_estimate import PROGRAM, Sampling, Step, Trained, adapter_parameters, run_memory
from training.model_shape import parameters_of, shape_of
from training.ppo_recipe import PPORecipe
from training.recipe import LoraSettings, RewardRecipe
from training.run_directory import RunDirectory
from training.yaml_file import load

SMOLLM2 = Shape(layers=30, width=576, heads=9, kv_heads=3, head_dim=64, feed_forward=1536, vocabulary=49152, tied=True)


def pairs(folder: Path) -> Path:
    file = folder / "pairs.jsonl"
    rows = [{"prompt": f"Colour {number}?", "chosen": "blue", "rejected": "red"} for number in range(20)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def written(folder: Path, **values: object) -> Path:
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump({"dtype": "float32", **values}))
    return file


def test_full_fine_tuning_holds_sixteen_bytes_a_parameter_and_its_batch() -> None:
    trained = Trained(SMOLLM2, SMOLLM2.parameters, SMOLLM2.parameters, weight_bytes=4, number_bytes=2, first_layer=0)
    need = run_memory(trained, Step(sequences=8, tokens=100, predicted=50))
    assert need.weights + need.gradients + need.optimizer == 16 * SMOLLM2.parameters
    assert need.logits == 8 * 50 * 49152 * 2 * 2
    layer = 2 * (4 * 576 + 2 * 9 * 64 + 2 * 3 * 64 + 4 * 1536) + 4 * 9  # Korthikanti et al. 2022, section 4.1
    assert need.activations == 30 * layer * 800
    assert need.total == PROGRAM + 16 * SMOLLM2.parameters + need.logits + need.activations
    assert "optimizer state 1.08 GB" in need.in_words()


def test_sampling_and_learning_take_turns() -> None:
    trained = Trained(SMOLLM2, SMOLLM2.parameters, 1000, weight_bytes=2, number_bytes=2, first_layer=20)
    step = Step(sequences=1, tokens=10, predicted=1)
    learning, both = run_memory(trained, step), run_memory(trained, step, Sampling(sequences=64, tokens=1000))
    assert both.cache == 64 * 1000 * 30 * 2 * 3 * 64 * 2
    assert both.total == learning.total - learning.activations - learning.logits + both.cache


def test_layers_below_the_adapters_keep_nothing_and_checkpointing_keeps_their_inputs() -> None:
    def kept(**changes: object) -> int:
        values = {"weight_bytes": 2, "number_bytes": 2, "first_layer": 0, **changes}
        return run_memory(Trained(SMOLLM2, 1, 1, **values), Step(1, 100, 0)).activations  # type: ignore[arg-type]

    assert kept(first_layer=20) * 3 == kept()
    assert kept(checkpointing=True) < kept() / 10


def test_a_checkpoints_shape_and_its_adapters_are_counted_as_they_are(tiny: Path) -> None:
    from peft import LoraConfig, get_peft_model

    checkpoint = Checkpoint.open(tiny)
    shape = shape_of(checkpoint.config)
    model = AutoModelForCausalLM.from_pretrained(tiny)
    assert parameters_of(checkpoint) == model.num_parameters()
    names = ["q_proj", "v_proj", "down_proj"]
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=names))
    trainable = sum(part.numel() for part in adapted.parameters() if part.requires_grad)
    assert adapter_parameters(shape, 4, names, shape.layers) == trainable


def test_a_batch_that_cannot_fit_is_refused_before_the_run_with_the_numbers(
    tmp_path: Path, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judge = save_reward_model(tmp_path / "judge")
    values = {"base": str(tiny), "reward_model": str(judge), "prompts": {"source": str(pairs(tmp_path))}}
    file = written(tmp_path, method="ppo", **values, ppo={"batch_size": 10**9, "total_episodes": 10**9})
    assert main(["ppo", "--recipe", str(file), "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    for part in ("more memory than there is", "which is free", "key-value cache while sampling", "memory_check=false"):
        assert part in said
    assert not (tmp_path / "run").exists()


def test_what_fits_is_not_refused_and_the_key_that_switches_it_off_is_no_part_of_the_run(
    tmp_path: Path, tiny: Path
) -> None:
    file = written(tmp_path, method="reward", base=str(tiny), data={"source": str(pairs(tmp_path))})
    recipe = load(file, RewardRecipe)
    need = need_of(recipe, "cpu")
    assert PROGRAM < need.total < PROGRAM + 10_000_000 < free_memory("cpu")
    off = load(file, RewardRecipe, ["memory_check=false"])
    assert not off.memory_check
    assert off.model_dump(mode="json") == recipe.model_dump(mode="json")


def test_every_kind_of_file_that_recipes_read_is_looked_into(tmp_path: Path, tiny: Path) -> None:
    """Of a dataset a slice is asked for, which a single file does not have."""
    lines = pairs(tmp_path)
    kinds = {"pairs.parquet": Dataset.to_parquet, "pairs.csv": Dataset.to_csv}
    for name, write in kinds.items():
        write(Dataset.from_list([json.loads(line) for line in lines.read_text().splitlines()]), tmp_path / name)
    (tmp_path / "pairs.jsonl.gz").write_bytes(gzip.compress(lines.read_bytes()))
    needs = set()
    for name in ("pairs.jsonl", "pairs.jsonl.gz", *kinds):
        file = written(tmp_path, method="reward", base=str(tiny), data={"source": str(tmp_path / name)})
        needs.add(need_of(load(file, RewardRecipe), "cpu").total)
    assert len(needs) == 1


@pytest.mark.parametrize("method", ["sft", "dpo", "kto", "ilql"])
def test_every_method_has_an_estimate_and_full_fine_tuning_needs_more(method: str, tmp_path: Path, tiny: Path) -> None:
    file = written(tmp_path, method=method, base=str(tiny), data={"source": str(pairs(tmp_path))})
    recipe = load(file, METHODS[method].recipe)
    full = recipe.model_copy(update={"lora": None})
    assert need_of(recipe, "cpu").total < need_of(full, "cpu").total


def test_a_run_that_saved_nothing_yet_may_begin_again_with_another_recipe(tmp_path: Path) -> None:
    recipe = PPORecipe(method="ppo", base="b", reward_model="r", prompts={"source": "starter"})  # type: ignore[arg-type]
    RunDirectory.open(tmp_path / "run", recipe)
    other = recipe.model_copy(update={"lora": LoraSettings(r=2)})
    run = RunDirectory.open(tmp_path / "run", other)
    assert run.begun() == other.model_dump(mode="json")
    run.log_metrics({"step": 1})
    with pytest.raises(UsageError, match="another recipe") as refused:
        RunDirectory.open(tmp_path / "run", recipe)
    # the values that differ, each by the name that the command line has for it, and no others
    assert (refused.value.expected, refused.value.found) == ("lora.r: 2", "lora.r: 16")


def test_a_key_that_is_new_since_a_run_began_does_not_make_its_recipe_another(tmp_path: Path) -> None:
    recipe = PPORecipe(method="ppo", base="b", reward_model="r", prompts={"source": "starter"})  # type: ignore[arg-type]
    run = RunDirectory.open(tmp_path / "run", recipe)
    run.log_metrics({"step": 1})
    file = run.state / "recipe.json"
    begun = json.loads(file.read_text())
    del begun["guards"], begun["prompts"]["heldout_by"]
    file.write_text(json.dumps(begun))
    RunDirectory.open(tmp_path / "run", recipe)
