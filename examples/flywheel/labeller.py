"""A rule-following labeller that votes on the feedback page through a browser. It is a script, says so, and is no person.

cast_votes(page, "http://127.0.0.1:7860", "rules 1", by_style)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Rule = Callable[[str, str, str], str]  # prompt, answer A, answer B -> a, b, tie or both_bad
KEYS = {"a": "a", "b": "b", "tie": "t", "both_bad": "x"}
# What the labellers' sheet says is right, for the items whose answer is known.
FACTS = ("22.", "Tokyo", "Apple", "Gladly", "bonjour", "ten minutes", "14 days", "green")


def by_facts(a: str, b: str) -> str | None:
    """The answer with a known right phrase, where one of the two has it."""
    right = [any(fact in text for fact in FACTS) for text in (a, b)]
    return None if right[0] == right[1] else "a" if right[0] else "b"


def by_style(_: str, a: str, b: str) -> str:
    """Facts, then the answer that ends as a sentence does, then the shorter one; a tie within a tenth of the length."""
    known = by_facts(a, b)
    if known:
        return known
    ends = [text.rstrip().endswith((".", "!", "?")) for text in (a, b)]
    if ends[0] != ends[1]:
        return "a" if ends[0] else "b"
    if abs(len(a) - len(b)) <= 0.1 * max(len(a), len(b)):
        return "tie" if all(ends) else "both_bad"
    return "a" if len(a) < len(b) else "b"


def by_topic(prompt: str, a: str, b: str) -> str:
    """Facts, then the end of a sentence, then the answer that shares more words with the prompt."""
    known = by_facts(a, b)
    if known:
        return known
    ends = [text.rstrip().endswith((".", "!", "?")) for text in (a, b)]
    if ends[0] != ends[1]:
        return "a" if ends[0] else "b"
    words = set(prompt.lower().split())
    shared = [len(words & set(text.lower().split())) for text in (a, b)]
    return "tie" if shared[0] == shared[1] else "a" if shared[0] > shared[1] else "b"


# Two rules that mostly agree: what they disagree on is what agreement is computed for.
LABELLERS = {"rules: style": by_style, "rules: topic": by_topic}


def cast_votes(page: Any, url: str, code: str, rule: Rule) -> int:
    """Agree as a script, vote by keys until nothing is left; how many votes the page thanked for."""
    page.goto(url)
    page.locator("#begin").wait_for(state="visible")
    page.locator("#code input, #code textarea").fill(code)
    page.get_by_label("a script that follows rules").check()
    page.locator("#agreed input").check()
    page.locator("#begin").click()
    count = 0
    while True:
        page.wait_for_function(
            """count => {
                const shown = (id) => document.querySelector(id)?.offsetParent;
                if (shown('#thanks') && document.querySelector('#thanks').innerText.includes('Thank you')) return true;
                const status = document.querySelector('#status')?.innerText || '';
                return shown('#vote-a') && status.includes(`You gave ${count} vote`);
            }""",
            arg=count,
        )
        if page.locator("#thanks").is_visible():
            return count
        prompt, a, b = (page.locator(f"#{name}").inner_text() for name in ("prompt", "answer-a", "answer-b"))
        page.keyboard.press(KEYS[rule(prompt, a, b)])
        count += 1
