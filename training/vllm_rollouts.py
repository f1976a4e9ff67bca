"""Rollouts by vLLM beside the policy: it is given the policy's weights before each batch, and on a GPU it sleeps while PPO learns.

    require_vllm(processes=1)                                     # UsageError where it cannot be had here
    engine = VLLMRollouts(checkpoint, "bfloat16", max_model_len=176, gpu_memory_utilization=0.3)
    engine.answers(policy, prompts, uniforms, Decoding(48, temperature=1.0), stops)     # token ids, with the token that ended each

Log-probabilities are not vLLM's. PPO's ratio is of a policy with its older self; other kernels give the same token a slightly other
probability, which the ratio would take for learning. So the policy says them in a pass of its own. What is left is that the
tokens were drawn from a slightly other distribution than is said; truncated importance sampling, which weighs them by that, is
not done.

vLLM is called as in its 0.32: `sleep`, `wake_up(["weights"])`, the worker's `reload_weights`, `wake_up(["kv_cache"])`. A
model's own `load_weights` is not enough: on a CPU an engine computes with packed copies of its weights, and keeps few others.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.decoding import Decoding
from training.errors import UsageError
from training.vllm_engine import built_for_cpu, engine_options, starting

SEED_BITS = 24  # what a float32 in [0, 1) holds


def require_vllm(processes: int) -> None:
    """Raise UsageError where vLLM is not installed or is not built for the device here, or more than one process trains."""
    needs = "ppo.rollouts: vllm"
    if importlib.util.find_spec("vllm") is None:
        raise UsageError(
            "rollouts by vLLM need the package vllm",
            where=needs,
            expected="vllm to be importable",
            found="no such package in this environment",
            next_step="pip install vllm, where there is a GPU (for a CPU: docs/ppo.md), or ppo.rollouts=model behind the command",
        )
    if built_for_cpu() == has_cuda():
        gpu = "a GPU that torch sees" if has_cuda() else "no GPU that torch sees"
        raise UsageError(
            "vLLM is not built for the device that the policy is on",
            where=needs,
            expected="a CUDA device and vLLM's CUDA build, or neither and a CPU build",
            found=f"{gpu}, and vLLM's {'CPU' if built_for_cpu() else 'CUDA'} build",
            next_step="install the build for this machine (docs/ppo.md); or ppo.rollouts=model behind the command",
        )
    if processes > 1:
        raise UsageError(
            "rollouts by vLLM are for one process",
            where=needs,
            expected="one process with a whole model",
            found=f"{processes} processes",
            next_step="launch one process; or ppo.rollouts=model behind the command",
        )


def has_cuda() -> bool:
    return torch.cuda.is_available()


class VLLMRollouts:
    """vLLM's engine in this process. On a GPU it sleeps between two calls, and holds neither weights nor keys and values.

    Raises UsageError, in vLLM's words, where it does not start.
    """

    def __init__(self, checkpoint: Path, dtype: str, max_model_len: int, gpu_memory_utilization: float) -> None:
        # In a process of its own the engine's model could not be reached from here.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        self.on_cpu = built_for_cpu()
        with starting("ppo.rollouts: vllm"):
            from vllm import LLM

            self.llm: Any = LLM(
                model=str(checkpoint),
                dtype=dtype,
                max_model_len=max_model_len,
                gpu_memory_utilization=gpu_memory_utilization,
                enable_sleep_mode=not self.on_cpu,
                seed=0,  # each request has its own
                **engine_options(),
            )
        self._sleep()

    def answers(
        self,
        policy: Any,
        prompts: Sequence[Sequence[int]],
        uniforms: Tensor,
        decoding: Decoding,
        stop_tokens: Sequence[int],
    ) -> list[list[int]]:
        """One answer of `policy`, a causal language model, to each prompt, with the token that ended it.

        `uniforms` `(B, T)` in [0, 1) give each answer its seed, so that it does not depend on the batch; but kernels' sums may.
        """
        from vllm import SamplingParams

        settings = [
            SamplingParams(
                n=1,
                temperature=decoding.temperature,
                max_tokens=decoding.max_new_tokens,
                seed=seed,
                stop_token_ids=list(stop_tokens),
                ignore_eos=True,  # these ends and no others of the engine's own
                detokenize=False,
            )
            for seed in seeds(uniforms)
        ]
        self._wake_with(policy)
        asked = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        found = self.llm.generate(asked, sampling_params=settings, use_tqdm=False)
        self._sleep()
        return [list(request.outputs[0].token_ids) for request in found]

    def _wake_with(self, policy: Any) -> None:
        """Wake the engine up with the policy's weights, and no keys and values of those before."""
        if not self.on_cpu:
            torch.cuda.empty_cache()  # what learning left is the engine's now
            self.llm.wake_up(tags=["weights"])
        self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": merged_weights(policy)})
        if self.on_cpu:
            self.llm.apply_model(pack_heads)
        else:
            self.llm.wake_up(tags=["kv_cache"])
        self.llm.reset_prefix_cache()

    def _sleep(self) -> None:
        if not self.on_cpu:
            self.llm.sleep(level=2)


def pack_heads(model: Any) -> None:
    """Pack the output head's weights anew, for a CPU: where they are the embedding's, `reload_weights` packs the embedding only."""
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

    for module in model.modules():
        if isinstance(module, ParallelLMHead):
            module.quant_method.process_weights_after_loading(module)


def seeds(uniforms: Tensor) -> list[int]:
    """A whole number below 2^48 for each row of random numbers, `(B, T)`."""
    parts = (uniforms[:, :2].double() * 2**SEED_BITS).long()  # (B, 2), or (B, 1) where answers have one token
    return [sum(part << (SEED_BITS * place) for place, part in enumerate(row)) for row in parts.tolist()]


@torch.no_grad()
def merged_weights(model: Any) -> Iterator[tuple[str, Tensor]]:
    """The weights by `from_pretrained`'s names, one at a time, LoRA's updates added as merging adds them.

    The model's own weights stay as they are: taking an update out again would leave rounding behind.
    """
    from peft.tuners.lora import LoraLayer

    adapted = {f"{name}.base_layer.weight": part for name, part in model.named_modules() if isinstance(part, LoraLayer)}
    for name, weight in model.named_parameters():
        if ".lora_" in name:
            continue
        if name in adapted:
            weight = (weight.float() + adapted[name].get_delta_weight("default").float()).to(weight.dtype)
        yield name.replace(".base_layer.", "."), weight.detach()
