"""lm-eval's own backends answer as ours does, a scorecard says which did, and nothing of an endpoint passes for a checkpoint."""

from __future__ import annotations

import importlib.machinery
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from completions_server import NAME, Served, serving
from own_task import CHOICES, TEXTS, write_suite, write_task

from evals.__main__ import main
from evals.compare import compare
from evals.leaderboard import write
from evals.saved import SavedRun
from evals.vllm_backend import ALL
from training.errors import UsageError

KEY = "sk-a-key-that-nobody-may-see"


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Choices, greedy texts and a chat's texts."""
    folder = tmp_path_factory.mktemp("suite")
    write_task(folder, CHOICES)
    write_task(folder, TEXTS, "texts", generation_kwargs={"until": ["e"], "max_gen_toks": 6, "do_sample": False})
    write_task(folder, TEXTS, "chat", generation_kwargs={"until": ["e"], "max_gen_toks": 6, "do_sample": False})
    return write_suite(
        folder,
        "task: words, group: other, file: words.yaml",
        "task: texts, group: other, file: texts.yaml",
        "task: chat, group: other, file: chat.yaml, chat_template: true",
    )


@pytest.fixture(scope="module")
def own(suite: Path, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("own")
    assert main(command(models / "parent", suite, out)) == 0
    return out


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Served]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(models / "parent").eval()
    with serving(model, AutoTokenizer.from_pretrained(models / "parent")) as served:
        yield served


@pytest.fixture
def endpoint(server: Served, monkeypatch: pytest.MonkeyPatch) -> Served:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.key, server.broken = KEY, False
    server.asked.clear()
    return server


def command(source: object, suite: Path, out: Path, *more: object) -> list[str]:
    return ["run", str(source), "--suite", str(suite), "--out", str(out), *map(str, more), "--dtype", "float32"]


def at(endpoint: Served, models: Path) -> list[object]:
    return ["--backend", "openai-endpoint", "--endpoint", endpoint.url, "--tokenizer", models / "parent"]


def assert_same_answers(out: Path, own: Path) -> None:
    for task in ("words", "texts", "chat"):
        for sample, other in zip(SavedRun.open(out).samples(task), SavedRun.open(own).samples(task), strict=True):
            assert (sample.item, sample.target) == (other.item, other.target)
            assert sample.values == other.values
            assert sample.response == other.response
            if task == "words":
                found, expected = sample.detail["log_likelihoods"], other.detail["log_likelihoods"]
                assert found == pytest.approx(expected, abs=1e-3)


def test_hf_gives_the_answers_of_slipway_and_is_not_compared_with_it(
    suite: Path, models: Path, own: Path, tmp_path: Path
) -> None:
    assert main(command(models / "parent", suite, tmp_path, "--backend", "hf")) == 0
    assert_same_answers(tmp_path, own)
    card = SavedRun.open(tmp_path).scorecard
    assert card.settings.backend == "hf"
    assert {settings.engine for settings in card.settings.tasks} == {"lm-eval's hf"}
    assert SavedRun.open(own).scorecard.settings.backend == "slipway"
    with pytest.raises(UsageError) as refused:
        compare(own, tmp_path)
    assert "backend: slipway / hf" in str(refused.value.found)


def test_sampled_texts_of_hf_are_the_same_again_and_differ_from_each_other(models: Path, tmp_path: Path) -> None:
    write_task(
        tmp_path, TEXTS, generation_kwargs={"until": [], "max_gen_toks": 8, "do_sample": True, "temperature": 1.0}
    )
    suite = write_suite(tmp_path, "task: words, group: toxicity, file: words.yaml, scoring: profanity, samples: 3")
    for out in ("a", "b"):
        assert main(command(models / "parent", suite, tmp_path / out, "--backend", "hf", "--limit", 3)) == 0
    one, other = (SavedRun.open(tmp_path / out).samples("words") for out in ("a", "b"))
    assert one == other
    assert all(len(set(sample.detail["responses"])) == 3 for sample in one)


def test_an_endpoint_gives_the_answers_of_its_model_and_its_scorecard_says_that_nothing_pins_them(
    suite: Path, models: Path, own: Path, tmp_path: Path, endpoint: Served
) -> None:
    assert main(command(NAME, suite, tmp_path / "out", *at(endpoint, models))) == 0
    assert_same_answers(tmp_path / "out", own)
    card = SavedRun.open(tmp_path / "out").scorecard
    assert (card.model.name, card.model.endpoint) == (NAME, endpoint.url)
    assert (card.model.parameters, card.settings.dtype, card.settings.device) == (None, "as served", "as served")
    assert card.model.digest.startswith("unpinned:")
    assert [settings.engine for settings in card.settings.tasks] == [
        "lm-eval's local-completions",
        "lm-eval's local-completions",
        "lm-eval's local-chat-completions",
    ]
    chats = [asked for asked in endpoint.asked if asked["path"].endswith("/chat/completions")]
    assert chats[0]["messages"][0]["role"] == "user", "its own template writes the conversation"
    write([own, tmp_path / "out"], tmp_path / "board")
    page = (tmp_path / "board" / "index.html").read_text()
    assert "what was served there is pinned by nothing" in page
    assert "backend is openai-endpoint, not slipway" in page


def test_a_second_run_asks_an_endpoint_again_for_it_may_serve_another_model_by_then(
    suite: Path, models: Path, tmp_path: Path, endpoint: Served
) -> None:
    words = command(NAME, suite, tmp_path, *at(endpoint, models), "--limit", 2)
    assert main(words) == 0
    first = len(endpoint.asked)
    assert main(words) == 0
    assert len(endpoint.asked) == 2 * first


def test_sampled_texts_of_an_endpoint_are_asked_for_with_seeds_of_their_own(
    models: Path, tmp_path: Path, endpoint: Served
) -> None:
    write_task(
        tmp_path, TEXTS, generation_kwargs={"until": [], "max_gen_toks": 5, "do_sample": True, "temperature": 1.0}
    )
    suite = write_suite(tmp_path, "task: words, group: toxicity, file: words.yaml, scoring: profanity, samples: 3")
    assert main(command(NAME, suite, tmp_path / "out", *at(endpoint, models), "--limit", 2)) == 0
    assert len({asked["seed"] for asked in endpoint.asked}) == 3
    assert all(asked["temperature"] == 1.0 for asked in endpoint.asked)


@pytest.mark.parametrize("fault", ["another key", "a server that is broken", "no server"])
def test_what_an_endpoint_refuses_ends_the_run_and_the_key_stands_nowhere(
    fault: str,
    suite: Path,
    models: Path,
    tmp_path: Path,
    endpoint: Served,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = {
        "another key": "the endpoint refuses the key",
        "a server that is broken": "the endpoint failed to answer",
        "no server": "the endpoint cannot be reached",
    }[fault]
    if fault == "another key":
        endpoint.key = "another"
    endpoint.broken = fault == "a server that is broken"
    where = at(endpoint, models)
    if fault == "no server":
        where[3] = "http://127.0.0.1:9/v1"
    monkeypatch.setattr("time.sleep", lambda _: None)  # between lm-eval's retries
    assert main([*command(NAME, suite, tmp_path / "out", *where), "--json"]) == 2
    printed, logged = capsys.readouterr()
    error = json.loads(printed)["error"]
    assert error["what"] == told
    assert all(error[part] for part in ("where", "found", "next"))
    written = "".join(file.read_text() for file in tmp_path.rglob("*") if file.is_file())
    assert KEY not in printed + logged + written
    assert not (tmp_path / "out" / "scorecard.json").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([NAME, "--backend", "openai-endpoint"], "an endpoint needs its address"),
        ([NAME, "--backend", "openai-endpoint", "--endpoint", f"http://me:{KEY}@127.0.0.1/v1"], "more than an address"),
        (
            [NAME, "--backend", "openai-endpoint", "--endpoint", f"http://127.0.0.1/v1?key={KEY}"],
            "more than an address",
        ),
        (["other", "--backend", "openai-endpoint", "--endpoint", "URL"], "does not serve this model"),
        (
            [NAME, "--backend", "openai-endpoint", "--endpoint", "URL", "--tokenizer", "/nowhere"],
            "tokenizer of the served",
        ),
        (
            [NAME, "--backend", "openai-endpoint", "--endpoint", "URL"],
            "words: log-likelihoods of choices need the tokenizer",
        ),
        (["MODEL", "--endpoint", "URL"], "are for a model that is served"),
    ],
)
def test_what_an_endpoint_needs_is_asked_for_before_anything_else(
    words: list[str], told: str, suite: Path, models: Path, tmp_path: Path, endpoint: Served, capsys: Any
) -> None:
    words = [{"URL": endpoint.url, "MODEL": str(models / "parent")}.get(word, word) for word in words]
    assert main(["run", *words, "--suite", str(suite), "--out", str(tmp_path / "out"), "--json"]) == 2
    printed, logged = capsys.readouterr()
    error = json.loads(printed)["error"]
    assert told in error["what"]
    assert all(error[part] for part in ("where", "found", "next"))
    assert KEY not in printed + logged


def test_vllm_that_is_not_installed_is_said_before_anything_is_opened(
    suite: Path, models: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert main([*command(models / "parent", suite, tmp_path / "out", "--backend", "vllm"), "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["what"] == "the backend vllm needs the package vllm"
    assert error["next"].startswith("pip install vllm")


def test_vllm_is_taken_from_lm_evals_registry_with_the_checkpoints_path_and_loaded_once(
    suite: Path, models: Path, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vLLM itself is on no machine of the CI: lm-eval's hf stands in for what its registry gives under that name."""
    from lm_eval.api import registry
    from lm_eval.models.huggingface import HFLM

    real, made = registry.get_model, []

    def get_model(name: str) -> Any:
        def vllm(pretrained: str, dtype: str, max_model_len: int, batch_size: int, seed: int) -> Any:
            made.append((pretrained, dtype, max_model_len, batch_size, seed))
            lm = HFLM(pretrained=pretrained, dtype=dtype, device="cpu", batch_size=4)
            write = lm.generate_until

            def generate(requests: Any, disable_tqdm: bool) -> list[str]:
                seeds = {request.args[1].pop("seed") for request in requests}
                assert all(isinstance(seed, int) for seed in seeds)
                return list(write(requests, disable_tqdm=disable_tqdm))

            lm.generate_until = generate
            return lm

        return vllm if name == "vllm" else real(name)

    found = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *rest: importlib.machinery.ModuleSpec(name, None) if name == "vllm" else found(name, *rest),
    )
    monkeypatch.setattr(registry, "get_model", get_model)
    assert main(command(models / "parent", suite, tmp_path, "--backend", "vllm")) == 0
    assert made == [(str(models / "parent"), "float32", 2048, ALL, 0)]
    assert_same_answers(tmp_path, own)
    assert SavedRun.open(tmp_path).scorecard.settings.backend == "vllm"


def test_other_settings_of_bos_and_template_stand_in_the_scorecard_and_move_the_prompts(
    suite: Path, models: Path, own: Path, tmp_path: Path
) -> None:
    assert main(command(models / "parent", suite, tmp_path / "bos", "--bos", "added")) == 0
    assert main(command(models / "parent", suite, tmp_path / "chat", "--chat-template", "on")) == 0
    plain, bos, chat = (SavedRun.open(out) for out in (own, tmp_path / "bos", tmp_path / "chat"))
    question = plain.samples("words")[0].prompt
    assert bos.samples("words")[0].prompt == f"<|im_start|>{question}"
    assert bos.samples("chat")[0].prompt == plain.samples("chat")[0].prompt, "the template begins with it"
    assert chat.samples("words")[0].prompt == f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    assert [bos.scorecard.task_settings("words").bos, chat.scorecard.task_settings("words").bos] == [
        "added",
        "tokenizer",
    ]
    assert chat.scorecard.task_settings("words").chat_template
    assert bos.samples("words")[0].detail["log_likelihoods"] != plain.samples("words")[0].detail["log_likelihoods"]
