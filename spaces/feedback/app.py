"""The feedback page: `python app.py` in the folder of the published Space; people judge pairs of answers.

space.json beside this file names the pairs, gold items and dataset. HF_ENDPOINT and HF_TOKEN choose the Hub, VOTES_DIR where
votes are kept, LABELLER_SALT and LABELLER_CODES (secrets) how codes are hashed and which are let in, TRUSTED_PROXIES how many
proxies stand before the page, where models answer (visitors.py).

Ends with status 0 on SIGTERM, 130 on Ctrl-C and 2 where it cannot start.
"""

from __future__ import annotations

import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
# Else uvicorn takes a header's word for it where a visitor of this machine says that he comes from elsewhere.
os.environ.setdefault("FORWARDED_ALLOW_IPS", "")

import json
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
import limits
from labelling import Labelling, read_lines
from notice import notice_hash
from page import build
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from vote_dataset import mark_of
from vote_log import VoteLog, salt_of, votes_folder

if TYPE_CHECKING:
    from live import LiveAnswers

FOLDER = Path(__file__).resolve().parent


def open_labelling(folder: Path) -> Labelling:
    """What space.json says, with its pairs and gold items checked by hash.

    Raises OSError, ValueError or KeyError, and limits.Unavailable where the dataset's id is none or another salt was used for it.
    """
    space: dict[str, Any] = json.loads((folder / "space.json").read_text(encoding="utf-8"))
    space["notice"] = notice_hash(space)
    codes = os.environ.get("LABELLER_CODES")
    space["codes"] = None if codes is None else [code.strip() for code in codes.split(",") if code.strip()]
    pairs = read_lines(folder / "pairs.jsonl", space["pairs_sha256"]) if space["pairs_sha256"] else []
    gold = read_lines(folder / "gold.jsonl", space["gold_sha256"])
    votes = votes_folder(folder)
    kept = bool(os.environ.get("LABELLER_SALT")) or (votes / "salt").is_file()
    salt = salt_of(votes)
    log = VoteLog(votes, space["votes_dataset"], space["seconds_between_pushes"], mark_of(salt))
    labelling = Labelling(space, pairs, gold, log, salt)
    if not kept:
        _warn_of_new_salt(labelling, lasting=votes != folder / "votes")
    return labelling


def _warn_of_new_salt(labelling: Labelling, *, lasting: bool) -> None:
    """Where labellers would not stay who they are: a host may throw this folder away, or has."""
    dataset, warnings = labelling.log.dataset, []
    if dataset is not None and not lasting:
        warnings.append(
            "LABELLER_SALT is not set, and the salt lies beside the app: where this disk is thrown away, as a Space's is at each "
            "restart, every labeller becomes another one. Set the secret LABELLER_SALT, or mount a disk at /data"
        )
    if dataset is not None and labelling.known_votes:
        warnings.append(
            f"this page drew a new salt, and {dataset} has votes already: whoever gave them is another labeller here, unless "
            "LABELLER_SALT is set to the salt of those votes"
        )
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr, flush=True)


def health_route(labelling: Labelling) -> Route:
    """GET /health: how many votes are not pushed yet, and why, where that fails."""

    def health(_: Request) -> JSONResponse:
        log = labelling.log
        facts = {"status": "ok", "votes_dataset": log.dataset, **log.health()}
        return JSONResponse({**facts, "pairs_sha256": labelling.space["pairs_sha256"]})

    return Route("/health", health)


def launch(labelling: Labelling, live: LiveAnswers | None) -> tuple[gr.Blocks, str]:
    """The served page and its address. Raises OSError where the address cannot be had."""
    blocks = build(labelling, live)
    _, address, _ = blocks.launch(
        theme=gr.themes.Default(
            primary_hue="blue",
            neutral_hue="slate",
            font=["system-ui", "sans-serif"],  # of the visitor's system: the page fetches no fonts
            font_mono=["ui-monospace", "monospace"],
        ),
        css_paths=[FOLDER / "markdown.css", FOLDER / "page.css"],
        footer_links=[],
        ssr_mode=False,
        share=False,
        enable_monitoring=False,  # else any visitor has gradio print its key into the log
        quiet=True,
        prevent_thread_lock=True,  # main() waits: gradio's own wait ends with status 0 on Ctrl-C
        max_file_size=1,  # bytes: this page takes no files
        app_kwargs={"routes": [health_route(labelling)], "middleware": [Middleware(limits.GuardedApp)]},
    )
    return blocks, address.rstrip("/")


def main() -> int:
    """Serve the page until it is stopped; the exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    blocks: gr.Blocks | None = None
    labelling: Labelling | None = None
    live: LiveAnswers | None = None
    try:
        labelling = open_labelling(FOLDER)
        if labelling.space.get("live"):
            from live import LiveAnswers  # a page of prepared pairs needs no model, and has none of its packages
            from visitors import trusted_proxies

            live = LiveAnswers(labelling.space["live"], trusted_proxies())
        labelling.log.start()
        blocks, address = launch(labelling, live)
        print(f"ready at {address}: votes go to {labelling.log.folder} and {labelling.log.dataset}", flush=True)
        threading.Event().wait()  # until a signal ends it
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        return 130
    except (OSError, ValueError, KeyError, limits.Unavailable) as error:
        print(f"error: the page cannot start: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return 2
    finally:
        if blocks is not None:
            blocks.close(verbose=False)
        if live is not None:
            live.stop()
        if labelling is not None:
            labelling.log.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
