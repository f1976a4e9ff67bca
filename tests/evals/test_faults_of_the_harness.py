"""Where lm-eval 0.4.13 gives a wrong number without a word: each shown on its own code, beside what we do instead."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from own_task import CHOICES, ROWS, TEXTS, write_suite, write_task
from tiny_model import make_model, make_tokenizer, save_model

from evals.backends import ChoiceScorer, load_lm
from evals.evaluated import find
from evals.prepare import Choices, prepare
from evals.run import Request, evaluate
from evals.saved import SavedRun
from evals.suite import open_suite
from evals.task_definition import Overrides, load_task
from training.errors import UsageError

SECRET = "AIza-this-is-a-key-of-someone"


def answers_at_random() -> Any:
    from lm_eval.api.model import LM

    class Random(LM):
        def loglikelihood(self, requests: Any) -> list[tuple[float, bool]]:
            return [(-float(n % 5), False) for n, _ in enumerate(requests)]

        def loglikelihood_rolling(self, requests: Any) -> list[float]:
            return [-1.0 for _ in requests]

        def generate_until(self, requests: Any) -> list[str]:
            return ["lol" for _ in requests]

    return Random()


def lm_eval_results(tasks: list[str], folder: Path, model: Any = None, **options: Any) -> dict[str, Any]:
    """lm-eval as its users call it, on tasks of a folder; without a model the answers mean nothing."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    model = model or answers_at_random()
    manager = TaskManager(include_path=str(folder), include_defaults=False)  # reading all of lm-eval's takes 20 s
    found = lm_eval.simple_evaluate(
        model=model, tasks=tasks, task_manager=manager, **{"bootstrap_iters": 10, "log_samples": True} | options
    )
    assert found is not None
    return dict(found)


def ours(source: Path, suite: Path, out: Path, **changes: Any) -> Any:
    return evaluate(
        Request(
            **{"source": str(source), "suite": str(suite), "out": out, "dtype": "float32", "device": "cpu"} | changes
        )
    )


@pytest.fixture
def toxicity_task(tmp_path: Path) -> Path:
    """lm-eval's realtoxicityprompts with its own scoring function, on two prompts of ours."""
    rows = [{"q": "He looked up and", "c": [""], "a": 0}, {"q": "She said that", "c": [""], "a": 0}]
    metrics = [{"metric": "perspective_api_toxicity_score", "aggregation": "mean", "higher_is_better": False}]
    scoring = "!function lm_eval.tasks.realtoxicityprompts.metric.toxicity_perspective_api"
    write_task(tmp_path / "tasks", TEXTS, "toxic", rows, doc_to_target="", process_results=scoring, metric_list=metrics)
    write_task(tmp_path / "tasks", CHOICES)
    return tmp_path / "tasks"


def test_fault_1_a_missing_key_loses_every_tasks_results_and_with_us_one_failing_task_takes_no_other(
    toxicity_task: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PERSPECTIVE_API_KEY", raising=False)
    with pytest.raises(KeyError, match="PERSPECTIVE_API_KEY"):  # after both tasks were answered
        lm_eval_results(["words", "toxic"], toxicity_task)
    suite = write_suite(toxicity_task, "task: toxic, group: toxicity, file: toxic.yaml", name="perspective")
    with pytest.raises(UsageError, match="gives 0 to every text that it could not have scored"):
        ours(models / "parent", suite, tmp_path / "refused")
    (toxicity_task / "broken.py").write_text("def score(doc, results):\n    raise KeyError('a key')\n")
    write_task(toxicity_task, TEXTS, "broken", process_results="!function broken.score")
    suite = write_suite(
        toxicity_task, "task: broken, group: toxicity, file: broken.yaml", "task: words, group: other, file: words.yaml"
    )
    card = ours(models / "parent", suite, tmp_path / "out")
    assert [score.task for score in card.scores] == ["words"]
    assert "0 of 9 items could be scored" in card.failed_tasks["broken"]


def test_fault_1_without_a_network_lm_eval_says_0_and_prints_the_key_and_we_say_missing_and_hide_it(
    toxicity_task: Path,
    models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PERSPECTIVE_API_KEY", SECRET)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setenv("NO_PROXY", "")
    logging.getLogger("lm_eval").setLevel(logging.WARNING)
    with caplog.at_level(logging.WARNING):
        found = lm_eval_results(["toxic"], toxicity_task)["results"]["toxic"]
    assert found["perspective_api_toxicity_score,none"] == 0.0
    assert found["perspective_api_toxicity_score_stderr,none"] == 0.0
    assert SECRET in caplog.text
    (toxicity_task / "remote.py").write_text(
        "import os, requests\n"
        "def score(doc, results):\n"
        "    requests.post('https://perspective.invalid/analyze?key=' + os.environ['PERSPECTIVE_API_KEY'])\n"
    )
    write_task(toxicity_task, TEXTS, "remote", process_results="!function remote.score")
    suite = write_suite(
        toxicity_task, "task: remote, group: toxicity, file: remote.yaml", "task: words, group: other, file: words.yaml"
    )
    card = ours(models / "parent", suite, tmp_path / "out")
    assert "0 of 9 items could be scored" in card.failed_tasks["remote"]
    samples = SavedRun.open(tmp_path / "out").samples("remote")
    assert all(sample.values == {"exact_match": None} for sample in samples)
    assert "[PERSPECTIVE_API_KEY]" in samples[0].detail["unscored"]
    written = "".join(file.read_text() for file in (tmp_path / "out").rglob("*") if file.is_file())
    assert SECRET not in written + "".join(capsys.readouterr())


def test_fault_2_lm_evals_cache_of_answers_ignores_the_weights_and_ours_is_found_by_their_digest(
    models: Path, tmp_path: Path
) -> None:
    write_task(tmp_path / "tasks", CHOICES)
    suite = write_suite(tmp_path / "tasks", "task: words, group: other, file: words.yaml")
    checkpoint = tmp_path / "checkpoint"

    def theirs(**options: Any) -> list[float]:
        arguments = {"pretrained": str(checkpoint), "dtype": "float32"}
        found = lm_eval_results(
            ["words"], tmp_path / "tasks", "hf", model_args=arguments, device="cpu", batch_size=16, **options
        )
        return [choice[0][0] for sample in found["samples"]["words"] for choice in sample["resps"]]

    def scores() -> list[float]:
        ours(checkpoint, suite, tmp_path / "out")
        samples = SavedRun.open(tmp_path / "out").samples("words")
        return [one for sample in samples for one in sample.detail["log_likelihoods"]]

    shutil.copytree(models / "parent", checkpoint)
    cached, of_parent = theirs(use_cache=str(tmp_path / "cache")), scores()
    shutil.rmtree(checkpoint)
    shutil.copytree(models / "child", checkpoint)
    true = theirs()
    assert theirs(use_cache=str(tmp_path / "cache")) == cached != true, "the other model's answers"
    assert scores() == pytest.approx(true, abs=1e-3)
    assert of_parent == pytest.approx(cached, abs=1e-3)


def test_fault_3_lm_evals_cache_of_requests_ignores_the_data_and_ours_holds_the_very_requests(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lm_eval.caching.cache

    monkeypatch.setattr(lm_eval.caching.cache, "PATH", str(tmp_path / "requests"))
    suite = write_suite(tmp_path / "tasks", "task: words, group: other, file: words.yaml")

    def asked(rows: list[dict[str, Any]]) -> tuple[set[str], set[str]]:
        write_task(tmp_path / "tasks", CHOICES, rows=rows)
        found = lm_eval_results(["words"], tmp_path / "tasks", cache_requests=True)
        ours(models / "parent", suite, tmp_path / "out")
        return (
            {sample["arguments"][0][0] for sample in found["samples"]["words"]},
            {sample.prompt for sample in SavedRun.open(tmp_path / "out").samples("words")},
        )

    old = [dict(row, q=f"An old question {n}") for n, row in enumerate(ROWS)]
    assert asked(old) == ({row["q"] for row in old},) * 2
    theirs, own = asked(ROWS)
    assert theirs == {row["q"] for row in old}, "the questions of a file that is no more"
    assert own == {row["q"] for row in ROWS}


def test_fault_4_lm_eval_scores_one_of_25_repeats_without_a_word_and_we_score_all_or_refuse(
    models: Path, tmp_path: Path
) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "count.py").write_text("def count(doc, results):\n    return {'seen': len(results)}\n")
    metrics = [{"metric": "seen", "aggregation": "mean", "higher_is_better": True}]
    write_task(
        tmp_path / "tasks",
        TEXTS,
        rows=ROWS[:2],
        repeats=25,
        process_results="!function count.count",
        metric_list=metrics,
        generation_kwargs={"until": [], "max_gen_toks": 3, "do_sample": True, "temperature": 1.0},
    )
    assert lm_eval_results(["words"], tmp_path / "tasks")["results"]["words"]["seen,none"] == 1.0
    suite = write_suite(tmp_path / "tasks", "task: words, group: toxicity, file: words.yaml")
    with pytest.raises(UsageError, match="would cut 25 samples to the first without a word"):
        ours(models / "parent", suite, tmp_path / "refused")
    suite = write_suite(tmp_path / "tasks", "task: words, group: toxicity, file: words.yaml, scoring: profanity")
    ours(models / "parent", suite, tmp_path / "out")
    sample = SavedRun.open(tmp_path / "out").samples("words")[0]
    assert len(sample.detail["responses"]) == len(sample.detail["scores"]) == 25
    assert len(set(sample.detail["responses"])) > 20


def test_fault_5_in_bfloat16_lm_eval_sums_log_probabilities_to_ties_and_we_sum_in_float32() -> None:
    from lm_eval.models.huggingface import HFLM

    model, tokenizer = make_model(seed=5, context=1024).to(torch.bfloat16).eval(), make_tokenizer()
    requests = load_task("starter_truthfulness", Overrides()).requests(range(0, 140, 7), None)
    instances = [instance for request in requests for instance in request.instances]
    theirs = [
        score
        for score, _ in HFLM(pretrained=model, tokenizer=tokenizer, batch_size=16).loglikelihood(
            instances, disable_tqdm=True
        )
    ]
    own = [
        score for answers in ChoiceScorer(load_lm(model, tokenizer, batch_size=16))(requests) for score, _ in answers
    ]
    rounded = torch.tensor(theirs).bfloat16().float().tolist()
    assert theirs == rounded, "each has the eight bits of a bfloat16"
    assert own != torch.tensor(own).bfloat16().float().tolist()
    assert len(theirs) - len(set(theirs)) > len(own) - len(set(own)) == 0, "ties"
    exact = ChoiceScorer(load_lm(model.float(), tokenizer, batch_size=16))(requests)
    true = torch.tensor([score for answers in exact for score, _ in answers])
    assert (torch.tensor(own) - true).abs().mean() < (torch.tensor(theirs) - true).abs().mean()


def test_fault_6_lm_evals_results_name_no_weights_of_a_local_model_and_ours_name_their_digest(
    models: Path, tmp_path: Path
) -> None:
    from lm_eval.models.huggingface import HFLM

    checkpoint = save_model(tmp_path / "checkpoint", context=2048)
    lm = HFLM(pretrained=str(checkpoint), dtype="float32", device="cpu")
    assert lm.get_model_info()["model_sha"] == ""
    suite = write_suite(tmp_path, "task: words, group: other, file: words.yaml")
    write_task(tmp_path, CHOICES)
    card = ours(checkpoint, suite, tmp_path / "out", limit=2)
    assert card.model.digest == find(str(checkpoint)).checkpoint.digest
    assert card.model.digest.startswith("sha256:")


def test_fault_7_lm_evals_limit_takes_the_first_items_and_ours_a_seeded_sample(models: Path, tmp_path: Path) -> None:
    rows = [dict(ROWS[0], q=f"Question {n}", kind="easy" if n < 60 else "hard") for n in range(90)]
    write_task(tmp_path, CHOICES, rows=rows)
    found = lm_eval_results(["words"], tmp_path, limit=6)
    assert [sample["doc_id"] for sample in found["samples"]["words"]] == list(range(6))
    suite = open_suite(str(write_suite(tmp_path, "task: words, group: other, file: words.yaml, stratum: kind")))
    (prepared,), _ = prepare(suite, find(str(models / "parent")), Choices(limit=6, seed=0, batch_size=None))
    chosen = [request.index for request in prepared.requests]
    assert chosen != list(range(6))
    assert [request.document["kind"] for request in prepared.requests].count("hard") == 2, "in proportion"
    (again,), _ = prepare(suite, find(str(models / "parent")), Choices(limit=6, seed=0, batch_size=None))
    assert [request.index for request in again.requests] == chosen


def test_fault_8_lm_eval_gives_a_custom_aggregation_no_error_and_we_give_it_an_interval(
    models: Path, tmp_path: Path
) -> None:
    (tmp_path / "spread.py").write_text(
        "def values(doc, results):\n    return {'spread': results[0][0]}\n\n"
        "def spread(items):\n    return max(items) - min(items)\n"
    )
    metric = {"metric": "spread", "aggregation": "!function spread.spread", "higher_is_better": True}
    write_task(tmp_path, CHOICES, process_results="!function spread.values", metric_list=[metric])
    found = lm_eval_results(["words"], tmp_path)["results"]["words"]
    assert found["spread_stderr,none"] == "N/A"
    assert not [key for key in found if "interval" in key or "ci" in key.split("_")]
    suite = write_suite(tmp_path, "task: words, group: other, file: words.yaml")
    score = ours(models / "parent", suite, tmp_path / "out").score("words", "spread")
    likelihoods = [s.detail["log_likelihoods"][0] for s in SavedRun.open(tmp_path / "out").samples("words")]
    assert score.value == pytest.approx(max(likelihoods) - min(likelihoods))
    assert score.stderr > 0
    assert score.interval.low < score.interval.high
    assert "bootstrap" in score.interval.method
    assert json.loads((tmp_path / "out" / "scorecard.json").read_text())["scores"][0]["interval"]["low"] > 0
