"""Whether what a model is asked fits into its context, found out before weights are loaded.

    require_room("gsm8k", generation, context)          # the answer alone
    require_fit("gsm8k", requests, evaluated, 256)      # each item with its answer

A text that is too long would lose its beginning, the instruction and the head of the conversation first, and be scored as if
nothing were missing; lm-eval's backends do so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from evals.task_definition import Unavailable
from training.counted import counted

if TYPE_CHECKING:
    from evals.evaluated import Evaluated
    from evals.harness import Request

SPECIAL = 8  # tokens that a tokenizer may add to a text, at most


def require_room(name: str, generation: dict[str, Any], context: int) -> None:
    """Raise Unavailable where a generation would not fit into the model's context: other tasks may."""
    if int(generation["max_gen_toks"]) >= context:
        raise Unavailable(
            f"{name} generates more tokens than the model's context holds",
            where=f"generation of {name}",
            expected=f"max_gen_toks below {context}",
            found=str(generation["max_gen_toks"]),
            next_step="set generation: {max_gen_toks: ...} for this task in a suite of your own",
        )


def require_fit(name: str, requests: Sequence[Request], evaluated: Evaluated, written: int) -> None:
    """Raise Unavailable where an item's longest text, with `written` tokens of an answer, is longer than the context."""
    context = evaluated.context
    lengths = {request.item: _longest(request, evaluated, context - written) + written for request in requests}
    too_long = {item: length for item, length in lengths.items() if length > context}
    if not too_long:
        return
    item, longest = max(too_long.items(), key=lambda pair: pair[1])
    raise Unavailable(
        f"{len(too_long)} of {counted(len(requests), 'item')} of {name} do not fit into the model's context, and would be asked "
        "without their beginning",
        where=f"item {item}",
        expected=f"at most {context} tokens" + (f", {written} of them for the answer" if written else ""),
        found=f"{longest} tokens",
        next_step="fewer shots (num_fewshot), or a shorter answer (generation: {max_gen_toks: ...}), in a suite of your own",
    )


def _longest(request: Request, evaluated: Evaluated, room: int) -> int:
    """Tokens that the model reads of the request's longest text, or 0 where all are plainly short: a token has a byte at least."""
    longest = 0
    for instance in request.instances:
        context, after = str(instance.args[0]), request.choices and str(instance.args[1])
        if len(context.encode()) + len((after or "").encode()) + SPECIAL <= room:
            continue
        read = evaluated.prompt_length(context)
        if after:
            read += evaluated.count(after) - 1  # the last token is predicted, and not read
        longest = max(longest, read)
    return longest
