"""A card as HTML: what is shown of its own, and that nothing of it runs, loads or leaves its place."""

from __future__ import annotations

import pytest
from elements import Elements

from release.local_hub.pages.markdown import render_card


def test_markdown_names_its_headings_apart():
    html = render_card("# A b\n# A b\n", base="/o/n", revision="main")
    assert 'id="a-b"' in html
    assert 'id="a-b-1"' in html


def card_html(text: str) -> str:
    return str(render_card(text, base="/slipway/demo", revision="main"))


def test_a_cards_own_html_is_shown_as_the_hub_shows_it() -> None:
    html = card_html(
        '<p align="center"><img src="logo.png" width=200></p>\n\n<div align=center>\n\n**bold** H<sub>2</sub>O\n\n</div>\n\n'
        "<details open>\n<summary>All <b>scores</b></summary>\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n\n</details>\n\n"
        "<table><tr><td colspan=2>cell</td></tr></table> <a href=recipe.yaml>recipe</a>"
    )
    assert '<p align="center"><img src="/slipway/demo/resolve/main/logo.png" width="200" loading="lazy"></p>' in html
    assert "<strong>bold</strong> H<sub>2</sub>O" in html
    assert "<summary>All <b>scores</b></summary>" in html
    assert '<td class="to-right">2</td>' in html
    assert '<td colspan="2">cell</td>' in html
    assert '<a href="/slipway/demo/blob/main/recipe.yaml" rel="nofollow noopener noreferrer">recipe</a>' in html


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script><style>p{}</style><!-- no -->",
        "<b onclick=x style=x class=bar>b</b>",
        "<img src=x onerror=alert(1)>",
        "<svg><script>1</script></svg><math><mtext><img src=x onerror=1></math>",
        "<iframe src=x></iframe><object data=x></object><embed src=x><base href=//evil><meta http-equiv=refresh>",
        "<form action=/x><input name=a><button>b</button></form>",
        "<a href='javascript:alert(1)'>x</a> <a href=' JaVa\tScript:1'>y</a> <a href='data:text/html,x'>z</a>",
        "<img src='data:image/png;base64,x'><picture><source srcset='https://evil/x.png'><img src=//evil/x.png></picture>",
        "<img src='https://evil/x.png' alt='<script>'> <img alt='\"><script>' src='\\\\evil\\x.png'> <img src='http://['>",
        "![a](https://evil/x.png) <video src=x autoplay></video> <link rel=stylesheet href=//evil/x.css>",
        "</div></main></body><div id=x>",
    ],
)
def test_nothing_of_a_card_runs_is_loaded_from_elsewhere_or_leaves_its_place(text: str) -> None:
    page = Elements(card_html(text))
    assert page.open == []
    assert {tag for tag, _ in page.found} <= {"p", "b", "a", "img", "picture", "div"}
    for _, attributes in page.found:
        assert attributes.keys() <= {"href", "rel", "src", "alt", "loading", "id"}
        assert (attributes.get("src") or "/slipway/demo/resolve/main/").startswith("/slipway/demo/resolve/main/")
        assert ":" not in (attributes.get("href") or "")


def test_html_without_end_is_text_and_takes_no_minutes() -> None:
    for element in ("<div>", "<b><i>", "<div><table></div></table>"):
        html = card_html(element * (1_000_000 // len(element)))
        assert element.replace("<", "&lt;").replace(">", "&gt;") in html
