"""What a commit or a pull request changes in its files: as lines for a page, and as git's own diff for clients.

    diffs = FileDiffs(blobs)
    diffs.of(old, new).lines                            # ["@@ -1 +1 @@", "-a", "+b"]
    git_diff(blobs, before, changed)                    # "diff --git a/a.txt b/a.txt\\nindex ..."

An answer reads and compares a bounded amount, whatever the files are; of what is beyond it, only the names are told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from release.local_hub.line_diff import STEPS, Effort, TooLarge, unified
from release.local_hub.storage import Blobs, pointer_of
from release.local_hub.tree import Entry, Tree

FILE_LIMIT = 200 << 10  # bytes of a file whose changes are shown
ANSWER_LIMIT = 4 << 20  # bytes of all of them
FILES_LIMIT = 500
TOO_LARGE, NOT_TEXT, LOST = "too large to show", "not text", "not on this Hub any more"
_NOTHING = "0" * 40


@dataclass(frozen=True)
class FileDiff:
    """Hunks, or why there are none."""

    lines: tuple[str, ...] = ()
    why: str | None = None


class FileDiffs:
    """The diffs of one answer. `pointers`: large files are compared as the git LFS pointers that git has of them."""

    def __init__(self, blobs: Blobs, *, pointers: bool = False) -> None:
        self.blobs, self.pointers = blobs, pointers
        self.steps_left, self.bytes_left, self.files_left = STEPS, ANSWER_LIMIT, FILES_LIMIT

    def of(self, old: Entry | None, new: Entry | None) -> FileDiff:
        entries = [entry for entry in (old, new) if entry is not None]
        if not self.pointers and any(entry.lfs for entry in entries):
            return FileDiff()
        read = [entry for entry in entries if not entry.lfs]
        self.files_left -= 1
        self.bytes_left -= sum(entry.size for entry in read if entry.size <= FILE_LIMIT)
        if self.files_left < 0 or self.bytes_left < 0 or any(entry.size > FILE_LIMIT for entry in read):
            return FileDiff(why=TOO_LARGE)
        if not all(self.blobs.has(entry.sha256, entry.size) for entry in read):
            return FileDiff(why=LOST)
        texts = [self._text(entry) for entry in (old, new)]
        if texts[0] is None or texts[1] is None:
            return FileDiff(why=NOT_TEXT)
        share = min(self.steps_left, STEPS // 4)  # one file does not take all
        effort = Effort(share)
        try:
            return FileDiff(tuple(unified(texts[0], texts[1], effort)))
        except TooLarge:
            return FileDiff(why=TOO_LARGE)
        finally:
            self.steps_left -= share - max(0, effort.steps)

    def _text(self, entry: Entry | None) -> str | None:
        """None for what is not text."""
        if entry is None:
            return ""
        content = pointer_of(entry.sha256, entry.size) if entry.lfs else self.blobs.read(entry.sha256)
        try:
            return None if b"\0" in content else content.decode()
        except UnicodeDecodeError:
            return None


def git_diff(blobs: Blobs, before: Tree, changed: Mapping[str, Entry | None], *, barred: bool = False) -> str:
    """What `git diff` prints for these changes; `barred`: for who may not have the files, only which they are."""
    diffs, lines = FileDiffs(blobs, pointers=True), list[str]()
    for path, new in changed.items():
        old = before.get(path)
        lines += [f"diff --git a/{path} b/{path}"]
        if old is None or new is None:
            lines += [f"{'new' if old is None else 'deleted'} file mode 100644"]
        ids = [entry.oid if entry else _NOTHING for entry in (old, new)]
        lines += [f"index {ids[0]}..{ids[1]}" + (" 100644" if old and new else "")]
        diff = FileDiff() if barred else diffs.of(old, new)
        names = [f"{side}/{path}" if entry else "/dev/null" for side, entry in (("a", old), ("b", new))]
        if diff.lines:
            lines += [f"--- {names[0]}", f"+++ {names[1]}", *diff.lines]
        elif diff.why == NOT_TEXT:
            lines += [f"Binary files {names[0]} and {names[1]} differ"]
        elif diff.why:
            lines += [f"# {diff.why}"]
    return "".join(f"{line}\n" for line in lines)
