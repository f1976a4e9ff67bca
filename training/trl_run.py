"""A run of one of TRL's trainers, from recipe to record: what the launchers share (sft.py, dpo.py, grpo.py, ...).

    run = TRLRun.begin(recipe, out)
    trainer = DPOTrainer(model, args=run.arguments(DPOConfig), peft_config=run.lora("CAUSAL_LM"), ...)
    run.save_policy(run.train(trainer, base), base)     # from the last saved step, if there is one
    run.finish([base.parent], data.source, metrics)

TRL itself is imported by the launchers only. What is written is a whole checkpoint, adapters merged.
"""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
from transformers import GenerationConfig, PrinterCallback, TrainerCallback
from transformers.integrations import TensorBoardCallback

from training.allocator import Holes
from training.checkpoint import Checkpoint
from training.errors import UsageError
from training.lora_layers import with_chosen_layers
from training.merged import merged
from training.pretrained import BaseModel, load_tokenizer, resolve_base
from training.processes import launched_processes, require_one_run, require_parts
from training.progress import Progress
from training.recipe import TRLRecipe
from training.records import canonical_json, write_atomically
from training.reference import save_with_reference
from training.reward_sources import scored_by
from training.run_directory import RunDirectory, with_chosen_dtype
from training.run_record import (
    DataSource,
    ParentCheckpoint,
    RewardSource,
    RunRecord,
    git_revision,
    hardware,
    now,
    package_versions,
)
from training.saved_state import load_state, save_state
from training.sharding import layout, say_how_it_lies, share_out_on_cpus
from training.trackers import PROJECT
from training.trl_args import RESERVED_ARGS, check_args, require_continuable
from training.trl_processes import accumulation, check_continues, in_parts, whole_model
from training.trl_state import for_layout, save_whole
from training.weights_dtype import cast_weights
from training.zero3 import read_whole

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

REFERENCE_STATE = "synced_reference.pt"  # in the trainer's checkpoint, where its reference follows the policy
SAVED = "saved.json"  # which of the trainer's checkpoints is whole, and the seconds spent until it was

SHOWN = ("loss", "reward", "accuracy", "rewards/accuracies", "margin", "kl")  # of what TRL logs, while a run goes

R = TypeVar("R", bound=TRLRecipe)


@dataclass(frozen=True)
class TRLRun(Generic[R]):
    """A run that is being made. `begin` it; where `complete` it was made before, and `directory.record()` has it."""

    recipe: R
    directory: RunDirectory
    started: str
    clock: float
    saved: dict[str, Any] | None  # SAVED as an earlier attempt left it
    rewards: list[RewardSource] = field(default_factory=list)  # of a function or a server; the last is in use

    @classmethod
    def begin(cls, recipe: R, out: Path) -> TRLRun[R]:
        """Open or reopen the run's directory. Raises UsageError where it holds a run of another recipe."""
        recipe = with_chosen_layers(with_chosen_dtype(recipe, out), out)
        directory = RunDirectory.open(out, recipe)
        file = directory.state / SAVED
        saved = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
        return cls(recipe, directory, now(), time.monotonic(), saved)

    @property
    def seconds(self) -> float:
        """Seconds spent so far, those before an interruption included."""
        before = float(self.saved["seconds"]) if self.saved else 0.0
        return before + time.monotonic() - self.clock

    @property
    def complete(self) -> bool:
        return self.directory.complete

    @property
    def trainer_state(self) -> Path:
        """Where the trainer saves what it continues from."""
        return self.directory.state / "trainer"

    def base(self) -> BaseModel:
        return resolve_base(self.recipe.base)

    def hold_inputs(self, parents: list[ParentCheckpoint], data: DataSource) -> None:
        """Raise UsageError where the run continues and these are not what it began with."""
        self.directory.hold_inputs(parents, [data], continues=self.saved is not None)

    @property
    def steps_done(self) -> int:
        """The step that was last saved; 0 where none was."""
        return int(self.saved["checkpoint"].rpartition("-")[2]) if self.saved else 0

    def note_rewards(self, source: RewardSource) -> None:
        """Enter what gives the rewards from the next step on, beside what gave them before an interruption."""
        noted = [RewardSource(**each) for each in (self.saved or {}).get("rewards", [])]
        self.rewards[:] = scored_by(noted, source, self.steps_done)

    def arguments(self, config: type[Any], **ours: Any) -> Any:
        """TRL's config: Slipway's defaults, over them the recipe's `args`, over these what the run decides (`ours`).

        Raises UsageError naming a key that the config does not know, or that is the run's to set.
        """
        check_args(self.recipe.args, config, (*RESERVED_ARGS, *ours))
        values = {
            "save_strategy": "steps",
            "save_steps": 25,
            "report_to": "none",
            "project": PROJECT,
            "run_name": self.directory.path.resolve().name,
            "logging_steps": 5,
            "dataloader_pin_memory": torch.cuda.is_available(),
            "use_cpu": not torch.cuda.is_available(),
            "gradient_checkpointing": False,  # TRL's default halves the speed to save memory
            "disable_tqdm": True,  # _Journal shows the progress
            "ddp_find_unused_parameters": False,  # every trained weight is in every loss
            **self.recipe.args,
            **self._accumulation(config),
            "output_dir": str(self.trainer_state),
            "seed": self.recipe.seed,
            "bf16": self.recipe.dtype == "bfloat16",
            "save_total_limit": 2,  # the one before stays until the next is whole
            **ours,
        }
        if self.saved:  # Trackio would add the steps that come again to the run of this name
            values["run_name"] = f"{values['run_name']}-from-step-{self.steps_done + 1}"
        require_continuable(values, adapters=self.recipe.lora is not None)
        try:
            arguments = config(**values)
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"TRL's {config.__name__} refuses the recipe's args",
                where=json.dumps(self.recipe.args, default=str)[:300],
                found=str(error)[:500],
                next_step="change the recipe's args",
            ) from error
        read_whole()
        share_out_on_cpus(arguments.mixed_precision)
        return arguments

    def _accumulation(self, config: type[Any]) -> dict[str, int]:
        """What makes `batch_size` sequences one step, on the processes that there are."""
        if self.recipe.batch_size is None:
            return {}
        check_args(self.recipe.args, config, ("gradient_accumulation_steps",))  # batch_size says it
        known = {field.name: field.default for field in dataclasses.fields(config)}
        per_device = int(self.recipe.args.get("per_device_train_batch_size", known["per_device_train_batch_size"]))
        steps = accumulation(self.recipe.batch_size, per_device, launched_processes())
        return {"gradient_accumulation_steps": steps}

    @property
    def load_dtype(self) -> str:
        """Adapters need no master copy of the frozen weights; full training does, and autocasts instead."""
        return self.recipe.dtype if self.recipe.lora else "float32"

    def lora(self, task_type: str, **more: Any) -> Any:
        """peft's LoraConfig as the recipe has it, or None."""
        from peft import LoraConfig

        if self.recipe.lora is None:
            return None
        return LoraConfig(task_type=task_type, **self.recipe.lora.model_dump(), **more)

    def train(self, trainer: Any, base: BaseModel) -> Any:
        """Train from the last saved step, or from the start; returns the model, adapters merged, in the base's dtype.

        Returns None on every process but the first, which alone measures, saves and records.
        """
        require_one_run(trainer.accelerator.num_processes)
        require_parts(trainer.accelerator)
        if self.saved is not None:
            by_length = getattr(trainer.args, "train_sampling_strategy", "random") == "group_by_length"
            check_continues(self.saved, trainer.accelerator.num_processes, by_length=by_length)
        trainer.remove_callback(PrinterCallback)  # it writes to stdout, which is the command's own
        reference = synced_reference(trainer)
        trainer.add_callback(_Journal(self, trainer.accelerator, reference))
        for callback in trainer.callback_handler.callbacks:
            if isinstance(callback, TensorBoardCallback):
                if callback.logging_dir is None:
                    callback.logging_dir = str(self.directory.path / "tensorboard")  # its own place goes with the state
                # What it was told of steps after the saved one is hidden, for they come again.
                callback._SummaryWriter = partial(callback._SummaryWriter, purge_step=self.steps_done + 1)
        # A trainer killed while it saves leaves a newer directory that is not whole, so SAVED says which one is.
        last = self.trainer_state / self.saved["checkpoint"] if self.saved else None
        if last is not None:
            last = for_layout(layout(trainer.accelerator), trainer, last)
        if self.saved and reference is not None:
            reference.load_state_dict(load_state(self.trainer_state / self.saved["checkpoint"] / REFERENCE_STATE))
        if layout(trainer.accelerator) == "zero3":
            save_whole(trainer)
        state = json.loads((last / "trainer_state.json").read_text(encoding="utf-8")) if last else None
        if state is not None and state["global_step"] >= state["max_steps"]:
            # `train` would take a step beyond the last one
            if layout(trainer.accelerator) != "whole":
                trainer._prepare_for_training(state["max_steps"], trainer.get_train_dataloader(), str(last))
            else:
                trainer._load_from_checkpoint(str(last))
        else:
            with in_parts(trainer.args):
                trainer.train(resume_from_checkpoint=str(last) if last else None)
        trained = whole_model(trainer)
        if trained is None or not trainer.accelerator.is_main_process:
            return None
        if self.recipe.lora is not None:
            trained = merged(trained)
        return cast_weights(trained, base.checkpoint.dtype)

    def save(self, model: Any, tokenizer: PreTrainedTokenizerBase) -> Checkpoint:
        """Write the checkpoint where `finish` takes it from."""
        saved = self.directory.scratch / "checkpoint"
        save_with_reference(model, tokenizer, saved)
        return Checkpoint.open(saved)

    def save_policy(self, model: Any, base: BaseModel) -> Checkpoint:
        """`save` with the base's own tokenizer and generation config, for a trainer sets either to its needs."""
        if (base.checkpoint.path / "generation_config.json").is_file():
            model.generation_config = GenerationConfig.from_pretrained(base.checkpoint.path)
        return self.save(model, load_tokenizer(base.checkpoint))

    def finish(
        self,
        parents: list[ParentCheckpoint],
        data: DataSource,
        metrics: dict[str, float | None],
    ) -> RunRecord:
        """Move the saved checkpoint into place and write run.json last."""
        record = RunRecord(
            method=self.recipe.method,
            checkpoint_digest=Checkpoint.open(self.directory.scratch / "checkpoint").digest,
            recipe=self.recipe.model_dump(mode="json"),
            parents=parents,
            data=[data],
            rewards=self.rewards,
            seed=self.recipe.seed,
            packages=package_versions(),
            git_revision=git_revision(),
            hardware=hardware("cuda" if torch.cuda.is_available() else "cpu"),
            started=self.started,
            seconds=round(self.seconds, 2),
            metrics=metrics,
        )
        return self.directory.finish(record)


def synced_reference(trainer: Any) -> Any | None:
    """The reference model of a trainer that moves it after the policy (`sync_ref_model`), of which TRL saves nothing; else None.

    Raises UsageError where it lies in parts.
    """
    reference = getattr(trainer, "ref_model", None)
    if not getattr(trainer.args, "sync_ref_model", False) or reference is None:
        return None
    if layout(trainer.accelerator) != "whole":
        raise UsageError(
            "a reference that follows the policy cannot be saved where models lie in parts, so the run could not continue",
            where="args.sync_ref_model",
            expected="one process, or several that each hold the models whole",
            found=layout(trainer.accelerator),
            next_step="launch it without a configuration file for FSDP or DeepSpeed, or remove args.sync_ref_model",
        )
    return trainer.accelerator.unwrap_model(reference)


class _Journal(TrainerCallback):  # type: ignore[misc]  # transformers is read without its types
    """Progress and metrics.jsonl as the run goes; a run that continues begins the file again with the lines of its saved steps."""

    def __init__(self, run: TRLRun[Any], accelerator: Any, reference: Any | None) -> None:
        self.run, self.accelerator, self.reference = run, accelerator, reference
        self.progress: Progress | None = None
        self.holes = Holes()

    def on_step_end(self, _args: Any, _state: Any, _control: Any, **_more: Any) -> None:
        self.holes.give_back()

    def on_train_begin(self, _args: Any, state: Any, _control: Any, model: Any = None, **_more: Any) -> None:
        say_how_it_lies(model, self.accelerator)
        if state.is_world_process_zero:
            self.progress = Progress(self.run.recipe.method, state.max_steps, done=state.global_step)
            self.progress.__enter__()
            self.run.directory.metrics.unlink(missing_ok=True)
            for entry in state.log_history:
                self.run.directory.log_metrics(entry)

    def on_epoch_begin(self, args: Any, state: Any, _control: Any, **_more: Any) -> None:
        """An epoch's order is drawn from its own seed: batches of similar length come from the process's generator, which
        a run that continues in the middle of an epoch does not have as it was when the epoch began."""
        torch.manual_seed(args.seed + int(state.epoch or 0))

    def on_log(self, _args: Any, state: Any, _control: Any, **_more: Any) -> None:
        if state.is_world_process_zero:
            entry = state.log_history[-1]
            if (
                "train_loss" in entry and self.run.saved
            ):  # the losses and seconds of this attempt, over the steps of all
                entry = {key: value for key, value in entry.items() if not key.startswith("train_")}
            self.run.directory.log_metrics(entry)
            if self.progress is not None and state.global_step > self.progress.done:
                note = "  ".join(f"{key} {entry[key]:.3f}" for key in SHOWN if key in entry)
                self.progress.advance(note, state.global_step - self.progress.done)

    def on_train_end(self, _args: Any, _state: Any, _control: Any, **_more: Any) -> None:
        if self.progress is not None:
            self.progress.__exit__(None, None, None)

    def on_save(self, _args: Any, state: Any, _control: Any, **_more: Any) -> None:
        self.accelerator.wait_for_everyone()  # each process writes a part
        if state.is_world_process_zero:
            checkpoint = f"checkpoint-{state.global_step}"
            if self.reference is not None:
                save_state(self.reference.state_dict(), self.run.trainer_state / checkpoint / REFERENCE_STATE)
            saved = {
                "checkpoint": checkpoint,
                "seconds": round(self.run.seconds, 2),
                "sharding": layout(self.accelerator),
                "processes": self.accelerator.num_processes,
                "rewards": [source.model_dump() for source in self.run.rewards],
            }
            write_atomically(self.run.directory.state / SAVED, canonical_json(saved))
            self.run.directory.note_energy()
