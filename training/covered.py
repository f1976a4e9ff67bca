"""A checkpoint's directory with nothing in it but what its digest covers: what is loaded from there is what the digest names.

    with covered(checkpoint.path) as folder:
        model = AutoModelForCausalLM.from_pretrained(folder)

Links, so it costs nothing whatever the weights' size.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from training.checkpoint import covered_files


@contextmanager
def covered(path: Path) -> Iterator[Path]:
    """A folder of links to the files of a checkpoint that its digest covers, as long as it is needed for loading."""
    with TemporaryDirectory(prefix="slipway-covered-") as scratch:
        folder = Path(scratch) / (path.resolve().name or "checkpoint")
        folder.mkdir()
        for name in covered_files(path):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).symlink_to((path / name).resolve())
        yield folder
