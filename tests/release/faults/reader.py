"""A reader who asks a Hub all along what stands there, and looks at every byte of it that they get.

with Reader(netloc, "org/name", "org/name-chat", known) as reader:      # without a token: anybody
    ...
reader.states      # each (main, tags, Space) that was seen, in order: ("old", ("v1.0.0 old",), "old"), ...
reader.contents    # the SHA-256 of every file that they were given
reader.found       # which of the words that they must not read stood where

A release is named where all its files were given, "shut" is one whose files are refused by a gate, and "nothing" one that
is not there for this reader.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from release.hub_files import HUB_OWN_FILE

EVERY = 0.04  # seconds between two looks
SELDOM = 0.5  # and while the Space is booted, which asks the Hub for nothing but files
PAGES_A_LOOK = 3
State = tuple[str, tuple[str, ...], str]


class Reader:
    """`known` are names of releases ("old", "new") with their files: path -> SHA-256.

    `token` lets in; `member`: the owner's own, who also sees what is staged. `asks`: for access, where a gate refuses. `unseen`
    are words that no answer to this reader may hold; with them the Hub's pages and lists are looked at too.
    """

    def __init__(
        self,
        netloc: str,
        repo_id: str,
        space: str,
        known: Mapping[str, Mapping[str, str]],
        booting: Callable[[], bool] = lambda: False,
        *,
        token: str | None = None,
        member: bool = False,
        asks: bool = False,
        unseen: Sequence[str] = (),
    ) -> None:
        self.netloc, self.repo_id, self.space, self.known, self.booting = netloc, repo_id, space, known, booting
        self.member, self.asks, self.unseen = member, asks, [word.encode() for word in unseen]
        self.states: list[State] = []
        self.contents: set[str] = set()
        self.found: set[str] = set()
        self.looks = 0
        self.failure: BaseException | None = None
        self._pages = _pages(repo_id, space) if unseen else []
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._gate = False  # whether the last refusal was a gate's
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
            for page in self._pages:
                self._get(page)
        except BaseException as error:  # noqa: BLE001 - it is raised where the reader ends
            self.failure = error

    def look(self) -> None:
        """At main, at some pages, and every fourth time at the tags and the Space."""
        for number in range(self.looks * PAGES_A_LOOK, (self.looks + 1) * PAGES_A_LOOK if self._pages else 0):
            self._get(self._pages[number % len(self._pages)])
        seen = self.states[-1] if self.states and self.looks % 4 else ("", self._tags(), self._space())
        self.looks += 1
        state = (self._main(), *seen[1:])
        if not self.states or self.states[-1] != state:
            self.states.append(state)

    def _main(self) -> str:
        info = self._json(f"/api/models/{self.repo_id}")
        return "nothing" if info is None else self._name(info["sha"])

    def _tags(self) -> tuple[str, ...]:
        """Tags; and whatever only members may see: a branch beside main, a repository to stage in."""
        owner = self.repo_id.partition("/")[0]
        listed = [item["id"] for item in self._json(f"/api/models?author={owner}") or []]
        apart = tuple(f"listed {name}" for name in listed if "-staging-" in name)
        refs = self._json(f"/api/models/{self.repo_id}/refs")
        if refs is None:
            return () if self.member else apart
        branches = tuple(f"branch {branch['name']}" for branch in refs["branches"] if branch["name"] != "main")
        beside = () if self.member else (*branches, *apart)
        return (*(f"{tag['name']} {self._name(tag['targetCommit'])}" for tag in refs["tags"]), *beside)

    def _space(self) -> str:
        """Which release the Space serves."""
        info = self._json(f"/api/spaces/{self.space}")
        if info is None:
            return "nothing"
        description = self._get(f"/spaces/{self.space}/resolve/{info['sha']}/space.json")
        if description is None:  # there is no such file, or the Space has just been made private
            return "nothing" if self._json(f"/api/spaces/{self.space}") is None else "an empty Space"
        return self._name(json.loads(description)["revision"])

    def _name(self, commit: str) -> str:
        """Which release a commit is, by every byte of its files."""
        if commit not in self._names:
            tree = self._json(f"/api/models/{self.repo_id}/tree/{commit}?recursive=true")
            if tree is None:
                return "nothing"
            paths = [entry["path"] for entry in tree if entry["type"] == "file" and entry["path"] != HUB_OWN_FILE]
            given = {path: self._get(f"/{self.repo_id}/resolve/{commit}/{path}") for path in paths}
            found = {
                path: hashlib.sha256(content).hexdigest() for path, content in given.items() if content is not None
            }
            self.contents |= set(found.values())
            if len(found) < len(given):
                return self._ask() if self._gate else "nothing"
            names = [name for name, files in self.known.items() if files == found]
            self._names[commit] = names[0] if names else f"no release: {sorted(found)}"
        return self._names[commit]

    def _ask(self) -> str:
        """For access; what the answer was is seen at the next look."""
        if self.asks:
            self._request("POST", f"/{self.repo_id}/ask-access")
        return "shut"

    def _json(self, path: str) -> Any:
        content = self._get(path)
        return None if content is None else json.loads(content)

    def _get(self, path: str) -> bytes | None:
        """The body; None where there is nothing that this reader may see."""
        status, content, code = self._request("GET", path)
        if status in {401, 403, 404}:
            self._gate = code == "GatedRepo"
            return None
        if status != 200:
            raise RuntimeError(f"the Hub answered the reader {status} at {path}")
        self.found |= {f"{word.decode()} at {path}" for word in self.unseen if word in content}
        return content

    def _request(self, method: str, path: str) -> tuple[int, bytes, str | None]:
        """Status, body, and the Hub's code of a refusal."""
        try:
            self._connection.request(method, path, headers=self._headers)
            response = self._connection.getresponse()
        except (ConnectionError, http.client.RemoteDisconnected):  # an idle connection was closed
            self._connection.close()
            self._connection.request(method, path, headers=self._headers)
            response = self._connection.getresponse()
        return response.status, response.read(), response.getheader("X-Error-Code")


def _pages(repo_id: str, space: str) -> list[str]:
    """Where else a Hub tells of a model and its Space."""
    owner, _, name = repo_id.partition("/")
    lists = [f"/api/{kind}?{how}" for kind in ("models", "spaces") for how in (f"author={owner}", f"search={name}")]
    people = ["/", f"/?search={name}", "/models", "/spaces", f"/{owner}", "/leaderboard", "/collections"]
    of_model = ["", "/tree/main", "/commits/main", "/scores/main", "/blob/main/README.md", "/discussions"]
    of_space = ["", "/tree/main", "/commits/main", "/blob/main/README.md", "/resolve/main/space.json"]
    return [
        *lists,
        *people,
        *(f"/{repo_id}{rest}" for rest in of_model),
        *(f"/spaces/{space}{rest}" for rest in of_space),
        f"/api/models/{repo_id}/commits/main",
        f"/{repo_id}/info/refs?service=git-upload-pack",
    ]
