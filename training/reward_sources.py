"""Rewards from elsewhere than a reward model: a Python function of samples, or a server that is asked over HTTP.

    rewards = load_reward_function("rewards.py:politeness")      # politeness(samples, prompts, outputs) -> one float each
    rewards = reward_endpoint("http://127.0.0.1:9000/score", timeout=60.0, tries=3)
    rewards.score(prompts=["<|im_start|>user\\nHi<|im_end|>\\n..."], outputs=["Hello!"])      # [0.7]

The function is called by keyword with three lists of texts, as trlX does: `prompts` as the model read them, chat template
and all; `outputs`, what was answered, without the token that ends a turn; `samples`, each prompt with its output.
The server gets the same three lists as a JSON object by POST, and answers {"rewards": [...]}.
"""

from __future__ import annotations

import hashlib
import json
import sys
import traceback
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.command import log
from training.errors import UsageError
from training.run_record import RewardSource

LARGEST = 3.4e38  # a reward becomes a float32


class RewardFailed(UsageError):
    """No reward could be had for what was sampled. What had been learned before is untouched."""


@dataclass(frozen=True)
class TextRewards:
    """A function of texts, and what a run's record says of it."""

    source: RewardSource
    call: Callable[..., Any]  # by keyword: samples, prompts, outputs

    def score(self, prompts: Sequence[str], outputs: Sequence[str]) -> list[float]:
        """One finite reward for each output, in their order; random numbers that the function draws or seeds are its own.

        Raises RewardFailed where that is not what comes back.
        """
        samples = [prompt + output for prompt, output in zip(prompts, outputs, strict=True)]
        from training.others_code import apart

        with apart(samples):
            found = self.call(samples=list(samples), prompts=list(prompts), outputs=list(outputs))
        return checked(found, samples, self.source.name)


def load_reward_function(spec: str) -> TextRewards:
    """The function that `file.py:name` names, with the SHA-256 of the very bytes that were run to define it.

    The file may import what is installed and what lies in the working directory. Raises UsageError where file or name is
    missing, the file does not run, or the name is not a function.
    """
    file, separator, name = spec.rpartition(":")
    if not separator or not file or not name.isidentifier():
        raise UsageError(
            "a reward function is given as a file and a name in it",
            expected="file.py:name",
            found=repr(spec),
            next_step="correct reward_function in the recipe",
        )
    path = Path(file).expanduser()
    if not path.is_file():
        raise UsageError(
            "there is no such file with a reward function",
            where=str(path.absolute()),
            found=spec,
            next_step="give the file's path from here",
        )
    content = path.read_bytes()
    module = types.ModuleType(f"reward_function_{path.stem}")
    module.__file__ = str(path.absolute())
    sys.modules[module.__name__] = module  # dataclasses and pickle look their module up by its name
    from training.others_code import apart

    try:
        with apart([spec]):
            exec(compile(content, str(path), "exec", dont_inherit=True), module.__dict__)
    except (Exception, SystemExit) as error:  # the user's file may raise anything; all of it is told
        raise UsageError(
            "the file with the reward function does not run",
            where=_place(error, path),
            found=told(error),
            next_step="mend the file, then run the same command again",
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        functions = [key for key, value in vars(module).items() if isinstance(value, types.FunctionType)]
        raise UsageError(
            f"the file has no function of the name {name}",
            where=str(path),
            expected="one of " + ", ".join(functions) if functions else "a function in it",
            found="nothing of that name" if function is None else f"{name} is a {type(function).__name__}",
            next_step="correct the name in the recipe's reward_function",
        )

    def call(**texts: list[str]) -> Any:
        try:
            return function(**texts)
        except (Exception, SystemExit) as error:  # as above; only who interrupts the command ends it
            log(traceback.format_exc())
            raise RewardFailed(
                "the reward function raised an exception",
                where=_place(error, path),
                expected=f"{name}(samples, prompts, outputs) to return one float for each sample",
                found=told(error),
                next_step="mend the function, then run the same command again",
            ) from error

    source = RewardSource(kind="function", name=spec, sha256=hashlib.sha256(content).hexdigest())
    return TextRewards(source, call)


def reward_endpoint(url: str, timeout: float, tries: int) -> TextRewards:
    """Rewards by POST to `url`. A server that cannot be reached, is overloaded (429) or fails (5xx) is asked `tries` times."""

    def call(**texts: list[str]) -> Any:
        from training.reward_server import asked

        return asked(url, json.dumps(texts).encode(), timeout, tries)

    return TextRewards(RewardSource(kind="url", name=url), call)


def scored_by(noted: Sequence[RewardSource], source: RewardSource, done: int) -> list[RewardSource]:
    """What gave a run's rewards so far, with `source` for those after `done` updates, where something else gave the last ones.

    What was noted and has scored no update is left out.
    """
    if noted and same_source(noted[-1], source):
        return list(noted)
    if noted:
        log(f"{source.name} has changed; the record names both, this one from update {done + 1} on")
    scored = [one for one in noted if one.from_update <= done]
    return [*scored, source.model_copy(update={"from_update": done + 1})]


def same_source(one: RewardSource, other: RewardSource) -> bool:
    return (one.name, one.sha256) == (other.name, other.sha256)


def scored_alike_from(noted: Sequence[RewardSource], last: int) -> int:
    """The first of the updates up to `last` that whatever scored `last` scored too: rewards of earlier ones are another's."""
    return max((one.from_update for one in noted if one.from_update <= last), default=1)


def checked(found: Any, samples: Sequence[str], name: str) -> list[float]:
    """`found` as one finite float for each sample; a tensor or an array of one dimension will do. Else RewardFailed."""
    values = found.tolist() if hasattr(found, "tolist") else found
    if not isinstance(values, list | tuple):
        raise _not_rewards(name, samples, f"{type(found).__name__}: {str(found)[:80]}")
    if len(values) != len(samples):
        raise _not_rewards(name, samples, f"{len(values)} of them")
    rewards: list[float] = []
    for value, sample in zip(values, samples, strict=True):
        number = value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise _not_rewards(name, samples, f"{type(value).__name__} {str(value)[:80]!r} for {sample[-80:]!r}")
        if not -LARGEST <= number <= LARGEST:  # no NaN is
            raise _not_rewards(name, samples, f"{str(number)[:40]} for {sample[-80:]!r}")
        rewards.append(float(number))
    return rewards


def _not_rewards(name: str, samples: Sequence[str], found: str) -> RewardFailed:
    return RewardFailed(
        "what came back are not rewards",
        where=name,
        expected=f"a list of {len(samples)} finite numbers that float32 holds, one for each sample",
        found=found,
        next_step="mend what gives the rewards, then run the same command again",
    )


def told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _place(error: BaseException, path: Path) -> str:
    """The last line of the user's file that the exception passed through."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path}, line {error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"{path}, line {lines[-1]}" if lines else str(path)
