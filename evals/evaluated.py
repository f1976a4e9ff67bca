"""The checkpoint under evaluation: found, checked, and loaded only when something has to be computed.

evaluated = find("runs/base/checkpoint")        # or "org/name@revision"; no weights are loaded
with_weights = Weights(evaluated, "bfloat16", "cpu")
with_weights.model                              # loads, once
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.chat import written_turn_end
from training.checkpoint import Checkpoint, read_safetensors_header, weight_files
from training.covered import covered
from training.errors import UsageError
from training.pretrained import download

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


NOT_LANGUAGE_MODELS = ("Classification", "ForQuestionAnswering", "ForMaskedLM")


@dataclass(frozen=True)
class Evaluated:
    """A checkpoint, the name it was given by, and its tokenizer."""

    name: str
    checkpoint: Checkpoint
    revision: str | None
    tokenizer: PreTrainedTokenizerBase

    @cached_property
    def parameters(self) -> int | None:
        """Numbers in the weight files: a tied embedding counts once. None where nobody knows."""
        path = self.checkpoint.path
        headers = [read_safetensors_header(path / name) for name in weight_files(path)]
        return sum(int(prod(entry["shape"])) for header in headers for entry in header.values())

    @property
    def context(self) -> int:
        """The longest sequence in tokens; 2,048 where the config does not say."""
        config = self.checkpoint.config
        for key in ("max_position_embeddings", "n_positions", "n_ctx"):
            if isinstance(config.get(key), int):
                return int(config[key])
        return 2048

    def conversation(self, history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """A conversation through the chat template, as text."""
        return str(
            self.tokenizer.apply_chat_template(
                history,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )
        )

    def require_template(self) -> None:
        """Raise UsageError where the chat template cannot be rendered for a question and its answer."""
        turns = [{"role": "user", "content": "Question"}, {"role": "assistant", "content": "Answer"}]
        try:
            self.conversation(turns[:1])
            self.conversation(turns, add_generation_prompt=False)
        except Exception as error:  # a template can raise whatever it likes
            raise UsageError(
                "the chat template cannot be rendered",
                where=str(self.checkpoint.path),
                expected="a template that takes a user's message, and an assistant's after it",
                found=f"{type(error).__name__}: {error}"[:300],
                next_step="save the tokenizer with a template that works, or use a suite with chat_template: false",
            ) from error

    @property
    def digest(self) -> str:
        return self.checkpoint.digest

    def prompt_ids(self, prompt: str, special: bool) -> list[int]:
        """A prompt's tokens; without `special` ones where a chat template has written them already."""
        starts = bool(self.tokenizer.bos_token) and prompt.startswith(str(self.tokenizer.bos_token))
        return list(self.tokenizer.encode(prompt, add_special_tokens=special and not starts))

    def prompt_length(self, prompt: str) -> int:
        """In tokens."""
        return len(self.tokenizer.encode(prompt))

    def count(self, text: str) -> int:
        """A text's tokens."""
        return len(self.tokenizer.encode(text, add_special_tokens=False))

    def stop_tokens(self, conversation: bool) -> list[int]:
        """Tokens that end a generation: the tokenizer's, the config's and the generation config's; in a conversation the one as
        well that ends a turn in the chat template, where answers end in training."""
        found = {self.tokenizer.eos_token_id, *_ids(self.checkpoint.config.get("eos_token_id"))}
        if conversation:
            found.add(written_turn_end(self.tokenizer))
        generation = self.checkpoint.path / "generation_config.json"
        if generation.is_file():
            found.update(_ids(json.loads(generation.read_text(encoding="utf-8")).get("eos_token_id")))
        return sorted(token for token in found if token is not None)


def find(source: str) -> Evaluated:
    """Find a checkpoint directory, a run's directory, or a Hub id[@revision], and open its tokenizer.

    Raises UsageError for missing, pickled or truncated weights and for a tokenizer that does not work; HubError where
    the Hub does not give the model.
    """
    path, revision = Path(source).expanduser(), None
    if path.is_dir():
        path = path / "checkpoint" if (path / "checkpoint").is_dir() else path
    elif path.exists() or source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise UsageError(
            "there is no checkpoint directory here",
            where=source,
            found="a file" if path.exists() else "nothing",
            next_step="give a directory, or a Hub id org/name",
        )
    else:
        path, revision = download(source)
    checkpoint = Checkpoint.open(path)
    _require_language_model(checkpoint)
    return Evaluated(source, checkpoint, revision, open_tokenizer(checkpoint))


@dataclass(frozen=True)
class Weights:
    """The model of a checkpoint in one precision on one device, loaded at first use, from what its digest covers alone."""

    evaluated: Evaluated
    dtype: str
    device: str

    @cached_property
    def model(self) -> PreTrainedModel:
        """The model in evaluation mode. Raises UsageError where weights are not finite, missing or do not fit."""
        import torch
        from transformers import AutoModelForCausalLM

        path = self.evaluated.checkpoint.path
        require_finite_files(path)
        try:
            with covered(path) as folder:
                model, loading = AutoModelForCausalLM.from_pretrained(
                    folder, dtype=getattr(torch, self.dtype), output_loading_info=True
                )
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, TypeError, KeyError) as error:
            raise UsageError(
                "the weights cannot be loaded into the model that the config describes",
                where=str(path),
                expected="tensors of the names and shapes that config.json gives",
                found=f"{type(error).__name__}: {' '.join(str(error).split())}"[:400],
                next_step="take config.json and weights from one save_pretrained",
            ) from error
        missing = sorted(loading["missing_keys"])
        if missing:
            raise UsageError(
                "the weights lack tensors of the model, which would be drawn at random",
                where=str(path),
                expected=", ".join(missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else ""),
                found="no such tensor",
                next_step="save the whole model again with save_pretrained",
            )
        model.requires_grad_(False)
        return model.to(self.device).eval()


def require_finite_files(path: Path) -> None:
    """Raise UsageError naming file and tensor where a weight is NaN or infinite."""
    import torch
    from safetensors import safe_open

    for name in weight_files(path):
        with safe_open(path / name, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - not a mapping
                tensor = file.get_tensor(key)
                if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                    bad = int((~torch.isfinite(tensor)).sum())
                    raise UsageError(
                        f"the weights are not finite: {key}",
                        where=str(path / name),
                        expected="finite numbers",
                        found=f"{bad:,} of {tensor.numel():,} are NaN or infinite",
                        next_step="use a checkpoint from before the training diverged",
                    )


def _require_language_model(checkpoint: Checkpoint) -> None:
    """Raise UsageError where the config cannot be read or is not that of a decoder-only language model we can load."""
    from transformers import AutoConfig

    for name in ("config.json", "generation_config.json"):
        file = checkpoint.path / name
        try:
            described = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        except ValueError as error:
            described = error
        if not isinstance(described, dict):
            raise UsageError(
                f"{name} is not a JSON object",
                where=str(file),
                expected="the file that save_pretrained writes",
                found=str(described)[:200],
                next_step="copy or save the file again",
            )
    try:
        config = AutoConfig.from_pretrained(checkpoint.path, trust_remote_code=False)
    except Exception as error:  # configs of hundreds of models check their values in their own ways
        raise UsageError(
            "transformers does not know the model that config.json describes",
            where=str(checkpoint.path / "config.json"),
            expected="a model_type that needs no code of its own",
            found=" ".join(str(error).split())[:300],
            next_step="convert the model, or install the transformers that knows it",
        ) from error
    other = [name for name in config.architectures or [] if name.endswith(NOT_LANGUAGE_MODELS)]
    if other or getattr(config, "is_encoder_decoder", False):
        raise UsageError(
            "this is not a decoder-only language model",
            where=str(checkpoint.path / "config.json"),
            expected="a model that continues text, such as LlamaForCausalLM",
            found=", ".join(other) or f"an encoder-decoder model ({config.model_type})",
            next_step="give the language model; a reward model goes behind --judge",
        )


def open_tokenizer(checkpoint: Checkpoint) -> PreTrainedTokenizerBase:
    """The checkpoint's tokenizer, from what its digest covers alone.

    Raises UsageError where it cannot be loaded or has ids that the model has not.
    """
    from transformers import AutoTokenizer

    try:
        with covered(checkpoint.path) as folder:
            tokenizer = AutoTokenizer.from_pretrained(folder)
        ids = tokenizer.encode("A tokenizer that works gives ids.")
    except Exception as error:
        raise UsageError(
            "the checkpoint's tokenizer cannot be loaded",
            where=str(checkpoint.path),
            found=f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}",
            next_step="save the tokenizer of the model beside the weights: tokenizer.save_pretrained(...)",
        ) from error
    vocabulary = _vocabulary(checkpoint.config)
    if not ids or (vocabulary is not None and max(ids) >= vocabulary):
        raise UsageError(
            "the tokenizer does not belong to these weights",
            where=str(checkpoint.path),
            expected=f"ids below {vocabulary}",
            found=f"ids up to {max(ids)}" if ids else "no ids at all",
            next_step="save the tokenizer of the model beside the weights: tokenizer.save_pretrained(...)",
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _vocabulary(config: dict[str, Any]) -> int | None:
    size = config.get("vocab_size", (config.get("text_config") or {}).get("vocab_size"))
    return size if isinstance(size, int) else None


def _ids(value: int | Sequence[int] | None) -> list[int]:
    if value is None:
        return []
    return [value] if isinstance(value, int) else list(value)
