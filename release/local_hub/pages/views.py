"""What each page shows, gathered from the store; the templates only lay it out."""

from __future__ import annotations

import json
import shlex
from typing import Any

from release.local_hub import discussions
from release.local_hub.commits import Commit
from release.local_hub.file_diffs import FileDiff, FileDiffs
from release.local_hub.front_matter import split_card
from release.local_hub.gate_form import fields_of
from release.local_hub.pages.markdown import render_card
from release.local_hub.plain_json import parsed_file
from release.local_hub.refusals import EntryNotFound, Refusal
from release.local_hub.repo_info import app_file, card_data, card_text, list_item, lost_files, repo_info
from release.local_hub.repository import Repository, passed_over
from release.local_hub.routes_collections import answer_of, readable, visible
from release.local_hub.routes_resolve import IMAGES
from release.local_hub.routes_tree import last_commits
from release.local_hub.tree import Entry, Tree, changed_paths, folders
from release.local_hub.web import URL_PREFIX, Call

TEXT_LIMIT = 512 << 10  # bytes of a file that are shown
COMMITS_SHOWN = 100
ROWS_SHOWN = 5
Context = dict[str, Any]


def base_path(repository: Repository) -> str:
    """The repository's address on this Hub."""
    return f"/{URL_PREFIX[repository.kind]}{repository.id}"


def index(call: Call, kind: str | None, namespace: str | None = None) -> Context:
    """Repositories that the caller may see, newest first, and how many there are of each kind."""
    search = call.query.get("search", "").strip().lower()
    counts, items = {}, []
    for each in ("model", "dataset", "space"):
        found = [
            item
            for repository in call.store.repositories(each)
            if (namespace is None or repository.namespace.lower() == namespace.lower())
            and all(word in repository.id.lower() for word in search.split())
            and (item := _index_item(call, repository)) is not None
        ]
        counts[each] = len(found)
        items += found if kind in (None, each) else []
    items.sort(key=lambda item: str(item["lastModified"]), reverse=True)
    shown: Context = {"items": items, "counts": counts, "kind": kind, "search": search, "namespace": namespace}
    if namespace is not None:
        shown["collections"] = [one for one in visible(call) if one["owner"]["name"].lower() == namespace.lower()]
    return shown


def collections(call: Call) -> Context:
    """The collections that the caller may see, the newest change first."""
    return {"collections": visible(call)}


def collection(call: Call) -> Context:
    """A collection with those of its items that the caller may see."""
    found = answer_of(call, readable(call))
    items = []
    for each in found["items"]:
        item = _index_item(call, call.find(each["type"], each["id"]))
        items += [{**item, "note": (each["note"] or {}).get("text")}] if item else []
    return {"collection": found, "items": items}


def _index_item(call: Call, repository: Repository) -> Context | None:
    """None for what the caller may not see, or is not all there."""
    try:
        if repository.private and not call.caller.may_read(repository.namespace):
            return None
        commit = repository.resolve("main")
        item = list_item(repository, commit)
        item |= {"kind": repository.kind, "path": base_path(repository), "files": len(commit.tree)}
        item["size"] = sum(entry.size for entry in commit.tree.values())
        item["title"] = card_data(repository.blobs, commit.tree).get("title") if repository.kind == "space" else None
        return item
    except (Refusal, FileNotFoundError) as error:
        passed_over(repository, error)
        return None


def repository_page(repository: Repository, revision: str, tab: str) -> Context:
    """What stands above every page of a repository."""
    commit, refs = repository.resolve(revision), repository.refs()
    names = {
        group: sorted(ref.split("/", 2)[2] for ref in refs if ref.startswith(f"refs/{group}/"))
        for group in ("heads", "tags", "pr")
    }
    return {
        "tab": tab,
        "repository": repository,
        "base": base_path(repository),
        "revision": revision,
        "commit": commit,
        "info": repo_info(repository, commit),
        "branches": names["heads"],
        "tags": names["tags"][::-1],
        "pulls": names["pr"],
        "talks": len(discussions.read_all(repository)),
        "lost": lost_files(repository.blobs, commit.tree),
        "scored": repository.kind == "model" and "scorecard.json" in commit.tree,
    }


def card(repository: Repository, revision: str, barred: str | None = None, proof: str | None = None) -> Context:
    """The card; of a gated repository also for those who are `barred` from its files (access.py's standing), with no rows and
    with `proof` for the form by which they ask."""
    page = repository_page(repository, revision, "card")
    _, body = split_card(card_text(repository.blobs, page["commit"].tree))
    page["card"] = render_card(body, base=page["base"], revision=revision) if body.strip() else None
    page["results"] = _evaluation_results(page["info"]["cardData"] or {})
    page["data"] = {key: _texts(page["info"]["cardData"], key) for key in ("license", "base_model", "sdk_version")}
    page["config"] = _first_config(page["info"]["cardData"])
    shows_rows = repository.kind == "dataset" and barred is None
    page["rows"] = _first_rows(repository, page["commit"].tree) if shows_rows else None
    page["barred"], page["proof"], page["use"] = barred, proof, _use(repository, page)
    names = ("prompt", "heading", "description", "button_content") if barred else ()
    page["gate"] = {name: _texts(page["info"]["cardData"], f"extra_gated_{name}") for name in names}
    page["fields"] = fields_of(page["info"]["cardData"] or {}) if barred else []
    return page


def _use(repository: Repository, page: Context) -> Context:
    """By what the files are used: {how, file}, for the snippet of the page."""
    tree: Tree = page["commit"].tree
    if repository.kind == "space":
        file, how = app_file(repository, tree), page["info"]["sdk"]
        file = file if file in tree else ""
        return {"how": how, "file": "" if how == "static" and file == "index.html" else file}
    if repository.kind == "model" and "config.json" not in tree:
        ggufs = sorted((entry.size, path) for path, entry in tree.items() if path.endswith(".gguf"))
        how = "gguf" if ggufs else "peft" if "adapter_config.json" in tree else "files"
        return {"how": how, "file": shlex.quote(ggufs[0][1]) if ggufs else ""}
    return {"how": "", "file": ""}


def _texts(data: Context | None, key: str) -> str:
    """A field of the card, which may be one text or a list of them."""
    value = (data or {}).get(key)
    values = value if isinstance(value, list) else [value]
    return ", ".join(str(item) for item in values if isinstance(item, str | int | float))


def _first_config(data: Context | None) -> str | None:
    """The name that load_dataset wants, if the data set has several parts."""
    configs = (data or {}).get("configs")
    first = configs[0] if isinstance(configs, list) and configs else None
    name = first.get("config_name") if isinstance(first, dict) else None
    return str(name) if name and name != "default" else None


def _evaluation_results(data: Context) -> list[Context]:
    """The rows of the card's model-index: data set, metric, value, and whose they are."""
    rows = []
    index = data.get("model-index")
    for model in index if isinstance(index, list) else []:
        results = model.get("results") if isinstance(model, dict) else None
        for result in results if isinstance(results, list) else []:
            metrics = result.get("metrics") if isinstance(result, dict) else None
            for metric in metrics if isinstance(metrics, list) else []:
                dataset = result.get("dataset")
                if isinstance(metric, dict) and isinstance(dataset, dict):
                    name = metric.get("name") or metric.get("type")
                    row = {"dataset": dataset.get("name"), "metric": name, "value": metric.get("value")}
                    rows.append(row | {"source": _source(result)})
    return rows


def _source(result: Context) -> str | None:
    """Who says so, where a result names it."""
    source = result.get("source")
    name = source.get("name") if isinstance(source, dict) else None
    return name if isinstance(name, str) else None


def _first_rows(repository: Repository, tree: Tree) -> Context | None:
    """The first rows of a data set's first JSON-lines file."""
    path = next((path for path in sorted(tree) if path.endswith(".jsonl")), None)
    if path is None or not repository.blobs.has(tree[path].sha256):
        return None
    rows = []
    with repository.blobs.path(tree[path].sha256).open("rb") as file:
        for _ in range(ROWS_SHOWN):
            try:
                row = parsed_file(file.readline(TEXT_LIMIT))
            except ValueError:
                break
            if isinstance(row, dict):
                rows.append(row)
    columns = list(dict.fromkeys(key for row in rows for key in row))[:8]
    cells = [[_short(row.get(column)) for column in columns] for row in rows]
    return {"path": path, "columns": columns, "cells": cells} if rows else None


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 160 else f"{text[:157]}..."


def files(repository: Repository, revision: str, folder: str) -> Context:
    page = repository_page(repository, revision, "files")
    commit: Commit = page["commit"]
    known = folders(commit.tree)
    if folder and folder not in known:
        raise EntryNotFound(folder, commit.oid)
    prefix = f"{folder}/" if folder else ""
    inside = [path for path in [*known, *commit.tree] if path.startswith(prefix) and "/" not in path[len(prefix) :]]
    last = last_commits(repository, commit)
    page["rows"] = [
        {"name": path[len(prefix) :], "path": path, "entry": commit.tree.get(path), "last": last.get(path)}
        for path in sorted(inside, key=lambda path: (path in commit.tree, path.lower()))
    ]
    page["folder"], page["crumbs"] = folder, _crumbs(folder)
    page["total"] = sum(entry.size for path, entry in commit.tree.items() if path.startswith(prefix))
    return page


def _crumbs(path: str) -> list[tuple[str, str]]:
    parts = path.split("/") if path else []
    return [(part, "/".join(parts[: number + 1])) for number, part in enumerate(parts)]


def file(repository: Repository, revision: str, path: str) -> Context:
    page = repository_page(repository, revision, "files")
    entry: Entry | None = page["commit"].tree.get(path)
    if entry is None:
        raise EntryNotFound(path, page["commit"].oid)
    page |= {"path": path, "entry": entry, "crumbs": _crumbs(path), "card": None, "text": None}
    page["image"] = any(path.lower().endswith(suffix) for suffix in IMAGES)
    if not page["image"]:
        page["text"] = _text(repository, entry, TEXT_LIMIT)
    if page["text"] and path.lower().endswith(".md"):
        _, body = split_card(page["text"])
        page["card"] = render_card(body, base=page["base"], revision=revision)
    page["last"] = last_commits(repository, page["commit"]).get(path)
    return page


def _text(repository: Repository, entry: Entry, limit: int) -> str | None:
    """The file's text (the first `limit` bytes of it), or None if it is not text."""
    content = repository.blobs.read(entry.sha256, limit)
    if b"\0" in content:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        # A cut may fall into the middle of a character; anything else is not text.
        return content[: error.start].decode() if error.start >= limit - 3 else None


def history(repository: Repository, revision: str) -> Context:
    page = repository_page(repository, revision, "history")
    names: dict[str, list[str]] = {}
    for ref, oid in repository.refs().items():
        if ref.startswith("refs/tags/"):
            names.setdefault(oid, []).append(ref.removeprefix("refs/tags/"))
    found = list(repository.heads(page["commit"].oid))
    page |= {"history": found[:COMMITS_SHOWN], "count": len(found), "tags_of": names}
    return page


def commit(repository: Repository, oid: str) -> Context:
    page = repository_page(repository, oid, "history")
    shown: Commit = page["commit"]
    before: Tree = repository.commit_of(shown.parent).tree if shown.parent else {}
    page["changes"] = _changes(repository, before, changed_paths(before, shown.tree))
    return page


def _changes(
    repository: Repository, before: Tree, changed: dict[str, Entry | None], *, barred: bool = False
) -> list[Context]:
    """Each changed file with its entries before and afterwards, and its diff, but for those who are barred from the files."""
    diffs, shown = FileDiffs(repository.blobs), []
    for path, new in changed.items():
        old = before.get(path)
        diff = FileDiff() if barred else diffs.of(old, new)
        shown.append({"path": path, "old": old, "new": new, "diff": diff.lines, "why": diff.why})
    return shown


def talks(repository: Repository) -> Context:
    page = repository_page(repository, "main", "talks")
    page["found"] = discussions.read_all(repository)
    return page


def talk(repository: Repository, number: int, *, barred: bool = False) -> Context:
    """A discussion; a pull request with the files that it changes."""
    page = repository_page(repository, "main", "talks")
    page["talk"] = discussions.read(repository, number)
    if page["talk"]["pull_request"]:
        ref = f"refs/pr/{number}"
        before, changed = discussions.proposed_changes(repository, number)
        page["proposed"] = {"ref": ref, "changes": _changes(repository, before, changed, barred=barred)}
    page["comments"] = [
        {**event, "html": render_card(event["data"]["latest"]["raw"], base=page["base"], revision="main")}
        for event in page["talk"]["events"]
        if event["type"] == "comment"
    ]
    return page
