"""What clients that mean no good send to a Hub, or never send: huge, endless or stalled requests hold up nobody."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from huggingface_hub import CommitOperationAdd

from release.local_hub.server import running_hub
from release.local_hub.store import Store

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


def send(hub: Any, data: bytes, *, finish: bool = True) -> bytes:
    """Raw bytes on a connection of their own, and all that comes back."""
    address = urlsplit(hub.endpoint)
    with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
        answer = b""
        try:
            connection.sendall(data)
            if finish:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the Hub has answered and hung up before it was told everything
        try:
            while block := connection.recv(65536):
                answer += block
        except ConnectionResetError:
            pass
        return answer


def test_a_body_that_is_too_large_is_refused_whatever_it_says_of_its_length(hub: Any, token: str) -> None:
    head = f"POST /api/repos/create HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n".encode()
    chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
    assert b" 413 " in send(hub, head + b"Transfer-Encoding: chunked\r\n\r\n" + 4 * chunk + b"0\r\n\r\n")
    assert b" 413 " in send(hub, head + b"Content-Length: 99999999999999\r\n\r\n" + b"x" * (34 << 20), finish=False)
    for length in (b"-1", b"1e3", b"5, 6"):
        assert send(hub, head + b"Content-Length: " + length + b"\r\n\r\n{}").startswith(b"HTTP/1.1 400")


def test_json_that_is_nested_without_end_is_a_bad_request(hub: Any, api: Any, token: str, ask: Any) -> None:
    api.create_repo("slipway/demo")
    deep = b"[" * 200_000
    assert ask("POST", "/api/repos/create", token, b'{"name":' + deep).status == 400
    assert ask("POST", "/api/models/slipway/demo/commit/main", token, b'{"key":' + deep + b"\n").status == 400


def test_a_card_whose_yaml_would_blow_up_is_refused_at_once(hub: Any, api: Any, token: str, ask: Any) -> None:
    api.create_repo("slipway/demo")
    laughs = "\n".join(
        ["a: &a [x, x]", *(f"{b}: &{b} [*{a}, *{a}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True))]
    )
    for front in (laughs, "a: " + "[" * 50_000, "a: " + "x" * 300_000, "k: {" + "a: {" * 5_000):
        content = f"---\n{front}\n---\n# Card\n"
        lines = [
            {"key": "header", "value": {"summary": "card"}},
            {"key": "file", "value": {"path": "README.md", "content": content, "encoding": "utf-8"}},
        ]
        body = "\n".join(json.dumps(line) for line in lines).encode()
        assert ask("POST", "/api/models/slipway/demo/commit/main", token, body).status == 400
        checked = ask("POST", "/api/validate-yaml", token, {"content": content, "repoType": "model"})
        assert checked.json().get("errors")


def test_a_client_that_never_finishes_its_request_is_hung_up_on_and_others_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("release.local_hub.server.REQUEST_LIMIT", 0.3)
    with running_hub(tmp_path / "hub") as hub:
        address = urlsplit(hub.endpoint)
        slow = [socket.create_connection((address.hostname, address.port), timeout=20) for _ in range(60)]
        for connection in slow[:30]:
            connection.sendall(b"GET /api/models HTTP/1.1\r\nHost:")
        other = http.client.HTTPConnection(address.netloc, timeout=20)
        other.request("GET", "/api/models")
        assert other.getresponse().read() == b"[]"
        other.close()
        for connection in slow:
            assert connection.recv(100) == b""
            connection.close()


def test_a_byte_now_and_then_does_not_keep_a_connection_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("release.local_hub.server.REQUEST_LIMIT", 0.3)
    with running_hub(tmp_path / "hub") as hub:
        address = urlsplit(hub.endpoint)
        with socket.create_connection((address.hostname, address.port), timeout=0.05) as connection:
            for _ in range(400):
                try:
                    connection.sendall(b"G")
                    if connection.recv(100) == b"":
                        return
                except TimeoutError:
                    continue
                except ConnectionError:
                    return
        pytest.fail("it was still open after 400 bytes")


def test_a_body_that_stops_coming_is_given_up_and_leaves_nothing(
    hub: Any, api: Any, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("release.local_hub.bodies.STALL_LIMIT", 0.3)
    api.create_repo("slipway/demo")
    signature = hub.store.sign("lfs", "0" * 64, "1000", "slipway")
    address = f"/lfs/{'0' * 64}?size=1000&user=slipway&signature={signature}"
    put = f"PUT {address} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nhalf"
    assert b" 408 " in send(hub, put.encode(), finish=False)
    assert list(hub.store.blobs.incoming.iterdir()) == []


def test_readers_who_do_not_read_hold_up_nobody(hub: Any, api: Any, ask: Any) -> None:
    api.create_repo("slipway/demo")
    api.create_commit("slipway/demo", [CommitOperationAdd("w.bin", b"\0" * (8 << 20))], commit_message="1")
    address = urlsplit(hub.endpoint)
    slow = [socket.create_connection((address.hostname, address.port), timeout=20) for _ in range(60)]
    for connection in slow:
        connection.sendall(b"GET /slipway/demo/resolve/main/w.bin HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answers: list[int] = []
    others = [
        threading.Thread(target=lambda: answers.append(ask("GET", "/api/models/slipway/demo").status)) for _ in range(5)
    ]
    for other in others:
        other.start()
    for other in others:
        other.join()
    assert answers == [200] * 5
    for connection in slow:
        connection.close()


def test_no_token_reaches_the_log_in_whatever_way_it_is_sent(hub: Any, token: str, capfd: Any) -> None:
    for request in (
        f"GET /api/models?token={token} HTTP/1.1\r\nHost: localhost\r\n\r\n",
        f"GET /{token}/x HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        f"NONSENSE {token}\r\n\r\n",
        f"POST /api/repos/create HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Length: 9\r\n\r\n{{",
    ):
        send(hub, request.encode())
    said = "".join(capfd.readouterr())
    assert token not in said


def test_a_name_with_a_space_at_its_end_is_missing_and_ends_no_connection(api: Any, ask: Any) -> None:
    api.create_repo("slipway/demo")
    answer = ask("GET", "/slipway/demo/resolve/main/a%20")
    assert (answer.status, answer.headers["x-error-code"]) == (404, "EntryNotFound")


def test_a_page_that_gives_its_own_name_this_machines_address_reads_nothing(api: Any, ask: Any) -> None:
    api.create_repo("slipway/demo")
    for name in (
        "evil.example",
        "evil.example:80",
        "localhost.evil.example",
        "evil_1.example",
        "10.0.0.1",
        "x@evil.example",
        "",
    ):
        for path in ("/api/models", "/slipway/demo", "/", "/slipway/demo/resolve/main/.gitattributes"):
            answer = ask("GET", path, headers={"Host": name})
            assert (answer.status, b"slipway/demo" in answer.body) == (421, False), (name, path)
    assert ask("GET", "/api/models", headers={"Host": "[::1"}).status == 400
    for name in ("localhost:8484", "127.0.0.1", "[::1]:8484", "hub.localhost", "LOCALHOST"):
        assert ask("GET", "/api/models", headers={"Host": name}).status == 200, name


def test_a_hub_on_loopback_answers_to_the_names_that_it_was_given(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "release",
        "hub",
        "--root",
        str(tmp_path),
        "--port",
        "0",
        "--public-host",
        "hub.example",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = urlsplit(process.stdout.readline().split()[3]).netloc
            statuses = []
            for name in ("Hub.example", "evil.example"):
                connection = http.client.HTTPConnection(address, timeout=20)
                connection.request("GET", "/api/models", headers={"Host": name})
                statuses.append(connection.getresponse().status)
                connection.close()
            assert statuses == [200, 421]
        finally:
            process.terminate()


def test_a_gitignore_that_would_take_seconds_is_refused(api: Any, token: str, ask: Any) -> None:
    api.create_repo("slipway/demo")
    files = [{"path": f"a/b/c/{number}.txt", "size": 1, "sample": "YQ=="} for number in range(256)]
    preupload = "/api/models/slipway/demo/preupload/main"
    for ignore in ("\n".join(f"*{number}*x" for number in range(5000)), "a" * (1 << 20)):
        answer = ask("POST", preupload, token, {"files": files, "gitIgnore": ignore})
        assert (answer.status, ".gitignore" in answer.json()["error"]) == (400, True)
    rules = "*.txt\n!/a/b/c/1.txt\nb/\n# *.bin\n"
    api.create_commit("slipway/demo", [CommitOperationAdd(".gitignore", rules.encode())], commit_message="x")
    asked = [
        {"path": path, "size": 1, "sample": "YQ=="}
        for path in ("1.txt", "b", "b/1.bin", "c/b/1.bin", "a/b/c/1.txt", "x")
    ]
    answers = ask("POST", preupload, token, {"files": asked}).json()["files"]
    assert [answer["shouldIgnore"] for answer in answers] == [True, False, True, True, True, False]


def test_another_sites_page_is_told_nothing_by_a_browsers_login(api: Any, token: str, ask: Any) -> None:
    api.create_repo("slipway/demo", private=True)
    for address in (
        "/api/models/slipway/demo",
        "/api/models/slipway/none",
        "/slipway/demo/resolve/main/.gitattributes",
    ):
        assert ask("GET", address, token).headers["cross-origin-resource-policy"] == "same-origin"


def test_an_address_of_no_repository_is_not_taken_for_a_missing_one(ask: Any) -> None:
    for address in ("/api/spaces/hardware", "/api/spaces/templates", "/api/spaces/semantic-search"):
        answer = ask("GET", address)
        assert (answer.status, "does not offer" in answer.json()["error"]) == (404, True), address


def test_a_new_root_is_its_owners_alone(tmp_path: Path) -> None:
    Store(tmp_path / "new")
    assert (tmp_path / "new").stat().st_mode & 0o077 == 0
