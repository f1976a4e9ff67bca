"""What the page says about the model that answers: which bytes, how they run, and what they scored.

Everything here comes from space.json and the loaded model, never from a conversation, and every value is escaped.
"""

from __future__ import annotations

import os
from html import escape
from typing import Any

from chat_model import ChatModel

HUB = "https://huggingface.co"


def header(space: dict[str, Any], model: ChatModel | None) -> str:
    """The title and one line of facts: model, release, revision, digest, precision."""
    facts = [("model", _model_link(space)), ("release", escape(str(space["tag"])))]
    if space["revision"]:
        facts.append(("revision", _code(space["revision"][:10], space["revision"])))
    facts.append(("digest", _code(_short_digest(space["checkpoint_digest"]), space["checkpoint_digest"])))
    if model is not None:
        facts.append(("runs in", f"{escape(model.precision)} on {escape(model.device.upper())}"))
    items = "".join(f"<li><span>{label}</span> {value}</li>" for label, value in facts)
    return f"<header id='about-line'><h1>{escape(space['title'])}</h1><ul>{items}</ul></header>"


def unavailable(reason: str) -> str:
    """The message in the place of a conversation where the model could not be loaded."""
    return (
        "<div id='unavailable' role='alert'><strong>The model cannot answer: it was not loaded.</strong>"
        f"<p>{escape(reason)}</p><p>The page tries again when a message is sent, at most once a minute.</p></div>"
    )


def details(space: dict[str, Any], model: ChatModel | None) -> str:
    """The whole of it: a table of facts, a table of scores, and how to verify both."""
    rows = [("Model", _model_link(space)), ("Release", escape(str(space["tag"])))]
    if space["revision"]:
        rows.append(("Revision", _code(space["revision"])))
    rows.append(("Checkpoint digest", _code(space["checkpoint_digest"])))
    if model is not None:
        rows += [
            ("Runtime", escape(model.runtime)),
            ("Precision", f"{escape(model.precision)} (setting: {escape(space['precision'])})"),
            ("Context used", f"{model.context_tokens:,} tokens; older turns are left out, and the page says so"),
            ("Checked at start", "the files loaded here have this digest"),
        ]
    if space.get("license"):
        rows.append(("License", escape(space["license"])))
    facts = "".join(f"<tr><th scope='row'>{label}</th><td>{value}</td></tr>" for label, value in rows)
    return f"<div class='about'><table class='facts'>{facts}</table>{_scores(space)}{_verify(space)}</div>"


def _scores(space: dict[str, Any]) -> str:
    if not space["scores"]:
        return "<p>This release has no scorecard.</p>"
    rows = "".join(
        f"<tr><th scope='row'>{escape(score['task'])}<br><small>{escape(_meaning(score))}</small></th>"
        f"<td>{_figure(score['value'], score['unit'])}<br><small>{score['low']:.3f} to {score['high']:.3f}</small></td>"
        f"<td>{score['n']:,}{_unscored(score)}</td></tr>"
        for score in space["scores"]
    )
    return (
        f"<h2>Scores of this checkpoint</h2><p>Measured on these bytes in {escape(space['scored_in'])}.</p>"
        "<table class='scores'><thead><tr><th scope='col'>Task</th><th scope='col'>Score, 95% interval</th>"
        f"<th scope='col'>Items</th></tr></thead><tbody>{rows}</tbody></table>"
    )


def _meaning(score: dict[str, Any]) -> str:
    direction = "higher is better" if score["higher_is_better"] else "lower is better"
    scorer = f", judged by {score['scorer']}" if score.get("scorer") else ""
    return f"{score['group']}: {score['metric']}, {direction}{scorer}"


def _figure(value: float, unit: str) -> str:
    return f"{value:.3f}" if unit == "fraction" else f"{value:.3f} {escape(unit)}"


def _unscored(score: dict[str, Any]) -> str:
    return f"<br><small>{score['unscored']:,} unscored</small>" if score["unscored"] else ""


def _verify(space: dict[str, Any]) -> str:
    return (
        "<h2>Verify it</h2><p>This command downloads the release, hashes it, loads it and compares what it does with "
        f"what was published:</p><pre><code>{escape(space['verify_command'])}</code></pre>"
    )


def _model_link(space: dict[str, Any]) -> str:
    if not space["revision"]:
        return _code(space["model_id"])
    endpoint = os.environ.get("HF_ENDPOINT", HUB).rstrip("/")
    address = f"{endpoint}/{space['model_id']}/tree/{space['revision']}"
    return f"<a href='{escape(address)}' target='_blank' rel='noopener'>{escape(space['model_id'])}</a>"


def _short_digest(digest: str) -> str:
    return digest[: len("sha256:") + 10]


def _code(text: str, title: str = "") -> str:
    hint = f" title='{escape(title)}'" if title else ""
    return f"<code{hint}>{escape(text)}</code>"
