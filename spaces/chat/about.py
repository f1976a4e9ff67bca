"""What the page says about the model that answers: which bytes, how they run, and what they scored.

Everything here comes from space.json and the loaded model, never from a conversation, and every value is escaped.
"""

from __future__ import annotations

import os
from html import escape
from typing import Any

from chat_model import ChatModel

HUB = "https://huggingface.co"
SHORT_COMMIT = 10
SHORT_DIGEST = len("sha256:") + 12
NOT_CHECKED = (
    "A server answers. Which bytes it runs cannot be checked from here; the digest is of the published checkpoint."
)


def pinned_name(space: dict[str, Any]) -> str:
    """`org/name@v1.0`, as one types it."""
    return f"{space['model_id']}@{space['tag']}"


def header(space: dict[str, Any], model: ChatModel | None) -> str:
    """The title, and the release that answers: its name, commit and digest."""
    facts = [f"<b>{_model_link(space, pinned_name(space))}</b>"]
    if space["revision"]:
        facts.append(f"commit {_code(space['revision'][:SHORT_COMMIT], space['revision'])}")
    digest = _code(space["checkpoint_digest"][:SHORT_DIGEST], space["checkpoint_digest"])
    if model is None:
        facts.append(f"{digest} <span class='unchecked'>not loaded</span>")
    elif model.checked is None:
        facts.append(f"{digest} <span class='unchecked' title='{NOT_CHECKED}'>a server answers, not checked</span>")
    else:
        facts.append(f"{digest} <span class='checked' title='{escape(model.checked)}'>✓ checked</span>")
    if model is not None:
        facts.append(f"{escape(model.runtime.partition(',')[0])}, {escape(model.precision)}")
    items = "".join(f"<li>{fact}</li>" for fact in facts)
    return f"<header id='about-line'><h1>{escape(space['title'])}</h1><ul>{items}</ul></header>"


def unavailable(reason: str) -> str:
    """The message above a conversation where the model could not be loaded."""
    return (
        "<div id='unavailable' role='alert'><strong>The model cannot answer: it was not loaded.</strong>"
        f"<p>{escape(reason)}</p><p>The page tries again when a message is sent, at most once a minute.</p></div>"
    )


def details(space: dict[str, Any], model: ChatModel | None) -> str:
    """Scores, how to verify them, and every fact in full."""
    rows = [("Model", _model_link(space, space["model_id"])), ("Release", escape(str(space["tag"])))]
    if space["revision"]:
        rows.append(("Commit", _code(space["revision"])))
    rows.append(("Digest", _code(space["checkpoint_digest"])))
    if model is not None:
        rows += [
            ("Runs on", escape(model.runtime)),
            ("Precision", f"{escape(model.precision)} (setting: {escape(space['precision'])})"),
            ("Checked", escape(model.checked or NOT_CHECKED)),
            ("Context", f"{model.context_tokens:,} tokens; older turns are left out, and the page says so"),
        ]
    if space.get("license"):
        rows.append(("License", escape(space["license"])))
    facts = "".join(f"<dt>{label}</dt><dd>{value}</dd>" for label, value in rows)
    return f"<div class='about'>{_scores(space, model)}{_verify(space)}<h2>This model</h2><dl>{facts}</dl></div>"


def _scores(space: dict[str, Any], model: ChatModel | None) -> str:
    if not space["scores"]:
        return "<h2>Scores</h2><p>This release has no scorecard.</p>"
    items = "".join(_score(score) for score in space["scores"])
    measured = f"Measured on {_measured(space, model)}. The band is the 95% interval."
    return f"<h2>Scores</h2><p>{measured}</p><ul class='scores'>{items}</ul>"


def _measured(space: dict[str, Any], model: ChatModel | None) -> str:
    """What the figures are of: what answers here only where these are the checkpoint's checked bytes in the scored precision."""
    scored_in = escape(space["scored_in"])
    if model is None:
        return f"the published checkpoint, {scored_in}"
    if model.checked is None:
        return f"the published checkpoint, {scored_in}; not on the server that answers here"
    of_the_checkpoint = space.get("backend", "transformers") in ("transformers", "zerogpu")
    if of_the_checkpoint and space["scored_in"].split()[0] == model.precision:
        return f"these bytes, {scored_in}"
    return f"the published checkpoint, {scored_in}; not in {escape(model.precision)}, which answers here"


def _score(score: dict[str, Any]) -> str:
    direction = "higher is better" if score["higher_is_better"] else "lower is better"
    items = f"{score['n']:,} item{'s' * (score['n'] != 1)}" + (
        f", {score['unscored']:,} unscored" if score["unscored"] else ""
    )
    scorer = f" · judged by {escape(score['scorer'])}" if score.get("scorer") else ""
    meaning = f"<small>{escape(score['meaning'])}</small>" if score.get("meaning") else ""
    unit = "" if score["unit"] == "fraction" else f" {escape(score['unit'])}"
    return (
        f"<li><span class='name'>{escape(score['group'])}: {escape(score['label'])}</span>"
        f"<span class='value'>{score['value']:.3f}{unit}</span>{meaning}{_band(score)}"
        f"<small>{escape(score['task'])}, {items} · {_ends(score)} · {direction}{scorer}</small></li>"
    )


def _ends(score: dict[str, Any]) -> str:
    """The interval in words; items that are all equal may give none."""
    low, high = score["low"], score["high"]
    return "no interval" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def _band(score: dict[str, Any]) -> str:
    """The interval and the value on a scale from 0 to 1; nothing for a figure that has no such scale."""
    if score["unit"] != "fraction" or score["low"] is None or score["high"] is None:
        return ""
    low, value, high = (100 * min(1.0, max(0.0, score[name])) for name in ("low", "value", "high"))
    return (
        f"<span class='scale' aria-hidden='true'><i style='left:{low:.1f}%;width:{max(high - low, 0.5):.1f}%'></i>"
        f"<b style='left:{value:.1f}%'></b></span>"
    )


def _verify(space: dict[str, Any]) -> str:
    return (
        "<h2>Verify it</h2><p>Downloads the release, hashes it, loads it and compares what it does with what was "
        f"published:</p><pre tabindex='0'><code>{escape(space['verify_command'])}</code></pre>"
    )


def _model_link(space: dict[str, Any], text: str) -> str:
    if not space["revision"]:
        return _code(text)
    endpoint = os.environ.get("HF_ENDPOINT", HUB).rstrip("/")
    address = f"{endpoint}/{space['model_id']}/tree/{space['revision']}"
    return f"<a href='{escape(address)}' target='_blank' rel='noopener'>{escape(text)}</a>"


def _code(text: str, title: str = "") -> str:
    hint = f" title='{escape(title)}'" if title else ""
    return f"<code{hint}>{escape(text)}</code>"
