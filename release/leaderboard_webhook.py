"""The leaderboard Space, made again whenever a model's repository changes: a receiver of the Hub's webhooks.

    WEBHOOK_SECRET=... python -m release leaderboard-space --repo org/leaderboard --author org --listen 7870

The Hub sends POST /webhook with the secret in X-Webhook-Secret. A change of the files or the settings, or the deletion, of a model
that the leaderboard shows asks for a refresh; one runs at a time, and what comes meanwhile asks for one more. It makes no commit
where no score changed. (huggingface_hub's WebhooksServer is experimental, and needs gradio.)
"""

from __future__ import annotations

import hmac
import os
import threading
import traceback
from collections.abc import Callable, Sequence

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from training.command import log
from training.errors import SlipwayError, UsageError

BODY_BYTES = 1_000_000
SECRET = "WEBHOOK_SECRET"


class Refresher:
    """Runs `refresh` in a thread of its own, once for all that was asked for while it ran before."""

    def __init__(self, refresh: Callable[[], str]) -> None:
        self._refresh = refresh
        self._wanted = threading.Event()
        self.last, self.failed = "", False  # what the last refresh said
        threading.Thread(target=self._run, daemon=True).start()

    def ask(self) -> None:
        self._wanted.set()

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            try:
                self.last, self.failed = self._refresh(), False
            except SlipwayError as error:  # the next webhook tries again
                self.last, self.failed = f"failed: {error}", True
            except Exception as error:  # noqa: BLE001 - a bug, which must not end the thread without a word
                traceback.print_exception(error)
                self.last, self.failed = f"failed: {type(error).__name__}", True
            log(self.last)


def listening_app(refresher: Refresher, models: Sequence[str], author: str | None, secret: str) -> Starlette:
    """POST /webhook and GET /health. 401 without the secret, 403 with another, 413 and 422 for what is no webhook."""
    from huggingface_hub import WebhookPayload

    shown = {name.partition("@")[0].lower() for name in models}

    async def webhook(request: Request) -> JSONResponse:
        given = request.headers.get("x-webhook-secret")
        if given is None:
            return JSONResponse({"error": "X-Webhook-Secret is missing"}, 401)
        if not hmac.compare_digest(given.encode(), secret.encode()):
            return JSONResponse({"error": "X-Webhook-Secret is another than this server's"}, 403)
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > BODY_BYTES:
                return JSONResponse({"error": f"a webhook has at most {BODY_BYTES:,} bytes"}, 413)
        try:
            payload = WebhookPayload.model_validate_json(body)
        except ValidationError as error:
            return JSONResponse({"error": f"this is no webhook of version 3: {error.errors()[0]['msg']}"}, 422)
        name = payload.repo.name.lower()
        ours = payload.repo.type == "model" and (name in shown or (author or "\0").lower() == name.partition("/")[0])
        if not ours or not payload.event.scope.startswith(
            "repo"
        ):  # settings too: a model that was private is shown now
            return JSONResponse({"refresh": "not needed"})
        refresher.ask()
        return JSONResponse({"refresh": "asked for"}, 202)

    def health(_: Request) -> JSONResponse:
        """503 where the page is older than what the Hub told of."""
        status = "the last refresh failed" if refresher.failed else "ok"
        return JSONResponse({"status": status, "last": refresher.last}, 503 if refresher.failed else 200)

    return Starlette(routes=[Route("/webhook", webhook, methods=["POST"]), Route("/health", health)])


def listen(refresh: Callable[[], str], models: Sequence[str], author: str | None, host: str, port: int) -> None:
    """Refresh once, then serve until SIGTERM or Ctrl-C. Raises UsageError without a secret or where the port is taken."""
    import socket

    import uvicorn

    secret = os.environ.get(SECRET)
    if not secret:
        raise UsageError(
            "without a secret anyone could ask for a refresh",
            expected=f"the environment variable {SECRET}, with the secret that the Hub's webhook was given",
        )
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        raise UsageError(
            "cannot listen on this address",
            where=f"{host}:{port}",
            found=str(error),
            next_step="choose another --listen",
        ) from error
    refresher = Refresher(refresh)
    refresher.ask()
    app = listening_app(refresher, models, author, secret)
    log(f"waiting for webhooks at http://{host}:{port}/webhook (Ctrl-C stops it)")
    uvicorn.run(app, host=host, port=port, log_level="warning")
