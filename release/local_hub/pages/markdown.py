"""A repository's card as HTML: Markdown and the HTML that the Hub's cards are written in, sanitised by nh3 (Rust's ammonia).

Images come from the repository, links lead where they say, and nothing runs or is loaded from elsewhere: a foreign image is
named instead. The page's policy (Content-Security-Policy) is the second wall.

render_card("# Demo\\n<p align=center><img src=loss.png></p>", base="/slipway/demo", revision="main")
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape, unescape
from itertools import pairwise
from urllib.parse import quote, urlsplit

import nh3
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

# Elements in a card's own HTML; in one that has more they are text. The time that a parser takes for elements within
# elements grows with their square: 200,000 of them, a megabyte, would take minutes.
HTML_LIMIT = 5000
_SLUG = re.compile(r"[^\w]+")
# Elements that cards use for their looks; headings, lists, tables, code are Markdown's own.
_TAGS = {
    "a", "b", "blockquote", "br", "caption", "center", "code", "dd", "del", "details", "div", "dl", "dt", "em", "figcaption",
    "figure", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "ins", "kbd", "li", "mark", "ol", "p", "picture", "pre", "q",
    "s", "samp", "small", "span", "strong", "sub", "summary", "sup", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "u",
    "ul", "var",
}  # fmt: skip
_ATTRIBUTES = {
    "*": {"align", "id", "title"},
    "a": {"href", "name"},
    "details": {"open"},
    "img": {"src", "alt", "width", "height", "loading"},
    "ol": {"start"},
    "td": {"colspan", "rowspan"},
    "th": {"colspan", "rowspan"},
}
_ALIGNED = {"to-left", "to-right", "to-center"}
# An image as nh3 writes it: every value in double quotes, and none of these within one.
_IMAGE = re.compile(r'<img((?: [a-z]+="[^"]*")*)>')
_START = re.compile("<[a-zA-Z]")
_VALUE = re.compile(r' ([a-z]+)="([^"]*)"')


def render_card(text: str, *, base: str, revision: str) -> Markup:
    """Safe HTML of a markdown text. `base` is the repository's address, `revision` what its files are shown at."""
    renderer = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    tokens = renderer.parse(text)
    _prepare(tokens)
    if _html_elements(tokens) > HTML_LIMIT:
        for kind in ("html_block", "html_inline"):
            renderer.add_render_rule(kind, _as_text)
    at = quote(revision, safe="")

    def address(tag: str, name: str, value: str) -> str:
        if (tag, name) == ("a", "href") and _is_relative(value) and not value.startswith("#"):
            return f"{base}/blob/{at}/{value.removeprefix('./')}"
        if (tag, name) == ("img", "src") and _is_relative(value):
            return f"{base}/resolve/{at}/{value.removeprefix('./')}"
        return value

    safe = nh3.clean(
        renderer.renderer.render(tokens, renderer.options, {}),
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        attribute_filter=address,
        allowed_classes={"td": _ALIGNED, "th": _ALIGNED},
        set_tag_attribute_values={"img": {"loading": "lazy"}},
        url_schemes={"http", "https", "mailto"},
        link_rel="nofollow noopener noreferrer",
    )
    return Markup(_IMAGE.sub(lambda image: _image(image, base), safe))


def _html_elements(tokens: Sequence[Token]) -> int:
    return sum(
        len(_START.findall(token.content)) if token.type.startswith("html_") else _html_elements(token.children or [])
        for token in tokens
    )


def _as_text(_renderer: object, tokens: Sequence[Token], index: int, _options: object, _env: object) -> str:
    return escape(tokens[index].content)


def _image(image: re.Match[str], base: str) -> str:
    """The repository's own image as it is; one from elsewhere, which the page does not load, by its name."""
    values = {name: unescape(value) for name, value in _VALUE.findall(image[1])}
    source, text = values.get("src", ""), values.get("alt") or "image"
    if source.startswith(f"{base}/resolve/"):
        return image[0]
    return escape(f"[{text}]" if not source or source.startswith("data:") else f"[{text}: {source}]")


def _is_relative(target: str) -> bool:
    try:
        parts = urlsplit(target)
    except ValueError:  # an address such as http://[
        return False
    return not parts.scheme and not parts.netloc and not target.startswith(("/", "\\"))


def _prepare(tokens: Sequence[Token]) -> None:
    """Give each heading an id, so that a card's table of contents works, and cells a class for their side."""
    seen: dict[str, int] = {}
    for token, inline in pairwise(tokens):
        if token.type == "heading_open":
            slug = _SLUG.sub("-", inline.content.lower()).strip("-") or "section"
            seen[slug] = seen.get(slug, 0) + 1
            token.attrSet("id", slug if seen[slug] == 1 else f"{slug}-{seen[slug] - 1}")
        elif token.type in {"th_open", "td_open"} and token.attrGet("style"):
            # The page's policy allows no inline styles.
            token.attrSet("class", f"to-{str(token.attrs.pop('style')).rpartition(':')[2]}")
