"""`hub` on the command line: serving, users, imports, and what it refuses."""

from __future__ import annotations

import json
import re
import signal
import socket
import stat
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

PROGRAM = """
import sys
from training.command import Parser
from release.hub_command import add_hub_command
heavy = {"torch", "starlette", "uvicorn", "huggingface_hub"} & set(sys.modules)
assert not heavy, heavy
parser = Parser("python -m release", "test")
add_hub_command(parser)
sys.exit(parser.run())
"""
HERE = Path(__file__).resolve().parents[3]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM, "hub", *words]
    return subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def served(tmp_path):
    """A Hub in the foreground of another process, and its endpoint."""
    command = [sys.executable, "-c", PROGRAM, "hub", "--root", str(tmp_path / "hub"), "--port", "0"]
    command += ["--token-file", str(tmp_path / "token")]
    with subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"http://\S+:\d+", process.stdout.readline())
        assert found
        yield process, found.group()
        process.kill()


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_it_prints_its_endpoint_serves_and_stops_when_told(served, sent, code, tmp_path):
    process, endpoint = served
    token = (tmp_path / "token").read_text().strip()
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600
    request = urllib.request.Request(f"{endpoint}/api/whoami-v2", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert json.load(answer)["name"] == "slipway"
    process.send_signal(sent)
    out, error = process.communicate(timeout=20)
    assert process.returncode == code
    assert token not in out + error


def test_no_token_is_written_for_a_port_that_somebody_else_has(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        refused = run("--root", str(tmp_path / "hub"), "--port", port, "--token-file", str(tmp_path / "token"))
    assert refused.returncode == 2
    assert f"cannot listen on 127.0.0.1 port {port}" in refused.stderr
    assert not (tmp_path / "token").exists()


def test_a_user_gets_a_token_and_later_another_one(tmp_path):
    root = str(tmp_path / "hub")
    first = run("user", "ada", "--root", root, "--create", "--organisation", "harbour", "--json")
    second = run("user", "ada", "--root", root)
    tokens = {json.loads(first.stdout)["token"], second.stdout.strip()}
    assert len(tokens) == 2
    assert all(re.fullmatch("hf_[A-Za-z0-9]{34}", token) for token in tokens)


def test_a_folder_is_imported_under_its_names(tmp_path):
    (tmp_path / "mirror" / "models" / "org" / "tiny").mkdir(parents=True)
    (tmp_path / "mirror" / "models" / "org" / "tiny" / "config.json").write_text("{}")
    done = run("import", str(tmp_path / "mirror"), "--root", str(tmp_path / "hub"), "--json")
    assert json.loads(done.stdout)["imported"] == ["model org/tiny"]


def test_it_refuses_with_exit_code_2_what_it_cannot_do(tmp_path):
    root = str(tmp_path / "hub")
    open_to_all = run("--root", root, "--host", "0.0.0.0", "--port", "0")
    assert open_to_all.returncode == 2
    assert "must have a user" in open_to_all.stderr
    for words in (["import", "--root", root], ["import", str(tmp_path / "none"), "--root", root], ["--port", "1"]):
        assert run(*words).returncode == 2
    assert run("user", "../x", "--root", root).returncode == 2


def test_a_user_of_a_mistyped_root_is_refused_and_no_hub_begins_there(tmp_path):
    wrong = run("user", "ada", "--root", str(tmp_path / "hbu"))
    assert wrong.returncode == 2
    assert "there is no Hub, so nobody would know this user" in wrong.stderr
    assert "give --create to begin a Hub there" in wrong.stderr
    assert not (tmp_path / "hbu").exists()
    elsewhere = run("fsck", "--root", str(tmp_path), "--create")
    assert "--create is an option of `hub user`" in elsewhere.stderr


def test_a_token_that_is_replaced_in_the_token_file_or_revoked_is_nobodys(tmp_path):
    from release.hub_command import _accept_token_file
    from release.local_hub.store import Store

    store, file = Store(tmp_path / "hub"), tmp_path / "token"
    root = ["--root", str(tmp_path / "hub")]
    whose = store.accounts.caller
    _accept_token_file(file, store)
    written = file.read_text().strip()
    own = run("user", "slipway", *root).stdout.strip()
    for token in ("first-token", "second-token"):
        file.write_text(token)
        for _ in range(2):  # as at every start
            _accept_token_file(file, store)
    assert [bool(whose(token)) for token in (written, "first-token", "second-token", own)] == [False, False, True, True]
    done = run("user", "slipway", "--revoke", own, *root)
    assert (done.returncode, "1 token of slipway revoked" in done.stdout, own in done.stdout) == (0, True, False)
    assert whose(own) is None
    assert run("user", "slipway", "--revoke", own, *root).returncode == 2
    assert run("user", "slipway", "--organisation", "org", *root).returncode == 0
    assert "2 tokens" in run("user", "slipway", "--revoke", "all", "--leave", "org", *root).stdout
    assert whose("second-token") is None
    assert store.accounts.namespaces_of("slipway") == {"slipway"}
    assert run("user", "slipway", "--leave", "org", *root).returncode == 2
    assert run("user", "nobody", "--revoke", "all", *root).returncode == 2
