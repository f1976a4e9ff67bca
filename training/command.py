"""How every command of the project behaves: `--json`, logs on stderr, errors that explain, the contract's exit codes.

    def main(argv=None):
        parser = Parser("python -m training", "Train a checkpoint.")
        ppo = parser.command("ppo", "Align a policy with PPO.", run_ppo)   # run_ppo(args) -> dict
        ppo.add_argument("--out", required=True)
        return parser.run(argv)

A command returns a dict. With `--json` it is the one JSON object on stdout; without, its "summary" (a str) is printed.
"""

from __future__ import annotations

import argparse
import errno
import json
import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TextIO

from training.errors import EXIT_BUG, EXIT_INTERRUPTED, EXIT_OK, SlipwayError, UsageError

Result = dict[str, Any]
KINDS = {
    errno.ENOENT: "there is no such file or directory",
    errno.ENOTDIR: "a part of this path is a file and no directory",
    errno.EISDIR: "this is a directory and no file",
    errno.EEXIST: "this is there already, and of another kind than is needed",
}


def port(text: str) -> int:
    """An argument's type: a TCP port, 0 for a free one."""
    return _whole_number(text, 65_535)


def seed(text: str) -> int:
    """An argument's type: what every generator takes, NumPy's too."""
    return _whole_number(text, 2**32 - 1)


def _whole_number(text: str, most: int) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > most:
        raise argparse.ArgumentTypeError(f"{text} is no whole number from 0 to {most}")
    return int(text)


class _Arguments(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, where=self.prog, next_step=f"{self.prog} --help")


class Parser:
    """One `python -m PACKAGE`, with its subcommands."""

    def __init__(self, prog: str, description: str) -> None:
        self.root = _Arguments(prog=prog, description=description)
        self.commands = self.root.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(
        self, name: str, description: str, run: Callable[[argparse.Namespace], Result]
    ) -> argparse.ArgumentParser:
        """Add the subcommand `name`; `run` gets the parsed arguments and returns the command's result."""
        parser: argparse.ArgumentParser = self.commands.add_parser(
            name, help=description, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        parser.add_argument("--json", action="store_true", help="print exactly one JSON object on stdout")
        parser.set_defaults(run=run)
        return parser

    def run(self, argv: Sequence[str] | None = None) -> int:
        """Parse, run, print; return the exit code and let no exception through."""
        words = list(sys.argv[1:] if argv is None else argv)
        as_json = "--json" in words
        # Libraries print to stdout as they please; with --json it carries one object, so theirs goes to stderr.
        own = sys.stdout
        stdout = own if first_process() else Path(os.devnull).open("w")  # noqa: SIM115 - until the process ends
        sys.stdout = sys.stderr if as_json else stdout
        try:
            args = self.root.parse_args(words)
            with _descriptor_on_stderr(as_json):
                result = args.run(args)
            code = int(result.pop("exit_code", EXIT_OK))
            _print_result(result, as_json, stdout)
            return code
        except SlipwayError as error:
            return _fail(error.render(), error.exit_code, {"error": error.as_dict()}, as_json, stdout)
        except KeyboardInterrupt:
            message = "interrupted; run the same command again to continue"
            return _fail(message, EXIT_INTERRUPTED, {"error": {"what": message}}, as_json, stdout)
        except Exception as error:  # noqa: BLE001 - the rim of the program: what the machine did not refuse is a bug
            refusal = os_error_in(error)
            known = explain_os_error(refusal, words) if refusal is not None else None
            if known is not None:
                return _fail(known.render(), known.exit_code, {"error": known.as_dict()}, as_json, stdout)
            return _bug(error, as_json, stdout)
        finally:
            sys.stdout = own


@contextmanager
def _descriptor_on_stderr(wanted: bool) -> Iterator[None]:
    """Inside, what processes and libraries that know no sys.stdout write to standard output goes to standard error."""
    if not wanted:
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def first_process() -> bool:
    """Of several that were launched as one command, the first says what came of it (torch's launcher sets RANK)."""
    return os.environ.get("RANK", "0") == "0"


def os_error_in(error: BaseException) -> OSError | None:
    """The machine's refusal behind an error: itself, what it was raised from, or what a library made of it.

    Libraries written in Rust (safetensors, tokenizers) end their messages with the number: "... (os error 28)". PyTorch's
    writer gives none: it knows only that fewer bytes arrived than it wrote.
    """
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, OSError) and link.errno is not None:
            return link
        number = re.search(r"\(os error (\d+)\)", str(link))
        if number:
            return OSError(int(number[1]), os.strerror(int(number[1])))
        if isinstance(link, RuntimeError) and "inline_container.cc" in str(link):
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        link = link.__cause__ or link.__context__
    return None


def explain_os_error(error: OSError, words: Sequence[str] = ()) -> UsageError | None:
    """The machine's own refusals (no space, no permission, read-only) in the contract's words; None for others.

    A path that is not there, or is of another kind, is the user's matter only where a word of the command names it.
    """
    where = str(error.filename) if error.filename else None
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return UsageError(
            "no space left on the disk; what was complete before is untouched",
            where=where,
            next_step="free some space (df -h shows how much is left), then run the same command again",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return UsageError(
            "not allowed to write or read here",
            where=where,
            next_step="choose another --out, or change its permissions",
        )
    if where is not None and error.errno in KINDS and _named(where, words):
        return UsageError(KINDS[error.errno], where=where, next_step="name another path")
    return None


def _named(path: str, words: Sequence[str]) -> bool:
    """Whether a word of the command (PATH, --option=PATH, key=PATH) is the path, or one above or below it."""
    meant, here = Path(path).absolute(), Path.cwd()
    given = {Path(part).absolute() for word in words for part in (word, word.partition("=")[2]) if part}
    return any(meant.is_relative_to(each) or each.is_relative_to(meant) for each in given - {here})


def log(message: str) -> None:
    """One line for the person watching, on stderr."""
    print(message, file=sys.stderr, flush=True)


def _print_result(result: Result, as_json: bool, stdout: TextIO) -> None:
    if as_json:
        said = json.dumps(result, default=str)
    elif "summary" in result:
        said = str(result["summary"])
    else:
        return
    try:
        print(said, file=stdout, flush=True)
    except BrokenPipeError:  # whoever read (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())  # what Python flushes at its end


def _fail(message: str, code: int, payload: Result, as_json: bool, stdout: TextIO) -> int:
    print(f"error: {message}", file=sys.stderr, flush=True)
    if as_json:
        print(json.dumps({**payload, "exit_code": code}, default=str), file=stdout, flush=True)
    return code


def _bug(error: BaseException, as_json: bool, stdout: TextIO) -> int:
    traceback.print_exception(error, file=sys.stderr)
    message = f"this is a bug in Slipway: {type(error).__name__}: {error}"
    return _fail(message, EXIT_BUG, {"error": {"what": message}}, as_json, stdout)


@contextmanager
def no_load_report() -> Iterator[None]:
    """Inside, transformers does not print its table of weights that are new: for loads that hold what it would say themselves."""
    said = logging.getLogger("transformers.modeling_utils")
    said.addFilter(_no_report)  # its level decides about other things than what is printed
    try:
        yield
    finally:
        said.removeFilter(_no_report)


def _no_report(record: logging.LogRecord) -> bool:
    return "LOAD REPORT" not in record.getMessage()


def quiet_libraries() -> None:
    """Keep the libraries' telemetry and bars out of our output, and leave the processor to others where one has to wait.

    A variable that the user has set stays as it is.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # OpenMP's threads wait for each other by spinning, and a thread whose core another program has is waited for until it
    # gets it back. Short spins help there and cost little on an idle machine (docs/log.md, 2026-11-25).
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("TQDM_DISABLE", "1")
    # peft and TRL still use names that transformers is about to drop: for them to mend, not for whoever trains a model.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers\.")
