"""The random-walks example: its graph, its walks, what they are worth, and the base model's checkpoint."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "randomwalks"
sys.path.insert(0, str(EXAMPLE))

from randomwalks import GOAL, LONGEST, NODES, Graph, edges_to_goal, fixed_graph, optimality, random_walks  # noqa: E402


def shortest_walk(start: str) -> str:
    graph, walk = fixed_graph(), start
    while walk[-1] != GOAL:
        walk += min(graph.edges[walk[-1]], key=lambda node: graph.shortest[node])
    return walk


def test_distances_to_the_goal_are_those_of_a_graph_worked_by_hand() -> None:
    # b -> c -> a and b -> d -> e -> a; f leads into b only; g leads nowhere
    edges = {"a": "", "b": "cd", "c": "a", "d": "e", "e": "a", "f": "b", "g": ""}
    assert edges_to_goal(edges) == {"a": 0, "c": 1, "e": 1, "b": 2, "d": 2, "f": 3}


def test_the_goal_can_be_reached_from_every_node_within_the_longest_walk() -> None:
    graph = Graph.make(7)
    assert graph == Graph.make(7)
    assert set(graph.shortest) == set(NODES)
    assert max(graph.shortest.values()) < LONGEST
    assert graph.edges[GOAL] == ""


def test_a_random_walk_follows_edges_and_ends_at_the_goal_or_after_the_most_nodes() -> None:
    graph = fixed_graph()
    walks = random_walks(300)
    assert walks == random_walks(300)
    assert {walk[0] for walk in walks} == set(graph.starts)
    for walk in walks:
        assert all(there in graph.edges[here] for here, there in itertools.pairwise(walk))
        assert GOAL not in walk[:-1]
        assert walk[-1] == GOAL or len(walk) == LONGEST


def test_every_shortest_walk_is_worth_one_and_a_longer_one_less() -> None:
    graph = fixed_graph()
    assert optimality(samples=[shortest_walk(start) for start in graph.starts]) == [1.0] * 20
    walk, reward = next(
        (walk, reward)
        for walk, reward in zip(random_walks(300), optimality(random_walks(300)), strict=True)
        if walk[-1] == GOAL and len(walk) - 1 == graph.shortest[walk[0]] + 2
    )
    assert reward == pytest.approx(1 - 2 / (LONGEST - 1 - graph.shortest[walk[0]]))


def test_a_walk_that_jumps_stops_short_or_comes_too_late_is_worth_nothing() -> None:
    graph = fixed_graph()
    start = next(node for node in graph.starts if graph.shortest[node] > 2)
    there_and_back = next(f"{a}{b}" for a in graph.starts for b in graph.edges[a] if a in graph.edges[b])
    late = there_and_back * 5 + shortest_walk(there_and_back[0])
    jump, short, nonsense = start + GOAL, shortest_walk(start)[:-1], shortest_walk(start)[0] + "?" + GOAL
    assert optimality([jump, short, nonsense, late, start]) == [0.0] * 5
    assert optimality([shortest_walk(start) + "zz"]) == [1.0], "what follows the goal does not count"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What make.py writes."""
    out = tmp_path_factory.mktemp("randomwalks")
    command = [sys.executable, str(EXAMPLE / "make.py"), "--out", str(out), "--walks", "120", "--epochs", "1"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert finished.returncode == 0, finished.stderr
    return out


def test_the_example_writes_a_base_model_that_loads_and_data_that_agree(made: Path) -> None:
    from training.chat import answer_ids, prompt_ids
    from training.checkpoint import Checkpoint
    from training.pretrained import load_policy

    model, tokenizer = load_policy(Checkpoint.open(made / "base" / "checkpoint"), "float32")
    assert model.config.vocab_size == len(tokenizer) == len(NODES) + 1
    start = [{"role": "user", "content": "c"}]
    assert prompt_ids(tokenizer, start) == [2]
    assert answer_ids(tokenizer, start, "ba") == [1, 0, tokenizer.eos_token_id]
    assert tokenizer.decode([2, 1, 0, tokenizer.eos_token_id], skip_special_tokens=True) == "cba"
    rows = [json.loads(line) for line in (made / "walks.jsonl").read_text().splitlines()]
    assert [row["reward"] for row in rows] == optimality([row["prompt"] + row["response"] for row in rows])
    starts = [json.loads(line)["prompt"] for line in (made / "prompts.jsonl").read_text().splitlines()]
    assert starts == list(fixed_graph().starts)


def test_the_ppo_recipe_trains_to_its_end_and_what_it_saves_says_what_the_model_said(
    made: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from release.probe import Loaded, take_probe
    from training.__main__ import main
    from training.reference import Reference, difference

    run, recipe = tmp_path / "ppo", str(EXAMPLE / "ppo.yaml")
    here = [f"base={made / 'base'}", f"prompts.source={made / 'prompts.jsonl'}"]
    here.append(f"reward_function={EXAMPLE / 'randomwalks.py'}:optimality")
    assert main(["ppo", "--recipe", recipe, "--out", str(run), "ppo.total_episodes=100", *here]) == 0
    assert json.loads((run / "run.json").read_text())["metrics"]["episodes"] == 100
    reference = Reference.read(run / "reference.json")
    assert (reference.text, reference.input_ids) == (NODES[:5], [0, 1, 2, 3, 4]), "English is no walk"
    model = AutoModelForCausalLM.from_pretrained(run / "checkpoint")
    assert difference(reference, model) < 1e-2
    probe = take_probe(Loaded(model, AutoTokenizer.from_pretrained(run / "checkpoint"), [], [], []))
    assert (probe.text, probe.input_ids) == (reference.text, reference.input_ids), "a release asks the same"
