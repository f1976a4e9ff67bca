"""Which checkpoints answer live in the feedback Space, and how: what --live and the options beside it say.

sides = live_sides(args)      # two of them, each with its checkpoint's repository, commit and digest; None without --live
"""

from __future__ import annotations

import argparse
from typing import Any

from training.errors import UsageError


def add_live_arguments(command: argparse.ArgumentParser) -> None:
    """Add --live and its sampling. The bounds are those of the chat page, spaces/chat/limits.py."""
    command.add_argument(
        "--live",
        nargs="+",
        metavar="MODEL",
        help="ORG/NAME[@REV] of one or two released models that answer what a labeller asks; a folder, with --out alone",
    )
    command.add_argument("--temperature", type=float, default=0.7, help="of live answers, 0 is greedy (%(default)s)")
    command.add_argument("--other-temperature", type=float, help="of the second live answer (the same, if left out)")
    command.add_argument("--top-p", type=float, default=0.9, help="of live answers (%(default)s)")
    command.add_argument("--max-new-tokens", type=int, default=128, help="of live answers (%(default)s)")


def live_sides(args: argparse.Namespace) -> list[dict[str, Any]] | None:
    """The two ways to answer, for space.json; None without --live.

    Raises UsageError where a number is out of its bounds, where both would always say the same, and where a folder is to be
    published; HubError where the Hub does not give a model.
    """
    if not args.live:
        return None
    temperatures = (args.temperature, args.temperature if args.other_temperature is None else args.other_temperature)
    if (
        min(temperatures) < 0
        or max(temperatures) > 1.5
        or not 0.05 <= args.top_p <= 1
        or not 16 <= args.max_new_tokens <= 1024
    ):
        raise UsageError(
            "a sampling is out of its bounds",
            expected="temperatures from 0 to 1.5, --top-p from 0.05 to 1, --max-new-tokens from 16 to 1024",
            found=f"{temperatures[0]:g}, {temperatures[1]:g}, {args.top_p:g}, {args.max_new_tokens}",
        )
    if len(args.live) > 2:
        raise UsageError(
            "two answers are compared", expected="--live with one or two models", found=" ".join(args.live)
        )
    if len(args.live) == 1 and temperatures == (0, 0):
        raise UsageError(
            "one checkpoint answers twice and greedily, so its answers would be the same",
            next_step="give a second model, or --other-temperature",
        )
    makers = [_maker(model, publish=args.space is not None) for model in args.live]
    return [
        {
            **maker,
            "precision": "auto",
            "sampling": {"temperature": temperature, "top_p": args.top_p, "max_new_tokens": args.max_new_tokens},
        }
        for maker, temperature in zip((makers * 2)[:2], temperatures, strict=True)
    ]


def _maker(model: str, *, publish: bool) -> dict[str, Any]:
    from training.pretrained import resolve_base

    base = resolve_base(model)
    if base.parent.hub_id is not None and base.parent.revision is not None and not _is_folder(model):
        return {
            "model_id": base.parent.hub_id,
            "revision": base.parent.revision,
            "checkpoint_digest": base.checkpoint.digest,
        }
    if publish:
        raise UsageError(
            "a published page loads its models from the Hub, and this is a folder",
            where=model,
            next_step="release it, then name it ORG/NAME@TAG; or try the page with --out alone",
        )
    folder = base.checkpoint.path.resolve()
    return {"model_id": str(folder), "revision": None, "checkpoint_digest": base.checkpoint.digest}


def _is_folder(model: str) -> bool:
    from pathlib import Path

    return Path(model).expanduser().is_dir()
