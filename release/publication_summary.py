"""What `publish` and `rollback` have done, and how to ask for the same again, in words for whoever reads the terminal."""

from __future__ import annotations

from textwrap import shorten
from typing import TYPE_CHECKING

from model_cards.signer import verify_options
from release.records import Receipt, ReleasePlan

if TYPE_CHECKING:
    from release.rollback import Done


def released(receipt: Receipt, plan: ReleasePlan, already: bool) -> str:
    """Where it stands, what its Space answered, and the next command."""
    lines = [
        f"{receipt.repo_id} {receipt.tag} {'is already released' if already else 'is released'}",
        f"  {receipt.endpoint}/{receipt.repo_id}/tree/{receipt.tag}",
        f"  commit {receipt.commit}, checkpoint {receipt.checkpoint_digest}",
    ]
    if receipt.space:
        lines.append(f"  Space  {receipt.endpoint}/spaces/{receipt.space.repo_id}")
        boot = receipt.space.boot
        if boot is not None and boot.not_booted is not None:
            lines.append(f"         not booted: {boot.not_booted}")
        elif boot is not None:
            lines.append(f"         asked {boot.question!r} it answered {shorten(repr(boot.answer), 120)}")
        hardware = plan.space_flavour.hardware if plan.space_flavour else None
        if hardware not in (None, "cpu-basic"):  # what costs its owner something is its owner's to choose
            settings = f"{receipt.endpoint}/spaces/{receipt.space.repo_id}/settings"
            lines.append(f"         the Hub starts it on cpu-basic: choose {hardware} in {settings}")
    options = verify_options(receipt.signer)
    return "\n".join([*lines, f"  next: python -m release verify {receipt.repo_id}@{receipt.tag}{options}"])


def rolled_back(done: Done) -> list[str]:
    """What was done, for people: main first, then what readers see of it, then each Space."""
    if done.action == "made private":
        lines = [f"{done.repo_id} had no earlier release: it is private now, and nothing was erased"]
    elif done.files_of is None:
        seen = "private" if done.private else "public"
        return [f"nothing of this run was released on {done.repo_id}: main is as it was, and {seen}"]
    else:
        held = done.tag or f"commit {done.files_of}, which was there before"
        lines = [f"main of {done.repo_id} holds the files of {held} (commit {done.commit})"]
        if done.hidden:
            settings = f"hf repos settings {done.repo_id} --public"
            lines.append(
                f"  it stays private, for {', '.join(done.hidden)} was released so; {settings} shows all of it"
            )
        elif done.private and done.tag is None:
            lines.append("  it is private, as it was before")
        elif done.private:
            show = f"python -m release rollback --repo {done.repo_id} --to {done.tag}"
            lines.append(f"  it is private: readers find nothing; {show} shows what was released publicly")
        else:
            lines.append(
                "  it is public" + ("" if done.tag else ", and what was rolled back can still be asked for by its tag")
            )
    for space in done.spaces:
        if space.action == "left":
            said = f"still serves {space.serves}: it never served {done.tag}, so make it private or publish to it again"
        else:
            held = "holds what it held before" if space.serves is None else f"serves {space.serves}"
            said = held + (", and is private" if space.private else "")
        lines.append(f"  the Space {space.space} {said}")
    return lines


def space_options(plan: ReleasePlan) -> str:
    """The options that ask for the plan's Space again."""
    flavour = plan.space_flavour
    if plan.space is None or flavour is None:
        return f" --space {plan.space}" if plan.space else ""
    words = f" --space {flavour.name} --space-id {plan.space}"
    words += f" --space-url {flavour.url}" if flavour.url else ""
    words += f" --space-hardware {flavour.hardware}" if flavour.hardware else ""
    # "auto" is chosen only where no precision is asked for, and a server's is its own.
    return words + (f" --space-precision {flavour.precision}" if flavour.memory and flavour.precision != "auto" else "")
