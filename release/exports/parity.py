"""Does a GGUF file still say what its checkpoint says? Token ids, probabilities and texts of llama.cpp against transformers.

    reference = take_reference(checkpoint)                       # transformers, float32, the checkpoint's own chat template
    loss = measure(Path("model-Q8_0.gguf"), reference)           # llama.cpp, on the same tokens
    refusal(loss, BOUNDS["Q8_0"])                                # None, or which bound was not kept

The reference continues each prompt greedily. At every position of these answers both runtimes are given the same tokens, and
their distributions of the next one are compared: KL(reference || file) in nats, and whether the likeliest token is the same.
The divergence is taken over the file's TOP likeliest tokens and all others together as one, which is at most what the whole
vocabulary would give (data processing inequality; Cover and Thomas 2006, theorem 4.4.1), and reads a 50th of the figures.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.checkpoint import Checkpoint
from training.progress import Progress
from training.records import Record, sha256_of_file

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

PROMPTS = Path(__file__).with_name("prompts.jsonl")
ANSWER_TOKENS = 16
TOP = 1024
# Logarithm of the smallest float32 above zero: what a runtime rounds to zero is not infinitely unlikely.
LOG_LEAST = -103.28


class Loss(Record):
    """What a file loses against its checkpoint, on `positions` next-token distributions of `prompts` answers.

    `same_tokens`: prompts that llama.cpp's own template and tokenizer turn into the same ids. `same_texts`: prompts whose
    greedy answer, free-running from the conversation alone, is the same text to its end.
    """

    prompts: int
    positions: int
    kl_mean: float
    kl_max: float
    greedy_agreement: float
    same_tokens: int
    same_texts: int


@dataclass(frozen=True)
class Bound:
    """The most that a file of one precision may lose."""

    kl_mean: float
    greedy_agreement: float


# Measured losses stand in docs/log.md. An unquantised file differs by rounding alone.
BOUNDS = {
    **dict.fromkeys(("F32", "F16", "BF16"), Bound(0.001, 0.98)),
    **dict.fromkeys(("Q8_0", "Q6_K"), Bound(0.02, 0.94)),
    **dict.fromkeys(("Q5_K_M", "Q5_1", "Q5_0"), Bound(0.1, 0.85)),
    **dict.fromkeys(("Q4_K_M", "Q4_1", "Q4_0"), Bound(0.3, 0.75)),
}


@dataclass(frozen=True)
class Reference:
    """One prompt of the checkpoint: its conversation, token ids, greedy answer, and log-probabilities (positions, vocabulary)."""

    messages: list[dict[str, str]]
    ids: list[int]
    answer: list[int]
    text: str
    logprobs: Array


def take_reference(checkpoint: Checkpoint, prompts: Path = PROMPTS) -> list[Reference]:
    """What transformers makes of the prompts, in float32."""
    import torch
    from transformers import AutoModelForCausalLM

    from training.pretrained import load_tokenizer

    tokenizer = load_tokenizer(checkpoint)
    model = AutoModelForCausalLM.from_pretrained(checkpoint.path, dtype=torch.float32).eval()
    references = []
    conversations = [json.loads(line)["messages"] for line in prompts.read_bytes().splitlines() if line]
    with Progress("reference", total=len(conversations)) as progress, torch.inference_mode():
        for messages in conversations:
            rendered = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
            ids = list(rendered["input_ids"])
            inputs = torch.tensor([ids])
            generated = model.generate(
                inputs,
                attention_mask=torch.ones_like(inputs),
                max_new_tokens=ANSWER_TOKENS,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
            )[0, len(ids) :]
            logits = model(torch.cat([inputs[0], generated])[None]).logits[
                0, len(ids) - 1 : -1
            ]  # (positions, vocabulary)
            references.append(
                Reference(
                    messages=messages,
                    ids=ids,
                    answer=generated.tolist(),
                    text=tokenizer.decode(generated, skip_special_tokens=True),
                    logprobs=logits.float().log_softmax(-1).numpy(),
                )
            )
            progress.advance()
    return references


def measure(file: Path, references: list[Reference]) -> Loss:
    """Run llama.cpp on the file. Raises UsageError where llama.cpp cannot be had or does not load it."""
    import numpy as np

    from release.exports.llama_cpp import LlamaCpp

    divergences, agreements = [], []
    same_tokens = same_texts = 0
    context = max(len(one.ids) for one in references) + ANSWER_TOKENS + 8
    with LlamaCpp(file, context) as llama, Progress(f"parity {file.name}", total=len(references)) as progress:
        for one in references:
            for at, ours in enumerate(one.logprobs):
                tokens, theirs = llama.next_logprobs([*one.ids, *one.answer[:at]], min(TOP, len(ours)))
                divergences.append(kl_divergence(with_rest(ours[tokens]), with_rest(theirs)))
                agreements.append(int(ours.argmax()) == tokens[0])
            same_tokens += llama.tokens(llama.rendered(one.messages)) == one.ids
            same_texts += llama.answer(one.messages, ANSWER_TOKENS) == one.text
            progress.advance(f"KL {np.mean(divergences):.2g}")
    kl, agree = np.array(divergences), np.array(agreements)
    return Loss(
        prompts=len(references),
        positions=len(kl),
        kl_mean=float(kl.mean()),
        kl_max=float(kl.max()),
        greedy_agreement=float(agree.mean()),
        same_tokens=same_tokens,
        same_texts=same_texts,
    )


def with_rest(logprobs: Array) -> Array:
    """Log-probabilities of some tokens `(tokens,)`, and of all others together at the end, `(tokens + 1,)`, in float64."""
    import numpy as np

    some = logprobs.astype(np.float64)
    rest = max(0.0, 1.0 - float(np.exp(some).sum()))
    # Below the rounding of float32 sums there is nothing to say of the rest.
    return np.append(some, np.log(rest) if rest > 1e-6 else -np.inf)


def kl_divergence(reference: Array, other: Array) -> float:
    """KL(reference || other) in nats, from log-probabilities `(outcomes,)`.

    sum_v p(v) (log p(v) - log q(v)) (Kullback and Leibler 1951, equation 2.4); what has no probability adds nothing.
    """
    import numpy as np

    known = np.isfinite(reference)
    p, q = reference[known], np.maximum(other[known], LOG_LEAST)
    return max(0.0, float((np.exp(p) * (p - q)).sum()))


def refusal(loss: Loss, bound: Bound) -> str | None:
    """Why a file does not pass; None where it does."""
    if loss.same_tokens < loss.prompts:
        lost = loss.prompts - loss.same_tokens
        return f"llama.cpp turns {lost} of {loss.prompts} prompts into other tokens than the checkpoint's tokenizer"
    if not loss.kl_mean <= bound.kl_mean:
        return f"mean KL divergence {loss.kl_mean:.4g} nats a token, at most {bound.kl_mean:g} allowed"
    if loss.greedy_agreement < bound.greedy_agreement:
        return f"greedy agreement {loss.greedy_agreement:.3f}, at least {bound.greedy_agreement:g} required"
    return None


def prompts_digest(prompts: Path = PROMPTS) -> str:
    return f"sha256:{sha256_of_file(prompts)}"
