"""Webhooks through the unchanged client, and what a receiver of them is sent."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd, WebhookPayload, WebhookWatchedItem
from huggingface_hub.errors import HfHubHTTPError

from release.local_hub import webhook_delivery
from release.local_hub.fsck import check
from release.local_hub.webhook_targets import BadTarget, address_of, allowed, parsed

MINE = [WebhookWatchedItem("user", "slipway")]


@dataclass
class Receiver:
    """A server that keeps what it is sent, and answers with the next of `answers` (200 where there is none)."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    got: list[tuple[dict[str, str], dict[str, Any]]] = field(default_factory=list)

    def wait_for(self, count: int) -> list[dict[str, Any]]:
        wait_until(lambda: len(self.got) >= count)
        return [body for _, body in self.got]


def wait_until(said: Callable[[], Any]) -> Any:
    for _ in range(1000):
        if found := said():
            return found
        time.sleep(0.01)
    raise AssertionError("it did not happen")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    kept = Receiver()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            kept.got.append(({name.lower(): value for name, value in self.headers.items()}, json.loads(body)))
            status = kept.answers.pop(0) if kept.answers else 200
            self.send_response(status)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        kept.url = f"http://127.0.0.1:{server.server_address[1]}/hook?x=1"
        yield kept
        server.shutdown()


def test_a_webhook_is_made_found_changed_switched_and_deleted_by_its_owner_alone(
    api: Any, hub: Any, client: Any
) -> None:
    made = api.create_webhook(url="https://example.org/hook", watched=MINE, domains=["repo"], secret="quiet")
    assert (made.url, made.watched, made.domains, made.secret) == ("https://example.org/hook", MINE, ["repo"], "quiet")
    assert api.get_webhook(made.id) == made
    assert api.list_webhooks() == [made]
    changed = api.update_webhook(made.id, url="https://example.org/other")
    assert (changed.url, changed.watched, changed.secret) == ("https://example.org/other", MINE, "quiet")
    assert api.disable_webhook(made.id).disabled
    assert not api.enable_webhook(made.id).disabled

    stranger, nobody = client(hub.store.create_user("stranger")), client(False)
    reader = client(hub.store.create_token("slipway", "read"))
    assert stranger.list_webhooks() == []
    for other, status in ((stranger, "404"), (nobody, "401")):
        for ask in (other.get_webhook, other.enable_webhook, other.disable_webhook, other.delete_webhook):
            with pytest.raises(HfHubHTTPError, match=status):
                ask(made.id)
    with pytest.raises(HfHubHTTPError, match="403"):
        reader.delete_webhook(made.id)
    api.delete_webhook(made.id)
    assert api.list_webhooks() == []


@pytest.mark.parametrize(
    "fields",
    [
        {"url": "file:///etc/passwd"},
        {"url": "http://user:password@example.org/"},
        {"url": "http://example.org/a\r\nHost: b"},
        {"url": "http://example.org:99999/"},
        {"secret": "two\nlines"},
        {"domains": ["everything"]},
        {"watched": [{"type": "model", "name": "no-owner"}]},
    ],
)
def test_what_cannot_be_a_webhook_is_refused(api: Any, fields: dict[str, Any]) -> None:
    with pytest.raises(HfHubHTTPError, match="Bad request"):
        api.create_webhook(**{"url": "http://example.org/", "watched": MINE, **fields})


def test_every_kind_of_change_arrives_as_the_payload_that_the_client_parses(api: Any, receiver: Receiver) -> None:
    hook = api.create_webhook(url=receiver.url, watched=MINE, secret="quiet")
    api.create_repo("slipway/demo")
    first = api.create_commit("slipway/demo", [CommitOperationAdd("a.txt", b"a")], commit_message="1")
    api.create_tag("slipway/demo", tag="v1")
    api.update_repo_settings("slipway/demo", private=True)
    opened = api.create_commit("slipway/demo", [CommitOperationAdd("b", b"b")], commit_message="PR", create_pr=True)
    api.comment_discussion("slipway/demo", 1, "looks good")
    api.merge_pull_request("slipway/demo", 1)
    api.move_repo("slipway/demo", "slipway/moved")
    api.delete_repo("slipway/moved")
    sent = [WebhookPayload.model_validate(body) for body in receiver.wait_for(11)]
    assert sorted((one.event.action, one.event.scope) for one in sent) == sorted(
        [
            ("create", "repo"),
            ("update", "repo.content"),
            ("update", "repo.content"),
            ("update", "repo.config"),
            ("create", "discussion"),
            ("update", "repo.content"),
            ("create", "discussion.comment"),
            ("update", "discussion"),
            ("update", "repo.content"),
            ("move", "repo"),
            ("delete", "repo"),
        ]
    )
    refs = {ref.ref: ref.newSha for one in sent for ref in one.updatedRefs or []}
    assert refs["refs/tags/v1"] == first.oid
    assert refs["refs/pr/1"] == opened.oid
    assert {one.repo.name for one in sent} == {"slipway/demo", "slipway/moved"}
    assert next(one.movedTo.name for one in sent if one.movedTo) == "slipway/moved"
    assert next(one.comment.content for one in sent if one.comment) == "looks good"
    assert {one.discussion.title for one in sent if one.discussion} == {"PR"}
    assert {one.webhook.id for one in sent} == {hook.id}
    assert {headers["x-webhook-secret"] for headers, _ in receiver.got} == {"quiet"}


def test_a_webhook_that_cannot_be_read_does_not_turn_a_commit_into_an_error(hub: Any, api: Any) -> None:
    hook = api.create_webhook(url="http://127.0.0.1:1/", watched=MINE)
    (hub.store.root / "webhooks" / f"{hook.id}.json").write_text("{")
    api.create_repo("slipway/demo")
    made = api.create_commit("slipway/demo", [CommitOperationAdd("a.txt", b"a")], commit_message="1")
    assert api.model_info("slipway/demo").sha == made.oid
    assert [damage.where for damage in check(hub.store.root)] == [f"webhooks/{hook.id}.json"]


def test_a_private_change_is_told_only_to_those_who_may_read_it(
    api: Any, hub: Any, client: Any, receiver: Receiver
) -> None:
    stranger = client(hub.store.create_user("stranger"))
    stranger.create_webhook(url=receiver.url, watched=MINE)
    api.create_repo("slipway/hidden", private=True)
    api.create_discussion("slipway/hidden", "secret plans")
    api.create_repo("slipway/open")
    assert [body["repo"]["name"] for body in receiver.wait_for(1)] == ["slipway/open"]


def test_a_receiver_that_is_away_is_asked_again_and_the_log_can_send_again(
    hub: Any, api: Any, ask: Any, token: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = api.create_webhook(url=receiver.url, watched=MINE)
    receiver.answers = [503, 200, 307]
    log = f"/api/settings/webhooks/{hook.id}/logs"
    api.create_repo("slipway/demo")
    entry = wait_until(lambda: ask("GET", log, token).json())[0]
    assert (entry["status"], entry["tries"], entry["payload"]["repo"]["name"]) == (200, 2, "slipway/demo")
    assert ask("POST", f"/api/settings/webhooks/{hook.id}/replay/{entry['id']}", token).status == 202
    newest = wait_until(lambda: len(found := ask("GET", log, token).json()) == 2 and found)[0]
    assert (newest["status"], newest["tries"]) == (307, 1), "redirects are not followed"
    assert [body for _, body in receiver.got] == [entry["payload"]] * 3


def test_deliveries_beyond_the_queue_are_noted_and_not_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_delivery, "WAITING", 2)
    monkeypatch.setattr(webhook_delivery, "SENDERS", 0)
    queue = webhook_delivery.Deliveries(tmp_path, private=True)
    hook = queue.webhooks.create("slipway", {"url": "http://127.0.0.1:1/", "secret": None})
    queue.send([webhook_delivery.Delivery(hook["id"], {"n": number}) for number in range(3)])
    assert [(entry["payload"], entry["tries"]) for entry in queue.webhooks.log(hook["id"])] == [({"n": 2}, 0)]


@pytest.mark.parametrize(
    ("address", "near", "far"),
    [
        ("93.184.216.34", True, True),
        ("127.0.0.1", True, False),
        ("::1", True, False),
        ("10.0.0.8", True, False),
        ("192.168.1.1", True, False),
        ("::ffff:10.0.0.8", True, False),
        ("169.254.169.254", False, False),
        ("::ffff:169.254.169.254", False, False),
        ("fe80::1%eth0", False, False),
        ("0.0.0.0", False, False),
        ("::", False, False),
        ("224.0.0.1", False, False),
        ("2002:7f00:1::", True, False),
    ],
)
def test_where_a_hub_on_loopback_and_one_that_others_reach_may_connect(address: str, near: bool, far: bool) -> None:
    assert (allowed(address, private=True), allowed(address, private=False)) == (near, far)


def test_a_hub_that_others_reach_sends_nothing_to_its_own_machine(tmp_path: Path, receiver: Receiver) -> None:
    queue = webhook_delivery.Deliveries(tmp_path, private=False, pauses=())
    hook = queue.webhooks.create("slipway", {"url": receiver.url.replace("127.0.0.1", "localhost"), "secret": None})
    queue.send([webhook_delivery.Delivery(hook["id"], {})])
    entry = wait_until(lambda: queue.webhooks.log(hook["id"]))[0]
    queue.close()
    assert entry["problem"].startswith("refused: localhost stands for")
    assert receiver.got == []
    with pytest.raises(BadTarget):
        address_of(parsed("http://2130706433/"), private=False)  # 127.0.0.1 as one number
