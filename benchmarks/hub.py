"""How fast the embedded Hub is beside copying a file and hashing it, and how much memory its server takes.

    python benchmarks/hub.py --megabytes 1024
    python benchmarks/hub.py --megabytes 256 --root /dev/shm

The Hub is a process of its own, started as `python -m release hub`; the client is huggingface_hub. A file by its path
travels over Xet, an open file over git LFS. The server's peak memory is the kernel's VmHWM, set back before each transfer. All
files are random and lie in a temporary folder under `--root`, so that both ends share one disk.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
ROOT = Path(__file__).resolve().parents[1]
REPO = "slipway/speed"
BLOCK = 1 << 20
READERS = 50


@dataclass(frozen=True)
class Hub:
    endpoint: str
    token: str
    pid: int

    def peak(self) -> float:
        """The server's peak memory since `forget_peak`, in MB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found
        return int(found.group(1)) / 1e3

    def processor(self) -> float:
        """Seconds that the server has computed."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def forget_peak(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")


@contextmanager
def serving(folder: Path) -> Iterator[Hub]:
    """The Hub in a process of its own."""
    token = folder / "token"
    command = [
        sys.executable,
        "-m",
        "release",
        "hub",
        "--root",
        str(folder / "hub"),
        "--port",
        "0",
        "--token-file",
        str(token),
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"http://\S+:\d+", process.stdout.readline())
        assert found
        try:
            yield Hub(found.group(), token.read_text().strip(), process.pid)
        finally:
            process.terminate()
            process.communicate()


def timed(action: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def row(hub: Hub, name: str, action: Callable[[], Any], alone: float | None = None) -> None:
    """Do it, and print a line of the table."""
    hub.forget_peak()
    before, server, client = hub.peak(), hub.processor(), time.process_time()
    seconds = timed(action)
    times = "" if alone is None else f"{seconds / alone:.1f}"
    client, server = time.process_time() - client, hub.processor() - server
    memory = f"{before:.0f} to {hub.peak():.0f} MB"
    print(f"| {name} | {seconds:.2f} | {times} | {client:.2f} | {server:.2f} | {memory} |", flush=True)


def write_random(path: Path, megabytes: int) -> Path:
    with path.open("wb") as file:
        for _ in range(megabytes):
            file.write(os.urandom(BLOCK))
        file.flush()
        os.fsync(file.fileno())
    return path


def hashed(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copy_and_hash(source: Path, target: Path) -> None:
    """What any transfer must at least do: write every byte durably, and hash it."""
    digest = hashlib.sha256()
    with source.open("rb") as reading, target.open("wb") as writing:
        while block := reading.read(BLOCK):
            digest.update(block)
            writing.write(block)
        writing.flush()
        os.fsync(writing.fileno())
    target.unlink()


def transfers(api: Any, hub: Hub, folder: Path, megabytes: int) -> None:
    """One file up over both ways and down again, beside copying and hashing it."""
    from huggingface_hub import CommitOperationAdd, hf_hub_download

    source = write_random(folder / "source.bin", megabytes)
    client = time.process_time()
    alone = timed(lambda: copy_and_hash(source, folder / "copy.bin"))
    client = time.process_time() - client
    print(f"| {megabytes} MB copied and hashed | {alone:.2f} | 1.0 | {client:.2f} | | |", flush=True)

    def over_xet() -> None:
        api.upload_file(path_or_fileobj=str(source), path_in_repo="xet.bin", repo_id=REPO)

    def over_lfs() -> None:
        # Other bytes, or the Hub would say that it has them.
        with source.open("r+b") as file:
            file.write(os.urandom(BLOCK))
        with source.open("rb") as file:
            api.create_commit(REPO, [CommitOperationAdd("lfs.bin", file)], commit_message="LFS")

    downloaded: list[str] = []

    def down() -> None:
        file = hf_hub_download(
            REPO, "lfs.bin", endpoint=hub.endpoint, token=hub.token, cache_dir=folder / "cache", force_download=True
        )
        downloaded.append(hashed(Path(file)))

    for name, action in (("up over Xet", over_xet), ("up over LFS", over_lfs), ("down and hashed", down)):
        row(hub, f"{megabytes} MB {name}", action, alone)
    assert downloaded == [hashed(source)]
    shutil.rmtree(folder / "cache")
    source.unlink()


def small_files(api: Any, hub: Hub, count: int) -> None:
    from huggingface_hub import CommitOperationAdd

    operations = [
        CommitOperationAdd(f"small/{number:04}.txt", os.urandom(100).hex().encode()) for number in range(count)
    ]
    row(
        hub, f"one commit of {count:,} small files", lambda: api.create_commit(REPO, operations, commit_message="Small")
    )


def readers(api: Any, hub: Hub) -> None:
    """Fifty readers of a file of 1 MB, over and over, while a commit of 20 files is made."""
    from huggingface_hub import CommitOperationAdd

    api.create_commit(REPO, [CommitOperationAdd("read.bin", os.urandom(BLOCK))], commit_message="To read")
    address, ended = f"{hub.endpoint}/{REPO}/resolve/main/read.bin", threading.Event()
    waits: list[float] = []
    wrong: list[str] = []

    def read() -> None:
        while not ended.is_set():
            begin = time.perf_counter()
            try:
                with urllib.request.urlopen(address, timeout=60) as answer:
                    if len(answer.read()) != BLOCK:
                        wrong.append("a short answer")
            except OSError as error:
                wrong.append(str(error))
            waits.append(time.perf_counter() - begin)

    def publish(label: str) -> Callable[[], Any]:
        operations = [CommitOperationAdd(f"{label}/{number}.bin", os.urandom(BLOCK)) for number in range(20)]
        return lambda: api.create_commit(REPO, operations, commit_message=label)

    row(hub, "one commit of 20 files of 1 MB, alone", publish("alone"))
    threads = [threading.Thread(target=read) for _ in range(READERS)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    row(hub, f"the same beside {READERS} readers", publish("beside readers"))
    while time.perf_counter() - begin < 5:
        time.sleep(0.05)
    ended.set()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - begin
    waits.sort()
    print(
        f"\n{READERS} readers: {len(waits)} reads of 1 MB in {elapsed:.1f} s ({len(waits) / elapsed:.0f} MB/s), "
        f"median {waits[len(waits) // 2]:.2f} s, longest {waits[-1]:.2f} s, {len(wrong)} failed {wrong[:3]}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--megabytes", type=int, default=1024, help="the largest file; a quarter and a sixteenth come first"
    )
    parser.add_argument("--root", type=Path, help="where the temporary folder is made (default: the system's)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hub-speed-", dir=args.root) as name:
        folder = Path(name)
        os.environ["HF_HOME"] = str(folder / "home")
        from huggingface_hub import HfApi

        with serving(folder) as hub:
            api = HfApi(endpoint=hub.endpoint, token=hub.token)
            api.create_repo(REPO)
            print(
                "| what | seconds | times copying and hashing | client computed, s | server computed, s | server's memory |"
            )
            print("|---|---|---|---|---|---|")
            for size in (args.megabytes // 16, args.megabytes // 4, args.megabytes):
                transfers(api, hub, folder, size)
            small_files(api, hub, 1000)
            readers(api, hub)


if __name__ == "__main__":
    main()
