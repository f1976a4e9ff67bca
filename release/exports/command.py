"""`python -m release export`: GGUF files of a checkpoint, each with its measured loss, and their repository on the Hub.

python -m release export --run runs/a --gguf F16 Q8_0
python -m release export --run runs/a --gguf Q8_0 --scores-suite starter --scores-limit 24
python -m release export --run runs/a --gguf Q4_K_M --out runs/a/gguf --repo org/name-GGUF
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from training.allocator import keep_freed_memory
from training.command import Parser, Result, log, quiet_libraries
from training.errors import GateRefused, SlipwayError, UsageError

if TYPE_CHECKING:
    from release.exports.export import Exported
    from release.exports.record import ExportedFile

PRECISIONS = ("F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_1", "Q5_0", "Q4_K_M", "Q4_1", "Q4_0")
_DESCRIPTION = """Write a checkpoint as GGUF for llama.cpp, and measure what each file loses against it.

Every file is run in llama.cpp on real prompts: token ids must be the same, and the KL divergence and greedy agreement with
transformers must keep the bound of its precision, or the file is not kept (exit status 3). Models of the llama,
mistral, qwen2 and qwen3 families with byte-level or SentencePiece BPE; others are refused, for llama.cpp would run another model
than the one that was scored.

A quantised file is then scored beside the checkpoint, both in float32 by transformers, with the suite of the run's scorecard. Where
that fails the file stays, its card says that it was not measured, nothing is published, and the exit status is 2."""


def add_export_command(parser: Parser) -> None:
    """Add `export` to `python -m release`. Imports nothing heavy."""
    export = parser.command("export", "Write a checkpoint as GGUF for llama.cpp; measure what it loses.", run_export)
    export.description = _DESCRIPTION
    export.add_argument("--run", dest="run_directory", type=Path, required=True, metavar="DIR", help="runs/ID")
    export.add_argument(
        "--gguf", nargs="+", default=[], choices=PRECISIONS, metavar="PRECISION", help=", ".join(PRECISIONS)
    )
    export.add_argument("--out", type=Path, metavar="DIR", help="where the files go (default: DIR/gguf of the run)")
    export.add_argument("--name", help="what the files are called (default: the name of the released model)")
    export.add_argument(
        "--base-model", metavar="ORG/NAME[@REV]", help="the released model (default: the run's receipt.json names it)"
    )
    export.add_argument("--license", help="its licence on the Hub (default: the base model's in run.json)")
    _add_score_options(export)
    export.add_argument("--repo", metavar="ORG/NAME-GGUF", help="publish the files as this repository")
    export.add_argument("--private", action="store_true", help="the repository is and stays private")


def _add_score_options(export: argparse.ArgumentParser) -> None:
    """How the scores of a quantised file are held against the checkpoint's."""
    export.add_argument(
        "--scores-suite",
        metavar="SUITE",
        help="a suite of evals, or a YAML file (default: that of the run's scorecard)",
    )
    export.add_argument(
        "--scores-limit",
        type=int,
        metavar="N",
        help="items of each task (default: 50, or the scorecard's limit if smaller)",
    )
    export.add_argument(
        "--judge",
        type=Path,
        metavar="CHECKPOINT",
        help="the reward model (default: the one of the run, where it lies as run.json says)",
    )
    export.add_argument("--no-scores", action="store_true", help="do not measure how scores change")


def run_export(args: argparse.Namespace) -> Result:
    """`export`: exit 3 where a file does not keep its bound, 2 where its scores could not be measured."""
    quiet_libraries()
    keep_freed_memory()
    from release.exports.export import Identity, export
    from release.exports.record import EXPORT
    from release.exports.scores import Asked

    out: Path = args.out or args.run_directory / "gguf"
    if not args.gguf and not (args.repo and (out / EXPORT).is_file()):
        raise UsageError("nothing to export", next_step="give --gguf F16 Q8_0, or --repo for an export that is there")
    identity = Identity(args.name, args.base_model, args.license)
    scores = Asked(args.scores_suite, args.scores_limit, args.judge, args.no_scores)
    done = export(args.run_directory, args.gguf, out, identity, scores)
    lines = [line for file in done.record.files for line in _told(out, file)]
    result: Result = {"out": str(out), "record": done.record.model_dump(mode="json"), "refused": done.refused}
    result["scores_failed"] = done.failed
    error = _error(args.run_directory, done)
    if error is not None:
        log(f"error: {error.render()}")
        result |= {"error": error.as_dict(), "exit_code": error.exit_code}
    elif args.repo:
        from release.exports.publish import publish_export
        from release.hub_client import HubClient

        receipt = publish_export(out, done.checkpoint, args.repo, HubClient.connect(), private=args.private)
        lines.append(f"published as {receipt.endpoint}/{receipt.repo_id}, commit {receipt.commit}")
        result["receipt"] = receipt.model_dump(mode="json")
    return {"summary": "\n".join(lines) or "no file was kept", **result}


def _error(run: Path, done: Exported) -> SlipwayError | None:
    """What did not go well: a file that was refused, else scores that are lacking."""
    if done.refused:
        return GateRefused(
            "a file does not say what its checkpoint says, so it was not kept",
            where=str(run),
            found="; ".join(f"{precision}: {reason}" for precision, reason in done.refused.items()),
            next_step="choose a higher precision, as Q8_0 or F16, where figures fall short; where llama.cpp reads other "
            "tokens, or F16 falls short itself, convert it with llama.cpp's own convert_hf_to_gguf.py and compare",
        )
    if done.failed:
        return UsageError(
            "the files are there, and how scores change could not be measured of all",
            where=str(run),
            found="".join(f"\n- {precision}: {reason}" for precision, reason in done.failed.items()),
            next_step="mend the cause and run the same command again; with --repo alone the files are published as they are, "
            "with cards that say what was not measured",
        )
    return None


def _told(out: Path, file: ExportedFile) -> list[str]:
    """A file with its loss and its change of scores, for the terminal."""
    from release.exports.card import score_lines
    from release.exports.export import describe

    return [
        f"{out / file.path}  {file.size / 1e6:,.1f} MB",
        f"  {describe(file.loss)}",
        *(f"  {line}" for line in score_lines(file)),
    ]
