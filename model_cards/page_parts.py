"""Parts of one page by different people: what one leaves open must not swallow what stands below it.

    closed("<details>\\n\\nOur results")    # ("<details>\\n\\nOur results\\n\\n</details>", ["</details>"])
    headings("## Scores\\n\\ntext")         # [(2, "Scores")]

Read as a Hub's page reads it: Markdown by markdown-it, then HTML by html5ever (nh3), which knows what a browser closes by itself.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

from training.errors import UsageError

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

BELOW = "slipway-stands-below"  # a paragraph of this stands for whatever comes after the text
ROUNDS = 4  # a fence within an element is two things to close
# html5ever takes the square of the depth in time: 5,000 elements within each other are a second.
MOST_TAGS = 5000
MOST_NAMES = 100
TAG = re.compile(r"<([a-zA-Z][a-zA-Z0-9-]*)")
END_TAG = re.compile(r"</[a-z0-9-]+>")
# What ends the blocks of HTML that a blank line does not end (CommonMark 0.31, section 4.6).
BLOCK_ENDS = ("-->", "\n<!-- -->", "?>", "]]>", ">", "</script>", "</pre>", "</style>", "</textarea>")


def closed(text: str) -> tuple[str, list[str]]:
    """The text with what it leaves open closed at its end, and the closings.

    Raises UsageError where no closing is found that would let what stands below it be shown.
    """
    added: list[str] = []
    whole = text
    for _ in range(ROUNDS):
        if (ends := _ends(whole)) == "":
            return whole, added
        found = next((end for end in _closings(whole, ends) if _is_nearer(whole + end, ends)), None)
        if found is None:
            break
        whole += found
        added.append(found.strip())
    raise UsageError(
        "the authors' card ends within something that it never closes, and would hide what a release says below it",
        expected="every code fence, comment and HTML element closed before the end",
        found=f"its last lines: {' / '.join(text.splitlines()[-3:])[:200]}",
        next_step="close it in the README.md beside the weights",
    )


def headings(text: str) -> list[tuple[int, str]]:
    """The headings that a page shows, with their levels; none of what stands in code or comments. Without a metadata block."""
    tokens = _markdown().parse(text)
    return [(int(token.tag[1]), inline.content) for token, inline in pairwise(tokens) if token.type == "heading_open"]


def require_same_below(above: str, below: str) -> None:
    """Raises UsageError where `below` is not shown under `above` as it is alone: a link that `above` defines is one everywhere."""
    page = _markdown()
    environment: dict[str, dict[str, object]] = {}
    page.parse(above, environment)
    if not page.render(f"{above}\n{below}").endswith(page.render(below)):
        raise UsageError(
            "the authors' card changes how the words of the release below it are shown",
            expected="link definitions of names that only the authors' card uses",
            found=", ".join(f"[{name.lower()}]" for name in environment.get("references", {}))[:300]
            or "another meaning",
            next_step="give these links another name in the README.md beside the weights",
        )


def _markdown() -> MarkdownIt:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def _ends(text: str) -> str | None:
    """What ends after a paragraph below the text, as HTML; "" where nothing does, None where it is not shown as one."""
    page = _markdown()
    tokens = page.parse(f"{text}\n\n{BELOW}\n")
    if len(tokens) < 3 or tokens[-3].type != "paragraph_open" or tokens[-3].level or tokens[-2].content != BELOW:
        return None
    html = page.renderer.render(tokens, page.options, {})
    names = {name.lower() for name in TAG.findall(html)}
    if len(TAG.findall("".join(token.content for token in tokens))) > MOST_TAGS:
        raise UsageError(
            f"the authors' card has more than {MOST_TAGS:,} HTML elements", next_step="write its tables in Markdown"
        )
    import nh3

    shown = nh3.clean(html, tags=names, clean_content_tags=set(), attributes={}, strip_comments=True)
    _, found, after = shown.partition(f"<p>{BELOW}</p>")
    return after.strip() if found else None


def _closings(text: str, ends: str | None) -> list[str]:
    """What might close it, likeliest first."""
    if ends:
        return ["\n\n" + "\n".join(END_TAG.findall(ends))]
    tokens = _markdown().parse(text)
    last = tokens[-1] if tokens else None
    fences = [f"\n{last.markup}"] if last is not None and last.type == "fence" else []
    names = list(dict.fromkeys(name.lower() for name in TAG.findall(text)))[:MOST_NAMES]
    return [*fences, *(f"\n{end}" for end in BLOCK_ENDS), *(f"\n\n</{name}>" for name in names)]


def _is_nearer(text: str, before: str | None) -> bool:
    """Whether more of what stands below is shown than before: at all, or outside of everything."""
    ends = _ends(text)
    return ends == "" or (before is None and ends is not None)
