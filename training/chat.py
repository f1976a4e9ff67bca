"""A conversation as token ids, the same wherever it is read: reward training, rollouts, scoring by a reward model.

A prompt ends where the assistant begins to speak; an answer ends with the token that ends a turn, and nothing after it. That is the
chat template's, which need not be the tokenizer's end token: in some families (Gemma, Phi) that one ends a document.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from training.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from training.data import Messages

UNLEARNED = -100  # the label of a token that is read only, as torch's cross-entropy has it


def prompt_ids(tokenizer: PreTrainedTokenizerBase, prompt: Messages) -> list[int]:
    """The prompt through the chat template, up to the header of the assistant's turn."""
    return list(tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)["input_ids"])


def turn_end(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that ends an assistant's turn: the first special one behind an answer in the chat template, else the end token.

    Raises UsageError where the template does not take a user's message with an answer.
    """
    written = written_turn_end(tokenizer)
    return int(tokenizer.eos_token_id) if written is None else written


def written_turn_end(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The first special token behind an answer in the chat template; None where the template writes none. Raises as `turn_end`."""
    return _written_turn_end(tokenizer, str(tokenizer.chat_template))


def stop_tokens(tokenizer: PreTrainedTokenizerBase, generation_config: Any) -> list[int]:
    """Where a sampled answer ends: at its turn's end, at the tokenizer's end token, and where `generate` would stop as well."""
    named = generation_config.eos_token_id if generation_config is not None else None
    return sorted({turn_end(tokenizer), tokenizer.eos_token_id, *([named] if isinstance(named, int) else named or [])})


@lru_cache(maxsize=8)
def _written_turn_end(tokenizer: PreTrainedTokenizerBase, _template: str) -> int | None:
    question, answer = "How many planets are there?", "There are eight."
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    try:
        text = str(tokenizer.apply_chat_template(turns, tokenize=False))
    except Exception as error:  # a template can raise whatever it likes
        raise UsageError(
            "the chat template cannot be rendered",
            expected="a template that takes a user's message, and an assistant's after it",
            found=f"{type(error).__name__}: {error}"[:300],
            next_step="mend the checkpoint's chat template",
        ) from error
    ending = text.rpartition(answer)[2]
    added = {token for token, what in tokenizer.added_tokens_decoder.items() if what.special}
    special = added | set(tokenizer.all_special_ids)
    found = [token for token in tokenizer.encode(ending, add_special_tokens=False) if token in special]
    return int(found[0]) if found else None


def answer_ids(tokenizer: PreTrainedTokenizerBase, prompt: Messages, answer: str) -> list[int]:
    """The answer's tokens as they follow `prompt_ids`, up to and with the end-of-turn token.

    Raises UsageError where the template does not write an answer straight behind the generation prompt.
    """
    start = prompt_ids(tokenizer, prompt)
    whole = list(
        tokenizer.apply_chat_template([*prompt, {"role": "assistant", "content": answer}], return_dict=True)[
            "input_ids"
        ]
    )
    if whole[: len(start)] != start:
        raise UsageError(
            "the chat template writes an answer differently from the generation prompt that precedes it",
            expected=tokenizer.decode(start)[-80:],
            found=tokenizer.decode(whole[: len(start)])[-80:],
            next_step="mend the template: with add_generation_prompt it must end as an assistant's turn begins",
        )
    rest, end = whole[len(start) :], turn_end(tokenizer)
    if end in rest:
        last = len(rest) - 1 - rest[::-1].index(end)
        return rest[: last + 1]
    return [*rest, end]


def demonstration_ids(
    tokenizer: PreTrainedTokenizerBase, prompt: Messages, completion: Messages
) -> tuple[list[int], list[int]]:
    """Token ids of a conversation, and as many labels: the id where the assistant speaks in `completion`, else -100.

    Each answer is followed by its end-of-turn token, which is learned too. Raises UsageError where the template writes earlier
    turns differently once more have followed.
    """
    ids: list[int] = []
    labels: list[int] = []
    for index, message in enumerate(completion):
        if message["role"] != "assistant":
            continue
        before = [*prompt, *completion[:index]]
        start = prompt_ids(tokenizer, before)
        if start[: len(ids)] != ids:
            raise UsageError(
                "the chat template writes earlier turns differently once more have followed",
                expected=tokenizer.decode(ids)[-80:],
                found=tokenizer.decode(start[: len(ids)])[-80:],
                next_step="give each answer as a row of its own: {prompt, completion}",
            )
        answer = answer_ids(tokenizer, before, message["content"])
        labels += [UNLEARNED] * (len(start) - len(ids)) + answer
        ids = start + answer
    return ids, labels


def answer_sequence(tokenizer: PreTrainedTokenizerBase, prompt: Messages, answer: str) -> tuple[list[int], list[int]]:
    """`demonstration_ids` of a prompt with one answer."""
    return demonstration_ids(tokenizer, prompt, [{"role": "assistant", "content": answer}])
