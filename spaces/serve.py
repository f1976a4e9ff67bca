"""Run a published Space, or a bundle's folder, on this machine.

    python spaces/serve.py ORG/NAME-chat --port 7860        the Space as it stands on the Hub (HF_ENDPOINT, HF_TOKEN)
    python spaces/serve.py ORG/NAME-chat --revision COMMIT
    python spaces/serve.py path/to/bundle --isolated        in a virtual environment made from its requirements.txt

The page then runs in this process until it is stopped. Without --isolated it runs on this Python's packages; for a clean
environment by hand, `pip install -r requirements.txt` in the folder of the Space and run its app.py.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# `python spaces/serve.py` puts spaces/ on the path; the project's root is what its imports need.
sys.path[0] = str(ROOT)

from release.isolated_python import environment_folder, isolated_python  # noqa: E402
from training.command import Parser, log, port, quiet_libraries  # noqa: E402
from training.errors import HubError, UsageError  # noqa: E402

NEEDED = ("app.py", "requirements.txt", "README.md", "space.json")
MOUNTED = Path("/data")  # where the page keeps votes by itself, if it can write there
KEPT = ROOT / ".slipway"  # folders of Spaces and their environments; ignored by git


def main(argv: Sequence[str] | None = None) -> int:
    """Prepare the Space, then become it; returns only where that fails."""
    started: list[tuple[Path, Path, dict[str, str]]] = []

    def prepare(args: argparse.Namespace) -> dict[str, Any]:
        folder, revision = _space_folder(args.space, args.revision)
        _refuse_taken_port(args.host, args.port)
        python = _isolated_python(folder) if args.isolated else Path(sys.executable)
        environment = {"GRADIO_SERVER_NAME": args.host, "GRADIO_SERVER_PORT": str(args.port)}
        if revision is not None and not os.environ.get("VOTES_DIR") and not os.access(MOUNTED, os.W_OK):
            environment["VOTES_DIR"] = str(_lasting_votes(args.space))
        started.append((folder, python, environment))
        address = f"http://{args.host}:{args.port}"
        summary = f"serving {args.space} from {folder} at {address} (Ctrl-C stops it)"
        return {"summary": summary, "url": address, "folder": str(folder), "revision": revision, "python": str(python)}

    parser = Parser("python spaces/serve.py", "Run a published Space, or a bundle's folder, on this machine.")
    serve = parser.command("serve", "Run a published Space, or a bundle's folder, on this machine.", prepare)
    serve.prog = "python spaces/serve.py"
    serve.add_argument("space", help="ORG/NAME of a Space on the Hub, or the folder of a bundle")
    serve.add_argument("--revision", help="commit, branch or tag of the Space (default: main)")
    serve.add_argument("--port", type=port, default=7860)
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    serve.add_argument("--isolated", action="store_true", help="make a virtual environment from its requirements first")
    quiet_libraries()
    words = list(sys.argv[1:] if argv is None else argv)
    code = parser.run(["serve", *words])
    if code == 0 and started:
        _become(*started[0], as_json="--json" in words)
    return code


def _become(folder: Path, python: Path, environment: dict[str, str], *, as_json: bool) -> None:
    """Replace this process by the app, so that whoever stops it stops the app."""
    sys.stdout.flush()
    if as_json:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # stdout has carried its one object
    os.chdir(folder)
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    os.execve(python, [str(python), "app.py"], {**variables, "PYTHONUNBUFFERED": "1", **environment})


def _space_folder(space: str, revision: str | None) -> tuple[Path, str | None]:
    """The folder to run and the commit that it came from (None for a folder that was given)."""
    if Path(space).is_dir():
        if revision is not None:
            raise UsageError("a folder has no revision", where=space, next_step="leave --revision out")
        folder, commit = Path(space).resolve(), None
    elif space.count("/") == 1 and not space.startswith((".", "/")):
        folder, commit = _download(space, revision)
    else:
        raise UsageError("this is neither a folder nor a Space", expected="a folder or ORG/NAME", found=space)
    missing = [name for name in NEEDED if not (folder / name).is_file()]
    if missing:
        raise UsageError(
            "this is not a chat Space made by Slipway",
            where=space,
            expected=", ".join(NEEDED),
            found=f"no {', '.join(missing)}",
            next_step="publish one with: python -m release publish --run RUN --repo ORG/NAME --space",
        )
    return folder, commit


def _download(space: str, revision: str | None) -> tuple[Path, str]:
    import httpx2
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    where = f"{endpoint}, Space {space}{f' at {revision}' if revision else ''}"
    try:
        cached = Path(snapshot_download(space, repo_type="space", revision=revision))
    except LocalEntryNotFoundError as error:
        raise HubError(
            "the Hub cannot be reached, and the Space is not in the cache",
            where=where,
            found=str(error.__cause__ or error),
            next_step="start the Hub, or set HF_ENDPOINT, then run the same command again",
        ) from error
    except HfHubHTTPError as error:
        raise HubError(
            "the Hub does not give this Space",
            where=where,
            found=str(error).strip().splitlines()[0],
            next_step="check the name, the revision and HF_TOKEN",
        ) from error
    except httpx2.HTTPError as error:
        raise HubError("the Hub cannot be reached", where=where, found=repr(error)) from error
    # The cache holds links to blobs, and Python would look for the app's modules beside the blob.
    folder = KEPT / "spaces" / space.replace("/", "--") / cached.name
    if not folder.is_dir():
        partial = folder.with_name(f".{folder.name}.{os.getpid()}")
        try:
            shutil.copytree(cached, partial)
            partial.rename(folder)
        except OSError as error:
            if not folder.is_dir():  # else another process was faster
                raise UsageError("the Space's files cannot be written", where=str(folder), found=str(error)) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder, cached.name


def _lasting_votes(space: str) -> Path:
    """One folder of votes, and one salt, for all revisions of a Space: else every labeller is another one at each publication.

    Earlier versions kept them with each revision; those of the newest are carried over.
    """
    name = space.replace("/", "--")
    votes = KEPT / "votes" / name
    earlier = sorted((KEPT / "spaces" / name).glob("*/votes/salt"), key=lambda salt: salt.stat().st_mtime)
    if earlier and not votes.exists():
        partial = votes.with_name(f".{name}.{os.getpid()}")
        shutil.copytree(earlier[-1].parent, partial)
        partial.rename(votes)
        log(f"votes and salt of {earlier[-1].parent} are kept in {votes} from now on")
    return votes


def _isolated_python(folder: Path) -> Path:
    """The Python of an environment that holds exactly the Space's requirements."""
    requirements, kept = (folder / "requirements.txt").read_text(encoding="utf-8"), KEPT / "environments"
    home = environment_folder(requirements, kept)
    if not (home / "complete.json").is_file():
        log(
            f"making an environment from {folder / 'requirements.txt'} in {home}; this takes minutes and some gigabytes"
        )
    return isolated_python(requirements, kept, sys.stderr)


def _refuse_taken_port(host: str, port: int) -> None:
    try:
        with socket.create_server((host, port)):
            return
    except (OSError, OverflowError) as error:
        raise UsageError(
            "cannot listen on this address", where=f"{host}:{port}", found=str(error), next_step="choose another --port"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
