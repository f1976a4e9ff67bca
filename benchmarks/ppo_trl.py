"""TRL 1.12.0's PPOTrainer on the work of benchmarks/ppo.py, which starts this file in the environment that it makes.

It prints one JSON object: seconds of each update, operations of one, and this process's peak memory. Nothing of Slipway is
imported. All four of TRL's models are in the given precision, without gradient checkpointing: what is fastest for it.
"""

import argparse
import json
import resource
import time
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
from trl.experimental.ppo import PPOConfig, PPOTrainer


class Clock(TrainerCallback):
    """The time of each update; the operations of the first are counted, and its time is not used."""

    def __init__(self) -> None:
        self.counter = FlopCounterMode(display=False)
        self.seconds: list[float] = []

    def on_train_begin(self, *_args: object, **_more: object) -> None:
        self.counter.__enter__()
        self.began = time.monotonic()

    def on_step_end(self, *_args: object, **_more: object) -> None:
        if not self.seconds:
            self.counter.__exit__(None, None, None)
        self.seconds.append(time.monotonic() - self.began)
        self.began = time.monotonic()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path, help="JSON of benchmarks/ppo.py")
    work = json.loads(parser.parse_args().work.read_text())
    dtype = getattr(torch, work["dtype"])
    tokenizer = AutoTokenizer.from_pretrained(work["checkpoint"])
    tokenizer.add_special_tokens(
        {"pad_token": "<|never|>"}
    )  # outside the model's vocabulary, so no answer is cut short
    policy, reference = (AutoModelForCausalLM.from_pretrained(work["checkpoint"], dtype=dtype) for _ in range(2))
    value, reward = (
        AutoModelForSequenceClassification.from_pretrained(work["checkpoint"], num_labels=1, dtype=dtype)
        for _ in range(2)
    )
    lora = LoraConfig(task_type="CAUSAL_LM", **work["lora"]) if work["lora"] else None
    config = PPOConfig(
        output_dir=str(Path(work["scratch"]) / "trl"),
        per_device_train_batch_size=work["mini_batch"],
        gradient_accumulation_steps=work["episodes"] // work["mini_batch"],
        num_mini_batches=work["episodes"] // work["mini_batch"],
        num_ppo_epochs=work["epochs"],
        total_episodes=work["episodes"] * (work["updates"] + 1),
        response_length=work["answer_tokens"],
        temperature=1.0,
        learning_rate=work["learning_rate"],
        local_rollout_forward_batch_size=work["episodes"],
        num_sample_generations=0,
        gradient_checkpointing=work["gradient_checkpointing"],
        bf16=False,  # the weights are in bfloat16 already: no autocast around them
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    clock = Clock()
    trainer = PPOTrainer(
        args=config,
        processing_class=tokenizer,
        model=policy,
        ref_model=None if lora else reference,
        reward_model=reward,
        value_model=value,
        train_dataset=Dataset.from_dict({"input_ids": work["prompts"]}),
        peft_config=lora,
        callbacks=[clock],
    )
    if lora:
        del reference
    trainer.train()
    print(
        json.dumps(
            {
                "seconds": clock.seconds[1:],
                "operations": clock.counter.get_total_flops(),
                "peak_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            }
        )
    )


if __name__ == "__main__":
    main()
