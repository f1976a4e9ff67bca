"""lm-eval's vllm backend, started so that vLLM's builds for CPUs serve it as well.

lm = load_vllm(get_model, str(checkpoint), "float32", max_model_len=2048, seed=0)  # an LM of lm-eval's
"""

from __future__ import annotations

import contextlib
import copy
import importlib.metadata
import os
from collections.abc import Callable, Iterator
from typing import Any

from training.vllm_engine import built_for_cpu, engine_options, starting

# Bytes for keys and values. vLLM would take nine tenths of all memory, and refuse where less is free.
CPU_CACHE = 2 * 2**30
# Requests that lm-eval hands over at once: all. Its word for that is "auto", which has vLLM draw a bar, and it divides by the
# time that the bar shows, which is 0 where bars are off (TQDM_DISABLE).
ALL = 2**30


def load_vllm(get_model: Callable[[str], Any], pretrained: str, dtype: str, max_model_len: int, seed: int) -> Any:
    """lm-eval's vllm around a checkpoint; `get_model` reads its registry. VLLM_CPU_KVCACHE_SPACE (GiB) comes before CPU_CACHE.

    Raises UsageError, with vLLM's own words, where the engine does not start.
    """
    options = engine_options()
    if built_for_cpu():
        # A process of its own would not say here why it failed.
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        options["kv_cache_memory_bytes"] = CPU_CACHE
    with starting("--backend vllm"), _a_version_of_vllm():
        return get_model("vllm")(
            pretrained=pretrained, dtype=dtype, max_model_len=max_model_len, batch_size=ALL, seed=seed, **options
        )


def for_bos(lm: Any, bos: str) -> Any:
    """The same engine for tasks with this setting of BOS: "none", or what the tokenizer does."""
    other = copy.copy(lm)
    other.add_bos_token = False if bos == "none" else None
    return other


@contextlib.contextmanager
def _a_version_of_vllm() -> Iterator[None]:
    """lm-eval asks for the version of a package `vllm`; the community's CPU build is the package vllm-cpu."""
    real = importlib.metadata.version

    def version(name: str) -> str:
        try:
            return real(name)
        except importlib.metadata.PackageNotFoundError:
            if name != "vllm":
                raise
            return f"{real('vllm-cpu')}+cpu"  # as vLLM itself names it

    with contextlib.ExitStack() as stack:
        stack.callback(setattr, importlib.metadata, "version", real)
        setattr(importlib.metadata, "version", version)  # noqa: B010 - mypy refuses the assignment
        yield
