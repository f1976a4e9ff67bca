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
from release.exports.command import PRECISIONS
from release.exports.record import EXPORT, RECEIPT, ExportReceipt, ExportRecord
from release.hub_client import chosen_endpoint
from release.space_memory import HARDWARE, HARDWARE_OF, Memory, memory_needed
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
    precision: str | None = None


def choose_flavour(name: str, run: Path, asked: Asked) -> SpaceFlavour:
    """Raises UsageError for an unknown name or hardware, a server without an address, a model that does not fit, and a
    precision that was asked for and was not measured."""
    check_asked(name, asked)
    if name in ("endpoint", "tgi"):
        return _server(name, asked)
    hardware = asked.hardware or ("zero-a10g" if name == "zerogpu" else "cpu-basic")
    checkpoint = Checkpoint.open(run / "checkpoint")
    if name == "cpu" and asked.precision not in BYTES:
        gguf = _gguf_that_fits(run, checkpoint, hardware, asked.precision)
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
    scored = _scored_in(run, checkpoint)
    precision, need = _precision_that_fits(checkpoint, backend, hardware, scored=scored, asked=asked.precision)
    return SpaceFlavour(
        name="zerogpu" if name == "zerogpu" else "cpu",
        backend=backend,
        precision=precision,
        hardware=hardware,
        memory=need.in_words(hardware),
    )


def check_asked(name: str, asked: Asked) -> None:
    """What can be known before there is a run to look at. Raises UsageError for what no flavour, or not this one, takes."""
    if name not in FLAVOURS:
        raise UsageError("there is no such flavour of the Space", expected=", ".join(FLAVOURS), found=name)
    if asked.hardware is not None and asked.hardware not in HARDWARE:
        raise UsageError("the memory of this hardware is not known", expected=", ".join(HARDWARE), found=asked.hardware)
    if asked.hardware is not None and asked.hardware not in HARDWARE_OF.get(name, HARDWARE):
        raise UsageError(
            f"the flavour {name} does not run on this hardware",
            where="--space-hardware",
            expected=" or ".join(HARDWARE_OF[name]),
            found=asked.hardware,
            next_step="--space zerogpu, or --space endpoint with a server on a GPU" if name == "cpu" else "--space cpu",
        )
    if name in ("endpoint", "tgi"):
        if asked.precision is not None:
            raise UsageError(f"the precision of the flavour {name} is its server's", found="--space-precision")
        _public_address(name, asked.url)
        return
    if asked.url is not None:
        raise UsageError(f"the flavour {name} runs the model itself", found="--space-url")
    _check_precision(name, asked.precision)


def _check_precision(name: str, precision: str | None) -> None:
    known = (*BYTES, *PRECISIONS) if name == "cpu" else tuple(BYTES)
    if precision is not None and precision not in known:
        raise UsageError(
            f"the flavour {name} runs in no such precision",
            where="--space-precision",
            expected=", ".join(known),
            found=precision,
        )


def _server(name: str, asked: Asked) -> SpaceFlavour:
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


def _published_ggufs(run: Path, checkpoint: Checkpoint) -> tuple[ExportRecord, ExportReceipt] | str:
    """What was exported of this checkpoint and published to this Hub, or why nothing was."""
    record_file, receipt_file = run / "gguf" / EXPORT, run / "gguf" / RECEIPT
    if not record_file.is_file() or not receipt_file.is_file():
        return "no published GGUF of this run"
    record, receipt = ExportRecord.read(record_file), ExportReceipt.read(receipt_file)
    if record.checkpoint_digest != checkpoint.digest or receipt.endpoint != chosen_endpoint():
        return "the published GGUF is of another checkpoint or on another Hub"
    if receipt.export_digest != record.content_digest():
        raise UsageError(
            "the export changed after it was published",
            where=str(record_file),
            expected=receipt.export_digest,
            found=record.content_digest(),
            next_step=f"python -m release export --run {run} --repo {receipt.repo_id}",
        )
    return record, receipt


def _gguf_that_fits(run: Path, checkpoint: Checkpoint, hardware: str, precision: str | None) -> PinnedGguf | None:
    """The GGUF file in this precision, or the largest that fits; None where none was published and none was asked for.

    Raises UsageError where there are files, and none of them fits, or none is in this precision.
    """
    published = _published_ggufs(run, checkpoint)
    if isinstance(published, str):
        if precision is not None:
            raise _not_exported(run, precision, published, "ORG/NAME-GGUF")
        log(f"{published}: the Space runs transformers (python -m release export ... --repo makes one)")
        return None
    record, receipt = published
    files = [file for file in record.files if precision in (None, file.precision)]
    if not files:
        there = ", ".join(file.precision for file in record.files)
        raise _not_exported(run, str(precision), f"files that passed their bounds: {there}", receipt.repo_id)
    needs = [(file, _memory(checkpoint, "llama.cpp", file.size)) for file in sorted(files, key=lambda file: -file.size)]
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


def _not_exported(run: Path, precision: str, found: str, repo_id: str) -> UsageError:
    return UsageError(
        f"no GGUF file in {precision} was measured and published, so the Space cannot answer in it",
        where=str(run / "gguf" / EXPORT),
        found=found,
        next_step=f"python -m release export --run {run} --gguf {precision} --repo {repo_id}",
    )


def _precision_that_fits(
    checkpoint: Checkpoint, backend: str, hardware: str, *, scored: str | None, asked: str | None
) -> tuple[str, Memory]:
    """bfloat16 is let in where the scores were measured in it: `auto`, for the machine then chooses, or alone where only it fits.

    Without such scores nobody knows what it loses, so float32 answers. Raises UsageError where what is left does not fit.
    """
    parameters = _parameters(checkpoint)
    wide, narrow = (_memory(checkpoint, backend, parameters * BYTES[name]) for name in ("float32", "bfloat16"))
    if asked != "bfloat16" and wide.fits(hardware):
        return ("auto" if asked is None and scored == "bfloat16" else "float32"), wide
    if asked == "float32" or not narrow.fits(hardware):
        raise _too_large(hardware, wide if asked == "float32" else narrow)
    if scored != "bfloat16":
        raise UsageError(
            "what bfloat16 loses was not measured"
            if asked
            else "the model fits in bfloat16 only, and what that loses was not measured",
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
        config=checkpoint.config,
        context=CONTEXT_TOKENS,
        answers_at_once=ANSWERS_AT_ONCE[backend],
        runtime=backend,
    )


def _parameters(checkpoint: Checkpoint) -> int:
    headers = [read_safetensors_header(checkpoint.path / name) for name in weight_files(checkpoint.path)]
    return sum(math.prod(entry["shape"]) for header in headers for entry in header.values())


def _too_large(hardware: str, need: Memory) -> UsageError:
    like_it = next(kinds for kinds in HARDWARE_OF.values() if hardware in kinds)
    larger = [name for name in like_it if need.fits(name)]
    return UsageError(
        "the model does not fit the hardware of the Space",
        where=hardware,
        found=need.in_words(hardware),
        next_step=f"give --space-hardware {larger[0]}, or export a smaller GGUF"
        if larger
        else "use --space endpoint with a server that holds the model",
    )
