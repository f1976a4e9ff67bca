"""`python -m release hub`: serve the embedded Hub, import repositories into it, add users.

python -m release hub --root hub --port 8484
python -m release hub import mirror --root hub
python -m release hub user slipway --root hub
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from training.command import Parser, Result
from training.errors import UsageError

if TYPE_CHECKING:
    from release.local_hub.store import Store

_DESCRIPTION = """Serve a Hub that the unchanged huggingface_hub, transformers and datasets clients use as HF_ENDPOINT.

  hub --root DIR --port N          serve until Ctrl-C
  hub import FOLDER --root DIR     take in FOLDER/{models,datasets,spaces}/ORG/NAME/... under these ids
  hub user NAME --root DIR         create a user (or another token of theirs) and print the token"""


def add_hub_command(parser: Parser) -> None:
    """Add `hub` to `python -m release`. Imports nothing heavy."""
    hub = parser.command("hub", "Serve the embedded Hub, import repositories into it, add users.", run_hub)
    hub.description = _DESCRIPTION
    hub.add_argument("action", nargs="?", choices=("serve", "import", "user"), default="serve", help="default: serve")
    hub.add_argument("subject", nargs="?", metavar="FOLDER|NAME", help="what to import, or whom to create")
    hub.add_argument("--root", type=Path, required=True, metavar="DIR", help="where everything is kept")
    hub.add_argument("--port", type=int, default=8484, metavar="N", help="0 takes a free one (default: 8484)")
    hub.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine only)")
    hub.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="the token in it is accepted for the user 'slipway'; if there is no such file, it is written",
    )
    hub.add_argument("--organisation", action="append", default=[], metavar="ORG", help="with `user`: a member of ORG")
    hub.add_argument("--read-only", action="store_true", help="with `user`: a token that cannot write")


def run_hub(args: argparse.Namespace) -> Result:
    """The command; serving returns when it is stopped."""
    actions = {"serve": _serve, "import": _import, "user": _user}
    if args.action != "serve" and not args.subject:
        raise UsageError(f"hub {args.action} needs a {'FOLDER' if args.action == 'import' else 'NAME'}")
    return actions[str(args.action)](args)


def _serve(args: argparse.Namespace) -> Result:
    from release.local_hub.server import serve  # starlette and uvicorn take a moment to import
    from release.local_hub.store import Store

    if args.subject:
        raise UsageError(f"unknown argument {args.subject!r}", expected="hub, hub import FOLDER or hub user NAME")
    store = Store(args.root)
    if args.token_file:
        _accept_token_file(args.token_file, store)
    serve(store, args.host, args.port)
    return {"summary": "the Hub has stopped", "root": str(args.root)}


def _accept_token_file(file: Path, store: Store, user: str = "slipway") -> None:
    if store.accounts.kind_of(user) is None:
        store.accounts.create_user(user)
    if file.exists():
        token = file.read_text().strip()
        if len(token) < 8:
            raise UsageError("the token file does not hold a token", where=str(file), expected="at least 8 characters")
        store.accounts.accept_token(user, token)
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as opened:
        opened.write(store.create_token(user) + "\n")


def _import(args: argparse.Namespace) -> Result:
    from release.local_hub.store import Store

    imported = Store(args.root).import_folder(Path(args.subject))
    listed = "".join(f"\n  {name}" for name in imported)
    return {"summary": f"imported {len(imported)} repositories{listed}", "imported": imported, "root": str(args.root)}


def _user(args: argparse.Namespace) -> Result:
    from release.local_hub.store import Store

    store, name = Store(args.root), str(args.subject)
    if store.accounts.kind_of(name) is None:
        store.accounts.create_user(name)
    for organisation in args.organisation:
        if store.accounts.kind_of(organisation) is None:
            store.create_organisation(organisation)
        store.accounts.add_member(organisation, name)
    token = store.create_token(name, "read" if args.read_only else "write")
    return {"summary": token, "user": name, "token": token, "organisations": list(args.organisation)}
