"""A reader without a token who asks a Hub all along what stands there, and looks at every byte of it.

with Reader(netloc, "org/name", "org/name-chat", known) as reader:
    ...
reader.states      # each (main, tags, Space) that was seen, in order: ("old", ("v1.0.0 old",), "old"), ...
"""

from __future__ import annotations

import hashlib
import http.client
import json
import threading
from collections.abc import Callable, Mapping
from typing import Any, Self

from release.hub_files import HUB_OWN_FILE

EVERY = 0.04  # seconds between two looks
SELDOM = 0.5  # and while the Space is booted, which asks the Hub for nothing but files
State = tuple[str, tuple[str, ...], str]


class Reader:
    """`known` are names of releases ("old", "new") with their files: path -> SHA-256."""

    def __init__(
        self,
        netloc: str,
        repo_id: str,
        space: str,
        known: Mapping[str, Mapping[str, str]],
        booting: Callable[[], bool] = lambda: False,
    ) -> None:
        self.netloc, self.repo_id, self.space, self.known, self.booting = netloc, repo_id, space, known, booting
        self.states: list[State] = []
        self.looks = 0
        self.failure: BaseException | None = None
        self._names: dict[str, str] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="reader", daemon=True)
        self._connection = http.client.HTTPConnection(netloc, timeout=300)  # the Hub shares a busy machine

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._connection.close()
        if self.failure is not None:
            raise self.failure

    def _poll(self) -> None:
        try:
            while not self._ended.is_set():
                self.look()
                self._ended.wait(SELDOM if self.booting() else EVERY)
            self.look()
        except BaseException as error:  # noqa: BLE001 - it is raised where the reader ends
            self.failure = error

    def look(self) -> None:
        """At main, and every fourth time at the tags and the Space."""
        seen = self.states[-1] if self.states and self.looks % 4 else ("", self._tags(), self._space())
        self.looks += 1
        state = (self._main(), *seen[1:])
        if not self.states or self.states[-1] != state:
            self.states.append(state)

    def _main(self) -> str:
        info = self._json(f"/api/models/{self.repo_id}")
        return "nothing" if info is None else self._name(info["sha"])

    def _tags(self) -> tuple[str, ...]:
        """Tags; and whatever may not be seen: a branch beside main, a repository to stage in."""
        owner = self.repo_id.partition("/")[0]
        listed = [item["id"] for item in self._json(f"/api/models?author={owner}") or []]
        apart = tuple(f"listed {name}" for name in listed if "-staging-" in name)
        refs = self._json(f"/api/models/{self.repo_id}/refs")
        if refs is None:
            return apart
        branches = tuple(f"branch {branch['name']}" for branch in refs["branches"] if branch["name"] != "main")
        return (
            *(f"{tag['name']} {self._name(tag['targetCommit'])}" for tag in refs["tags"]),
            *branches,
            *apart,
        )

    def _space(self) -> str:
        """Which release the Space serves."""
        info = self._json(f"/api/spaces/{self.space}")
        if info is None:
            return "nothing"
        description = self._get(f"/spaces/{self.space}/resolve/{info['sha']}/space.json")
        return "an empty Space" if description is None else self._name(json.loads(description)["revision"])

    def _name(self, commit: str) -> str:
        """Which release a commit is, by every byte of its files."""
        if commit not in self._names:
            tree = self._json(f"/api/models/{self.repo_id}/tree/{commit}?recursive=true")
            if tree is None:
                return "nothing"
            found: dict[str, str] = {}
            for entry in tree:
                if entry["type"] == "file" and entry["path"] != HUB_OWN_FILE:
                    content = self._get(f"/{self.repo_id}/resolve/{commit}/{entry['path']}")
                    if content is None:
                        return "nothing"
                    found[entry["path"]] = hashlib.sha256(content).hexdigest()
            names = [name for name, files in self.known.items() if files == found]
            self._names[commit] = names[0] if names else f"no release: {sorted(found)}"
        return self._names[commit]

    def _json(self, path: str) -> Any:
        content = self._get(path)
        return None if content is None else json.loads(content)

    def _get(self, path: str) -> bytes | None:
        """The body; None where there is nothing that this reader may see."""
        try:
            self._connection.request("GET", path)
            response = self._connection.getresponse()
        except (ConnectionError, http.client.RemoteDisconnected):  # an idle connection was closed
            self._connection.close()
            self._connection.request("GET", path)
            response = self._connection.getresponse()
        content = response.read()
        if response.status in {401, 404}:
            return None
        if response.status != 200:
            raise RuntimeError(f"the Hub answered the reader {response.status} at {path}")
        return content
