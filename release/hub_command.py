"""`python -m release hub`: serve the embedded Hub, import repositories into it, add users, check it and tidy it up.

python -m release hub --root hub --port 8484
python -m release hub import mirror --root hub
python -m release hub mirror openai/gsm8k --from https://... --root hub
python -m release hub user slipway --root hub
python -m release hub fsck --root hub
python -m release hub gc --root hub
"""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from training.command import Parser, Result, log, port, quiet_libraries
from training.counted import are, counted
from training.errors import UsageError, VerificationMismatch

if TYPE_CHECKING:
    from release.local_hub.store import Store

OF_ACTION = {
    "source": "mirror",
    "token_file": "serve",
    "run_spaces": "serve",
    "public_host": "serve",
    "largest_file": "serve",
    "organisation": "user",
    "read_only": "user",
    "create": "user",
    "revoke": "user",
    "leave": "user",
    "grace": "gc",
    "dry_run": "gc",
    "set_aside": "fsck",
}
OF_FILE = "token file"  # the name of tokens from there: another one in the file takes the place of the one before
GRACE_HOURS = 24.0

_DESCRIPTION = """Serve a Hub that the unchanged huggingface_hub, transformers and datasets clients use as HF_ENDPOINT.

  hub --root DIR --port N          serve until Ctrl-C
  hub import FOLDER --root DIR     take in FOLDER/{models,datasets,spaces}/ORG/NAME/... under these ids
  hub mirror [datasets/|spaces/]ORG/NAME ... --from ENDPOINT --root DIR
                                   copy repositories of another Hub, with all their branches, tags and commits
  hub user NAME --root DIR         create a user (or another token of theirs) and print the token
  hub fsck --root DIR              check every byte; exit 4 where something is broken
  hub gc --root DIR                remove what nothing needs any more; servers may run meanwhile"""


def add_hub_command(parser: Parser) -> None:
    """Add `hub` to `python -m release`. Imports nothing heavy."""
    hub = parser.command("hub", "Serve the embedded Hub; import into it, add users, check it, tidy it up.", run_hub)
    hub.description = _DESCRIPTION
    actions = ("serve", "import", "mirror", "user", "fsck", "gc")
    hub.add_argument("action", nargs="?", choices=actions, default="serve", help="default: serve")
    hub.add_argument("subject", nargs="*", metavar="FOLDER|ID|NAME", help="what to import or mirror, or whom to create")
    hub.add_argument("--root", type=Path, required=True, metavar="DIR", help="where everything is kept")
    hub.add_argument("--from", dest="source", metavar="ENDPOINT", help="with `mirror`: the Hub to copy from (HF_TOKEN)")
    hub.add_argument("--port", type=port, default=8484, metavar="N", help="0 takes a free one (default: 8484)")
    hub.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine only)")
    hub.add_argument(
        "--public-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name by which a Hub on loopback is asked for, as by a proxy of this machine; it answers to no others",
    )
    hub.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="the token in it is accepted for the user 'slipway'; if there is no such file, it is written",
    )
    hub.add_argument(
        "--run-spaces",
        action="store_true",
        help="run the Spaces: whoever may write here then runs code on this machine, as you, without a sandbox",
    )
    hub.add_argument(
        "--largest-file", type=float, metavar="GB", help="the largest file that uploads may bring (default: 500)"
    )
    hub.add_argument("--organisation", action="append", default=[], metavar="ORG", help="with `user`: a member of ORG")
    hub.add_argument("--leave", action="append", default=[], metavar="ORG", help="with `user`: no more a member of ORG")
    hub.add_argument(
        "--revoke", metavar="TOKEN|all", help="with `user`: take a token back, or all that the user has; makes none"
    )
    hub.add_argument("--create", action="store_true", help="with `user`: begin a Hub in DIR where there is none")
    hub.add_argument("--read-only", action="store_true", help="with `user`: a token that cannot write")
    hub.add_argument(
        "--grace",
        type=float,
        metavar="HOURS",
        help="with `gc`: leave what is younger, it may be part of an upload (default: 24)",
    )
    hub.add_argument("--dry-run", action="store_true", help="with `gc`: say what would be removed")
    hub.add_argument(
        "--set-aside", action="store_true", help="with `fsck`: move damaged content away, so that it can be sent again"
    )


def run_hub(args: argparse.Namespace) -> Result:
    """The command; serving returns when it is stopped."""
    actions = {"serve": _serve, "import": _import, "mirror": _mirror, "user": _user, "fsck": _fsck, "gc": _gc}
    if args.action in ("import", "user") and len(args.subject) != 1:
        raise UsageError(f"hub {args.action} needs one {'FOLDER' if args.action == 'import' else 'NAME'}")
    _require_own_options(args)
    return actions[str(args.action)](args)


def _require_own_options(args: argparse.Namespace) -> None:
    """Raises UsageError for an option that the action would not read: who gave it meant something by it."""
    for option, action in OF_ACTION.items():
        if getattr(args, option) not in (None, False, []) and args.action != action:
            name = f"--{'from' if option == 'source' else option.replace('_', '-')}"
            raise UsageError(
                f"{name} is an option of `hub{'' if action == 'serve' else f' {action}'}`",
                found=f"hub {args.action} with {name}",
                next_step=f"leave {name} out",
            )


def _serve(args: argparse.Namespace) -> Result:
    from release.local_hub.server import serve  # starlette and uvicorn take a moment to import
    from release.local_hub.store import LARGEST_FILE, Store

    _require_no_subject(args)
    if args.largest_file is not None and not 0 < args.largest_file < 1e6:
        raise UsageError("--largest-file is a number of GB above 0", found=f"{args.largest_file:g}")
    limit = LARGEST_FILE if args.largest_file is None else int(args.largest_file * 1e9)
    store, file = Store(args.root, largest_file=limit), args.token_file
    accept = partial(_accept_token_file, file, store) if file else None
    serve(store, args.host, args.port, run_spaces=args.run_spaces, names=args.public_host, listening=accept)
    return {"summary": "the Hub has stopped", "root": str(args.root)}


def _require_no_subject(args: argparse.Namespace) -> None:
    if args.subject:
        raise UsageError(
            f"unknown argument {args.subject[0]!r}", expected="hub, hub import FOLDER, hub mirror ID or hub user NAME"
        )


def _accept_token_file(file: Path, store: Store, user: str = "slipway") -> None:
    if store.accounts.kind_of(user) is None:
        store.accounts.create_user(user)
    if file.exists():
        token = file.read_text().strip()
        if len(token) < 8:
            raise UsageError("the token file does not hold a token", where=str(file), expected="at least 8 characters")
        store.accounts.accept_token(user, token, name=OF_FILE, instead=True)
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as opened:
        opened.write(store.accounts.create_token(user, name=OF_FILE) + "\n")


def _import(args: argparse.Namespace) -> Result:
    from release.local_hub.store import Store

    imported = Store(args.root).import_folder(Path(args.subject[0]))
    listed = "".join(f"\n  {name}" for name in imported)
    return {
        "summary": f"imported {counted(len(imported), 'repository', 'repositories')}{listed}",
        "imported": imported,
        "root": str(args.root),
    }


def _mirror(args: argparse.Namespace) -> Result:
    from release.hub_client import HubClient
    from release.local_hub.mirror_hub import mirror, source_id
    from release.local_hub.store import Store

    if not args.subject or not args.source:
        raise UsageError(
            "hub mirror needs the ids of repositories, and the Hub that has them",
            expected="hub mirror [datasets/|spaces/]ORG/NAME ... --from ENDPOINT --root DIR",
        )
    for named in args.subject:
        source_id(named)
    quiet_libraries()
    store, source = Store(args.root), HubClient.connect(args.source.rstrip("/"))
    done = [mirror(store, source, named) for named in args.subject]
    lines = [
        f"{one.repository}: {counted(one.refs, 'branch or tag', 'branches and tags')}, {counted(one.commits, 'commit')} and "
        f"{counted(one.files, 'file')} ({one.size:,} bytes) copied"
        for one in done
    ]
    return {"summary": "\n".join(lines), "mirrored": [asdict(one) for one in done], "root": str(args.root)}


def _user(args: argparse.Namespace) -> Result:
    from release.local_hub.store import Store

    if not args.create and not (args.root / "store.json").is_file():
        raise UsageError(
            "there is no Hub, so nobody would know this user",
            where=str(args.root),
            expected="the folder that `hub --root` serves",
            found="a folder without a Hub" if args.root.is_dir() else "no such folder",
            next_step="correct --root, or give --create to begin a Hub there",
        )
    store, name = Store(args.root), str(args.subject[0])
    if args.revoke or args.leave:
        return _take_back(store, name, args)
    if store.accounts.kind_of(name) is None:
        store.accounts.create_user(name)
    for organisation in args.organisation:
        if store.accounts.kind_of(organisation) is None:
            store.create_organisation(organisation)
        store.accounts.add_member(organisation, name)
    token = store.create_token(name, "read" if args.read_only else "write")
    return {"summary": token, "user": name, "token": token, "organisations": list(args.organisation)}


def _take_back(store: Store, name: str, args: argparse.Namespace) -> Result:
    """Tokens and memberships; the next request is already answered without them."""
    if args.organisation or args.read_only:
        raise UsageError(
            "--revoke and --leave take back, --organisation and --read-only give", next_step="use two calls"
        )
    accounts, revoked = store.accounts, 0
    for organisation in args.leave:
        accounts.remove_member(organisation, name)
    if args.revoke == "all":
        revoked = accounts.revoke_all(name)
    elif args.revoke:
        caller = accounts.caller(args.revoke)
        if caller is None or (caller.user or "").lower() != name.lower():
            raise UsageError(f"this is no token of {name}", next_step="give one of theirs, or --revoke all")
        revoked = int(accounts.revoke_token(args.revoke))
    left = f", left {', '.join(args.leave)}" if args.leave else ""
    said = f"{counted(revoked, 'token')} of {name} revoked{left}"
    return {"summary": said, "user": name, "revoked": revoked, "left": list(args.leave)}


def _fsck(args: argparse.Namespace) -> Result:
    from release.local_hub.fsck import check, how_to_mend, set_aside

    _require_no_subject(args)
    damages = check(args.root)
    moved = set_aside(args.root, damages) if args.set_aside else []
    result: Result = {
        "root": str(args.root),
        "damages": [asdict(damage) for damage in damages],
        "set_aside": moved,
    }
    if not damages:
        return {"summary": f"{args.root} is whole", **result}
    lines = [f"{damage.where}: {damage.what}" + "".join(f"\n    {use}" for use in damage.affects) for damage in damages]
    error = VerificationMismatch(
        f"{counted(len(damages), 'thing')} {are(len(damages))} broken in this Hub\n  " + "\n  ".join(lines),
        where=str(args.root),
        next_step=how_to_mend(damages, moved),
    )
    log(f"error: {error.render()}")
    return {"summary": "", **result, "error": error.as_dict(), "exit_code": error.exit_code}


def _gc(args: argparse.Namespace) -> Result:
    from release.local_hub.collect import collect, describe
    from release.local_hub.store import Store

    _require_no_subject(args)
    if not (args.root / "store.json").is_file():
        raise UsageError("there is no Hub", where=str(args.root), expected="the folder that `hub --root` was given")
    hours = GRACE_HOURS if args.grace is None else args.grace
    if hours < 0:
        raise UsageError("--grace cannot be negative", found=f"{hours:g}")
    done = collect(Store(args.root), grace=hours * 3600, dry_run=args.dry_run)
    return {"summary": describe(done, dry_run=args.dry_run), "dry_run": args.dry_run, **asdict(done)}
