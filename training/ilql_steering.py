"""Answers from a policy that ILQL's value heads steer: log pi + beta (Q - V), whatever decodes it.

    policy = SteeredPolicy.load(Path("runs/ilql/checkpoint"))
    with policy.steered(beta=4.0):                       # inside, policy.model speaks as it is steered
        policy.model.generate(**policy.tokenizer("b", return_tensors="pt"))

The heads lie beside the policy in `ilql/heads.safetensors`, which `from_pretrained` does not read: the checkpoint alone is the
policy without steering, and its digest names that. The heads' file names the digest that they belong to, and run.json the file's
SHA-256, so neither can be taken for another's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from training.chat import prompt_ids, stop_tokens
from training.checkpoint import Checkpoint
from training.data import Messages
from training.decoding import Decoding, decode
from training.errors import UsageError
from training.ilql_heads import ValueHeads
from training.ilql_math import steered_logits
from training.ilql_recipe import Steering
from training.pretrained import load_policy

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

HEADS_FILE = "ilql/heads.safetensors"
SAVED = ("target_q1.", "target_q2.", "v.")  # what steers; the Q functions that the targets follow are for training only


@dataclass(frozen=True)
class SteeredPolicy:
    """A policy with its tokenizer and value heads."""

    model: Any
    tokenizer: PreTrainedTokenizerBase
    heads: ValueHeads

    @classmethod
    def load(cls, path: Path, dtype: str = "float32", device: str = "cpu") -> SteeredPolicy:
        """Load a checkpoint with its heads. Raises UsageError where there are none, or where they are another policy's."""
        checkpoint = Checkpoint.open(path)
        heads = read_heads(checkpoint)
        model, tokenizer = load_policy(checkpoint, dtype)
        return cls(model.eval().to(device), tokenizer, heads.to(device))

    @contextmanager
    def steered(self, beta: float) -> Iterator[None]:
        """While open, the model's logits are log pi + beta (Q - V)."""
        projected: list[Tensor] = []

        def remember(_module: Any, inputs: tuple[Tensor, ...]) -> None:
            projected.append(inputs[0])

        def perturb(_module: Any, _inputs: Any, output: Any) -> Any:
            states = projected.pop().float()
            with torch.no_grad():
                q, values = self.heads.target_q(states), self.heads.value(states)
                output.logits = steered_logits(output.logits, q, values, beta)
            return output

        # On the whole model, for some change their logits after the projection (Gemma caps them).
        hooks = [
            self.model.get_output_embeddings().register_forward_pre_hook(remember),
            self.model.register_forward_hook(perturb),
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def answers(
        self, prompts: Sequence[Messages], samples: int, steering: Steering, seed: int = 0, batch_size: int = 16
    ) -> list[list[str]]:
        """`samples` steered answers to each prompt, by random numbers of the seed alone."""
        ids = [prompt_ids(self.tokenizer, prompt) for prompt in prompts]
        uniforms = torch.rand(
            len(ids) * samples, steering.max_new_tokens, generator=torch.Generator().manual_seed(seed)
        )
        decoding = Decoding(steering.max_new_tokens, steering.temperature, top_k=steering.top_k)
        stops = stop_tokens(self.tokenizer, self.model.generation_config)
        rows: list[list[int]] = []
        with self.steered(steering.beta):
            for start in range(0, len(ids), batch_size):
                chosen = ids[start : start + batch_size]
                numbers = uniforms[start * samples : (start + len(chosen)) * samples]
                rows += decode(self.model, chosen, samples, decoding, numbers, stops)
        texts = [self.tokenizer.decode(row, skip_special_tokens=True) for row in rows]
        return [texts[start : start + samples] for start in range(0, len(texts), samples)]


def save_heads(heads: ValueHeads, checkpoint: Checkpoint) -> Path:
    """Write what steers beside the checkpoint that it steers; returns the file."""
    from safetensors.torch import save_file

    file = checkpoint.path / HEADS_FILE
    file.parent.mkdir(exist_ok=True)
    tensors = {
        name: tensor.detach().float().cpu().contiguous()
        for name, tensor in heads.state_dict().items()
        if name.startswith(SAVED)
    }
    save_file(tensors, file, metadata={"policy_digest": checkpoint.digest})
    return file


def read_heads(checkpoint: Checkpoint) -> ValueHeads:
    """The checkpoint's heads, without gradients. Raises UsageError where there are none, or where they are another policy's."""
    from safetensors import safe_open

    file = checkpoint.path / HEADS_FILE
    if not file.is_file():
        raise UsageError(
            "this checkpoint has no value heads to steer it",
            where=str(checkpoint.path),
            expected=HEADS_FILE,
            next_step="train them: python -m training ilql --recipe ilql-starter --out runs/ilql",
        )
    with safe_open(file, framework="pt") as opened:
        named = (opened.metadata() or {}).get("policy_digest")
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
    if named != checkpoint.digest:
        raise UsageError(
            "these value heads were trained with another policy",
            where=str(file),
            expected=checkpoint.digest,
            found=str(named),
            next_step="use the checkpoint that they came with",
        )
    hidden, width = tensors["v.inner.weight"].shape
    heads = ValueHeads(width, hidden, len(tensors["target_q1.outer.bias"]))
    heads.load_state_dict(tensors, strict=False)
    return heads.requires_grad_(False)
