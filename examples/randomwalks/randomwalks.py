"""Shortest paths learned from random walks: the illustrative task of the Decision Transformer (Chen et al. 2021, section 1).

A directed graph of 21 nodes is fixed. A walk starts at any node but the goal and goes along edges until it is at the goal,
through at most 10 nodes. Nothing is known but random walks; wanted are shortest ones. trlX took the task over with one
reward for the whole walk, its optimality, and so does this.

    graph = Graph.make()
    graph.shortest["f"]                     # edges from f to the goal
    optimality(samples=["fka", "fb"])       # [1.0, 0.0] where f-k-a is a shortest path, and f-b does not get there

A node is a letter, a walk is their string, and the goal is `a`. Python's standard library is all this needs, so the file serves
as `reward_function: examples/randomwalks/randomwalks.py:optimality` wherever it is read from.
"""

from __future__ import annotations

import functools
import random
import string
from collections.abc import Sequence
from dataclasses import dataclass

NODES = string.ascii_lowercase[:21]
GOAL = NODES[0]
LONGEST = 10  # nodes of a walk, the first included
EDGE_PROBABILITY = 0.1
SEED = 1


@dataclass(frozen=True)
class Graph:
    """Where one can go from each node, and how many edges a shortest path to the goal has."""

    edges: dict[str, str]  # node -> the nodes behind its outgoing edges, sorted; the goal has none
    shortest: dict[str, int]  # node -> edges to the goal

    @classmethod
    def make(cls, seed: int = SEED) -> Graph:
        """The first random graph from whose every node the goal can be reached within the longest walk."""
        numbers = random.Random(seed)
        while True:
            edges = {
                node: "".join(other for other in NODES if other != node and numbers.random() < EDGE_PROBABILITY)
                for node in NODES
            }
            edges[GOAL] = ""
            shortest = edges_to_goal(edges)
            if all(shortest.get(node, LONGEST) < LONGEST for node in NODES):
                return cls(edges, shortest)

    @property
    def starts(self) -> str:
        """Every node but the goal."""
        return "".join(node for node in NODES if node != GOAL)

    def walk(self, start: str, numbers: random.Random) -> str:
        """A random walk from `start`: until the goal, or through `LONGEST` nodes."""
        walk = start
        while walk[-1] != GOAL and len(walk) < LONGEST:
            walk += numbers.choice(self.edges[walk[-1]])
        return walk

    def steps(self, walk: str) -> int | None:
        """Edges that the walk takes to the goal; None where it takes more than allowed, goes where no edge is, or stops short.

        What follows the goal does not count, for the walk has ended.
        """
        for step, node in enumerate(walk[:LONGEST]):
            if step and node not in self.edges[walk[step - 1]]:
                return None
            if node == GOAL:
                return step
        return None


def edges_to_goal(edges: dict[str, str]) -> dict[str, int]:
    """How many edges away the goal is from each node that can reach it: breadth first, against the edges' direction."""
    distance = {GOAL: 0}
    frontier = [GOAL]
    while frontier:
        frontier = [node for node in edges if node not in distance and any(to in frontier for to in edges[node])]
        distance.update({node: max(distance.values()) + 1 for node in frontier})
    return distance


@functools.cache
def fixed_graph() -> Graph:
    """The graph that walks, rewards and tests are about."""
    return Graph.make()


def optimality(
    samples: Sequence[str],
    prompts: Sequence[str] | None = None,  # noqa: ARG001 - every reward function is called with all three
    outputs: Sequence[str] | None = None,  # noqa: ARG001
) -> list[float]:
    """1 for a shortest path to the goal, 0 for a walk that does not get there, in between by its length. One for each sample.

    (N - n) / (N - n*): n nodes of the walk up to the goal, n* those of a shortest path from the same start, N = 10 the most that
    are allowed. A sample is the start and what was answered to it; `prompts` and `outputs` add nothing.
    """
    graph = fixed_graph()
    found = []
    for walk in samples:
        steps = graph.steps(walk)
        found.append(0.0 if steps is None else (LONGEST - 1 - steps) / (LONGEST - 1 - graph.shortest[walk[0]]))
    return found


def random_walks(count: int, seed: int = SEED) -> list[str]:
    """`count` random walks, each from a start drawn uniformly."""
    graph, numbers = fixed_graph(), random.Random(f"walks/{seed}")
    return [graph.walk(numbers.choice(graph.starts), numbers) for _ in range(count)]
