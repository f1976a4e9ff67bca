"""Training methods as a card names and cites them."""

from __future__ import annotations

from training.run_record import Made, RunRecord

METHODS = {
    "ppo": "aligned by PPO against {rewards}, with a penalty on the KL divergence from its parent",
    "rloo": "aligned by RLOO against {rewards}",
    "grpo": "aligned by GRPO against {rewards}",
    "dpo": "aligned by DPO on preference pairs",
    "kto": "aligned by KTO on answers marked good or bad",
    "sft": "fine-tuned on demonstrations",
    "ilql": "trained offline by ILQL, whose value heads steer its sampling",
    "merge": "an adapter merged into its parent",
    "reward": "trained on preference pairs as a reward model",
    "base": "copied, not trained here",
}
# Whom to cite for the method: key, authors, title, year, arXiv number.
PAPERS = {
    "ppo": (
        "ouyang2022training",
        "Ouyang, Long and others",
        "Training language models to follow instructions with human feedback",
        2022,
        "2203.02155",
    ),
    "rloo": (
        "ahmadian2024back",
        "Ahmadian, Arash and others",
        "Back to Basics: Revisiting REINFORCE Style Optimization for Learning from Human Feedback in LLMs",
        2024,
        "2402.14740",
    ),
    "grpo": (
        "shao2024deepseekmath",
        "Shao, Zhihong and others",
        "DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models",
        2024,
        "2402.03300",
    ),
    "dpo": (
        "rafailov2023direct",
        "Rafailov, Rafael and others",
        "Direct Preference Optimization: Your Language Model is Secretly a Reward Model",
        2023,
        "2305.18290",
    ),
    "kto": (
        "ethayarajh2024kto",
        "Ethayarajh, Kawin and others",
        "KTO: Model Alignment as Prospect Theoretic Optimization",
        2024,
        "2402.01306",
    ),
    "ilql": (
        "snell2022offline",
        "Snell, Charlie and others",
        "Offline RL for Natural Language Generation with Implicit Language Q Learning",
        2022,
        "2206.11871",
    ),
}


def method_words(run: RunRecord | Made) -> str:
    """How the checkpoint was made, in a few words."""
    source = run.rewards[-1] if run.rewards else None
    rewards = (
        "a reward model" if source is None else f"a reward {'function' if source.kind == 'function' else 'server'}"
    )
    return METHODS.get(run.method, f"trained by {run.method}").replace("{rewards}", rewards)
