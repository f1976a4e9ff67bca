"""Is there memory for a run? Asked before it begins, with numbers, of what the run surely takes.

    require_memory(recipe, out)     # UsageError where it surely takes more than the GPU or the machine has free

What is counted is memory_estimate.py's; lengths are those of rows of the data, not the longest that the recipe would allow. A
recipe with `memory_check: false` is not asked.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.chat import prompt_ids
from training.checkpoint import Checkpoint
from training.data import Conversation, as_preference, as_prompt, recognised
from training.demonstrations import as_demonstration, as_feedback_or_pair
from training.errors import UsageError
from training.ilql_data import as_rewarded_or_pair
from training.lora_layers import with_chosen_layers
from training.memory_estimate import (
    GRADIENT,
    MOMENTS,
    MemoryNeed,
    Sampling,
    Step,
    Trained,
    adapter_parameters,
    gigabytes,
    run_memory,
    with_critic,
)
from training.model_shape import parameters_of, shape_of
from training.packaged import PACKAGED
from training.ppo_recipe import PPORecipe
from training.precision import multiplies_bfloat16
from training.pretrained import found_checkpoint, load_tokenizer
from training.processes import launched_processes
from training.raw_rows import read_rows
from training.recipe import DataSettings, LoraSettings
from training.run_directory import RunDirectory, training_device

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CGROUP = Path("/sys/fs/cgroup")
SAMPLE = 64  # rows whose tokens are counted
ROWS_OF = {  # method -> how its rows are read, sequences that each becomes, and whether its logits meet the vocabulary
    "sft": (as_demonstration, 1, True),
    "reward": (as_preference, 2, False),
    "dpo": (as_preference, 2, True),
    "kto": (as_feedback_or_pair, 1, True),
    "ilql": (as_rewarded_or_pair, 1, True),
}
SAMPLED = ("ppo", "rloo", "grpo")  # methods that answer prompts
PER_DEVICE = 8  # sequences of a step where a TRL recipe names none: transformers' default


def require_memory(recipe: Any, out: Path) -> None:
    """Raise UsageError, with the numbers, where the run surely needs more memory than is free. A complete run needs none."""
    recipe = with_chosen_layers(recipe, out)
    if not recipe.memory_check or RunDirectory(out, {}).complete:
        return
    if recipe.base in PACKAGED or recipe.base.endswith(".gguf"):  # the run says what is to be done with these
        return
    device = training_device()
    need = need_of(recipe, device)
    free = free_memory(device)
    if need.total > free:
        raise UsageError(
            "this run needs more memory than there is",
            where="the GPU" if device == "cuda" else "this machine",
            expected=f"at most {gigabytes(free)}, which is free",
            found=need.in_words(),
            next_step="lower the batch size or max_length, train with LoRA on fewer layers, or take a smaller model; "
            "memory_check=false behind the command tries all the same",
        )


def need_of(recipe: Any, device: str) -> MemoryNeed:
    """What a recipe of a method that trains surely takes on one process."""
    checkpoint = found_checkpoint(recipe.base)
    trained = _trained(recipe, checkpoint, device)
    step, sampling = _passes(recipe, load_tokenizer(checkpoint))
    others = _other_models(recipe, trained, parameters_of(checkpoint))
    moments = str(_args(recipe).get("optim", "adamw_torch")).startswith("adamw_torch")  # others may keep less
    need = run_memory(trained, step, sampling, others, launched_processes(), moments=moments)
    if recipe.method == "ppo" and recipe.ppo.critic == "separate":
        critic = _critic(recipe, device)
        need = with_critic(need, critic, step, launched_processes())
    return need


def _trained(recipe: Any, checkpoint: Checkpoint, device: str) -> Trained:
    shape, parameters = shape_of(checkpoint.config), parameters_of(checkpoint)
    halves = recipe.dtype == "bfloat16" or (recipe.dtype == "auto" and multiplies_bfloat16(device))
    number_bytes = 2 if halves else 4
    checkpointing = bool(getattr(recipe, "gradient_checkpointing", _args(recipe).get("gradient_checkpointing")))
    lora: LoraSettings | None = recipe.lora
    if lora is None:  # full fine-tuning keeps its weights in float32
        return Trained(shape, parameters, parameters, 4, number_bytes, 0, checkpointing)
    layers = lora.layers_to_transform or list(range(shape.layers))
    modules = [lora.target_modules] if isinstance(lora.target_modules, str) else lora.target_modules
    adapters = adapter_parameters(shape, lora.r, modules, len(layers))
    held = parameters + adapters * 4 // number_bytes  # adapters are float32
    return Trained(shape, held, adapters, number_bytes, number_bytes, min(layers), checkpointing)


def _critic(recipe: PPORecipe, device: str) -> Trained:
    """A critic of its own. Frozen weights of the base's shape may lie in the memory of other models, so adapters alone are sure."""
    critic = _trained(recipe, found_checkpoint(recipe.critic_source), device)
    if recipe.lora is None or critic.shape != shape_of(found_checkpoint(recipe.base).config):
        return critic
    return replace(critic, parameters=critic.trainable * 4 // critic.weight_bytes)


def _other_models(recipe: Any, trained: Trained, parameters: int) -> int:
    """Bytes of the models that do not learn, and of value heads."""
    args, method = _args(recipe), recipe.method
    # A reference is a copy where everything learns, and none where TRL's coefficient of it is 0.
    reference = {
        "ppo": True,
        "kto": True,
        "dpo": not args.get("precompute_ref_log_probs"),
        "rloo": float(args.get("beta", 0.05)) > 0,
        "grpo": float(args.get("beta", 0.0)) > 0,
    }
    size = parameters * trained.weight_bytes if recipe.lora is None and reference.get(method) else 0
    if getattr(recipe, "reward_model", None):
        size += parameters_of(found_checkpoint(recipe.reward_model)) * trained.number_bytes
    if method == "ilql":  # two Q heads that learn, and their targets, in float32
        hidden = recipe.ilql.head_size or trained.shape.width
        size += 2 * hidden * (trained.shape.width + trained.shape.vocabulary) * (4 + GRADIENT + MOMENTS + 4)
    return size


def _args(recipe: Any) -> dict[str, Any]:
    """TRL's own settings, of a recipe that has them."""
    return getattr(recipe, "args", {})


def _passes(recipe: Any, tokenizer: PreTrainedTokenizerBase) -> tuple[Step, Sampling | None]:
    """The largest batch that is surely learned from, and what is sampled at once."""
    args = _args(recipe)
    if recipe.method in SAMPLED:
        prompts, _ = _lengths(recipe.prompts, as_prompt, "prompts.jsonl", tokenizer, recipe.max_prompt_length)
        new = recipe.generation.max_new_tokens
        if recipe.method == "ppo":
            processes = launched_processes()
            learned = min(recipe.ppo.mini_batch_size, recipe.ppo.batch_size) // recipe.ppo.gradient_accumulation_steps
            # An answer may end at once: of what is learned only the prompts and a token are sure.
            learned, sampled = learned // processes, recipe.ppo.batch_size // processes
            return Step(max(1, learned), prompts + 1, 1), Sampling(max(1, sampled), prompts + new)
        batch = int(args.get("per_device_train_batch_size", PER_DEVICE))
        return Step(batch, prompts + 1, 1), Sampling(batch, prompts + new)
    convert, sequences, predicts = ROWS_OF[recipe.method]
    longest, rows = _lengths(recipe.data, convert, "preferences.jsonl", tokenizer, recipe.max_length)
    if recipe.method == "ilql":
        batch = max(1, recipe.ilql.batch_size // recipe.ilql.gradient_accumulation_steps)
    else:
        batch = min(rows, int(args.get("per_device_train_batch_size", PER_DEVICE)))
    return Step(batch * sequences, longest, longest if predicts and recipe.method != "ilql" else 0), None


def _lengths(
    settings: DataSettings, convert: Any, starter_file: str, tokenizer: PreTrainedTokenizerBase, most: int
) -> tuple[int, int]:
    """Tokens that a quarter of SAMPLE rows reach, of those that are not too long, and how many rows there are to train on.

    Tokens are of the prompt and the longest answer. The very longest row may be one that is held out.
    """
    split = settings.split
    if settings.source != "starter" and not Path(settings.source).expanduser().is_file():
        split += f"[:{16 * SAMPLE}]"  # datasets' slice: enough to see, where all may be millions
    raw, _, _ = read_rows(settings, split, starter_file)
    count = min(len(raw), settings.limit or len(raw))
    sample = raw[: count : max(1, count // SAMPLE)]
    rows = [row for _, row in (recognised(each, convert) for each in sample) if isinstance(row, Conversation)]
    found = [_tokens(tokenizer, row) for row in rows]
    lengths = sorted(length for length in found if length <= most)
    share = 1.0 if settings.heldout_split is not None else 1.0 - settings.heldout_fraction
    return (lengths[len(lengths) * 3 // 4] if lengths else 0), int(count * share)


def _tokens(tokenizer: PreTrainedTokenizerBase, row: Conversation) -> int:
    answers = [value for name, value in vars(row).items() if name != "prompt"]
    texts = [answer[-1]["content"] if isinstance(answer, list) else answer for answer in answers]
    longest = max((len(tokenizer(text)["input_ids"]) for text in texts if isinstance(text, str)), default=0)
    return len(prompt_ids(tokenizer, row.prompt)) + longest


def free_memory(device: str) -> float:
    """Bytes that a run may still take: of the GPU, or of the machine with its swap, within the control group's limit."""
    if device == "cuda":
        import torch

        return float(torch.cuda.mem_get_info()[0])
    import psutil

    free = float(psutil.virtual_memory().available + psutil.swap_memory().free)
    limit, used = CGROUP / "memory.max", CGROUP / "memory.current"
    if limit.is_file() and used.is_file() and (most := limit.read_text().strip()).isdigit():
        reclaimable = _reclaimable(CGROUP / "memory.stat")
        free = min(free, int(most) - int(used.read_text()) + reclaimable)
    return free


def _reclaimable(stat: Path) -> int:
    """Bytes of files' pages that the kernel gives back when they are needed."""
    lines = dict(line.split() for line in stat.read_text().splitlines()) if stat.is_file() else {}
    return int(lines.get("inactive_file", 0)) + int(lines.get("active_file", 0))
