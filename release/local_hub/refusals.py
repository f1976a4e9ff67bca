"""What the Hub refuses: an HTTP status with the Hub's own error code, which clients turn into their exceptions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


class Refusal(Exception):
    """An answer other than success. `code` goes to X-Error-Code, by which huggingface_hub chooses its exception."""

    def __init__(
        self, status: int, message: str, code: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.headers = status, message, code, dict(headers or {})


class RevisionNotFound(Refusal):
    def __init__(self, revision: str) -> None:
        super().__init__(404, f"Invalid rev id: {revision}", "RevisionNotFound")


class EntryNotFound(Refusal):
    """A missing file; the commit goes along because clients cache the absence for that commit."""

    def __init__(self, path: str, commit: str | None = None) -> None:
        super().__init__(
            404, f"Entry not found: {path}", "EntryNotFound", {"X-Repo-Commit": commit} if commit else None
        )


class ContentGone(Refusal):
    """Content that a commit names and this Hub has lost. 410, for clients try 408, 429 and 5xx again, and it will not come back
    by itself; and without EntryNotFound, by which they would take the file for one that was never there."""

    def __init__(self, what: str) -> None:
        message = f"The content of {what} is not on this Hub any more, though its commits name it; send the file again"
        super().__init__(410, message, headers={"Cache-Control": "no-store"})


class Damaged(Refusal):
    """A record on the disk that is not what was written there. 410 as ContentGone, and for its reasons."""

    def __init__(self, path: Path, why: str) -> None:
        place = "/".join(path.parts[-3:])
        message = (
            f"A record of this Hub is damaged, {place}: {why}. `hub fsck` names all that is; restore it from a copy"
        )
        super().__init__(410, message, headers={"Cache-Control": "no-store"})


class Conflict(Refusal):
    """It is there already, or somebody else was faster."""

    def __init__(self, message: str) -> None:
        super().__init__(409, message)


class StaleParent(Refusal):
    """The branch has moved on since the client read it."""

    def __init__(self) -> None:
        super().__init__(412, "A commit has happened since. Please refresh and try again.")


class Moved(Refusal):
    """The repository has another name now. 307, so that a client sends the same request with the same body there."""

    def __init__(self, location: str) -> None:
        super().__init__(307, f"Temporary Redirect. Redirecting to {location}", headers={"Location": location})


class BadPath(Refusal):
    """A path that no repository may contain."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(422, f"Invalid path in repository {path[:200]!r}: {reason}")
