"""`hub mirror` from a Hub that lists what no Hub lists: nothing is written outside of the root, and the command says why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hostile_source import GIT_ID, OID, Listed, file_entry, hostile_source

from release.__main__ import main
from release.local_hub.fsck import check
from release.local_hub.refusals import RevisionNotFound
from release.local_hub.store import Store


def mirror(listed: Listed, folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    with hostile_source(listed) as endpoint:
        code = main(["hub", "mirror", "org/m", "--from", endpoint, "--root", str(folder / "a" / "root"), "--json"])
    return code, json.loads(capsys.readouterr().out)


def outside(folder: Path) -> list[Path]:
    root = folder / "a" / "root"
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_relative_to(root))


@pytest.mark.parametrize(
    "listed",
    [
        Listed(oid="../../../../evil"),
        Listed(oid="A" * 40),
        Listed(branch="../../x"),
        Listed(branch="a..b"),
        Listed(branch="\ud800"),
        Listed(repo_id="../evil"),
        Listed(repo_id="org/../x"),
        Listed(title="\ud800"),
        Listed(title=["t"]),
        Listed(gated={"a": 1}),
        Listed(tree=[file_entry(path="../../../evil.txt")]),
        Listed(tree=[file_entry(path="/etc/passwd")]),
        Listed(tree=[file_entry(path=".git/config")]),
        Listed(tree=[file_entry(oid="../evil")]),
        Listed(tree=[file_entry(size="4")]),
        Listed(tree=[file_entry(size=-1)]),
        Listed(tree=[file_entry(size=1 << 60)]),
        Listed(tree=[file_entry(lfs={"oid": "../../../evil", "size": 4, "pointerSize": 1})]),
        Listed(tree=[file_entry(size=5)]),
        Listed(etag='"../../../../../../evil"'),
        Listed(etag='"..%s"' % ("/.." * 3)),
    ],
    ids=lambda listed: ascii({key: value for key, value in vars(listed).items() if vars(Listed())[key] != value})[:60],
)
def test_a_source_that_lists_what_no_hub_lists_is_refused_and_writes_nothing_outside_of_the_root(
    listed: Listed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = mirror(listed, tmp_path, capsys)
    assert code == 4, said
    assert outside(tmp_path) == []
    assert said["error"]["found"]
    assert check(tmp_path / "a" / "root") == []
    found = Store(tmp_path / "a" / "root").find("model", "org/m")
    assert found is None or found.refs() == {}


def test_the_same_source_without_it_is_copied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = mirror(Listed(), tmp_path, capsys)
    assert code == 0, said
    found = Store(tmp_path / "a" / "root").find("model", "org/m")
    assert found is not None
    assert found.refs() == {"refs/heads/main": OID}
    assert found.resolve("main").tree["a.txt"].oid == GIT_ID
    assert check(tmp_path / "a" / "root") == []


@pytest.mark.parametrize("oid", ["../../../evil", "/etc/passwd", "", "a" * 39, "a" * 40 + "\n"])
def test_a_repository_takes_no_commit_whose_id_is_not_one(oid: str, tmp_path: Path) -> None:
    store = Store(tmp_path / "a" / "root")
    store.create_user("u")
    repository = store.create_repository("model", "u/m", "u")
    for attempt in (
        lambda: repository.take_in(oid, None, "u", "2026-01-01T00:00:00.000Z", "t", "", {}),
        lambda: repository.commit_of(oid),
        lambda: repository.create_ref("refs/heads/x", oid),
        lambda: repository.resolve(oid),
    ):
        with pytest.raises(RevisionNotFound):
            attempt()
    assert outside(tmp_path) == []
