"""What a commit or a pull request changes: the right lines, against the right base, and in bounded time."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commit_operations import add
from huggingface_hub import CommitOperationDelete

from release.local_hub.line_diff import Effort, TooLarge, changed_blocks, unified

REPO = "slipway/demo"


def words(seed: int, count: int) -> str:
    """Lines of two letters, of which none is rare: what difflib takes minutes for."""
    pick = random.Random(seed)
    return "\n".join(f"{pick.randrange(120):02}" for _ in range(count))


def patched(folder: Path, old: dict[str, str], diff: str) -> dict[str, str]:
    """The files after `git apply`."""
    folder.mkdir()
    for name, text in old.items():
        (folder / name).write_bytes(text.encode())
    git = shutil.which("git")
    assert git is not None
    subprocess.run([git, "init", "-q"], cwd=folder, check=True)
    subprocess.run([git, "apply", "-"], cwd=folder, input=diff.encode(), check=True)
    return {path.name: path.read_bytes().decode() for path in folder.iterdir() if path.is_file()}


def test_a_diff_keeps_as_many_lines_as_there_can_be_kept() -> None:
    pick = random.Random(1)
    for _ in range(300):
        old, new = ([f"{pick.randrange(6)}\n" for _ in range(pick.randrange(20))] for _ in range(2))
        made, kept, at = [], 0, 0
        for first, second, third, fourth in changed_blocks(old, new, Effort()):
            made += old[at:first] + new[third:fourth]
            kept += first - at
            at = second
        assert made + old[at:] == new
        table = [[0] * (len(new) + 1) for _ in range(len(old) + 1)]
        for i, one in enumerate(old):
            for j, other in enumerate(new):
                table[i + 1][j + 1] = table[i][j] + 1 if one == other else max(table[i][j + 1], table[i + 1][j])
        assert kept + len(old) - at == table[-1][-1]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", "a\nb\n"),
        ("a\nb\n", ""),
        ("a\nb", "a\nb\n"),
        ("a\r\nb\x0cc\u2028d\n", "a\r\nb\x0cc\u2028e\n"),
        ("".join(f"{n}\n" for n in range(40)), "".join(f"{n}\n" for n in range(40) if n not in (3, 9, 30))),
    ],
    ids=["all added", "all removed", "a newline at the end", "odd ends of lines", "several hunks"],
)
def test_git_applies_the_diff(old: str, new: str, tmp_path: Path) -> None:
    lines = unified(old, new, Effort())
    if old and new:
        head = ["diff --git a/f b/f", "--- a/f", "+++ b/f"]
        assert patched(tmp_path / "f", {"f": old}, "\n".join([*head, *lines, ""]))["f"] == new
    else:
        assert lines == [f"@@ -{'0,0 +1,2' if new else '1,2 +0,0'} @@", *(f"{'+' if new else '-'}{x}" for x in "ab")]


def test_texts_of_which_a_diff_would_take_minutes_are_too_large() -> None:
    with pytest.raises(TooLarge):
        unified(words(1, 66_000), words(2, 66_000), Effort())
    far = [f"line {n}\n" for n in range(60_000)]
    changed = [f"new {n}\n" if n % 200 == 0 else line for n, line in enumerate(far)]
    assert len(unified("".join(far), "".join(changed), Effort())) == 300 * 9 - 3


def test_the_page_of_a_commit_says_what_it_does_not_show(api: Any, ask: Any) -> None:
    api.create_repo(REPO)
    pages = []
    for seed in (1, 2):
        files = {"big.txt": words(seed, 60_000), "bytes.dat": "x" * 600 + f"{seed}\xff", "small.txt": f"is {seed}\n"}
        operations = [add(path, text.encode("latin-1")) for path, text in files.items()]
        pages.append(api.create_commit(REPO, operations, commit_message="x").oid)
    page = ask("GET", f"/{REPO}/commit/{pages[1]}").body.decode()
    assert "too large to show" in page
    assert "not text" in page
    assert "-is 1" in page
    assert "+is 2" in page


def test_the_diff_of_a_pull_request_is_gits_against_where_it_left_main(api: Any, tmp_path: Path) -> None:
    api.create_repo(REPO)
    old = {"a.txt": "one\ntwo\nthree\n", "gone.txt": "gone\n"}
    api.create_commit(REPO, [add(path, text.encode()) for path, text in old.items()], commit_message="x")
    changes = [add("a.txt", b"one\n2\nthree\n"), add("new.txt", b"new"), CommitOperationDelete("gone.txt")]
    number = api.create_commit(REPO, changes, commit_message="PR", create_pr=True).pr_num
    api.create_commit(REPO, [add("later.txt", b"later\n")], commit_message="main goes on")
    for folder in ("open", "merged"):
        diff = api.get_discussion_details(REPO, number).diff
        assert "later.txt" not in diff
        assert "@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n" in diff
        assert "new file mode 100644" in diff
        assert "deleted file mode 100644" in diff
        found = patched(tmp_path / folder, old, diff)
        assert found == {"a.txt": "one\n2\nthree\n", "new.txt": "new"}
        if folder == "open":
            api.merge_pull_request(REPO, number)


def test_who_was_not_let_in_gets_no_lines_of_a_gated_repositorys_diff(
    hub: Any, api: Any, client: Callable[[str | bool], Any]
) -> None:
    api.create_repo(REPO)
    number = api.create_commit(REPO, [add("a.txt", b"hidden words")], commit_message="PR", create_pr=True).pr_num
    assert "+hidden words" in api.get_discussion_details(REPO, number).diff
    api.update_repo_settings(REPO, gated="manual")
    diff = client(hub.store.create_user("stranger")).get_discussion_details(REPO, number).diff
    assert "hidden" not in diff
    assert "a/a.txt b/a.txt" in diff
    assert "+hidden words" in api.get_discussion_details(REPO, number).diff
