"""Does verification find every changed byte? Flip one bit of a random byte, anywhere in a release, and look.

    python benchmarks/thousand_bytes.py org/name@v1.0.0 --key slipway.pub --receipt runs/a/receipt.json
    python benchmarks/thousand_bytes.py org/name@v1.0.0 --cert-root root.pem --flips 300
    python benchmarks/thousand_bytes.py org/name@v1.0.0 --key slipway.pub --flips 60 --store runs/hub --store-flips 6

The release is downloaded once from HF_ENDPOINT. Each flip is made in that copy, the file is hashed again as `release verify`
hashes it (the others keep their hashes), all that verification holds against the hashes is held, and the byte is put back.
Files take turns, so that small ones are hit as often as the weights. There are three witnesses: the release's own plan.json
(nothing but the id), the signature, and the receipt. With `--store`, the folder of an embedded Hub, bytes are flipped in what
the Hub keeps, and the whole of `release verify` runs over the network.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

from release.__main__ import main as release
from release.bundle import files_of
from release.hub_client import HubClient
from release.hub_files import HUB_OWN_FILE
from release.records import Receipt
from release.signature import Trust
from release.signing_options import add_trust_options, must_have_signed
from release.verify import hold_bytes, parse_target, plan_in
from training.checkpoint import FileEntry
from training.command import log
from training.errors import EXIT_MISMATCH, VerificationMismatch
from training.records import sha256_of_file

Witness = Callable[[list[FileEntry]], set[str]]  # from the hashes of all files


def flip(file: Path, place: int, bit: int) -> None:
    """Change one bit in place; the same call puts it back."""
    with file.open("r+b") as opened:
        opened.seek(place)
        byte = opened.read(1)[0]
        opened.seek(place)
        opened.write(bytes([byte ^ (1 << bit)]))


def witnesses(
    snapshot: Path, repo_id: str, tag: str, trust: Trust | None, receipt: Receipt | None
) -> dict[str, Witness]:
    """name -> the files that it finds not to be as they were released."""

    def look(entries: list[FileEntry], trust: Trust | None, receipt: Receipt | None) -> set[str]:
        try:
            promise = receipt or plan_in(snapshot, str(snapshot), trust)
        except VerificationMismatch:
            return {"plan.json"}
        found = hold_bytes(snapshot, entries, promise, trust, repo_id, tag)
        return {finding.subject for finding in found if not finding.ok}

    known: dict[str, Witness] = {"the id alone": lambda entries: look(entries, None, None)}
    if trust is not None:
        known["signature"] = lambda entries: look(entries, trust, None)
    if receipt is not None:
        known["receipt"] = lambda entries: look(entries, None, receipt)
    return known


def in_the_download(snapshot: Path, known: dict[str, Witness], flips: int, seed: int) -> dict[str, dict[str, int]]:
    """file -> how often it was hit, and by whom that was found under the file's own name."""
    draw = random.Random(seed)
    whole = files_of(snapshot)
    files = [entry for entry in whole if entry.path != HUB_OWN_FILE and entry.size]
    for name, look in known.items():
        if wrong := look(whole):
            raise SystemExit(f"the release does not verify before anything was changed: {name} names {wrong}")
    table = {entry.path: {"flips": 0, **dict.fromkeys(known, 0)} for entry in files}
    for count in range(flips):
        entry = files[count % len(files)]
        place, bit = draw.randrange(entry.size), draw.randrange(8)
        flip(snapshot / entry.path, place, bit)
        again = FileEntry(path=entry.path, size=entry.size, sha256=sha256_of_file(snapshot / entry.path))
        entries = [again if one.path == entry.path else one for one in whole]
        table[entry.path]["flips"] += 1
        for name, look in known.items():
            table[entry.path][name] += entry.path in look(entries)
        flip(snapshot / entry.path, place, bit)
        if (count + 1) % 100 == 0:
            log(f"{count + 1} of {flips}")
    return table


def in_the_store(snapshot: Path, store: Path, words: list[str], flips: int, seed: int) -> dict[str, int]:
    """Flips in the Hub's own files, by the exit code of the whole command."""
    draw = random.Random(seed)
    files = [entry for entry in files_of(snapshot) if entry.path != HUB_OWN_FILE and entry.size]
    codes: dict[str, int] = {}
    for count in range(flips):
        entry = files[count * len(files) // flips]
        blob = next(
            (path for path in store.rglob("*") if path.is_file() and path.parent.name + path.name == entry.sha256), None
        )
        if blob is None:
            raise SystemExit(f"{store} does not keep {entry.path} as a file of its own")
        mode, place, bit = blob.stat().st_mode, draw.randrange(entry.size), draw.randrange(8)
        blob.chmod(0o644)
        flip(blob, place, bit)
        try:
            with redirect_stdout(sys.stderr):
                code = release(["verify", *words])
        finally:
            flip(blob, place, bit)
            blob.chmod(mode)
        codes[f"exit {code}"] = codes.get(f"exit {code}", 0) + 1
        if code != EXIT_MISMATCH:
            log(f"NOT FOUND: byte {place} of {entry.path}")
    return codes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", metavar="ORG/NAME@TAG")
    add_trust_options(parser)
    parser.add_argument("--receipt", type=Path)
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--store", type=Path, help="the folder of the embedded Hub")
    parser.add_argument("--store-flips", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    repo_id, tag = parse_target(args.target)
    hub = HubClient.connect()
    clock = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        cached = hub.download(repo_id, hub.resolve(repo_id, tag or "main"), Path(scratch) / "cache")
        snapshot = Path(shutil.copytree(cached, Path(scratch) / "release"))  # files, where the cache holds links
        receipt = Receipt.read(args.receipt) if args.receipt else None
        known = witnesses(snapshot, repo_id, tag or "", must_have_signed(args), receipt)
        table = in_the_download(snapshot, known, args.flips, args.seed)
        columns = ["flips", *known]
        print("| file | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
        for path, row in table.items():
            print(f"| {path} | " + " | ".join(str(row[column]) for column in columns) + " |")
        print("| all | " + " | ".join(str(sum(row[column] for row in table.values())) for column in columns) + " |")
        if args.store:
            words = [args.target]
            for name in ("key", "identity", "identity_provider", "trust_config"):
                words += [f"--{name.replace('_', '-')}", str(getattr(args, name))] if getattr(args, name) else []
            words += [f"--cert-root={file}" for file in args.cert_root]
            codes = in_the_store(snapshot, args.store, words, args.store_flips, args.seed)
            print(json.dumps({"flips in the store": args.store_flips, **codes}))
    print(f"{time.monotonic() - clock:.0f} s")


if __name__ == "__main__":
    main()
