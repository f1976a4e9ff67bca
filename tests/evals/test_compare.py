"""Two scorecards are compared item by item, only under equal settings, and corrected for the number of questions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evals.__main__ import main
from evals.compare import compare, regressions
from evals.saved import SavedRun, samples_as_bytes
from evals.scorecard import EvaluatedModel, Interval, Sample, Score, Scorecard, Settings, TaskSettings
from evals.statistics import paired_difference
from training.errors import UsageError

Values = dict[str, dict[str, list[float | None]]]  # task -> metric -> a value for each item
LOWER = {"rude_rate"}


def a_score(
    task: str,
    metric: str,
    column: list[float | None],
    weights: list[int] | None,
    scorer: str | None,
    against: str | None,
) -> Score:
    """The mean of its items' values; its other figures are of no matter to a comparison."""
    given = [
        (value, weight) for value, weight in zip(column, weights or [1] * len(column), strict=True) if value is not None
    ]
    return Score(
        task=task,
        metric=metric,
        group="toxicity" if metric in LOWER else "truthfulness",
        value=sum(value * weight for value, weight in given) / (sum(weight for _, weight in given) or 1),
        stderr=0.1,
        interval=Interval(low=0.3, high=0.7, method="of no matter"),
        n=len(given),
        unscored=0,
        higher_is_better=metric not in LOWER,
        headline=True,
        scorer=scorer,
        against=against if metric == "win_rate" else None,
        unit="tokens" if metric == "response_tokens" else "fraction",
    )


def write_run(
    folder: Path,
    values: Values,
    settings: dict[str, Any] | None = None,
    task_settings: dict[str, Any] | None = None,
    scorer: str | None = None,
    weights: list[int] | None = None,
    items: list[str] | None = None,
    against: str | None = None,
) -> Path:
    """A run whose items have these values."""
    hashes, scores, tasks = {}, [], []
    for task, metrics in values.items():
        count = len(next(iter(metrics.values())))
        samples = [
            Sample(
                item=items[place] if items else f"item-{place}",
                prompt="?\u2028\x85",  # separators of lines that JSON leaves as they are
                values={metric: column[place] for metric, column in metrics.items()},
                detail={"weights": dict.fromkeys(metrics, weights[place])} if weights else {},
            )
            for place in range(count)
        ]
        content = samples_as_bytes(samples)
        (folder / "samples").mkdir(parents=True, exist_ok=True)
        (folder / "samples" / f"{task}.jsonl").write_bytes(content)
        hashes[task] = hashlib.sha256(content).hexdigest()
        tasks.append(
            TaskSettings(
                **(
                    {
                        "task": task,
                        "version": "1",
                        "data_id": task,
                        "data_sha256": "a" * 64,
                        "chat_template": False,
                        "items": count,
                    }
                    | (task_settings or {})
                )
            )
        )
        scores += [a_score(task, metric, column, weights, scorer, against) for metric, column in metrics.items()]
    fields = {
        "suite": "s",
        "suite_sha256": "b" * 64,
        "backend": "hf",
        "dtype": "float32",
        "device": "cpu",
        "batch_size": 4,
        "seed": 0,
    }
    Scorecard(
        model=EvaluatedModel(
            name=folder.name, digest="sha256:" + hashlib.sha256(folder.name.encode()).hexdigest(), parameters=1
        ),
        scores=scores,
        settings=Settings(**(fields | (settings or {})), tasks=tasks),
        samples=hashes,
        packages={"torch": "1"},
        git_revision=None,
        created="2026-11-24T00:00:00+00:00",
        seconds=1.0,
    ).write(folder / "scorecard.json")
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Path]:
    def make(name: str, values: Values, **changes: Any) -> Path:
        return write_run(tmp_path / name, values, **changes)

    return make


ZEROS: list[float | None] = [0.0] * 20
HALF: list[float | None] = [0.0, 1.0] * 10


def test_items_are_paired_by_their_ids_and_not_by_their_places(run) -> None:
    ids = [f"q{place}" for place in range(20)]
    a = run("a", {"t": {"acc": HALF}}, items=ids)
    b = run("b", {"t": {"acc": HALF[::-1]}}, items=ids[::-1])
    row = compare(a, b).rows[0]
    assert (row.difference, row.p_value, row.verdict) == (0, 1, "no difference")


def test_win_rates_against_other_checkpoints_are_not_compared_and_the_rest_is(run) -> None:
    values: Values = {"help": {"win_rate": HALF, "acc": HALF}}
    base, tuned = (f"sha256:{digit * 64}" for digit in "12")
    compared = compare(run("a", values, against=base), run("b", values, against=tuned))
    assert [row.metric for row in compared.rows] == ["acc"]
    assert compared.not_compared == {"help/win_rate": f"A's is against {'1' * 12}, B's against {'2' * 12}"}
    assert len(compare(run("c", values), run("d", values, against=tuned)).rows) == 2, "an older record does not say"


def test_a_row_says_what_the_paired_test_says(run) -> None:
    after: list[float | None] = [0.0, 1.0] * 5 + [1.0, 1.0] * 5
    row = compare(run("a", {"t": {"acc": HALF}}), run("b", {"t": {"acc": after}})).rows[0]
    expected = paired_difference([v or 0.0 for v in HALF], [v or 0.0 for v in after], seed=0)
    assert (row.before, row.after, row.difference) == (0.5, 0.75, 0.25)
    assert (row.stderr, row.interval, row.p_value, row.n) == (
        expected.stderr,
        expected.interval,
        expected.p_two_sided,
        20,
    )


def test_an_item_without_a_value_on_either_side_is_left_out_and_counted(run) -> None:
    a = run("a", {"t": {"acc": [1.0, None, 1.0, 0.0, *HALF]}})
    b = run("b", {"t": {"acc": [1.0, 1.0, None, 0.0, *HALF]}})
    row = compare(a, b).rows[0]
    assert (row.n, row.unpaired) == (22, 2)
    assert row.difference == 0, "a missing value is not zero"


def test_a_figure_without_values_in_common_is_named_and_not_compared(run) -> None:
    a = run("a", {"t": {"acc": [1.0, None]}, "u": {"acc": HALF}})
    b = run("b", {"t": {"acc": [None, 1.0]}, "v": {"acc": HALF}, "u": {"acc": HALF}})
    found = compare(a, b)
    assert [row.task for row in found.rows] == ["u"]
    assert found.not_compared == {"t/acc": "no item has a value of its own in both", "v/acc": "only B has it"}


def test_weights_of_items_count(run) -> None:
    a = run("a", {"t": {"acc": [0.0, 0.5, 1.0]}}, weights=[3, 2, 1])
    b = run("b", {"t": {"acc": [1.0, 0.5, 1.0]}}, weights=[3, 2, 1])
    row = compare(a, b).rows[0]
    assert (row.before, row.after, row.difference) == pytest.approx((2 / 6, 5 / 6, 3 / 6))


def test_the_direction_of_a_metric_decides_what_is_worse(run) -> None:
    up: list[float | None] = [1.0] * 20
    rows = compare(
        run("a", {"t": {"acc": ZEROS, "rude_rate": ZEROS}}), run("b", {"t": {"acc": up, "rude_rate": up}})
    ).rows
    assert [row.verdict for row in rows] == ["better", "worse"]
    assert rows[0].p_worse > 0.99
    assert rows[1].p_worse < 0.001


def test_a_length_differs_and_is_neither_better_nor_worse(run) -> None:
    up: list[float | None] = [9.0] * 20
    row = compare(run("a", {"t": {"response_tokens": ZEROS}}), run("b", {"t": {"response_tokens": up}})).rows[0]
    assert row.verdict == "differs"


def test_p_values_are_corrected_for_the_number_of_rows(run) -> None:
    """Six items better and none worse: p = 2 / 64 = .031 is below .05 alone, and not among four questions."""
    better: list[float | None] = [1.0] * 6 + [0.0] * 14
    same = {f"m{place}": HALF for place in range(3)}
    alone = compare(run("a", {"t": {"acc": ZEROS}}), run("b", {"t": {"acc": better}})).rows[0]
    among = compare(run("c", {"t": {"acc": ZEROS, **same}}), run("d", {"t": {"acc": better, **same}})).rows[0]
    assert alone.p_value == alone.p_holm == pytest.approx(2 / 64)
    assert alone.verdict == "better"
    assert among.p_value == pytest.approx(2 / 64)
    assert among.p_holm == pytest.approx(4 * 2 / 64)
    assert among.verdict == "no difference"


def test_regressions_are_one_sided_and_only_of_the_groups_asked_for(run) -> None:
    worse: list[float | None] = [1.0] * 6 + [0.0] * 14
    found = compare(
        run("a", {"t": {"acc": ZEROS, "rude_rate": ZEROS}}), run("b", {"t": {"acc": worse, "rude_rate": worse}})
    )
    assert [(one.metric, one.p_holm) for one in regressions(found, ["toxicity"])] == [("rude_rate", 1 / 64)]
    assert regressions(found, ["truthfulness"]) == [], "it got better"
    assert regressions(found, ["toxicity"], alpha=0.01) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"settings": {"dtype": "bfloat16"}}, "dtype: float32 / bfloat16"),
        ({"settings": {"seed": 7}}, "seed: 0 / 7"),
        ({"task_settings": {"data_sha256": "c" * 64}}, f"t: data_sha256: {'a' * 64} / {'c' * 64}"),
        ({"task_settings": {"chat_template": True}}, "t: chat_template: False / True"),
        ({"task_settings": {"num_fewshot": 5}}, "t: num_fewshot: 0 / 5"),
        ({"task_settings": {"limit": 3}}, "t: limit: None / 3"),
        ({"task_settings": {"generation": {"temperature": 1}}}, "t: generation: {} / {'temperature': 1}"),
    ],
)
def test_other_settings_are_refused_and_named(run, change: dict[str, Any], told: str) -> None:
    a, b = run("a", {"t": {"acc": HALF}}), run("b", {"t": {"acc": HALF}}, **change)
    with pytest.raises(UsageError) as refused:
        compare(a, b)
    assert refused.value.found == told


def test_batch_size_and_device_are_reported_and_do_not_forbid_it(run) -> None:
    a, b = run("a", {"t": {"acc": HALF}}), run("b", {"t": {"acc": HALF}}, settings={"batch_size": 8, "device": "cuda"})
    assert compare(a, b).settings_differ == ["device: cpu / cuda", "batch_size: 4 / 8"]


def test_equal_data_from_another_commit_are_equal_data(run) -> None:
    a = run("a", {"t": {"acc": HALF}}, task_settings={"data_revision": "1" * 40})
    assert compare(a, run("b", {"t": {"acc": HALF}}, task_settings={"data_revision": "2" * 40})).rows[0].difference == 0


def test_other_scorers_are_refused(run) -> None:
    a = run("a", {"t": {"acc": HALF}}, scorer="reward model 1")
    b = run("b", {"t": {"acc": HALF}}, scorer="reward model 2")
    with pytest.raises(UsageError, match="different scorers"):
        compare(a, b)


def test_scorecards_that_share_no_figure_are_refused(run) -> None:
    with pytest.raises(UsageError, match="share no figure"):
        compare(run("a", {"t": {"acc": HALF}}), run("b", {"u": {"acc": HALF}}))


def test_altered_samples_are_refused(run, capsys) -> None:
    a, b = run("a", {"t": {"acc": HALF}}), run("b", {"t": {"acc": HALF}})
    file = b / "samples" / "t.jsonl"
    file.write_text(file.read_text().replace('"acc":0.0', '"acc":1.0'))
    assert main(["compare", str(a), str(b), "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["what"] == "the samples of t are not those of the scorecard"
    assert error["where"] == str(file)


def test_a_scorecard_of_another_checkpoint_than_the_one_beside_it_is_refused(run, models: Path) -> None:
    """Weights that were changed after they were scored have no scores."""
    a, b = run("a", {"t": {"acc": HALF}}), run("b", {"t": {"acc": HALF}})
    (b / "checkpoint").symlink_to(models / "parent")
    with pytest.raises(UsageError, match="the scorecard is of another checkpoint") as refused:
        compare(a, b)
    assert str(refused.value.expected) == SavedRun.open(b).scorecard.model.digest


def test_the_command_prints_the_difference_and_its_interval(run, capsys) -> None:
    up: list[float | None] = [1.0] * 20
    assert main(["compare", str(run("a", {"t": {"acc": ZEROS}})), str(run("b", {"t": {"acc": up}}))]) == 0
    printed = capsys.readouterr().out
    assert "+1.0000" in printed
    assert "better" in printed


def test_a_missing_scorecard_says_how_to_make_one(tmp_path: Path, run, capsys) -> None:
    assert main(["compare", str(tmp_path), str(run("b", {"t": {"acc": HALF}}))]) == 2
    assert "python -m evals run" in capsys.readouterr().err


def test_a_figure_that_is_not_what_its_samples_say_is_an_error_and_one_of_an_aggregation_is_not_compared(run) -> None:
    a, b = run("a", {"t": {"acc": ZEROS}}), run("b", {"t": {"acc": HALF}})
    card = Scorecard.read(b / "scorecard.json")
    typed = card.scores[0].model_copy(update={"value": 0.97})
    card.model_copy(update={"scores": [typed]}).write(b / "scorecard.json")
    with pytest.raises(UsageError, match="t/acc of the scorecard is not what its samples say") as error:
        compare(a, b)
    assert (error.value.expected, error.value.found) == ("0.5, the mean of 20 items", "0.97")
    of_bbq = {"bbq": {"amb_bias_score": HALF, "acc": HALF}}
    a, b = run("c", of_bbq), run("d", of_bbq)
    for folder in (a, b):
        card = Scorecard.read(folder / "scorecard.json")
        aggregated = card.scores[0].model_copy(update={"value": 0.125})
        card.model_copy(update={"scores": [aggregated, *card.scores[1:]]}).write(folder / "scorecard.json")
    found = compare(a, b)
    assert [row.metric for row in found.rows] == ["acc"]
    assert found.not_compared == {"bbq/amb_bias_score": "it is no mean of its items' values"}
