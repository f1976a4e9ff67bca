"""What stands around a release: a collection of its family, and on a superseded model's card a pointer to its successor.

    python -m release family org/name [org/other ...] --title "Name, and what runs it"
    python -m release supersede org/old --by org/new

The family of a model is the model, its Space (`org/name-chat`) and its exports (`org/name-GGUF`), where they are there. Both
commands change nothing when they are given again.
"""

from __future__ import annotations

import argparse

from release.hub_client import HubClient, HubRepository, Kind, check_repo_id
from release.hub_files import LocalFile
from training.command import Parser, Result, quiet_libraries
from training.errors import UsageError

CARD = "README.md"
SUPERSEDED = "Superseded by "  # how the title of that commit begins
BESIDE: tuple[tuple[str, Kind, str], ...] = (
    ("", "model", "the model"),
    ("-chat", "space", "talk to it"),
    ("-GGUF", "model", "for llama.cpp"),
)


def add_family_commands(parser: Parser) -> None:
    """Add `family` and `supersede` to `python -m release`."""
    family = parser.command("family", "Put models with their Spaces and exports into a collection.", run_family)
    family.add_argument("models", nargs="+", metavar="ORG/NAME")
    family.add_argument("--title", required=True, help="of the collection, in the first model's namespace")
    family.add_argument("--description", metavar="TEXT", help="at most 150 characters")
    family.add_argument("--private", action="store_true")
    supersede = parser.command(
        "supersede", "Say on a model's card which model has taken its place (new_version).", run_supersede
    )
    supersede.add_argument("model", metavar="ORG/OLD")
    supersede.add_argument("--by", required=True, metavar="ORG/NEW")


def run_family(args: argparse.Namespace) -> Result:
    """`family`: the collection's slug and what it holds."""
    quiet_libraries()
    for repo_id in args.models:
        check_repo_id(repo_id)
    hub = HubClient.connect()
    items = [item for repo_id in args.models for item in members(hub, repo_id)]
    namespace = args.models[0].partition("/")[0]
    slug = hub.collect(namespace, args.title, items, description=args.description, private=args.private)
    said = "".join(f"\n  {kind} {repo_id}" for repo_id, kind, _ in items)
    url = f"{hub.endpoint}/collections/{slug}"
    return {"summary": f"{url}{said}", "slug": slug, "url": url, "items": [item[:2] for item in items]}


def members(hub: HubClient, repo_id: str) -> list[tuple[str, Kind, str]]:
    """(id, kind, note) of a model and of what stands beside it. Raises UsageError where there is no such model."""
    found = [
        (f"{repo_id}{suffix}", kind, note)
        for suffix, kind, note in BESIDE
        if hub.repository(f"{repo_id}{suffix}", kind) is not None
    ]
    if not found or found[0][0] != repo_id:
        raise UsageError("there is no such model on this Hub", where=hub.endpoint, found=repo_id)
    return found


def run_supersede(args: argparse.Namespace) -> Result:
    """`supersede`: the commit on main of the old model's card."""
    quiet_libraries()
    commit, changed = supersede(HubClient.connect(), args.model, args.by)
    said = f"the card of {args.model} names {args.by} as its new version"
    said += f" (commit {commit})\n  verify its release by its tag: main's card is no longer the one that was released"
    return {"summary": said if changed else f"the card of {args.model} names {args.by} already", "commit": commit}


def supersede(hub: HubClient, old: str, new: str) -> tuple[str, bool]:
    """Write `new_version` into the metadata of the old model's card, in one commit on main; its id, and whether it is new.

    Tags stay: what was released can still be asked for and verified. Raises UsageError where a model is missing or has
    no card, or where the new one is superseded by the old one, HubError.
    """
    from huggingface_hub import ModelCard

    for repo_id in (old, new):
        check_repo_id(repo_id)
    repository, successor = hub.repository(old), hub.repository(new)
    for repo_id, found in ((old, repository), (new, successor)):
        if found is None:
            raise UsageError(
                "there is no such model on this Hub, or this token may not see it",
                where=hub.endpoint,
                found=repo_id,
                next_step="check the id, and that HF_ENDPOINT is the Hub that has it",
            )
    assert repository is not None
    assert successor is not None
    if successor.private and not repository.private:
        raise UsageError("readers could not see the new version: it is private", where=hub.endpoint, found=new)
    _refuse_cycle(hub, repository, successor)
    card = ModelCard(hub.text(old, repository.main, CARD))
    if card.data.get("new_version") == successor.repo_id:
        return repository.main, False
    card.data["new_version"] = successor.repo_id
    file = LocalFile.of(str(card).encode())
    commit = hub.commit(
        old,
        "main",
        parent=repository.main,
        additions={CARD: file},
        deletions=[],
        title=f"{SUPERSEDED}{successor.repo_id}",
        message="",
        landed=lambda commit: file.is_at(hub.tree(old, commit)[CARD]),
    )
    return commit, True


def _refuse_cycle(hub: HubClient, old: HubRepository, new: HubRepository) -> None:
    """Raises UsageError where the cards, followed from `new` by their new_version, lead to `old`, or to none that is the last."""
    chain, model = [old.repo_id], new
    while model.repo_id not in chain:  # as the Hub spells it, so that case or an old name hides nothing
        chain.append(model.repo_id)
        named = _new_version(hub, model)
        found = hub.repository(named) if named is not None else None
        if found is None:  # the last, or one that this token cannot follow
            return
        model = found
    itself = len(chain) == 1
    raise UsageError(
        "a model cannot supersede itself"
        if itself
        else "these models would supersede each other, and none would be the last",
        where=hub.endpoint,
        expected="a successor whose own new_version leads elsewhere",
        found=" -> ".join([*chain, model.repo_id]),
        next_step="give the successor's id with --by"
        if itself
        else f"take new_version out of the card of {chain[-1]}, or give another --by",
    )


def _new_version(hub: HubClient, model: HubRepository) -> str | None:
    """The id that a model's card names as its successor."""
    from huggingface_hub import ModelCard

    try:
        named = ModelCard(hub.text(model.repo_id, model.main, CARD)).data.get("new_version")
    except (UsageError, ValueError):  # no card, or one whose metadata cannot be read
        return None
    return named if isinstance(named, str) and named.count("/") == 1 else None
