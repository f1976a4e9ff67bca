"""JSON services over HTTP that judge or score texts: one request with patience, and keys that stand in no message.

    answer = post("http://127.0.0.1:8000/v1/chat/completions", {"model": "org/name", ...}, bearer("OPENAI_API_KEY"))

What passes (429, 5xx, a connection that breaks) is tried again, after what `Retry-After` says or after growing pauses. What the
service says of this request alone (other 4xx) is `Refused`: the text has no score. Everything else is `ServiceError`: the task
fails, and what was scored so far is kept.
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from evals.keys import hide_keys
from training.errors import UsageError

PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # seconds before each further try
LONGEST_PAUSE = 120.0  # whatever Retry-After says
OPENAI_KEY = "OPENAI_API_KEY"


class ServiceError(UsageError):
    """The service cannot be reached, refuses the key, or answers what nobody can read."""


class Refused(Exception):
    """The service takes no request like this one; `reason` is what it says."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"HTTP {code}: {reason}")
        self.code, self.reason = code, reason


def post(
    url: str,
    body: Mapping[str, Any],
    headers: Mapping[str, str],
    pauses: Sequence[float] = PAUSES,
    timeout: float = 120.0,
) -> dict[str, Any]:
    """The JSON object that the service answers. Raises Refused or ServiceError as the module says."""
    content = json.dumps(body).encode()
    for pause in (*pauses, None):
        request = urllib.request.Request(url, content, {"Content-Type": "application/json", **headers})
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return _object(answer.read(), url)
        except urllib.error.HTTPError as error:
            told = hide_keys(error.read(2000).decode("utf-8", "replace").strip())
            if error.code in (401, 403):
                raise ServiceError(
                    "the service refuses the key", where=url, found=f"HTTP {error.code}: {told[:200]}"
                ) from None
            if error.code not in (408, 409, 425, 429) and error.code < 500:
                raise Refused(error.code, told[:500]) from None
            why, wait = f"HTTP {error.code}: {told[:200]}", _retry_after(error.headers.get("Retry-After"))
        except (OSError, ConnectionError) as error:
            why, wait = hide_keys(str(getattr(error, "reason", error))), None
        if pause is None:
            raise ServiceError(
                "the service does not answer",
                where=url,
                found=f"{why}, {len(pauses) + 1} times",
                next_step="run the same command again once it does: what was scored is kept",
            )
        time.sleep(min(LONGEST_PAUSE, max(pause, wait or 0.0)))
    raise AssertionError("the loop ends by an answer or an error")


def bearer(variable: str) -> dict[str, str]:
    """The header that carries the key in this environment variable; none where it is not set."""
    key = os.environ.get(variable)
    return {"Authorization": f"Bearer {key}"} if key else {}


def plain_address(url: str | None, option: str, example: str) -> str:
    """The address without a slash at its end. Raises UsageError where it is none, or carries a user, a password or a query."""
    parts = urlsplit(url or "")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(
            "a service needs its address", where=option, expected=example, found=hide_keys(url or "nothing")
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UsageError(
            "the service's address carries more than an address; the scorecard would publish it",
            where=option,
            expected=f"{parts.scheme}://{parts.hostname}{parts.path}",
            found="a user, a password or a query",
            next_step="put the key into its environment variable",
        )
    return (url or "").rstrip("/")


def _object(content: bytes, url: str) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except ValueError as error:
        raise ServiceError("the service answers no JSON", where=url, found=hide_keys(repr(content[:80]))) from error
    if not isinstance(value, dict):
        raise ServiceError("the service answers no JSON object", where=url, found=type(value).__name__)
    return value


def _retry_after(value: str | None) -> float | None:
    """Seconds; a date, which the header may also hold, is left to the growing pauses."""
    try:
        return max(0.0, float(value)) if value is not None else None
    except ValueError:
        return None
