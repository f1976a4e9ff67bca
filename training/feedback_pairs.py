"""`python -m training feedback-pairs`: answers of two checkpoints, or of one with two samplings, for people to judge.

    python -m training feedback-pairs runs/ppo runs/base --prompts starter --limit 20 --out runs/pairs/pairs.jsonl
    python -m training feedback-pairs runs/ppo --temperature 0.7 --other-temperature 0 --out runs/pairs/pairs.jsonl

They are written beforehand, so that a labeller never waits for a model. Each answer names its checkpoint by digest.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.command import Result, log
from training.counted import counted
from training.errors import UsageError
from training.progress import Progress
from training.records import Record, write_atomically
from training.votes import Answer, Maker, Sampling, Turn, pair_id

if TYPE_CHECKING:
    from training.pretrained import BaseModel

AT_ONCE = 8  # prompts in a batch


class Pair(Record):
    """Two answers to one prompt, before anyone has judged them."""

    schema_version: int = 1
    pair_id: str
    prompt: list[Turn]
    one: Answer
    other: Answer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `python -m training feedback-pairs`."""
    parser.add_argument("one", help="a run's directory, a checkpoint directory or a Hub id[@revision]")
    parser.add_argument("other", nargs="?", help="the same; left out, the first one answers twice")
    parser.add_argument("--prompts", default="starter", help="starter, a .jsonl file or a dataset id (%(default)s)")
    parser.add_argument("--split", default="train", help="of the prompts (%(default)s)")
    parser.add_argument(
        "--system", metavar="TEXT", help="a system message before prompts that have none; labellers see it"
    )
    parser.add_argument("--limit", type=int, help="use only so many prompts, the first of a seeded shuffle")
    parser.add_argument("--temperature", type=float, default=0.7, help="0 is greedy (%(default)s)")
    parser.add_argument("--other-temperature", type=float, help="of the second answers (the same, if left out)")
    parser.add_argument("--top-p", type=float, default=0.9, help="(%(default)s)")
    parser.add_argument("--max-new-tokens", type=int, default=96, help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the shuffle and the samples")
    parser.add_argument("--name", action="append", default=[], help="how a checkpoint is called, in their order")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="pairs.jsonl")


def run_feedback_pairs(args: argparse.Namespace) -> Result:
    """`python -m training feedback-pairs`; where the file is there already, nothing is done."""
    temperatures = (args.temperature, args.temperature if args.other_temperature is None else args.other_temperature)
    if args.limit is not None and args.limit < 1:
        raise UsageError("--limit must be at least 1", found=str(args.limit))
    if (
        not all(0 <= temperature < math.inf for temperature in temperatures)
        or not 0 < args.top_p <= 1
        or args.max_new_tokens < 1
    ):
        raise UsageError(
            "a sampling is out of its bounds",
            expected="temperatures from 0, --top-p above 0 and at most 1, --max-new-tokens from 1",
            found=f"{temperatures[0]:g}, {temperatures[1]:g}, {args.top_p:g}, {args.max_new_tokens}",
        )
    if args.other is None and temperatures[0] == temperatures[1] == 0:
        raise UsageError(
            "one checkpoint answers twice and greedily, so its answers would be the same",
            next_step="give a second checkpoint, or --other-temperature",
        )
    if args.out.is_file():
        raise UsageError("this file is there already", where=str(args.out), next_step="choose another --out")

    from training.data import load_prompts
    from training.pretrained import resolve_base
    from training.recipe import DataSettings

    settings = DataSettings(
        source=args.prompts, split=args.split, limit=args.limit, system=args.system, heldout_fraction=0.0
    )
    prompts = [row.prompt for row in load_prompts(settings, args.seed).train]
    bases = [resolve_base(args.one), resolve_base(args.other or args.one)]
    names = [*args.name, *[None] * (2 - len(args.name))]
    if args.other is None:
        names[1] = names[0]
    answers = [
        answer_all(
            base,
            prompts,
            Sampling(temperature=temperature, top_p=args.top_p, max_new_tokens=args.max_new_tokens),
            # Two samples of one checkpoint need random numbers of their own.
            args.seed + place,
            name,
        )
        for place, (base, temperature, name) in enumerate(zip(bases, temperatures, names, strict=True))
    ]
    pairs, dropped = make_pairs(prompts, *answers)
    if not pairs:
        raise UsageError("no prompt got two different answers", found=json.dumps(dropped))
    lines = "".join(json.dumps(pair.model_dump(mode="json"), ensure_ascii=False) + "\n" for pair in pairs)
    write_atomically(args.out, lines.encode())
    left_out = "".join(f", {count} left out: {why}" for why, count in dropped.items())
    return {
        "pairs": len(pairs),
        "dropped": dropped,
        "out": str(args.out),
        "summary": f"{args.out}: {counted(len(pairs), 'pair')}{left_out}\n"
        f"next: python -m release feedback-space --pairs {args.out} --space ORG/NAME --votes ORG/NAME-votes",
    }


def make_pairs(
    prompts: Sequence[list[dict[str, str]]], one: Sequence[Answer | None], other: Sequence[Answer | None]
) -> tuple[list[Pair], dict[str, int]]:
    """Pairs of different answers, and how many prompts gave none, and why. None stands for an empty answer."""
    pairs: list[Pair] = []
    dropped: dict[str, int] = {}
    for prompt, first, second in zip(prompts, one, other, strict=True):
        why = None
        if first is None or second is None:
            why = "an answer is empty"
        elif first.text == second.text:
            why = "both answers are the same"
        if why or first is None or second is None:
            dropped[str(why)] = dropped.get(str(why), 0) + 1
            continue
        turns = [Turn.model_validate(turn) for turn in prompt]
        pairs.append(Pair(pair_id=pair_id(turns, first, second), prompt=turns, one=first, other=second))
    return pairs, dropped


def answer_all(
    base: BaseModel, prompts: Sequence[list[dict[str, str]]], sampling: Sampling, seed: int, name: str | None
) -> list[Answer | None]:
    """One answer to each prompt; its tokens depend on the seed and its place, not on the batch that it is in."""
    import torch
    import transformers

    from training.chat import prompt_ids, stop_tokens
    from training.context_length import require_context
    from training.decoding import Decoding, decode
    from training.precision import chosen_dtype
    from training.pretrained import load_policy
    from training.run_directory import training_device

    device = training_device()
    dtype = chosen_dtype("auto", device)
    log(f"answering {counted(len(prompts), 'prompt')} with {base.parent.name} ({base.checkpoint.digest})")
    model, tokenizer = load_policy(base.checkpoint, dtype)
    model.to(device).eval()
    stops = stop_tokens(tokenizer, model.generation_config)
    decoding = Decoding(sampling.max_new_tokens, sampling.temperature, sampling.top_p)
    generator = torch.Generator().manual_seed(seed)
    uniforms = torch.rand(len(prompts), sampling.max_new_tokens, generator=generator)
    lengths = (len(prompt_ids(tokenizer, prompt)) for prompt in prompts)
    require_context(
        model.config, lengths, "lower --max-new-tokens, or choose shorter prompts", sampled=sampling.max_new_tokens
    )
    maker = Maker(
        repo_id=name or base.parent.hub_id or Path(base.parent.name.partition("@")[0]).name,
        revision=base.parent.revision,
        digest=base.checkpoint.digest,
    )
    runtime = f"transformers {transformers.__version__}, torch {torch.__version__}, {dtype} on {device}"
    found: list[Answer | None] = []
    with Progress("answers", len(prompts)) as progress:
        for start in range(0, len(prompts), AT_ONCE):
            some = prompts[start : start + AT_ONCE]
            began = time.monotonic()
            ids = [prompt_ids(tokenizer, prompt) for prompt in some]
            tokens = decode(model, ids, 1, decoding, uniforms[start : start + len(some)], stops)
            seconds = round((time.monotonic() - began) / len(some), 3)  # of a batch, shared out
            for row in tokens:
                text = str(tokenizer.decode(row, skip_special_tokens=True)).strip()
                facts: dict[str, Any] = {"maker": maker, "sampling": sampling, "seed": seed, "runtime": runtime}
                cut = len(row) >= sampling.max_new_tokens  # a stop token is not among them
                found.append(Answer(text=text, seconds=seconds, cut=cut, **facts) if text else None)
                progress.advance()
    return found
