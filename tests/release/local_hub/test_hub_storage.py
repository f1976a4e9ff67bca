"""The store on disk: atomic, shared between processes, and intact after a kill or a full disk."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd
from huggingface_hub.errors import HfHubHTTPError

from release.local_hub.collections import Collections
from release.local_hub.discussions import open_discussion
from release.local_hub.fsck import check
from release.local_hub.refusals import Conflict, StaleParent
from release.local_hub.repository import MAIN
from release.local_hub.storage import ABANDONED_AFTER, BlobWriter
from release.local_hub.store import Store
from release.local_hub.tree import Put, regular

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


def commit(repository, number: int, parent: str | None = None):
    """A commit of two files that belong together."""
    changes = [Put(name, regular(repository.blobs, f"{number}".encode())) for name in ("a.txt", "b.txt")]
    return repository.commit(MAIN, changes, author="slipway", title=str(number), parent=parent)


def assert_whole(repository) -> int:
    """Both files of the newest commit are there and of the same commit; its number."""
    newest = repository.resolve("main")
    contents = {repository.blobs.read(newest.tree[name].sha256) for name in ("a.txt", "b.txt")}
    assert contents == {newest.title.encode()}
    return int(newest.title)


def test_content_is_stored_once_under_its_hash(tmp_path):
    store = Store(tmp_path)
    one, two = store.blobs.add(b"hello"), store.blobs.add(b"hello")
    assert one == two
    assert one.sha256 == hashlib.sha256(b"hello").hexdigest()
    assert len([file for file in (tmp_path / "blobs").rglob("*") if file.is_file()]) == 1
    assert list((tmp_path / "incoming").iterdir()) == []


def test_a_write_that_fails_leaves_nothing(tmp_path):
    store = Store(tmp_path)
    with store.blobs.writer() as writer:
        writer.write(b"half")  # and no finish(), as after an error
    assert [file for file in tmp_path.rglob("*") if file.is_file() and file.read_bytes() == b"half"] == []


def test_of_many_commits_on_one_parent_exactly_one_wins(tmp_path):
    store = Store(tmp_path)
    repository = store.create_repository("model", "slipway/demo", "slipway")
    parent, outcomes = repository.resolve("main").oid, []

    def attempt(number: int) -> None:
        try:
            commit(repository, number, parent)
            outcomes.append("won")
        except StaleParent:
            outcomes.append("stale")

    threads = [threading.Thread(target=attempt, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["stale"] * 7 + ["won"]
    assert len(list(repository.history(repository.resolve("main").oid))) == 2


WRITER = """
import sys
from pathlib import Path
from release.local_hub.repository import MAIN
from release.local_hub.store import Store
from release.local_hub.tree import Put, regular
repository = Store(Path(sys.argv[1])).find("model", "slipway/demo")
start, count = int(sys.argv[2]), int(sys.argv[3])
for number in range(start, start + count):
    changes = [Put(name, regular(repository.blobs, f"{number}".encode())) for name in ("a.txt", "b.txt")]
    repository.commit(MAIN, changes, author="slipway", title=str(number))
    print(number, flush=True)
"""


def start_writer(root: Path, start: int, count: int) -> subprocess.Popen[str]:
    here = Path(__file__).resolve().parents[3]
    command = [sys.executable, "-c", WRITER, str(root), str(start), str(count)]
    return subprocess.Popen(command, cwd=here, stdout=subprocess.PIPE, text=True)


def test_commits_of_several_processes_are_all_kept(tmp_path):
    repository = Store(tmp_path).create_repository("model", "slipway/demo", "slipway")
    writers = [start_writer(tmp_path, start, 12) for start in (100, 200, 300)]
    for writer in writers:
        with writer:
            assert writer.wait(timeout=60) == 0
    titles = [found.title for found in repository.history(repository.resolve("main").oid)]
    assert sorted(titles[:-1]) == sorted(str(start + number) for start in (100, 200, 300) for number in range(12))


def test_a_kill_at_any_moment_leaves_the_old_commit_or_the_new_one(tmp_path):
    repository = Store(tmp_path).create_repository("model", "slipway/demo", "slipway")
    commit(repository, 1)
    for attempt in range(6):
        with start_writer(tmp_path, 1000 * (attempt + 1), 100_000) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(0.004 * attempt)
            writer.send_signal(signal.SIGKILL)
            printed = writer.stdout.read().split()
        seen = assert_whole(Store(tmp_path).find("model", "slipway/demo"))
        assert seen >= max(int(number) for number in [*printed, "0"]), "what was acknowledged is there"
        commit(repository, 500 + attempt)  # and the next writer needs no repair


def test_readers_never_see_half_a_commit(tmp_path):
    repository = Store(tmp_path).create_repository("model", "slipway/demo", "slipway")
    commit(repository, 1)
    with start_writer(tmp_path, 2, 60) as writer:
        while writer.poll() is None:
            assert_whole(repository)
    assert assert_whole(repository) == 61


def test_unfinished_uploads_are_swept_only_when_they_are_old(tmp_path):
    store = Store(tmp_path)
    old, young = store.blobs.incoming / "old", store.blobs.incoming / "young"
    old.touch()
    young.touch()
    long_ago = time.time() - ABANDONED_AFTER - 1
    os.utime(old, (long_ago, long_ago))
    store.blobs.sweep()
    assert (old.exists(), young.exists()) == (False, True)


def test_a_store_of_another_format_is_refused(tmp_path):
    from training.errors import UsageError

    (tmp_path / "store.json").write_text('{"uuid": "x", "format": 99}')
    with pytest.raises(UsageError, match="another version"):
        Store(tmp_path)


def test_a_full_disk_answers_507_and_leaves_the_store_intact(api, hub, monkeypatch):
    api.create_repo("slipway/demo")
    before = api.model_info("slipway/demo").sha
    write = BlobWriter.write

    def full(self: BlobWriter, data: bytes) -> None:
        write(self, data[:1])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(BlobWriter, "write", full)
        with pytest.raises(HfHubHTTPError, match="507"):
            api.create_commit("slipway/demo", [CommitOperationAdd("a.txt", b"1")], commit_message="1")
        with pytest.raises(RuntimeError) as caught:
            api.create_commit("slipway/demo", [CommitOperationAdd("w.bin", io.BytesIO(b"\0"))], commit_message="1")
        assert "507" in str(caught.value.__cause__)
    assert list(hub.store.blobs.incoming.iterdir()) == []
    assert api.model_info("slipway/demo").sha == before
    api.create_commit("slipway/demo", [CommitOperationAdd("a.txt", b"1")], commit_message="1", parent_commit=before)


def test_importing_again_commits_only_what_changed(tmp_path):
    source = tmp_path / "mirror" / "datasets" / "Org" / "data"
    source.mkdir(parents=True)
    (source / "train.jsonl").write_text('{"a": 1}\n')
    (source / "old.bin").write_bytes(b"\0\1")
    store = Store(tmp_path / "hub")
    assert store.import_folder(tmp_path / "mirror") == ["dataset Org/data"]
    repository = store.find("dataset", "org/DATA")
    assert repository is not None
    first = repository.resolve("main")
    assert (first.tree["train.jsonl"].lfs, first.tree["old.bin"].lfs) == (False, True)
    store.import_folder(tmp_path / "mirror")
    assert repository.resolve("main").oid == first.oid
    (source / "old.bin").unlink()
    (source / "test.jsonl").write_text('{"a": 2}\n')
    store.import_folder(tmp_path / "mirror")
    assert sorted(repository.resolve("main").tree) == ["test.jsonl", "train.jsonl"]
    assert repository.resolve("main").parent == first.oid


def test_of_many_moves_of_one_repository_one_wins_and_it_has_one_name(tmp_path):
    store = Store(tmp_path)
    store.create_user("slipway")
    moved = store.create_repository("model", "slipway/old", author="slipway")
    refused = []

    def move(number: int) -> None:
        try:
            Store(tmp_path).move_repository(moved, f"slipway/new-{number}")
        except Conflict as error:
            refused.append(error)

    threads = [threading.Thread(target=move, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 3
    [one] = store.repositories("model")
    assert store.find("model", "slipway/old").id == one.id
    assert check(tmp_path) == []


@pytest.mark.parametrize("killed", ["before its moment", "after it"])
def test_a_move_that_was_broken_off_leaves_one_name_and_the_other_is_free(tmp_path, killed):
    store = Store(tmp_path)
    store.create_user("slipway")
    repository = store.create_repository("model", "slipway/old", author="slipway")
    names = tmp_path / "names" / "models" / "slipway"
    old = (names / "old.json").read_bytes()
    store.move_repository(repository, "slipway/new")
    (names / "old.json").write_bytes(old)  # its last step was not taken
    if killed == "before its moment":
        (repository.folder / "name.json").write_text('{"id": "slipway/old"}')
    current, other = ("old", "new") if killed == "before its moment" else ("new", "old")
    assert [one.id for one in store.repositories("model")] == [f"slipway/{current}"]
    assert store.find("model", f"slipway/{other}").id == f"slipway/{current}"
    assert check(tmp_path) == []
    store.create_repository("model", f"slipway/{other}", author="slipway")
    assert {one.id for one in store.repositories("model")} == {"slipway/old", "slipway/new"}


def test_a_repository_under_two_names_is_damage_and_a_name_without_one_is_free(tmp_path):
    store = Store(tmp_path)
    store.create_user("slipway")
    repository = store.create_repository("model", "slipway/one", author="slipway")
    names = tmp_path / "names" / "models" / "slipway"
    (names / "two.json").write_text(json.dumps({"id": "slipway/two", "folder": repository.folder.name}))
    assert [damage.what for damage in check(tmp_path)] == ["its repository is model slipway/one as well"]
    store.delete_repository(repository)
    assert store.create_repository("model", "slipway/two", author="slipway").id == "slipway/two"


def test_the_folder_of_a_new_hub_is_its_owners_alone(tmp_path):
    Store(tmp_path / "above" / "hub")
    assert stat.S_IMODE((tmp_path / "above" / "hub").stat().st_mode) == 0o700
    (tmp_path / "shared").mkdir(mode=0o755)
    Store(tmp_path / "shared")
    assert stat.S_IMODE((tmp_path / "shared").stat().st_mode) == 0o755, "a folder that was there stays as it was made"


def test_every_folder_that_is_made_is_synced_into_the_one_above_it(tmp_path, monkeypatch):
    made, synced = [], set()
    make, sync = Path.mkdir, os.fsync

    def mkdir(path: Path, *args: object, **options: object) -> None:
        if not path.is_dir():
            made.append(path)
        make(path, *args, **options)

    def fsync(descriptor: int) -> None:
        synced.add(Path(f"/proc/self/fd/{descriptor}").readlink())
        sync(descriptor)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    monkeypatch.setattr(os, "fsync", fsync)
    store = Store(tmp_path / "hub")
    for kind, name in (("model", "slipway/demo"), ("dataset", "other/rows")):
        synced -= {tmp_path / "hub" / "repositories"}
        repository = store.create_repository(kind, name, "slipway")
        assert tmp_path / "hub" / "repositories" in synced
    store.move_repository(repository, "third/rows")
    open_discussion(repository, "slipway", "Hello", "there", pull_request=False)
    Collections(store.root).create("slipway", "Family", None, private=False)
    names = {path.relative_to(tmp_path / "hub").parts[0] for path in made if path != tmp_path / "hub"}
    assert {"blobs", "incoming", "repositories", "names", "collections"} <= names
    assert {path.parent for path in made} <= synced
