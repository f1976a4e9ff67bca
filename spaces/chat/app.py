"""The chat page of one published checkpoint: `python app.py` in the folder of the published Space.

space.json beside this file names the model, its revision and its digest; HF_ENDPOINT and HF_TOKEN choose the Hub,
GRADIO_SERVER_NAME and GRADIO_SERVER_PORT the address, TRUSTED_PROXIES how many proxies stand before it (visitors.py), and
THUMBS_DATASET a private dataset for thumbs. From Python:

    gradio_client.Client("http://127.0.0.1:7860").predict("Hello", api_name="/chat")   # -> the answer, a str

Ends with status 0 on SIGTERM, 130 on Ctrl-C and 2 where it cannot start.
"""

from __future__ import annotations

import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Else uvicorn takes a header's word for it where a visitor of this machine says that he comes from elsewhere.
os.environ.setdefault("FORWARDED_ALLOW_IPS", "")

import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
import limits
from answers import Answers
from chat_model import Unavailable, read_space
from layout import build
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from visitors import trusted_proxies

if TYPE_CHECKING:
    from thumbs import Thumbs

FOLDER = Path(__file__).resolve().parent


def health_route(answers: Answers) -> Route:
    """GET /health: 200 with what answers, or 503 with why nothing does."""

    def health(_: Request) -> JSONResponse:
        if answers.model is None:
            return JSONResponse({"status": "unavailable", "reason": answers.reason}, status_code=503)
        names = ("model_id", "revision", "tag", "checkpoint_digest")
        facts = {name: answers.space[name] for name in names}
        runs = {"runtime": answers.model.runtime, "precision": answers.model.precision}
        if answers.thumbs is not None:
            log = answers.thumbs.log
            facts |= {"thumbs_dataset": log.dataset, **log.health()}
        return JSONResponse({"status": "ok", **facts, **runs, "load_seconds": round(answers.load_seconds, 2)})

    return Route("/health", health)


def launch(answers: Answers) -> tuple[gr.Blocks, str]:
    """The served page and its address. Raises OSError where the address cannot be had."""
    blocks = build(answers)
    _, address, _ = blocks.launch(
        theme=gr.themes.Default(
            primary_hue="blue",
            neutral_hue="slate",
            font=["system-ui", "sans-serif"],  # of the visitor's system: the page fetches no fonts
            font_mono=["ui-monospace", "monospace"],
        ),
        css_paths=[FOLDER / "markdown.css", FOLDER / "page.css"],
        footer_links=["api"],
        ssr_mode=False,
        share=False,
        enable_monitoring=False,  # else any visitor has gradio print its key into the log
        quiet=True,
        prevent_thread_lock=True,  # main() waits: gradio's own wait ends with status 0 on Ctrl-C
        max_file_size=1,  # bytes: this page takes no files
        app_kwargs={"routes": [health_route(answers)], "middleware": [Middleware(limits.GuardedApp)]},
    )
    return blocks, address.rstrip("/")


def main() -> int:
    """Load the model and serve the page until it is stopped; the exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    blocks: gr.Blocks | None = None
    answers: Answers | None = None
    try:
        space = read_space(FOLDER)
        answers = Answers(space, thumbs_of(space), trusted_proxies())
        answers.load()
        if answers.thumbs is not None:
            answers.thumbs.log.start()
        blocks, address = launch(answers)
        print(f"ready at {address}: {_what_answers(answers)}", flush=True)
        threading.Event().wait()  # until a signal ends it
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        return 130
    except (Unavailable, OSError) as error:
        print(f"error: the page cannot start: {error}", file=sys.stderr, flush=True)
        return 2
    finally:
        if answers is not None and answers.model is not None:
            answers.model.stop()
        if blocks is not None:
            blocks.close(verbose=False)
        if answers is not None and answers.thumbs is not None:
            answers.thumbs.log.stop()
    return 0


def thumbs_of(space: dict[str, Any]) -> Thumbs | None:
    """Where THUMBS_DATASET names a dataset, the thumbs that go there. Raises Unavailable where this flavour cannot keep any."""
    if not os.environ.get("THUMBS_DATASET"):
        return None
    try:
        from thumbs import open_thumbs
    except ModuleNotFoundError as error:
        raise Unavailable(f"THUMBS_DATASET is set, but this flavour of the page keeps no thumbs: {error}") from error
    return open_thumbs(space, FOLDER)


def _what_answers(answers: Answers) -> str:
    space, model = answers.space, answers.model
    if model is None:
        return "no model answers; the page says why"
    at = f"@{space['revision']}" if space["revision"] else ""
    checked = "its bytes checked" if model.checked else "whose bytes cannot be checked from here"
    runs = f"{model.runtime} ({model.precision})"
    return f"{space['model_id']}{at} by {runs}, {checked}, loaded in {answers.load_seconds:.1f} s"


if __name__ == "__main__":
    sys.exit(main())
