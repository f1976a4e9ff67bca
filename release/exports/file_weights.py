"""The weights of a GGUF file in transformers: everything else (config, tokenizer, template, when to stop) is the checkpoint's.

    evaluated = FileOfCheckpoint.of(find("runs/a/checkpoint"), Path("model-Q8_0.gguf"), sha256)
    FileWeights(evaluated, "float32", "cpu", file).model

Float32 holds every value that a quantised block stands for, so what this model says is what the file's weights say, without what
llama.cpp's own arithmetic adds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from evals.evaluated import Evaluated, Weights
from release.exports.gguf_file import read_weights
from training.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class FileOfCheckpoint(Evaluated):
    """A checkpoint whose weights are replaced by those of a file, so its digest is the file's."""

    sha256: str

    @classmethod
    def of(cls, checkpoint: Evaluated, file: Path, sha256: str) -> FileOfCheckpoint:
        return cls(file.name, checkpoint.checkpoint, None, checkpoint.tokenizer, sha256)

    @property
    def digest(self) -> str:
        return f"sha256:{self.sha256}"


@dataclass(frozen=True)
class FileWeights(Weights):
    """The checkpoint's model with the weights of `file`; read at first use."""

    file: Path

    @cached_property
    def model(self) -> PreTrainedModel:
        """Raises UsageError where the file's tensors are not those of the model."""
        import torch

        model = super().model
        state = model.state_dict()  # the model's own storage
        for name, weights in read_weights(self.evaluated.checkpoint, self.file):
            if name not in state:
                raise UsageError(
                    "the weights of the file have no place in the model that transformers makes of the checkpoint",
                    where=str(self.file),
                    expected="the names of the checkpoint's tensors",
                    found=name,
                    next_step="save the checkpoint again with save_pretrained, and export it again",
                )
            state[name].copy_(torch.from_numpy(weights))
        return model
