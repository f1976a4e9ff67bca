"""A conversation as token ids, the same wherever it is read: reward training, rollouts, scoring by a reward model.

A prompt ends where the assistant begins to speak; an answer ends with the token that ends a turn, and nothing after it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from training.data import Messages

UNLEARNED = -100  # the label of a token that is read only, as torch's cross-entropy has it


def prompt_ids(tokenizer: PreTrainedTokenizerBase, prompt: Messages) -> list[int]:
    """The prompt through the chat template, up to the header of the assistant's turn."""
    return list(tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)["input_ids"])


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
    rest = whole[len(start) :]
    if tokenizer.eos_token_id in rest:
        last = len(rest) - 1 - rest[::-1].index(tokenizer.eos_token_id)
        return rest[: last + 1]
    return [*rest, tokenizer.eos_token_id]


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
