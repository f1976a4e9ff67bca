"""Which runtime answers in a Space, on which hardware and in which precision: decided from records and arithmetic.

    flavour = choose_flavour("cpu", Path("runs/a"), Asked())     # llama.cpp where a GGUF passed, else transformers
    flavour.backend, flavour.precision, flavour.memory

`cpu` and `zerogpu` load the model beside the page, so they are refused where it does not fit; `endpoint` and `tgi` name a server.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from evals.scorecard import Scorecard
from release.exports.record import EXPORT, RECEIPT, ExportReceipt, ExportRecord
from release.hub_client import chosen_endpoint
from release.space_memory import HARDWARE, OPTIONAL_SIZES, SIZES, Memory, memory_needed
from training.checkpoint import Checkpoint, read_safetensors_header, weight_files
from training.command import log
from training.errors import UsageError
from training.records import Record

FLAVOURS = ("cpu", "zerogpu", "endpoint", "tgi")
Backend = Literal["transformers", "llama.cpp", "zerogpu", "endpoint", "tgi"]
SCORECARD = "scorecard.json"
CONTEXT_TOKENS = 4_096  # spaces/chat/limits.py; tests hold the two against each other
ANSWERS_AT_ONCE: dict[str, int] = {"llama.cpp": 4, "transformers": 1, "zerogpu": 1}
BYTES = {"float32": 4, "bfloat16": 2}


class PinnedGguf(Record):
    """The file that answers, and what it was measured to lose."""

    repo_id: str
    revision: str
    path: str
    sha256: str
    size: int
    precision: str
    kl_mean: float
    greedy_agreement: float


class SpaceFlavour(Record):
    """What space.json says of the runtime. `memory` says why it fits, with the numbers."""

    name: Literal["cpu", "zerogpu", "endpoint", "tgi"]
    backend: Backend
    precision: str
    hardware: str | None
    memory: str | None
    url: str | None = None
    gguf: PinnedGguf | None = None


@dataclass(frozen=True)
class Asked:
    """What the command line says beside the flavour's name."""

    url: str | None = None
    hardware: str | None = None


def choose_flavour(name: str, run: Path, asked: Asked) -> SpaceFlavour:
    """Raises UsageError for an unknown name or hardware, a server without an address, and a model that does not fit."""
    if name not in FLAVOURS:
        raise UsageError("there is no such flavour of the Space", expected=", ".join(FLAVOURS), found=name)
    if name in ("endpoint", "tgi"):
        return _server(name, asked)
    if asked.url is not None:
        raise UsageError(f"the flavour {name} runs the model itself", found="--space-url")
    hardware = asked.hardware or ("zero-a10g" if name == "zerogpu" else "cpu-basic")
    if hardware not in HARDWARE:
        raise UsageError("the memory of this hardware is not known", expected=", ".join(HARDWARE), found=hardware)
    checkpoint = Checkpoint.open(run / "checkpoint")
    if name == "cpu":
        gguf = _largest_that_fits(run, checkpoint, hardware)
        if gguf is not None:
            need = _memory(checkpoint, "llama.cpp", gguf.size)
            return SpaceFlavour(
                name="cpu",
                backend="llama.cpp",
                precision=gguf.precision,
                hardware=hardware,
                memory=need.in_words(hardware),
                gguf=gguf,
            )
    backend: Backend = "zerogpu" if name == "zerogpu" else "transformers"
    precision, need = _precision_that_fits(checkpoint, backend, hardware, scored=_scored_in(run, checkpoint))
    return SpaceFlavour(
        name="zerogpu" if name == "zerogpu" else "cpu",
        backend=backend,
        precision=precision,
        hardware=hardware,
        memory=need.in_words(hardware),
    )


def _server(name: str, asked: Asked) -> SpaceFlavour:
    if asked.hardware is not None and asked.hardware not in HARDWARE:
        raise UsageError("no such hardware is known", expected=", ".join(HARDWARE), found=asked.hardware)
    url = _public_address(name, asked.url)
    return SpaceFlavour(
        name="tgi" if name == "tgi" else "endpoint",
        backend="tgi" if name == "tgi" else "endpoint",
        precision="the server's",
        hardware=asked.hardware or "cpu-basic",
        memory=None,
        url=url.rstrip("/"),
    )


def _public_address(name: str, url: str | None) -> str:
    """The server's address, which everybody can read in space.json. Raises UsageError where it is none or holds a secret.

    What is refused is not repeated: an error's text ends up in logs.
    """
    expected = "--space-url https://HOST/v1" if name == "endpoint" else "--space-url https://HOST"
    try:
        parts = urlsplit(url or "")
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, brackets that do not close
        usable = False
    if not url or not usable or any(sign.isspace() or not sign.isprintable() for sign in url):
        raise UsageError(
            f"the flavour {name} needs the address of its server",
            expected=expected,
            found="an address without a scheme of http or https, or without a usable host" if url else "none",
        )
    held = [
        what
        for what, there in (
            ("a user or password before @", "@" in parts.netloc),
            ("a query after ?", "?" in url),
            ("a fragment after #", "#" in url),
        )
        if there
    ]
    if held:
        variable = "TGI" if name == "tgi" else "ENDPOINT"
        raise UsageError(
            "the server's address would be published in the Space with what may be a secret in it",
            where="--space-url",
            expected=expected,
            found=", ".join(held),
            next_step=f"give the address alone; its key becomes the Space's secret {variable}_TOKEN, and an address that "
            f"must stay secret its secret {variable}_URL",
        )
    return url


def _largest_that_fits(run: Path, checkpoint: Checkpoint, hardware: str) -> PinnedGguf | None:
    """The largest GGUF file of this checkpoint that was published to this Hub and fits; None where there is none.

    Raises UsageError where there are files, and none of them fits.
    """
    record_file, receipt_file = run / "gguf" / EXPORT, run / "gguf" / RECEIPT
    if not record_file.is_file() or not receipt_file.is_file():
        log(
            "no published GGUF of this run: the Space runs transformers (python -m release export ... --repo makes one)"
        )
        return None
    record, receipt = ExportRecord.read(record_file), ExportReceipt.read(receipt_file)
    if record.checkpoint_digest != checkpoint.digest or receipt.endpoint != chosen_endpoint():
        log("the published GGUF is of another checkpoint or on another Hub: the Space runs transformers")
        return None
    if receipt.export_digest != record.content_digest():
        raise UsageError(
            "the export changed after it was published",
            where=str(record_file),
            expected=receipt.export_digest,
            found=record.content_digest(),
            next_step=f"python -m release export --run {run} --repo {receipt.repo_id}",
        )
    by_size = sorted(record.files, key=lambda file: -file.size)
    needs = [(file, _memory(checkpoint, "llama.cpp", file.size)) for file in by_size]
    chosen = next((file for file, need in needs if need.fits(hardware)), None)
    if chosen is None:
        raise _too_large(hardware, needs[-1][1])
    return PinnedGguf(
        repo_id=receipt.repo_id,
        revision=receipt.commit,
        path=chosen.path,
        sha256=chosen.sha256,
        size=chosen.size,
        precision=chosen.precision,
        kl_mean=chosen.loss.kl_mean,
        greedy_agreement=chosen.loss.greedy_agreement,
    )


def _precision_that_fits(
    checkpoint: Checkpoint, backend: str, hardware: str, *, scored: str | None
) -> tuple[str, Memory]:
    """bfloat16 is let in where the scores were measured in it: `auto`, for the machine then chooses, or alone where only it fits.

    Without such scores nobody knows what it loses, so float32 answers. Raises UsageError where what is left does not fit.
    """
    parameters = _parameters(checkpoint)
    wide, narrow = (_memory(checkpoint, backend, parameters * BYTES[name]) for name in ("float32", "bfloat16"))
    if wide.fits(hardware):
        return ("auto" if scored == "bfloat16" else "float32"), wide
    if not narrow.fits(hardware):
        raise _too_large(hardware, narrow)
    if scored != "bfloat16":
        raise UsageError(
            "the model fits in bfloat16 only, and what that loses was not measured",
            where=hardware,
            expected="a scorecard of these bytes in bfloat16",
            found=f"scores in {scored}" if scored else "no scorecard",
            next_step="python -m evals run RUN --suite starter --dtype bfloat16 --out RUN, or export a GGUF",
        )
    return "bfloat16", narrow


def _scored_in(run: Path, checkpoint: Checkpoint) -> str | None:
    """The precision in which the scores of exactly these bytes were measured; None where there are none."""
    if not (run / SCORECARD).is_file():
        return None
    scorecard = Scorecard.read(run / SCORECARD)
    return scorecard.settings.dtype if scorecard.model.digest == checkpoint.digest else None


def _memory(checkpoint: Checkpoint, backend: str, weights: int) -> Memory:
    return memory_needed(
        weights=weights,
        config=_sizes(checkpoint),
        context=CONTEXT_TOKENS,
        answers_at_once=ANSWERS_AT_ONCE[backend],
        runtime=backend,
    )


def _sizes(checkpoint: Checkpoint) -> dict[str, int | None]:
    """The sizes of the text model under one name each: GPT-2 says n_head, others nest them. Raises UsageError."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.for_model(**checkpoint.config).get_text_config()
        return {name: getattr(config, name) for name in SIZES} | {
            name: getattr(config, name, None) for name in OPTIONAL_SIZES
        }
    except (ValueError, TypeError, AttributeError) as error:
        raise UsageError(
            "the memory that answering takes cannot be told for this model",
            where=str(checkpoint.path / "config.json"),
            expected=", ".join(SIZES),
            found=str(error).splitlines()[0],
            next_step="give --space endpoint with a server that runs it, or leave --space out",
        ) from error


def _parameters(checkpoint: Checkpoint) -> int:
    headers = [read_safetensors_header(checkpoint.path / name) for name in weight_files(checkpoint.path)]
    return sum(math.prod(entry["shape"]) for header in headers for entry in header.values())


def _too_large(hardware: str, need: Memory) -> UsageError:
    larger = [name for name in HARDWARE if need.fits(name)]
    return UsageError(
        "the model does not fit the hardware of the Space",
        where=hardware,
        found=need.in_words(hardware),
        next_step=f"give --space-hardware {larger[0]}, or export a smaller GGUF"
        if larger
        else "use --space endpoint with a server that holds the model",
    )
