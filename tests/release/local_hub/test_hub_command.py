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
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from release.hub_command import _accept_token_file
from release.local_hub.server import running_hub
from release.local_hub.store import Store

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


def who(root: Path, token: str) -> str | None:
    """Whose token it is to the unchanged client of a Hub on `root`."""
    with running_hub(root) as hub:
        try:
            return str(HfApi(endpoint=hub.endpoint, token=token).whoami()["name"])
        except HfHubHTTPError:
            return None


def test_one_token_of_a_user_or_all_are_taken_back_at_once(tmp_path):
    root = tmp_path / "hub"
    words = ("user", "ada", "--root", str(root))
    first, second, third = (run(*words, "--create").stdout.strip() for _ in range(3))
    with running_hub(root) as hub:
        api = HfApi(endpoint=hub.endpoint, token=first)
        assert api.whoami()["name"] == "ada"
        done = run(*words, "--revoke", first)
        assert done.stdout.strip() == "1 token of ada taken back, 2 left"
        with pytest.raises(HfHubHTTPError, match="Invalid user token"):
            api.whoami()
    assert who(root, second) == "ada"
    assert json.loads(run(*words, "--revoke", "all", "--json").stdout)["revoked"] == 2
    assert [who(root, token) for token in (second, third)] == [None, None]


def test_nothing_is_taken_back_from_somebody_else_or_twice_and_nothing_is_made(tmp_path):
    root = tmp_path / "hub"
    token = run("user", "ada", "--root", str(root), "--create").stdout.strip()
    run("user", "bob", "--root", str(root))
    foreign = run("user", "bob", "--root", str(root), "--revoke", token)
    assert foreign.returncode == 2
    assert "this is no token of bob" in foreign.stderr
    assert token not in foreign.stderr
    assert "there is no user eve" in run("user", "eve", "--root", str(root), "--revoke", "all").stderr
    assert run("user", "ada", "--root", str(root), "--revoke", "all", "--read-only").returncode == 2
    assert who(root, token) == "ada"
    assert run("user", "ada", "--root", str(root), "--revoke", "all").returncode == 0
    assert "ada has no token" in run("user", "ada", "--root", str(root), "--revoke", "all").stderr


def test_who_is_no_member_any_more_sees_nothing_of_the_organisation_and_keeps_their_tokens(tmp_path):
    root = tmp_path / "hub"
    words = ("user", "ada", "--root", str(root))
    token = run(*words, "--create", "--organisation", "harbour").stdout.strip()
    with running_hub(root) as hub:
        api = HfApi(endpoint=hub.endpoint, token=token)
        api.create_repo("harbour/plans", private=True)
        assert run(*words, "--remove-from", "Harbour").stdout.strip() == "ada is no member of Harbour any more"
        with pytest.raises(RepositoryNotFoundError):
            api.model_info("harbour/plans")
        with pytest.raises(HfHubHTTPError, match="403"):
            api.create_repo("harbour/more")
        assert api.whoami()["orgs"] == []
    assert "no member of harbour" in run(*words, "--remove-from", "harbour").stderr


def test_the_token_of_a_token_file_takes_the_place_of_the_one_that_it_held(tmp_path):
    root, file = tmp_path / "hub", tmp_path / "token"
    store = Store(root)
    _accept_token_file(file, store)
    first, other = file.read_text().strip(), store.create_token("slipway")
    _accept_token_file(file, store)
    assert who(root, first) == "slipway"
    file.write_text("hf_chosen_elsewhere\n")
    _accept_token_file(file, store)
    assert [who(root, token) for token in (first, "hf_chosen_elsewhere", other)] == [None, "slipway", "slipway"]
    told = run("user", "slipway", "--root", str(root), "--revoke", "all").stdout
    assert f"{file} still holds one: with --token-file it is accepted again" in told


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
