"""An ILQL run from recipe to record: load, loop with saved states, save policy and heads, measure steered answers."""

from __future__ import annotations

import json
import math
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from training.allocator import Holes
from training.chat import prompt_ids
from training.checkpoint import Checkpoint
from training.command import log
from training.context_length import require_context
from training.data import Data, Prompt, load_prompts
from training.errors import UsageError
from training.ilql_data import Rewarded, Transitions, load_rewarded, scale_of, scaled, tokenize
from training.ilql_recipe import ILQLRecipe
from training.lora_layers import with_chosen_layers
from training.pair_report import with_interval
from training.pretrained import load_policy, resolve_base
from training.processes import launched_accelerator
from training.progress import Progress
from training.records import sha256_of_file
from training.reference import save_with_reference
from training.run_directory import RunDirectory, with_chosen_dtype
from training.run_record import RunRecord, git_revision, hardware, kept, now, package_versions
from training.saved_state import load_state, save_state
from training.scorer import Scorer, mean_and_stderr
from training.special_tokens import words_only
from training.trackers import Tracker, tracked

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedTokenizerBase

    from training.ilql import ILQL
    from training.ilql_heads import ValuedPolicy
    from training.ilql_steering import SteeredPolicy
    from training.pretrained import BaseModel

STATE_FILE = "ilql.pt"
BEHAVIOUR_SCORED = 500  # answers of the data that the evaluation scores, drawn at random


class Answers(NamedTuple):
    """The data as tokens, rewards scaled where the recipe asks for it: of answers to learn from, and of those held out."""

    train: list[Transitions]
    heldout: list[Transitions]
    too_long: int
    scaled_by: tuple[float, float] | None  # mean and deviation of the rewards that are learned from

    @classmethod
    def of(cls, recipe: ILQLRecipe, tokenizer: PreTrainedTokenizerBase, data: Data) -> Answers:
        rows, too_long = tokenize(tokenizer, data.train, recipe.max_length)
        heldout, _ = tokenize(tokenizer, data.heldout, recipe.max_length)
        if not recipe.ilql.scale_rewards:
            return cls(rows, heldout, too_long, None)
        mean, deviation = scale_of(rows)
        return cls(scaled(rows, mean, deviation), scaled(heldout, mean, deviation), too_long, (mean, deviation))

    def scale(self) -> dict[str, float]:
        """What the record says of it."""
        return dict(zip(("reward_mean", "reward_deviation"), self.scaled_by, strict=True)) if self.scaled_by else {}


def train_ilql(recipe: ILQLRecipe, out: Path) -> RunRecord:
    """Run ILQL and return its record. Where `out` is complete already, nothing is done.

    Metrics: behaviour_reward, the mean reward of the rows that were learned from; final losses; with `evaluation`,
    unsteered_reward and steered_reward of sampled answers, and by how much the steered ones are above the behaviour, each
    with its standard error; with held-out rows, the losses on these and how far V goes with their rewards.
    """
    recipe = with_chosen_layers(with_chosen_dtype(recipe, out), out)
    run = RunDirectory.open(out, recipe)
    if run.complete:
        return run.record()
    started, clock = now(), time.monotonic()

    import torch
    from accelerate.utils import set_seed

    from training.ilql import ILQL
    from training.ilql_heads import ValuedPolicy
    from training.ilql_steering import HEADS_FILE, SteeredPolicy

    accelerator = launched_accelerator(recipe)
    require_rows_for_all(recipe.ilql.batch_size, accelerator.num_processes)
    base = resolve_base(recipe.base)
    # Before anything is trained, so that a reward that cannot be had is told at once.
    scorer = load_scorer(recipe, str(accelerator.device))
    data = load_rewarded(recipe.data, recipe.seed)
    asked = [load_prompts(recipe.evaluation.prompts, recipe.seed)] if recipe.evaluation else []
    measured_on = [one.source for one in asked]
    continues = (run.state / STATE_FILE).is_file()
    run.hold_inputs([base.parent], [data.source], continues=continues, measured_on=measured_on)
    model, tokenizer = load_policy(base.checkpoint, recipe.dtype if recipe.lora else "float32")
    data = words_only(data, tokenizer)
    generation_config = model.generation_config
    answers = Answers.of(recipe, tokenizer, data)
    questions: list[Prompt] = [row for one in asked for row in one.train]
    require_lengths(recipe, tokenizer, model.config, answers, questions)
    set_seed(recipe.seed)  # before adapters and heads: theirs are the same on every process
    policy = ValuedPolicy(model, recipe.lora, recipe.ilql.head_size, recipe.gradient_checkpointing)
    ilql = ILQL(recipe, policy, tokenizer.pad_token_id, answers.train, accelerator)
    torch.manual_seed(recipe.seed * 1_000_003 + accelerator.process_index)
    _resume(ilql, run)
    seconds_before = _seconds(run)
    told: Tracker | list[Tracker] = recipe.report_to if accelerator.is_main_process else "none"
    with tracked(told, run.path, recipe, ilql.steps_done) as tell:
        learn(ilql, run, tell)
    figures = behaviour(data.train) | {"steps": float(ilql.steps_done), **last_losses(run), **answers.scale()}
    if answers.heldout:
        figures |= {f"heldout_{name}": value for name, value in ilql.heldout_losses(answers.heldout).items()}
        figures["heldout_value_correlation"] = ilql.value_correlation(answers.heldout)
    accelerator.wait_for_everyone()
    if not accelerator.is_main_process:
        return run.wait_for_record()
    checkpoint, heads_sha256 = write_policy(policy, base, generation_config, tokenizer, run.scratch / "checkpoint")
    if scorer is not None:
        # As it was saved and as anyone loads it, not as it stands in memory.
        steered = SteeredPolicy.load(checkpoint.path, recipe.dtype, str(accelerator.device))
        figures |= steered_figures(steered, recipe, scorer, data.train, questions)
    record = RunRecord(
        method="ilql",
        checkpoint_digest=checkpoint.digest,
        beside={HEADS_FILE: heads_sha256},
        recipe=recipe.model_dump(mode="json"),
        parents=[base.parent, *(scorer.parents if scorer else [])],
        data=[kept(data.source, len(answers.train), answers.too_long, recipe.max_length)],
        measured_on=measured_on,
        rewards=scorer.sources if scorer else [],
        seed=recipe.seed,
        packages=package_versions(),
        git_revision=git_revision(),
        hardware=hardware(str(accelerator.device)),
        started=started,
        seconds=round(seconds_before + time.monotonic() - clock, 2),
        metrics=figures,
    )
    return run.finish(record)


def require_rows_for_all(batch_size: int, processes: int) -> None:
    """Raise UsageError where a step has no answer for one of the processes."""
    if batch_size < processes:
        raise UsageError(
            "a step has fewer answers than there are processes to share them",
            where="ilql.batch_size",
            expected=f"{processes} or more, the number of processes",
            found=str(batch_size),
            next_step="raise ilql.batch_size, or launch fewer processes",
        )


def require_lengths(
    recipe: ILQLRecipe, tokenizer: PreTrainedTokenizerBase, config: Any, answers: Answers, questions: Sequence[Prompt]
) -> None:
    """Raise UsageError where an answer of the data, or a question with its steered answer, is beyond the model's context."""
    lengths = [len(row.prompt) + len(row.answer) for row in answers.train + answers.heldout]
    require_context(config, lengths, "lower max_length", limit=recipe.max_length)
    asked = [len(prompt_ids(tokenizer, row.prompt)) for row in questions]
    require_context(
        config,
        asked,
        "lower steering.max_new_tokens, or choose shorter prompts",
        sampled=recipe.steering.max_new_tokens,
    )


def load_scorer(recipe: ILQLRecipe, device: str) -> Scorer | None:
    """What the steered answers are measured by; None where the recipe asks for no evaluation."""
    if recipe.evaluation is None:
        return None
    return Scorer.load(recipe.evaluation.reward_model, recipe.evaluation.reward_function, recipe.dtype, device)


def learn(ilql: ILQL, run: RunDirectory, tell: Callable[[dict[str, Any]], None] = lambda _: None) -> None:
    """The steps that are left, each logged; the state is saved every `save_steps` of them and after the last."""
    holes = Holes()
    with Progress("ilql", ilql.total_steps, ilql.steps_done) as progress:
        while ilql.steps_done < ilql.total_steps:
            metrics = ilql.step()
            if ilql.accelerator.is_main_process:
                run.log_metrics(metrics)
            tell(metrics)
            holes.give_back()
            progress.advance(
                f"td {metrics['td_loss']:.3f}  cql {metrics['cql_loss']:.3f}  awac {metrics['awac_loss']:.3f}  "
                f"q {metrics['q']:+.2f}  v {metrics['value']:+.2f}"
            )
            if ilql.steps_done % ilql.recipe.ilql.save_steps == 0 or ilql.steps_done == ilql.total_steps:
                _save(ilql, run)


def write_policy(
    policy: ValuedPolicy,
    base: BaseModel,
    generation_config: GenerationConfig,
    tokenizer: PreTrainedTokenizerBase,
    directory: Path,
) -> tuple[Checkpoint, str]:
    """Save policy and tokenizer as a checkpoint with the value heads beside it; returns it, and the heads' SHA-256."""
    from training.ilql_steering import save_heads
    from training.weights_dtype import cast_weights

    heads = policy.heads
    merged = cast_weights(policy.merged(), base.checkpoint.dtype)
    merged.generation_config = generation_config
    save_with_reference(merged, tokenizer, directory)
    checkpoint = Checkpoint.open(directory)
    return checkpoint, sha256_of_file(save_heads(heads, checkpoint))


def behaviour(rows: Sequence[Rewarded]) -> dict[str, float | None]:
    """What the data's own answers are worth by the rewards that they came with."""
    mean, error = mean_and_stderr([row.reward for row in rows])
    return {"behaviour_rows": float(len(rows)), "behaviour_reward": mean, "behaviour_reward_stderr": error}


def steered_figures(
    policy: SteeredPolicy, recipe: ILQLRecipe, scorer: Scorer, rows: Sequence[Rewarded], prompts: Sequence[Prompt]
) -> dict[str, float | None]:
    """Mean rewards of sampled answers without steering and with it, over prompts; and the latter's gain over the behaviour.

    `steering_change` is what steering adds, paired by prompt: both are drawn with the same random numbers.
    The behaviour is measured by the same scorer, on answers of the data: their own rewards may be of another scale, as a
    pair's 1 and -1 are. A standard error of sampled answers is that of the prompts' means, each over its samples, so that
    answers to one prompt do not count as independent.
    """
    assert recipe.evaluation is not None
    settings = recipe.evaluation
    found: dict[str, float | None] = {
        "evaluation_prompts": float(len(prompts)),
        "evaluation_samples": float(settings.samples),
    }
    rewards: dict[str, list[float]] = {}  # each prompt's mean
    worth: dict[str, tuple[float, float | None]] = {}
    for name, beta in (("unsteered", 0.0), ("steered", recipe.steering.beta)):
        steering = recipe.steering.model_copy(update={"beta": beta})
        answers = policy.answers([row.prompt for row in prompts], settings.samples, steering, recipe.seed)
        scores = iter(
            scorer.score(
                policy.tokenizer,
                [(row.prompt, answer) for row, given in zip(prompts, answers, strict=True) for answer in given],
            )
        )
        rewards[name] = [statistics.fmean([next(scores) for _ in given]) for given in answers]
        worth[name] = mean_and_stderr(rewards[name])
        found[f"{name}_reward"], found[f"{name}_reward_stderr"] = worth[name]
    changes = [after - before for before, after in zip(rewards["unsteered"], rewards["steered"], strict=True)]
    found |= with_interval("steering_change", *mean_and_stderr(changes))
    drawn = random.Random(recipe.seed).sample(rows, min(len(rows), BEHAVIOUR_SCORED))
    mean, error = mean_and_stderr(scorer.score(policy.tokenizer, [(row.prompt, row.response) for row in drawn]))
    found |= {"behaviour_scored": float(len(drawn)), "behaviour_score": mean, "behaviour_score_stderr": error}
    steered, steered_error = worth["steered"]
    found["steered_gain"] = steered - mean
    known = steered_error is not None and error is not None
    found["steered_gain_stderr"] = math.hypot(steered_error or 0.0, error or 0.0) if known else None
    return found


def last_losses(run: RunDirectory) -> dict[str, float]:
    """Each loss as its mean over the last fifth of the steps."""
    from training.ilql import LOSSES

    lines = [json.loads(line) for line in run.metrics.read_text(encoding="utf-8").splitlines()]
    last = lines[-max(1, len(lines) // 5) :]
    return {name: statistics.fmean(line[name] for line in last) for name in LOSSES}


def _save(ilql: ILQL, run: RunDirectory) -> None:
    state: dict[str, Any] = ilql.state()
    if ilql.accelerator.is_main_process:
        run.sync_metrics()
        save_state(state, run.state / STATE_FILE)
        run.note_energy()
    ilql.accelerator.wait_for_everyone()


def _resume(ilql: ILQL, run: RunDirectory) -> None:
    """Continue from the saved state if there is one; metrics of steps after it are cut off, for they come again."""
    file = run.state / STATE_FILE
    if not file.is_file():
        run.metrics.unlink(missing_ok=True)
        return
    ilql.load_state(load_state(file))
    if ilql.accelerator.is_main_process:
        run.cut_metrics(ilql.steps_done)
        log(f"continuing after step {ilql.steps_done} of {ilql.total_steps}")


def _seconds(run: RunDirectory) -> float:
    """Seconds spent on steps before an interruption."""
    if not run.metrics.is_file():
        return 0.0
    return sum(float(json.loads(line)["seconds"]) for line in run.metrics.read_text(encoding="utf-8").splitlines())
