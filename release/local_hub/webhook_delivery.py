"""Webhooks on their way: sent by threads beside the requests, tried again where the receiver is away, and noted in the log.

At most WAITING deliveries wait in a server's memory; what comes beyond is not sent and noted as such. Those that wait when a
server ends are lost: a webhook is a hint to look, not a record.
"""

from __future__ import annotations

import json
import logging
import queue
import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3

from release.local_hub.refusals import Refusal
from release.local_hub.repository import now
from release.local_hub.webhook_targets import BadTarget, post
from release.local_hub.webhooks import Webhooks

WAITING, SENDERS = 1000, 4
PAUSES = (1.0, 5.0, 25.0)  # seconds before each further try
log = logging.getLogger("slipway.hub")


@dataclass(frozen=True)
class Delivery:
    """A payload for one webhook."""

    webhook: str
    payload: dict[str, Any]


class Deliveries:
    """The queue of one server. `private` says whether private addresses are within reach (webhook_targets.py)."""

    def __init__(self, root: Path, *, private: bool, pauses: Sequence[float] = PAUSES) -> None:
        self.webhooks, self.private, self.pauses = Webhooks(root), private, pauses
        self._waiting: queue.Queue[Delivery] = queue.Queue(WAITING)
        self._ended = threading.Event()
        self._starting = threading.Lock()
        self._senders: list[threading.Thread] = []

    def send(self, deliveries: Sequence[Delivery]) -> None:
        """Put them into the queue; never waits."""
        for delivery in deliveries:
            try:
                self._waiting.put_nowait(delivery)
            except queue.Full:
                self._note(delivery, None, "not sent: too many deliveries are waiting", 0)
        if deliveries:
            self._start()

    def close(self) -> None:
        """Let the senders end after the request that each is making."""
        self._ended.set()

    def _start(self) -> None:
        with self._starting:
            while len(self._senders) < SENDERS:
                thread = threading.Thread(target=self._run, name="webhooks", daemon=True)
                self._senders.append(thread)
                thread.start()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                delivery = self._waiting.get(timeout=0.5)
            except queue.Empty:
                continue
            try:
                self._deliver(delivery)
            except (OSError, ValueError) as error:  # of the log; the next delivery is tried all the same
                log.error("a webhook's delivery could not be noted: %s", error)

    def _deliver(self, delivery: Delivery) -> None:
        body = json.dumps(delivery.payload, ensure_ascii=False).encode(errors="replace")
        for tries, pause in enumerate((*self.pauses, None), 1):
            try:
                hook = self.webhooks.read(delivery.webhook)
            except Refusal:
                return  # deleted meanwhile
            headers = {"Content-Type": "application/json", "User-Agent": "slipway-hub-webhook"}
            if hook["secret"]:
                headers["X-Webhook-Secret"] = hook["secret"]
            status, problem = self._post(hook["url"], body, headers)
            passing = status is None or status >= 500 or status in {408, 429}
            if problem.startswith("refused") or not passing or pause is None or self._ended.wait(pause):
                self._note(delivery, status, problem, tries)
                return

    def _post(self, url: str, body: bytes, headers: dict[str, str]) -> tuple[int | None, str]:
        try:
            return post(url, body, headers, private=self.private), ""
        except BadTarget as error:
            return None, f"refused: {error}"
        except (urllib3.exceptions.HTTPError, OSError) as error:
            return None, type(error).__name__

    def _note(self, delivery: Delivery, status: int | None, problem: str, tries: int) -> None:
        entry = {"id": secrets.token_hex(12), "date": now(), "status": status, "problem": problem, "tries": tries}
        self.webhooks.note(delivery.webhook, {**entry, "payload": delivery.payload})
