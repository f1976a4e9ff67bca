"""Win rate against a baseline's answers, judged by a reward model, beside what length alone explains.

The baseline is the parent, whose answers are read from its samples and not generated again, or a file of answers. A win counts
1, a tie 0.5: equal rewards, or equal texts. A second turn is judged in its own conversation, the baseline's in the baseline's.
Beside the win rate stand the win rate of a judge that always prefers the longer answer, and the win rate at equal length, for
preference data prefer longer answers and so do models of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.answers import Answers
from evals.length import beside_length
from evals.scorecard import Sample
from evals.scoring import Figure
from evals.second_turn import conversation, earlier, told
from training.checkpoint import Checkpoint
from training.counted import counted
from training.errors import UsageError

if TYPE_CHECKING:
    from evals.prepare import Prepared
    from training.data import Messages
    from training.rewards import RewardModel

JUDGED_AT_A_TIME = 48

WIN_RATE = "win_rate"


@dataclass(frozen=True)
class Judge:
    """A reward model by its checkpoint; loaded when there is something to judge."""

    checkpoint: Checkpoint
    dtype: str
    device: str

    @property
    def scorer(self) -> str:
        return f"reward model {self.checkpoint.digest}"

    def rewards(self, pairs: Sequence[tuple[Messages, str]], folder: Path) -> list[float]:
        """The reward of each (conversation up to the user's last words, answer); saved in `folder` by digest and content."""
        saved = Answers(folder, "judge", {"checkpoint": self.checkpoint.digest, "dtype": self.dtype})
        loaded: list[RewardModel] = []
        found: list[float] = []
        for start in range(0, len(pairs), JUDGED_AT_A_TIME):
            batch = [list(pair) for pair in pairs[start : start + JUDGED_AT_A_TIME]]

            def compute(batch: list[list[Any]] = batch) -> list[float]:
                from training.rewards import RewardModel

                if not loaded:
                    loaded.append(RewardModel.load(self.checkpoint, self.dtype, self.device))
                return loaded[0].score([(asked, answer) for asked, answer in batch])

            found += saved.of(batch, compute)
        return found


def open_judge(path: Path, dtype: str, device: str) -> Judge:
    """A judge from a checkpoint directory or a run's. Raises UsageError where it is no reward model; loads nothing."""
    directory = path / "checkpoint" if (path / "checkpoint").is_dir() else path
    checkpoint = Checkpoint.open(directory)
    architecture = (checkpoint.config.get("architectures") or ["unknown"])[0]
    labels = len(checkpoint.config.get("id2label") or {"0": "", "1": ""})
    if not architecture.endswith("ForSequenceClassification") or labels != 1:
        raise UsageError(
            "the judge is not a reward model",
            where=str(directory),
            expected="a sequence-classification checkpoint with one output",
            found=f"{architecture} with {labels} outputs" if "Sequence" in architecture else architecture,
            next_step="train one: python -m training reward --recipe reward-starter --out runs/reward",
        )
    if checkpoint.chat_template is None:
        raise UsageError("the judge has no chat template to read a conversation by", where=str(directory))
    return Judge(checkpoint, dtype, device)


def score_helpfulness(
    prepared: Prepared,
    answers: Sequence[Sequence[Any]],
    judge: Judge | None,
    parent: Sequence[Sample] | None,
    folder: Path,
    parent_scorer: str | None = None,
    against: str = "",
) -> tuple[list[Sample], list[Figure]]:
    """Lengths always; rewards where there is a judge; wins where there are the parent's answers too.

    The parent's answers are judged again unless `parent_scorer`, who gave the rewards in its samples, is this judge.
    `against` names a baseline that is not the parent, for two win rates against others are not comparable.
    """
    questions = [prepared.task.user_text(request) for request in prepared.requests]
    asked = [conversation(r.before, question) for r, question in zip(prepared.requests, questions, strict=True)]
    texts = [str(answer[0]["text"]) for answer in answers]
    lengths = [int(answer[0]["tokens"]) for answer in answers]
    theirs = in_order(prepared, parent) if parent is not None else None
    rewards = judge.rewards(list(zip(asked, texts, strict=True)), folder) if judge else None
    their_rewards: list[float] | None = None
    wins: list[float] | None = None
    if judge and rewards and theirs:
        theirs_asked = [conversation(earlier(t), question) for t, question in zip(theirs, questions, strict=True)]
        given = [reward for other in theirs if (reward := other.values.get("reward_mean")) is not None]
        if parent_scorer == judge.scorer and len(given) == len(theirs):
            their_rewards = given
        else:
            said = [sample.response or "" for sample in theirs]
            their_rewards = judge.rewards(list(zip(theirs_asked, said, strict=True)), folder)
        equal = [
            own == others and text == (other.response or "")
            for own, others, text, other in zip(asked, theirs_asked, texts, theirs, strict=True)
        ]
        wins = [
            0.5 if same or mine == their else float(mine > their)
            for same, mine, their in zip(equal, rewards, their_rewards, strict=True)
        ]
    samples: list[Sample] = []
    for place, request in enumerate(prepared.requests):
        values: dict[str, float | None] = {"response_tokens": float(lengths[place])}
        detail: dict[str, Any] = {"response_tokens": lengths[place], "stopped": answers[place][0]["stopped"]}
        detail |= told(request, questions[place])
        if rewards:
            values["reward_mean"] = rewards[place]
        if wins and their_rewards and theirs:
            values[WIN_RATE] = wins[place]
            detail["parent_response"] = theirs[place].response
            detail["parent_reward"] = their_rewards[place]
            if request.before:
                detail["parent_before"] = earlier(theirs[place])
        samples.append(
            Sample(item=request.item, prompt=request.prompt, response=texts[place], values=values, detail=detail)
        )
    return samples, _figures(judge, lengths, theirs, their_rewards, wins, against)


def _figures(
    judge: Judge | None,
    lengths: list[int],
    theirs: list[Sample] | None,
    their_rewards: list[float] | None,
    wins: list[float] | None,
    against: str,
) -> list[Figure]:
    their_lengths = [int(sample.detail["response_tokens"]) for sample in theirs] if theirs else None
    theirs_name = "baseline" if against else "parent"
    figures = [
        Figure(
            "response_tokens",
            higher_is_better=False,
            group="other",
            unit="tokens",
            description="mean length of an answer; neither good nor bad, but every win rate is to be read beside it",
            baseline={theirs_name: sum(their_lengths) / len(their_lengths)} if their_lengths else {},
        )
    ]
    if judge:
        figures.append(
            Figure(
                "reward_mean",
                higher_is_better=True,
                unit="reward",
                scorer=judge.scorer,
                description="mean reward of an answer; its scale is the reward model's own",
                baseline={theirs_name: sum(their_rewards) / len(their_rewards)} if their_rewards else {},
            )
        )
    if judge and wins and their_lengths:
        difference = [float(mine - their) for mine, their in zip(lengths, their_lengths, strict=True)]
        figures.append(
            Figure(
                WIN_RATE,
                higher_is_better=True,
                scorer=", ".join(part for part in (judge.scorer, against) if part),
                description="share of prompts where the reward model prefers this answer to the baseline's, ties half",
                baseline=beside_length(wins, difference),
            )
        )
    return figures


def in_order(prepared: Prepared, parent: Sequence[Sample]) -> list[Sample]:
    """The parent's answers to this run's prompts. Raises UsageError where one is missing."""
    by_item = {sample.item: sample for sample in parent}
    missing = [request.item for request in prepared.requests if request.item not in by_item]
    if missing:
        raise UsageError(
            "the parent's samples lack prompts that this run answers",
            expected=counted(len(prepared.requests), "answer"),
            found=f"{len(missing)} are missing, e.g. {missing[0]}",
            next_step="evaluate the parent again with the same suite and --limit",
        )
    return [by_item[request.item] for request in prepared.requests]
