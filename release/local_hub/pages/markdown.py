"""A repository's card as HTML: images come from the repository, links lead where they say, and of raw HTML only a fold
(`<details>`, `<summary>`, without attributes) is HTML: comments are left out, everything else stays text.

render_card("# Demo\\n![plot](loss.png)", base="/slipway/demo", revision="main")
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from urllib.parse import quote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup, escape

_SLUG = re.compile(r"[^\w]+")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_FOLD = re.compile(r"(</?(?:details|summary)>)")


def render_card(text: str, *, base: str, revision: str) -> Markup:
    """Safe HTML of a markdown text. `base` is the repository's address, `revision` what its files are shown at."""
    renderer = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    renderer.add_render_rule("html_block", _fold_or_text)
    renderer.add_render_rule("html_inline", _fold_or_text)
    tokens = renderer.parse(text)
    _point_into_repository(tokens, base, quote(revision, safe=""))
    _name_headings(tokens)
    return Markup(renderer.renderer.render(tokens, renderer.options, {}))  # markdown-it escapes all text


def _fold_or_text(_renderer: object, tokens: Sequence[Token], index: int, _options: object, _env: object) -> str:
    """Raw HTML of a card as safe HTML."""
    parts = _FOLD.split(_COMMENT.sub("", tokens[index].content))
    kept = [part if number % 2 else str(escape(part)) for number, part in enumerate(parts)]  # odd ones are the tags
    return "".join(kept)


def _point_into_repository(tokens: Sequence[Token], base: str, revision: str) -> None:
    for token in tokens:
        if token.type == "image":
            source = str(token.attrGet("src") or "")
            if _is_relative(source):
                token.attrSet("src", f"{base}/resolve/{revision}/{source.removeprefix('./')}")
                token.attrSet("loading", "lazy")
            else:
                _link_instead_of_image(token, source)
        elif token.type == "link_open":
            target = str(token.attrGet("href") or "")
            if _is_relative(target) and not target.startswith("#"):
                token.attrSet("href", f"{base}/blob/{revision}/{target.removeprefix('./')}")
            elif not target.startswith("#"):
                token.attrSet("rel", "nofollow noopener noreferrer")
        elif token.type in {"th_open", "td_open"} and token.attrGet("style"):
            # The page's policy allows no inline styles.
            side = str(token.attrs.pop("style")).rpartition(":")[2]
            token.attrSet("class", f"to-{side}")
        _point_into_repository(token.children or [], base, revision)


def _link_instead_of_image(token: Token, source: str) -> None:
    """The page loads nothing from elsewhere, so a foreign image is named instead."""
    text = "".join(child.content for child in token.children or []) or "image"
    token.type, token.tag, token.children = "text", "", None
    token.content = f"[{text}: {source}]" if not source.startswith("data:") else f"[{text}]"


def _is_relative(target: str) -> bool:
    parts = urlsplit(target)
    return not parts.scheme and not parts.netloc and not target.startswith("/")


def _name_headings(tokens: Sequence[Token]) -> None:
    """Give each heading an id, so that a card's table of contents works."""
    seen: dict[str, int] = {}
    for token, inline in pairwise(tokens):
        if token.type == "heading_open":
            slug = _SLUG.sub("-", inline.content.lower()).strip("-") or "section"
            seen[slug] = seen.get(slug, 0) + 1
            token.attrSet("id", slug if seen[slug] == 1 else f"{slug}-{seen[slug] - 1}")
