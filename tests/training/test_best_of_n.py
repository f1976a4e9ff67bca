"""Best-of-n says what choosing gains and how far it leads at most, continues after a kill, and writes what sft takes."""

from __future__ import annotations

import itertools
import json
import math
import statistics
from pathlib import Path
from typing import Any

import pytest

from training.best_of_n import (
    best_against_worst,
    best_of_table,
    best_whole_answer,
    expected_best,
    kl_bound,
    sample_best,
)
from training.data import load_preferences
from training.demonstrations import load_demonstrations
from training.errors import UsageError
from training.ilql_data import load_rewarded
from training.recipe import BestOfNRecipe, DataSettings, Generation
from training.reward_sources import RewardFailed


def test_the_expected_best_of_n_is_the_mean_over_all_choices_of_n() -> None:
    scores = [0.3, -1.0, 2.0, 2.0, 0.7]
    for n in range(1, 6):
        every = [max(choice) for choice in itertools.combinations(scores, n)]
        assert expected_best(scores, n) == pytest.approx(statistics.fmean(every))


def test_the_bound_on_the_divergence_is_zero_for_one_answer_and_holds_where_answers_are_few() -> None:
    assert kl_bound(1) == 0.0
    assert kl_bound(4) == pytest.approx(math.log(4) - 0.75)
    # Two equally likely answers, one better: the best of n is the better one with probability 1 - 2^-n.
    for n in (2, 4, 16):
        best, worse = 1 - 0.5**n, 0.5**n
        divergence = best * math.log(best / 0.5) + worse * math.log(worse / 0.5)
        assert divergence < kl_bound(n)


def test_the_table_pairs_the_gain_by_prompt() -> None:
    table = best_of_table([[0.0, 1.0, 2.0], [10.0, 11.0, 12.0]])
    assert [row.n for row in table] == [1, 2, 3]
    assert [row.reward for row in table] == pytest.approx([6.0, 6.0 + 2 / 3, 7.0])
    assert [row.gain for row in table] == pytest.approx([0.0, 2 / 3, 1.0])
    assert table[2].stderr == pytest.approx(5.0)
    assert table[2].gain_stderr == pytest.approx(0.0), "prompts differ by ten, and their gains do not"


def test_a_demonstration_is_the_best_answer_that_ended_and_says_something() -> None:
    def answer(response: str, reward: float, ended: bool) -> dict[str, Any]:
        return {"prompt": "?", "response": response, "reward": reward, "ended": ended}

    answers = [answer("cut of", 9.0, False), answer("one", 1.0, True), answer("two", 2.0, True), answer(" ", 5.0, True)]
    assert best_whole_answer(answers) == {"prompt": "?", "completion": "two", "reward": 2.0}
    assert best_whole_answer(answers[:1]) is None


REWARD = """
def letters(samples, prompts, outputs):
    assert all(sample == prompt + output for sample, prompt, output in zip(samples, prompts, outputs))
    return [sum(map(str.isalpha, output)) / 10 for output in outputs]

def breaks_at_the_third_batch(samples, prompts, outputs, calls=[]):
    calls.append(1)
    if len(calls) == 3:
        raise RuntimeError("out of order")
    return letters(samples, prompts, outputs)
"""


@pytest.fixture
def recipe(tmp_path: Path, tiny: Path) -> BestOfNRecipe:
    (tmp_path / "reward.py").write_text(REWARD)
    rows = [{"prompt": f"question {number}"} for number in range(10)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return BestOfNRecipe(
        method="best-of-n",
        policy=str(tiny),
        reward_function=f"{tmp_path}/reward.py:letters",
        prompts=DataSettings(source=str(tmp_path / "prompts.jsonl"), heldout_fraction=0.0),
        n=6,
        batch_size=3,
        dtype="float32",
        generation=Generation(max_new_tokens=100),
    )


def test_the_best_answers_are_demonstrations_and_all_of_them_are_data_for_ilql(
    recipe: BestOfNRecipe, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    record = sample_best(recipe, out)
    assert sorted(file.name for file in out.iterdir() if file.suffix == ".jsonl") == [
        *("demonstrations.jsonl", "preferences.jsonl", "samples.jsonl")
    ]
    assert [row.n for row in record.best_of] == [1, 2, 4, 6]
    assert all(later.reward > earlier.reward for earlier, later in itertools.pairwise(record.best_of))
    assert record.demonstrations + record.prompts_without_a_whole_answer == 10
    demonstrations = load_demonstrations(
        DataSettings(source=str(out / "demonstrations.jsonl"), heldout_fraction=0.0), seed=0
    )
    assert len(demonstrations.train) == record.demonstrations > 0
    samples = load_rewarded(DataSettings(source=str(out / "samples.jsonl"), heldout_fraction=0.0), seed=0)
    assert len(samples.train) + samples.source.rows_dropped == 60
    assert sample_best(recipe, out) == record, "a second time nothing is done"
    with pytest.raises(UsageError, match="another recipe"):
        sample_best(recipe.model_copy(update={"n": 3}), out)


def test_of_the_answers_that_ended_the_best_and_the_worst_are_a_preference(
    recipe: BestOfNRecipe, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    record = sample_best(recipe, out)
    settings = DataSettings(source=str(out / "preferences.jsonl"), heldout_fraction=0.0)
    pairs = load_preferences(settings, seed=0).train
    assert len(pairs) == record.preferences > 0
    scores = {row["response"]: row["reward"] for row in read_lines(out / "samples.jsonl")}
    best = {row["completion"] for row in read_lines(out / "demonstrations.jsonl")}
    for pair in pairs:
        chosen, rejected = pair.chosen, pair.rejected
        assert chosen in best
        assert scores[chosen] > scores[rejected]


def test_where_every_whole_answer_scores_the_same_there_is_no_preference() -> None:
    question = [{"role": "user", "content": "which?"}]
    rows = [{"prompt": question, "response": text, "reward": 1.0, "ended": True} for text in ("this", "that")]
    cut = {"prompt": question, "response": "either of th", "reward": -2.0, "ended": False}
    assert best_against_worst([*rows, cut]) is None
    better = {"prompt": question, "response": "both", "reward": 3.0, "ended": True}
    assert best_against_worst([*rows, cut, better]) == {
        "prompt": question,
        "chosen": [{"role": "assistant", "content": "both"}],
        "rejected": [{"role": "assistant", "content": "this"}],
    }


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Of bytes, for what a tiny model says may hold U+2028 or U+0085, at which text would be split."""
    return [json.loads(line) for line in file.read_bytes().splitlines()]


def test_a_run_that_broke_off_continues_with_the_answers_that_it_would_have_sampled(
    recipe: BestOfNRecipe, tmp_path: Path
) -> None:
    straight = sample_best(recipe, tmp_path / "straight")
    broken = recipe.model_copy(update={"reward_function": f"{tmp_path}/reward.py:breaks_at_the_third_batch"})
    out = tmp_path / "broken"
    with pytest.raises(RewardFailed, match="raised"):
        sample_best(broken, out)
    partial = out / ".state" / "samples.jsonl"
    assert len(read_lines(partial)) == 36
    with partial.open("a") as file:  # as a kill in the middle of a line leaves it
        file.write('{"prompt": [{"ro')
    (tmp_path / "reward.py").write_text(REWARD.replace("len(calls) == 3", "False"))
    record = sample_best(broken, out)
    assert record.samples_sha256 == straight.samples_sha256
    assert record.demonstrations_sha256 == straight.demonstrations_sha256
    assert not (out / ".state").exists()


def test_answers_that_never_end_are_no_demonstrations(recipe: BestOfNRecipe, tmp_path: Path) -> None:
    short = recipe.model_copy(update={"generation": Generation(max_new_tokens=1), "n": 2})
    with pytest.raises(UsageError, match="no answer ended"):
        sample_best(short, tmp_path / "out")
