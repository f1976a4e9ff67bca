"""The metrics that a run's record may have, by its recipe: so that a sweep for another one is refused before anything is trained.

metric_names(recipe)      # {"heldout_loss_before", "heldout_loss_after", ...}
"""

from __future__ import annotations

from typing import Any

from training.ilql_recipe import ILQLRecipe
from training.pair_report import LENGTHS
from training.ppo_recipe import PPORecipe


def with_ends(name: str) -> set[str]:
    """What `pair_report.with_interval` calls a figure and its uncertainty."""
    return {name, f"{name}_stderr", f"{name}_low", f"{name}_high"}


def prefixed(prefix: str, names: set[str]) -> set[str]:
    return {prefix + name for name in names}


LOSS = prefixed("heldout_", {"rows", "tokens", "loss_before", "loss_after"}) | with_ends("heldout_loss_change")
PAIRS = with_ends("heldout_accuracy") | prefixed(
    "heldout_",
    {"pairs", "longer_wins", "margin", "log_loss", "calibration_error", "length_correlation"}
    | {f"{what}_chosen_{length}" for what in ("pairs", "accuracy") for _, length in LENGTHS},
)
FEEDBACK = prefixed("heldout_", {"good", "bad", "reward_good", "reward_bad"}) | with_ends("heldout_auc")
REWARD_CHANGE = {"heldout_prompts", "heldout_reward_before", "heldout_reward_after"} | with_ends(
    "heldout_reward_change"
)
FIFTHS = {f"{what}_{part}_fifth" for what in ("reward", "kl") for part in ("first", "last")}
# By method: what is always measured, and what is measured on held-out rows.
TRL: dict[str, tuple[set[str], set[str]]] = {
    "sft": (set(), LOSS),
    "reward": (set(), PAIRS),
    "dpo": (set(), PAIRS | {"heldout_chosen_logprob_change"}),
    "kto": ({"heldout_good", "heldout_bad"}, FEEDBACK),
    "rloo": (FIFTHS, REWARD_CHANGE),
    "grpo": (FIFTHS, REWARD_CHANGE),
}


def metric_names(recipe: Any) -> set[str]:
    """Every metric that a run of this recipe may write; some of them depend on its data, too."""
    if isinstance(recipe, PPORecipe):
        return _ppo(recipe)
    if isinstance(recipe, ILQLRecipe):
        return _ilql(recipe)
    always, heldout = TRL[recipe.method]
    data = recipe.prompts if hasattr(recipe, "prompts") else recipe.data
    return always | (heldout if data.holds_out else set())


def _ppo(recipe: PPORecipe) -> set[str]:
    names = {"episodes", "reward_first_fifth", "reward_last_fifth", "reward_gain", "reward_gain_stderr"}
    names |= {"kl_last", "kl_max", "response_tokens_last", "episodes_per_second", "kept_update"}
    if recipe.prompts.holds_out:
        names |= {"heldout_reward_before", "heldout_reward_after"}
    if recipe.guards.heldout_every:
        names |= {"best_update", "heldout_reward_after_resampled", "heldout_reward_last"}
        names |= {"heldout_kl_after", "heldout_kl_last"}
    if recipe.ptx is not None and recipe.ptx.data.holds_out:
        names |= {"ptx_heldout_loss_before", "ptx_heldout_loss_after"}
    return names


def _ilql(recipe: ILQLRecipe) -> set[str]:
    losses = {"loss", "td_loss", "value_loss", "cql_loss", "awac_loss", "q", "value"}
    names = losses | {"behaviour_rows", "behaviour_reward", "behaviour_reward_stderr", "steps"}
    names |= {"reward_mean", "reward_deviation"} if recipe.ilql.scale_rewards else set()
    if recipe.data.holds_out:
        names |= prefixed("heldout_", losses) | {"heldout_value_correlation"}
    if recipe.evaluation is not None:
        names |= {"evaluation_prompts", "evaluation_samples", "behaviour_scored"} | with_ends("steering_change")
        for figure in ("unsteered_reward", "steered_reward", "behaviour_score", "steered_gain"):
            names |= {figure, f"{figure}_stderr"}
    return names
