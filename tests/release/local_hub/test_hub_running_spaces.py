"""Spaces that the Hub runs: what a commit, a variable, a pause or a deletion does to the process, seen by the real client."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from release.local_hub.repository import Repository
from release.local_hub.server import RunningHub, running_hub
from release.local_hub.space_runner import running_spaces
from release.local_hub.space_status import log_file
from training.errors import UsageError

APP = """
import http.server, json, os
class Echo(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps(dict(os.environ)).encode()
        self.send_response(200); self.end_headers(); self.wfile.write(body)
print("listening", flush=True)
http.server.HTTPServer(("127.0.0.1", int(os.environ["GRADIO_SERVER_PORT"])), Echo).serve_forever()
"""

BACKEND = """
[build-system]
requires = []
build-backend = "slow_backend"
backend-path = ["."]
"""
# A package that is made once somebody writes the file `go` beside it.
SLOW_BACKEND = """
import pathlib, time, zipfile
def build_wheel(directory, config_settings=None, metadata_directory=None):
    for _ in range(600):
        if (pathlib.Path(__file__).parent / "go").is_file():
            break
        time.sleep(0.1)
    name, info = "slow-1.0-py3-none-any.whl", "slow-1.0.dist-info"
    with zipfile.ZipFile(pathlib.Path(directory) / name, "w") as wheel:
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: slow\\nVersion: 1.0\\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nGenerator: slow\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return name
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """One for all, so that the environment without packages is made once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_TOKEN", "hf_of_the_hubs_owner")
        patch.chdir(tmp_path_factory.mktemp("here"))
        with running_hub(Path("hub")) as hub, running_spaces(hub.store, hub.endpoint):
            yield hub


@pytest.fixture(scope="module")
def api(hub: RunningHub) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=hub.store.create_user("maker"))


def push(api: HfApi, space: str, files: dict[str, str], sdk: str = "gradio") -> None:
    api.create_repo(space, repo_type="space", space_sdk=sdk, exist_ok=True)
    for path, text in {"README.md": f"---\nsdk: {sdk}\n---\n", **files}.items():
        api.upload_file(path_or_fileobj=text.encode(), path_in_repo=path, repo_id=space, repo_type="space")


def settled(api: HfApi, space: str) -> str:
    """The Space's stage once it is what it will be, at its latest commit."""
    commit = api.repo_info(space, repo_type="space").sha
    for _ in range(600):
        runtime = api.get_space_runtime(space)
        if runtime.raw.get("sha") == commit and runtime.stage not in ("BUILDING", "APP_STARTING", "STOPPED"):
            return str(runtime.stage)
        time.sleep(0.1)
    raise AssertionError(f"the Space is still {runtime.stage}")


def variables_of(api: HfApi, space: str) -> dict[str, str]:
    """The environment of the running app, which answers with it."""
    with urllib.request.urlopen(str(api.space_info(space).host)) as answer:
        found: dict[str, str] = json.load(answer)
    return found


def test_a_pushed_space_runs_with_its_own_variables_and_secrets_and_nothing_of_the_hubs(
    hub: RunningHub, api: HfApi
) -> None:
    space = "maker/echo"
    api.create_repo(space, repo_type="space", space_sdk="gradio")
    api.add_space_secret(space, "KEY", "secret-value")
    api.add_space_variable(space, "COLOUR", "red")
    push(api, space, {"app.py": APP})
    assert settled(api, space) == "RUNNING"
    found = variables_of(api, space)
    assert (found["KEY"], found["COLOUR"], found["SPACE_ID"]) == ("secret-value", "red", space)
    assert found["HF_ENDPOINT"] == hub.endpoint
    assert "HF_TOKEN" not in found
    _wait(lambda: "".join(api.fetch_space_logs(space)).startswith("listening"))
    assert "secret-value" not in json.dumps(api.get_space_runtime(space).raw)

    pid = _pid(hub, space)
    api.add_space_variable(space, "COLOUR", "blue")
    _wait(lambda: _pid(hub, space) not in (pid, None))
    assert settled(api, space) == "RUNNING"
    assert variables_of(api, space)["COLOUR"] == "blue"

    host = str(api.space_info(space).host)
    api.pause_space(space)
    _wait(lambda: api.get_space_runtime(space).stage == "PAUSED")
    with pytest.raises(OSError):
        urllib.request.urlopen(host)
    api.restart_space(space)
    _wait(lambda: api.get_space_runtime(space).stage == "RUNNING")
    host = str(api.space_info(space).host)
    api.delete_repo(space, repo_type="space")
    _wait(lambda: _is_closed(host))


def test_a_folder_of_pages_is_served_as_it_is(api: HfApi) -> None:
    space = "maker/pages"
    push(api, space, {"index.html": "<h1>Scores</h1>"}, sdk="static")
    assert settled(api, space) == "RUNNING"
    with urllib.request.urlopen(str(api.space_info(space).host)) as page:
        assert page.read() == b"<h1>Scores</h1>"


def test_what_cannot_run_says_why(api: HfApi) -> None:
    space = "maker/broken"
    push(api, space, {"README.md": "---\nsdk: docker\n---\n", "Dockerfile": "FROM scratch\n"})
    assert settled(api, space) == "CONFIG_ERROR"
    assert "docker" in api.get_space_runtime(space).raw["errorMessage"]
    push(api, space, {"app.py": "print('no model'); raise SystemExit(3)\n"})
    assert settled(api, space) == "RUNTIME_ERROR"
    assert "exit status 3" in api.get_space_runtime(space).raw["errorMessage"]
    _wait(lambda: list(api.fetch_space_logs(space)))  # the client leaves out what is younger than the answer's date
    assert list(api.fetch_space_logs(space)) == ["no model\n"]
    push(api, space, {"requirements.txt": "./there-is-none\n"})
    assert settled(api, space) == "BUILD_ERROR"
    _wait(lambda: "there-is-none" in "".join(api.fetch_space_logs(space, build=True)))


def test_a_build_says_what_it_does_while_it_does_it_and_the_server_when_it_begins_and_ends(
    hub: RunningHub, api: HfApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = tmp_path / "slow_package"
    package.mkdir()
    (package / "pyproject.toml").write_text(BACKEND)
    (package / "slow_backend.py").write_text(SLOW_BACKEND)
    space, go = "maker/builds", package / "go"
    push(api, space, {"requirements.txt": f"{package}\n", "app.py": APP})
    log = log_file(the_space(hub, space), "build")
    _wait(lambda: log.is_file() and "Processing" in log.read_text())
    assert api.get_space_runtime(space).stage == "BUILDING", "pip's words are there before it has ended"
    go.write_text("")
    assert settled(api, space) == "RUNNING"
    _wait(lambda: "ready after" in "".join(api.fetch_space_logs(space, build=True)))
    said = capsys.readouterr().err
    assert f"Space {space}: making its environment; `hf spaces logs {space} --build` has pip's words" in said
    assert f"Space {space}: its environment is made, after" in said


def test_logs_are_for_those_who_may_write(hub: RunningHub, api: HfApi) -> None:
    space = "maker/quiet"
    push(api, space, {"index.html": "<h1>Scores</h1>"}, sdk="static")
    for token in (False, hub.store.create_user("other")):
        stranger = HfApi(endpoint=hub.endpoint, token=token)
        with pytest.raises(Exception, match=r"40[13]"):
            list(stranger.fetch_space_logs(space))


def test_a_root_has_one_process_that_runs_its_spaces(hub: RunningHub) -> None:
    with pytest.raises(UsageError, match="another server runs the Spaces"), running_spaces(hub.store, hub.endpoint):
        pass


def the_space(hub: RunningHub, name: str) -> Repository:
    space = hub.store.find("space", name)
    assert space is not None
    return space


def _pid(hub: RunningHub, name: str) -> int | None:
    pid: int | None = json.loads((the_space(hub, name).folder / "runtime" / "status.json").read_text())["pid"]
    return pid


def _is_closed(host: str) -> bool:
    try:
        urllib.request.urlopen(host).close()
    except OSError:
        return True
    return False


def _wait(condition) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it did not come to be")
