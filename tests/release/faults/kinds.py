"""What can go wrong with one request of a publication: each fault makes a proxy's Fault for one trial."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from faults.proxy import Answer, Fault, Request, flipped, with_body
from faults.publisher import ANSWER_LIMIT

if TYPE_CHECKING:
    from faults.trial import Trial

Forward = Callable[[Request], Answer]
Kind = Callable[["Trial"], Fault]


def drop(_: Trial) -> Fault:
    """The connection is closed before the Hub gets the request."""

    def fault(_request: Request, _forward: Forward) -> None:
        return None

    return fault


def lose(_: Trial) -> Fault:
    """The Hub does what it was asked, and the connection is closed before its answer."""

    def fault(request: Request, forward: Forward) -> None:
        forward(request)

    return fault


def cut(_: Trial) -> Fault:
    """The connection is closed in the middle of the answer's body, or before the body where it has none."""

    def fault(request: Request, forward: Forward) -> Answer:
        answer = forward(request)
        length = len(answer.body) if answer.body else 1
        return replace(answer, length=answer.length or length, sent=len(answer.body) // 2)

    return fault


def delay(_: Trial) -> Fault:
    """The answer comes late."""

    def fault(request: Request, forward: Forward) -> Answer:
        time.sleep(ANSWER_LIMIT / 4)
        return forward(request)

    return fault


def hang(_: Trial) -> Fault:
    """The Hub does what it was asked, and its answer comes later than the publisher waits."""

    def fault(request: Request, forward: Forward) -> None:
        forward(request)
        time.sleep(ANSWER_LIMIT * 1.5)

    return fault


def answers(status: int) -> Kind:
    """The Hub is not asked; the answer is this status."""

    def kind(_: Trial) -> Fault:
        body = b'{"error": "injected"}'
        headers = (("Content-Type", "application/json"), *([("Retry-After", "1")] if status == 429 else []))

        def fault(request: Request, _forward: Forward) -> Answer:
            return Answer(status, headers, body if request.method != "HEAD" else b"")

        return fault

    return kind


def committed_500(_: Trial) -> Fault:
    """The Hub does what it was asked, and the answer is 500."""

    def fault(request: Request, forward: Forward) -> Answer:
        forward(request)
        return Answer(500, (("Content-Type", "application/json"),), b"{}" if request.method != "HEAD" else b"")

    return fault


def flip_request(trial: Trial) -> Fault:
    """A bit of the request's body flips on its way; a request without a body is spared."""

    def fault(request: Request, forward: Forward) -> Answer:
        trial.spared = not request.body
        return forward(with_body(request, flipped(request.body)))

    return fault


def flip_answer(trial: Trial) -> Fault:
    """A bit of the answer's body flips on its way; an answer without a body is spared."""

    def fault(request: Request, forward: Forward) -> Answer:
        answer = forward(request)
        trial.spared = not answer.body
        return replace(answer, body=flipped(answer.body))

    return fault


def kill_before(trial: Trial) -> Fault:
    """The publisher dies by signal 9 before the Hub gets the request."""

    def fault(_request: Request, _forward: Forward) -> None:
        os.kill(trial.pid, signal.SIGKILL)

    return fault


def kill_after(trial: Trial) -> Fault:
    """The Hub does what it was asked, and the publisher dies by signal 9 before the answer."""

    def fault(request: Request, forward: Forward) -> None:
        forward(request)
        os.kill(trial.pid, signal.SIGKILL)

    return fault


def revoke_token(trial: Trial) -> Fault:
    """The token is nobody's from this request on."""

    def fault(request: Request, forward: Forward) -> Answer:
        trial.store.revoke_token(trial.token)
        return forward(request)

    trial.mend.append(trial.new_token)
    return fault


def change_file(trial: Trial) -> Fault:
    """A file of the bundle holds other bytes from this request on; the next command finds the planned ones again."""
    file = trial.run / "bundle" / ("config.json" if trial.world.trials % 2 else "model.safetensors")
    aside = trial.run / "aside"

    def fault(request: Request, forward: Forward) -> Answer:
        shutil.copy2(file, aside)
        file.unlink()
        file.write_bytes(flipped(aside.read_bytes()))
        return forward(request)

    def mend() -> None:
        if aside.exists():
            aside.replace(file)

    trial.mend.append(mend)
    return fault


def second_publisher(trial: Trial) -> Fault:
    """Another machine begins to publish the same plan at this request."""

    def fault(request: Request, forward: Forward) -> Answer:
        trial.start_second()
        return forward(request)

    return fault


def other_publisher(trial: Trial) -> Fault:
    """Another machine begins to publish other bytes under the same tag at this request."""

    def fault(request: Request, forward: Forward) -> Answer:
        trial.start_second(other=True)
        return forward(request)

    return fault


def flip_in_store(trial: Trial) -> Fault:
    """A bit of the new weights flips on the Hub's disk at this request, if they lie there and are not yet checked.

    Later damage shows at once to everybody: `hub fsck` and `release verify` find it, no publication does.
    """

    def fault(request: Request, forward: Forward) -> Answer:
        blob = trial.store.blobs.path(trial.scenario.new["model.safetensors"])
        checked = any("/model.safetensors" in seen.path for seen in trial.world.proxy.seen)
        if blob.is_file() and not checked:
            blob.chmod(0o644)
            blob.write_bytes(flipped(blob.read_bytes()))
            trial.damaged = True
        else:
            trial.spared = True
        return forward(request)

    return fault


ONCE: dict[str, Kind] = {
    "connection dropped": drop,
    "answer lost": lose,
    "answer cut in the middle": cut,
    "answer late": delay,
    "answer later than is waited for": hang,
    "429": answers(429),
    "500": answers(500),
    "503": answers(503),
    "504": answers(504),
    "500, but done": committed_500,
    "bit flipped in the request": flip_request,
    "bit flipped in the answer": flip_answer,
    "kill -9 before the request": kill_before,
    "kill -9 before the answer": kill_after,
    "token revoked": revoke_token,
    "file changed": change_file,
    "second publisher, same plan": second_publisher,
    "second publisher, same tag, other bytes": other_publisher,
    "bit flipped in the store": flip_in_store,
}
FROM_THEN_ON: dict[str, Kind] = {
    "Hub gone from then on": drop,
    "503 from then on": answers(503),
    "500, but done, from then on": committed_500,
}
