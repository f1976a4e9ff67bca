"""The win rate: ties count a half, length stands beside it, and the parent's answers are those it gave."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from evals.evaluated import find
from evals.helpfulness import open_judge, score_helpfulness
from evals.length import CONTROLLED, LONGER
from evals.prepare import Choices, Prepared, prepare
from evals.scorecard import Sample
from evals.scoring import as_scores
from evals.suite import open_suite
from training.data import Messages
from training.errors import UsageError


@dataclass(frozen=True)
class LikesLetterA:
    """A judge whose reward is the number of the letter a."""

    scorer: str = "letter counter 1.0"

    def rewards(self, pairs: list[tuple[Messages, str]], _folder: Path) -> list[float]:
        return [float(answer.count("a")) for _, answer in pairs]


@pytest.fixture(scope="module")
def helpful(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    file = tmp_path_factory.mktemp("suite") / "h.yaml"
    file.write_text(
        "description: h\ntasks:\n  - {task: starter_helpfulness, group: helpfulness, scoring: judge, headline: [win_rate]}\n"
    )
    return prepare(open_suite(str(file)), find(str(models / "parent")), Choices(4, 0, None))[0][0]


def answers(*texts: str) -> list[list[dict[str, object]]]:
    return [[{"text": text, "tokens": len(text), "stopped": "end"}] for text in texts]


def of_parent(prepared: Prepared, *texts: str) -> list[Sample]:
    return [
        Sample(
            item=request.item,
            prompt=request.prompt,
            response=text,
            values={},
            detail={"response_tokens": len(text)},
        )
        for request, text in zip(prepared.requests, texts, strict=True)
    ]


def test_more_reward_wins_less_loses_and_equal_reward_or_equal_text_is_half(helpful: Prepared, tmp_path: Path) -> None:
    parent = of_parent(helpful, "a", "aaa", "banana", "ab")
    samples, figures = score_helpfulness(
        helpful, answers("aa", "b", "banana", "ba"), LikesLetterA(), parent[::-1], tmp_path
    )
    assert [sample.values["win_rate"] for sample in samples] == [1.0, 0.0, 0.5, 0.5]
    scores, refused = as_scores(helpful, samples, figures, seed=0)
    assert refused == []
    by_name = {score.metric: score for score in scores}
    assert by_name["win_rate"].value == pytest.approx(0.5)
    assert by_name["win_rate"].headline
    assert by_name["win_rate"].scorer == "letter counter 1.0"
    assert by_name["reward_mean"].value == pytest.approx((2 + 0 + 3 + 1) / 4)
    assert by_name["reward_mean"].baseline == {"parent": (1 + 3 + 3 + 1) / 4}
    assert samples[0].detail["parent_response"] == "a"


def test_the_length_baseline_is_the_win_rate_of_the_longer_answer(helpful: Prepared, tmp_path: Path) -> None:
    """Lengths 2, 1, 6, 2 against 1, 3, 6, 2: one longer, one shorter, two ties."""
    parent = of_parent(helpful, "a", "aaa", "banana", "ab")
    _, figures = score_helpfulness(helpful, answers("aa", "b", "banana", "ba"), LikesLetterA(), parent, tmp_path)
    win = next(figure for figure in figures if figure.metric == "win_rate")
    assert win.baseline[LONGER] == pytest.approx((1 + 0 + 0.5 + 0.5) / 4)
    assert 0 < win.baseline[CONTROLLED] < 1


def test_without_a_parent_there_is_a_reward_and_no_win_rate_and_without_a_judge_only_lengths(
    helpful: Prepared, tmp_path: Path
) -> None:
    texts = answers("aa", "b", "banana", "ba")
    samples, figures = score_helpfulness(helpful, texts, LikesLetterA(), None, tmp_path)
    assert [figure.metric for figure in figures] == ["response_tokens", "reward_mean"]
    samples, figures = score_helpfulness(helpful, texts, None, None, tmp_path)
    assert [figure.metric for figure in figures] == ["response_tokens"]
    assert [sample.values for sample in samples] == [{"response_tokens": float(n)} for n in (2, 1, 6, 2)]


def test_the_parents_rewards_are_read_from_its_samples_where_the_same_judge_gave_them(
    helpful: Prepared, tmp_path: Path
) -> None:
    texts = ["a", "aaa", "banana", "ab"]
    parent = [sample.model_copy(update={"values": {"reward_mean": 7.0}}) for sample in of_parent(helpful, *texts)]
    mine = answers("aa", "b", "banana", "ba")
    samples, _ = score_helpfulness(helpful, mine, LikesLetterA(), parent, tmp_path, "letter counter 1.0")
    assert [sample.detail["parent_reward"] for sample in samples] == [7.0] * 4
    samples, _ = score_helpfulness(helpful, mine, LikesLetterA(), parent, tmp_path, "letter counter 0.9")
    assert [sample.detail["parent_reward"] for sample in samples] == [1.0, 3.0, 3.0, 1.0]


def test_a_parent_that_did_not_answer_a_prompt_is_refused(helpful: Prepared, tmp_path: Path) -> None:
    parent = of_parent(helpful, "a", "b", "c", "d")[:3]
    with pytest.raises(UsageError, match="lack prompts"):
        score_helpfulness(helpful, answers("a", "b", "c", "d"), LikesLetterA(), parent, tmp_path)


def test_a_language_model_is_no_judge(models: Path) -> None:
    with pytest.raises(UsageError, match="not a reward model") as refused:
        open_judge(models / "parent", "float32", "cpu")
    assert refused.value.found == "LlamaForCausalLM"


def test_a_judges_rewards_are_kept_and_are_those_of_the_reward_model(models: Path, tmp_path: Path, monkeypatch) -> None:
    from training.checkpoint import Checkpoint
    from training.rewards import RewardModel

    asked = [("How are you?", "Well."), ("Name a fruit.", "A pear, or an apple.")]
    pairs = [([{"role": "user", "content": question}], answer) for question, answer in asked]
    judge = open_judge(models / "judge", "float32", "cpu")
    found = judge.rewards(pairs, tmp_path)
    model = RewardModel.load(Checkpoint.open(models / "judge"), "float32")
    assert found == pytest.approx(model.score(pairs), abs=1e-5)
    monkeypatch.setattr(RewardModel, "load", lambda *_: pytest.fail("loaded again"))
    assert judge.rewards(pairs, tmp_path) == found
