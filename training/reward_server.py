"""Rewards of a server: texts by POST, numbers back, asked again where it is overloaded or away.

asked("http://127.0.0.1:9000/score", body, timeout=60.0, tries=4)      # what it answers under "rewards"
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from typing import Any

from training.command import log
from training.reward_sources import RewardFailed, told

PAUSE_SECONDS = 1.0  # before the second try; doubled before each further one
LONGEST_PAUSE = 300.0  # seconds that a server may ask for with Retry-After
BLOCK = 1 << 16


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would become a GET without the texts, and what that answers would be taken for rewards."""

    def redirect_request(self, *_: Any) -> None:
        return None


def asked(url: str, body: bytes, timeout: float, tries: int) -> Any:
    """What the server answers under "rewards", within `timeout` seconds for the whole answer.

    Where it cannot be reached, is overloaded (429) or fails (5xx) it is asked `tries` times, after the pause that it asks for.
    Raises RewardFailed.
    """
    for attempt in range(1, tries + 1):
        wanted = 0.0
        try:
            return _rewards_in(_post(url, body, timeout), url)
        except urllib.error.HTTPError as error:
            found = f"HTTP {error.code} {error.reason}: {error.read(300).decode(errors='replace')}"
            if 300 <= error.code < 400:
                raise RewardFailed(
                    "the reward server sends elsewhere, where the texts would not go along",
                    where=url,
                    found=f"HTTP {error.code}, Location: {error.headers.get('Location')}",
                    next_step="give the last address as reward_url, then run the same command again",
                ) from error
            again, wanted = error.code == 429 or error.code >= 500, _retry_after(error)
        except (OSError, http.client.HTTPException) as error:  # unreachable, timed out, or broken off in mid-answer
            found, again = told(error), True
        if not again or attempt == tries:
            break
        pause = max(PAUSE_SECONDS * 2 ** (attempt - 1), wanted)
        log(f"the reward server did not answer ({found[:120]}); try {attempt + 1} of {tries} in {pause:.0f} s")
        time.sleep(pause)
    raise RewardFailed(
        "the reward server gives no rewards",
        where=url,
        expected='HTTP 200 and {"rewards": [...]}' + f" within {timeout:g} s",
        found=f"{found} (try {attempt} of {tries})",
        next_step="start or mend the server, then run the same command again",
    )


def _post(url: str, body: bytes, timeout: float) -> bytes:
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"}, method="POST")
    end, blocks = time.monotonic() + timeout, []
    with urllib.request.build_opener(_NoRedirect).open(request, timeout=timeout) as response:
        while block := response.read1(BLOCK):
            blocks.append(block)
            if time.monotonic() > end:
                raise TimeoutError(f"the answer was not whole after {timeout:g} s")
    return b"".join(blocks)


def _retry_after(error: urllib.error.HTTPError) -> float:
    """Seconds that the server asks to be left alone for; 0 where it names none, or a date."""
    text = (error.headers.get("Retry-After") or "").strip()
    return min(float(text), LONGEST_PAUSE) if text.isascii() and text.isdigit() else 0.0


def _rewards_in(answer: bytes, url: str) -> Any:
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError) as error:
        value, problem = None, f"no JSON ({told(error)})"
    else:
        problem = "JSON without it"
    if not isinstance(value, dict) or "rewards" not in value:
        raise RewardFailed(
            "the reward server's answer is not understood",
            where=url,
            expected='a JSON object {"rewards": [...]}',
            found=f"{problem}: {answer[:120].decode(errors='replace')}",
            next_step="mend the server, then run the same command again",
        )
    return value["rewards"]
