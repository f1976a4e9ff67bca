"""Rewards from a function or a server: what they are given, what is refused, and that a failure loses nothing."""

from __future__ import annotations

import hashlib
import json
import random
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from training import reward_server
from training.errors import UsageError
from training.ppo_recipe import GuardSettings, PPORecipe, PPOSettings
from training.ppo_run import train_ppo
from training.recipe import DataSettings, Generation
from training.reward_sources import RewardFailed, load_reward_function, reward_endpoint
from training.run_record import RunRecord


def written(folder: Path, text: str) -> Path:
    file = folder / "judge.py"
    file.write_text(text)
    return file


def test_a_function_is_given_samples_prompts_and_outputs_by_name(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        "def judge(*, outputs, samples, prompts):\n"
        "    assert samples == [p + o for p, o in zip(prompts, outputs)]\n"
        "    return [len(o) for o in outputs]\n",
    )
    rewards = load_reward_function(f"{file}:judge")
    assert rewards.score(["a: ", "b: "], ["yes", ""]) == [3.0, 0.0]
    assert rewards.source.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize("made", ["numpy.array([1.5, 2.0])", "torch.tensor([1.5, 2.0])", "(1.5, numpy.float32(2))"])
def test_arrays_and_tensors_are_rewards_too(tmp_path: Path, made: str) -> None:
    file = written(tmp_path, f"import numpy, torch\ndef judge(**_):\n    return {made}\n")
    assert load_reward_function(f"{file}:judge").score(["", ""], ["a", "b"]) == [1.5, 2.0]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return 1 / 0", r"raised an exception[\s\S]*judge\.py, line 2[\s\S]*ZeroDivisionError"),
        ("return [1.0, float('nan')]", r"finite[\s\S]*nan for 'second'"),
        ("return [1.0, float('inf')]", r"finite[\s\S]*inf for 'second'"),
        ("raise SystemExit(0)", r"raised an exception[\s\S]*judge\.py, line 2[\s\S]*SystemExit: 0"),
        ("samples.clear(); return []", r"list of 2 finite numbers[\s\S]*0 of them"),
        ("return [1.0]", r"list of 2 finite numbers[\s\S]*1 of them"),
        ("return None", r"NoneType"),
        ("return 0.5", r"float: 0\.5"),
        ("return ['good', 'bad']", r"str 'good'"),
        ("return [True, False]", r"bool 'True'"),
        ("return numpy.ones((2, 1))", r"list '\[1\.0\]'"),
    ],
)
def test_what_is_no_list_of_rewards_is_refused_with_what_came_back(tmp_path: Path, body: str, said: str) -> None:
    file = written(tmp_path, f"def judge(samples, prompts, outputs):\n    {body}\nimport numpy\n")
    with pytest.raises(RewardFailed, match=said):
        load_reward_function(f"{file}:judge").score(["", ""], ["first", "second"])


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("def judge(**_): return []", "jugde", r"no function of the name jugde[\s\S]*one of judge"),
        ("judge = 3", "judge", r"no function of the name judge[\s\S]*judge is a int"),
        ("import sys\nsys.exit(0)", "judge", r"does not run[\s\S]*judge\.py, line 2[\s\S]*SystemExit: 0"),
        ("def judge(:", "judge", r"does not run[\s\S]*judge\.py, line 1[\s\S]*SyntaxError"),
        ("\nimport no_such_module", "judge", r"does not run[\s\S]*judge\.py, line 2[\s\S]*no_such_module"),
    ],
)
def test_a_file_without_the_function_is_refused(tmp_path: Path, text: str, name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        load_reward_function(f"{written(tmp_path, text)}:{name}")


@pytest.mark.parametrize("spec", ["judge.py", "judge.py:", ":judge", "nowhere.py:judge"])
def test_a_name_that_leads_to_no_function_is_refused(tmp_path: Path, spec: str, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"file\.py:name|no such file"):
        load_reward_function(spec)


class Judge(BaseHTTPRequestHandler):
    """Answers as the test has laid out, one answer a request, the last one again and again."""

    asked: list[Any]
    answers: list[tuple[int, str]]

    def do_POST(self) -> None:
        self.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        code, text = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.send_response(code)
        if 300 <= code < 400:
            self.send_header("Location", text)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def judge(monkeypatch) -> Iterator[tuple[str, type[Judge]]]:
    monkeypatch.setattr(reward_server, "PAUSE_SECONDS", 0.0)
    handler = type("ThisJudge", (Judge,), {"asked": [], "answers": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/score", handler
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_server_is_asked_with_the_same_three_lists(judge) -> None:
    url, handler = judge
    handler.answers = [(200, '{"rewards": [0.5, -1]}')]
    assert reward_endpoint(url, 5.0, 1).score(["p", "q"], ["a", "b"]) == [0.5, -1.0]
    assert handler.asked == [{"samples": ["pa", "qb"], "prompts": ["p", "q"], "outputs": ["a", "b"]}]


def test_a_server_that_fails_for_a_while_is_asked_again(judge) -> None:
    url, handler = judge
    handler.answers = [(503, "starting"), (429, "busy"), (200, '{"rewards": [1]}')]
    assert reward_endpoint(url, 5.0, 3).score(["p"], ["a"]) == [1.0]
    assert len(handler.asked) == 3


@pytest.mark.parametrize(
    ("answers", "tries", "said", "asked"),
    [
        ([(503, "starting")], 2, r"HTTP 503[\s\S]*starting[\s\S]*try 2 of 2", 2),
        ([(404, "no such path")], 3, r"HTTP 404[\s\S]*no such path", 1),
        ([(200, "<html>")], 3, r"not understood[\s\S]*no JSON[\s\S]*<html>", 1),
        ([(200, '{"scores": [1]}')], 3, r"not understood[\s\S]*scores", 1),
        ([(200, '{"rewards": [NaN]}')], 3, r"float32[\s\S]*nan", 1),
        ([(200, '{"rewards": [1e39]}')], 3, r"float32[\s\S]*1e\+39", 1),
        ([(200, '{"rewards": [1' + "0" * 400 + "]}")], 3, r"float32 holds[\s\S]*10000", 1),
        ([(200, "[" * 100_000)], 3, r"not understood[\s\S]*RecursionError", 1),
        ([(302, "/elsewhere")], 3, r"sends elsewhere[\s\S]*HTTP 302", 1),
        ([(308, "/elsewhere")], 3, r"sends elsewhere[\s\S]*HTTP 308", 1),
        ([(200, '{"rewards": [1, 2]}')], 3, r"2 of them", 1),
    ],
)
def test_an_answer_that_is_no_reward_is_an_error_that_shows_it(judge, answers, tries, said: str, asked: int) -> None:
    url, handler = judge
    handler.answers = answers
    with pytest.raises(RewardFailed, match=said):
        reward_endpoint(url, 5.0, tries).score(["p"], ["a"])
    assert len(handler.asked) == asked


def test_a_server_that_is_down_or_silent_is_an_error_that_names_it(judge) -> None:
    url, handler = judge
    handler.do_POST = lambda _: threading.Event().wait(0.5)
    with pytest.raises(RewardFailed, match=r"gives no rewards[\s\S]*imed ?out"):
        reward_endpoint(url, 0.05, 1).score(["p"], ["a"])
    with pytest.raises(RewardFailed, match=r"gives no rewards[\s\S]*127\.0\.0\.1:9/[\s\S]*refused"):
        reward_endpoint("http://127.0.0.1:9/", 1.0, 2).score(["p"], ["a"])


def test_a_server_that_sends_a_little_now_and_then_is_not_waited_for_longer_than_was_said(judge) -> None:
    url, handler = judge
    over = threading.Event()

    def trickle(self: Any) -> None:
        self.send_response(200)
        self.end_headers()
        while not over.wait(0.05):
            try:
                self.wfile.write(b" ")
            except OSError:
                return

    handler.do_POST = trickle
    with pytest.raises(RewardFailed, match=r"not whole after 0\.3 s"):
        reward_endpoint(url, 0.3, 1).score(["p"], ["a"])
    over.set()


def test_a_server_that_is_overloaded_is_left_alone_for_as_long_as_it_asks(judge, monkeypatch) -> None:
    url, handler = judge
    pauses: list[float] = []
    monkeypatch.setattr(reward_server.time, "sleep", pauses.append)
    handler.answers = [(429, "busy"), (200, '{"rewards": [1]}')]
    handler.end_headers = lambda self: (self.send_header("Retry-After", "20"), BaseHTTPRequestHandler.end_headers(self))
    assert reward_endpoint(url, 5.0, 2).score(["p"], ["a"]) == [1.0]
    assert pauses == [20.0]


def test_a_function_that_sets_the_directory_or_torchs_type_sets_them_for_itself_alone(tmp_path: Path) -> None:
    sets = "    os.chdir('/')\n    torch.set_default_dtype(torch.float64)\n"
    text = f"import os, torch\ndef judge(samples, **_):\n{sets}    return [1]\n"
    here = Path.cwd()
    assert load_reward_function(f"{written(tmp_path, text)}:judge").score(["a"], ["b"]) == [1.0]
    assert Path.cwd() == here
    assert torch.get_default_dtype() == torch.float32


COUNTED = """
from pathlib import Path

def judge(samples, prompts, outputs):
    calls = Path(__file__).with_suffix(".calls")
    calls.write_text(calls.read_text() + "x" if calls.exists() else "x")
    assert all(sample.startswith("<|im_start|>") and sample.endswith(output) for sample, output in zip(samples, outputs))
    assert not any("<|im_end|>" in output for output in outputs)
    return [float(sum(letter < "a" for letter in output)) for output in outputs]
"""
FAILS_AT_THE_FIFTH = COUNTED.replace(
    "    assert all", "    assert len(calls.read_text()) != 5, 'tired'\n    assert all"
)


def run_ppo(tiny: Path, function: Path, out: Path, guards: GuardSettings | None = None) -> RunRecord:
    recipe = PPORecipe(
        method="ppo",
        base=str(tiny),
        reward_function=f"{function}:judge",
        prompts=DataSettings(source="starter", heldout_split="heldout", heldout_limit=4),
        max_prompt_length=200,
        dtype="float32",
        guards=guards or GuardSettings(),
        generation=Generation(max_new_tokens=8),
        ppo=PPOSettings(total_episodes=32, batch_size=4, mini_batch_size=4, num_ppo_epochs=1, save_updates=4),
    )
    return train_ppo(recipe, out)


def test_a_function_that_fails_in_a_run_loses_nothing_and_once_mended_the_run_ends_as_if_it_never_had(
    tiny: Path, tmp_path: Path
) -> None:
    (tmp_path / "whole").mkdir()
    whole = run_ppo(tiny, written(tmp_path / "whole", COUNTED), tmp_path / "straight")
    function = written(tmp_path, FAILS_AT_THE_FIFTH)
    failed = hashlib.sha256(function.read_bytes()).hexdigest()
    with pytest.raises(RewardFailed, match="tired"):
        run_ppo(tiny, function, tmp_path / "mended")
    state = torch.load(tmp_path / "mended" / ".state" / "ppo.pt", weights_only=True)
    assert state["ppo"]["updates_done"] == 3, "one call measured the held-out prompts, three scored updates"
    function.write_text(COUNTED)
    mended = run_ppo(tiny, function, tmp_path / "mended")
    assert mended.checkpoint_digest == whole.checkpoint_digest
    assert [(source.sha256, source.from_update) for source in mended.rewards] == [
        (failed, 1),
        (hashlib.sha256(COUNTED.encode()).hexdigest(), 4),
    ]
    assert [parent.role for parent in mended.parents] == ["base"]
    assert mended.metrics["heldout_reward_after"] >= 0
    assert mended.metrics["episodes"] == 32


def test_a_function_that_fails_while_the_policy_is_measured_loses_nothing_either(tiny: Path, tmp_path: Path) -> None:
    guards = GuardSettings(heldout_every=3)
    (tmp_path / "whole").mkdir()
    whole = run_ppo(tiny, written(tmp_path / "whole", COUNTED), tmp_path / "straight", guards)
    function = written(tmp_path, FAILS_AT_THE_FIFTH)
    with pytest.raises(RewardFailed, match="tired"):
        run_ppo(tiny, function, tmp_path / "mended", guards)
    state = torch.load(tmp_path / "mended" / ".state" / "ppo.pt", weights_only=True)
    assert state["ppo"]["updates_done"] == 3, "the fifth call measured what the third update had made"
    function.write_text(COUNTED)
    mended = run_ppo(tiny, function, tmp_path / "mended", guards)
    assert mended.checkpoint_digest == whole.checkpoint_digest
    figures = [
        [json.loads(line).get("heldout_reward") for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        for run in ("straight", "mended")
    ]
    assert figures[0] == figures[1]
    assert [place + 1 for place, figure in enumerate(figures[0]) if figure is not None] == [3, 6, 8]


def test_random_numbers_of_a_reward_function_are_its_own_and_the_runs_go_on_as_if_it_drew_none(tmp_path: Path) -> None:
    file = tmp_path / "seeds.py"
    file.write_text(
        "import random\nimport numpy\nimport torch\ntorch.manual_seed(7)\n"
        "def seeds(samples, prompts, outputs):\n"
        "    drawn = float(torch.rand(1)) + random.random() + float(numpy.random.rand())\n"
        "    torch.manual_seed(0); random.seed(0); numpy.random.seed(0)\n"
        "    return [drawn] * len(samples)\n"
    )
    torch.manual_seed(1)
    random.seed(1)
    expected = torch.rand(4), random.random()
    torch.manual_seed(1)
    random.seed(1)
    rewards = load_reward_function(f"{file}:seeds")
    first, other = rewards.score(["a"], ["b"]), rewards.score(["a"], ["c"])
    assert torch.equal(torch.rand(4), expected[0])
    assert random.random() == expected[1]
    assert first != other
    assert rewards.score(["a"], ["b"]) == first, "a run that was interrupted sees the same"
