"""What a recipe's `args` may say to TRL: known keys, values of their types, and nothing that a run of ours decides or could not
continue with.
"""

from __future__ import annotations

import difflib
from typing import Any, get_args, get_type_hints

from training.command import log
from training.errors import UsageError

# Trainer's arguments that the run directory or the recipe's own keys decide.
RESERVED_ARGS = (
    *("output_dir", "seed", "bf16", "fp16", "max_length", "push_to_hub", "hub_model_id", "hub_token"),
    *("resume_from_checkpoint", "save_total_limit"),
    *("save_only_model", "ignore_data_skip"),  # of a run that is to continue where it was
    *("eval_strategy", "load_best_model_at_end"),  # held-out rows are measured by the run, before and after
)


def check_args(args: dict[str, Any], config: type[Any], reserved: tuple[str, ...]) -> None:
    """Raise UsageError for a key of `args` that is reserved or is no field of TRL's `config`, or whose value is of another type."""
    kinds = get_type_hints(config)
    for key, value in args.items():
        where = f"args.{key} of the recipe, or of an override"
        if key in reserved:
            raise UsageError(
                f"'args.{key}' is set by the run itself", where=where, next_step="remove it from the recipe's args"
            )
        if key not in kinds:
            close = difflib.get_close_matches(key, kinds, n=1)
            raise UsageError(
                f"unknown key 'args.{key}'",
                where=where,
                expected=f"a field of TRL's {config.__name__}",
                found=key,
                next_step=f"did you mean 'args.{close[0]}'?" if close else "remove the key",
            )
        plain = set(get_args(kinds[key]) or (kinds[key],))
        if plain <= {int, float, bool, str, type(None)} and not _is_a(value, plain):
            names = sorted("null" if kind is type(None) else kind.__name__ for kind in plain)
            raise UsageError(
                f"wrong value for 'args.{key}'", where=where, expected=" or ".join(names), found=repr(value)[:120]
            )


def require_continuable(values: dict[str, Any], adapters: bool) -> None:
    """Raise UsageError for a run that would learn nothing, and whose figures would still be told as its own; and for what no
    interrupted run could continue with. `values` are all arguments of TRL's config.
    """
    if values.get("num_train_epochs", 1) <= 0 and values.get("max_steps", -1) <= 0:
        raise UsageError(
            "this run would make no step",
            where="args.num_train_epochs and args.max_steps",
            expected="one of them above 0",
            found=f"{values['num_train_epochs']} and {values.get('max_steps', 'none')}",
        )
    if values["save_strategy"] == "no":
        log("nothing is saved on the way (args.save_strategy): interrupted, this run begins again from its first step")
    if values["save_strategy"] == "best":
        raise UsageError(
            "held-out rows are measured before training and after it, so there is no best step to save",
            where="args.save_strategy",
            expected="steps, epoch or 'no'",
            found="best",
        )
    if values.get("sync_ref_model") and adapters:
        raise UsageError(
            "with adapters the reference is the base without them, which cannot follow the policy",
            where="args.sync_ref_model",
            expected="lora: null",
            found="adapters",
            next_step="add lora=null, or remove args.sync_ref_model",
        )


def _is_a(value: Any, kinds: set[Any]) -> bool:
    """Whether a value from YAML is of one of these types; a whole number is a float too, and a truth value no number."""
    return type(value) in (kinds | {int} if float in kinds else kinds)
