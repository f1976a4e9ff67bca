"""`python -m training report`: the curves of a run's metrics.jsonl as one HTML page that needs nothing beside it.

    python -m training report runs/ppo            # writes runs/ppo/report.html

It reads PPO's lines and those of TRL's trainers, of a run that is finished, stopped, or still going. The page says what could not
be drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from training.completions import FILE as COMPLETIONS
from training.completions import read_completions
from training.counted import counted, shortened
from training.curves import COLOURS, Series, panel
from training.errors import UsageError
from training.metrics_file import FILE, Metrics, is_finite, read_metrics
from training.records import write_atomically
from training.run_record import RunRecord

KL = "KL to the reference (nats a response)"
# RLOO and GRPO log the mean over tokens (TRL 1.16), under the same key.
KL_OF_TRL = "KL to the reference (nats a token)"
# Panels in their order: title, and the keys that are drawn in it, of PPO and of TRL's trainers.
PANELS = (
    ("Reward", ("reward_mean", "reward", "heldout_reward")),
    (KL, ("kl", "heldout_kl")),
    ("Coefficient of the KL penalty", ("kl_coef",)),
    ("Response length (tokens)", ("response_tokens", "completions/mean_length")),
    ("Responses that end by themselves", ("ended",)),
    ("Loss", ("loss", "eval_loss")),
    ("Policy loss", ("policy_loss",)),
    ("Value loss", ("value_loss",)),
    ("Loss on the mixed-in data (nats a token)", ("ptx_loss", "ptx_heldout_loss")),
    ("Entropy (nats)", ("entropy",)),
    ("Rewards of the two answers", ("rewards/chosen", "rewards/rejected")),
    ("The reward model's scores", ("mean_reward", "min_reward", "max_reward")),
    ("Margin", ("margin", "rewards/margins")),
    ("Accuracy", ("accuracy", "eval_accuracy", "rewards/accuracies", "mean_token_accuracy")),
    ("KL within an update (nats a token)", ("approx_kl",)),
    ("Tokens clipped", ("clip_fraction", "value_clip_fraction")),
    ("Gradient's norm", ("grad_norm", "critic_grad_norm")),
    ("Learning rate", ("learning_rate",)),
)
SCHEDULES = ("kl_coef", "learning_rate")  # drawn where they change
BANDS = {"reward_mean": "reward_std", "reward": "reward_std"}  # mean -> deviation
NOT_CURVES = (
    "step",
    "steps",
    "episodes",
    "epoch",
    "seconds",
    "seconds_sampling",
    "step_time",
    "num_tokens",
    "total_flos",
)
SHOWN_UPDATES = 10  # at most about so many updates' responses are shown
STYLE = """
:root { color-scheme: light dark; --ground: #fcfcfa; --ink: #17191d; --soft: #5b616b; --line: #dcdedb;
  --c0: #0072b2; --c1: #b45309; --c2: #00795a; --c3: #8b4a86; }
@media (prefers-color-scheme: dark) { :root { --ground: #17191d; --ink: #eceeec; --soft: #a4aab4; --line: #363a41;
  --c0: #56b4e9; --c1: #f0a04b; --c2: #4cc2a0; --c3: #d79fd0; } }
body { margin: 0 auto; padding: 1.5rem; max-width: 96rem; background: var(--ground); color: var(--ink);
  font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.4rem; margin: 0 0 .2rem; overflow-wrap: anywhere; } h2 { font-size: 1rem; margin: 0 0 .2rem; }
p { margin: .2rem 0; color: var(--soft); overflow-wrap: anywhere; }
.notes { margin: 0; padding-left: 1.2em; color: var(--soft); overflow-wrap: anywhere; }
.stopped { color: var(--c1); font-weight: 600; white-space: pre-line; }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 25rem), 1fr)); gap: 1.4rem; margin-top: 1.2rem; }
svg { width: 100%; height: auto; display: block; }
.grid { stroke: var(--line); } .tick { fill: var(--soft); font: 11px system-ui, sans-serif; }
.curve.c0 { stroke: var(--c0); } .curve.c1 { stroke: var(--c1); } .curve.c2 { stroke: var(--c2); } .curve.c3 { stroke: var(--c3); }
.c0:not(.curve) { fill: var(--c0); } .c1:not(.curve) { fill: var(--c1); } .c2:not(.curve) { fill: var(--c2); }
.c3:not(.curve) { fill: var(--c3); }
.curve { fill: none; stroke-width: 2; stroke-linejoin: round; } .band { opacity: .16; stroke: none; }
.key { white-space: nowrap; margin-right: 1em; } .key::before { content: ""; display: inline-block; width: .8em; height: .8em;
  margin-right: .35em; border-radius: 50%; background: var(--mine); vertical-align: -0.05em; }
table { border-collapse: collapse; margin-top: .6rem; }
td, th { text-align: right; padding: .15rem .8rem .15rem 0; font-weight: 400;
  border-bottom: 1px solid var(--line); font-variant-numeric: tabular-nums; } th:first-child, td:first-child { text-align: left; }
.said td { vertical-align: top; white-space: pre-wrap; overflow-wrap: anywhere; } .said td:nth-child(2) { text-align: left; }
details { margin-top: 1.4rem; overflow-x: auto; } summary { cursor: pointer; }
"""


def report(run: Path, out: Path | None) -> dict[str, Any]:
    """Write the page and return the command's result. Raises UsageError where there are no metrics to draw."""
    metrics = read_metrics(run)
    record = RunRecord.read(run / "run.json") if (run / "run.json").is_file() else None
    drawn = panels(metrics.lines)
    if not drawn:
        raise UsageError(
            "the run's metrics hold nothing that could be drawn",
            where=str(run / FILE),
            expected="finite numbers",
            found="; ".join([counted(len(metrics.lines), "line"), *metrics.notes]),
            next_step=f"its figures stand in {run / 'run.json'}" if record else "wait for more of the run",
        )
    said, unsaid = _responses(run)
    metrics = Metrics(metrics.lines, [*metrics.notes, *_off_the_axis(metrics.lines), *unsaid])
    target = out if out is not None else run / "report.html"
    write_atomically(target, page(run.resolve().name, metrics, drawn, record, said).encode())
    last = {one.name: one.points[-1][1] for _, series in drawn for one in series}
    summary = [str(target), *(f"  {name:<28} {value:.6g}" for name, value in last.items())]
    summary += [f"  not drawn: {note}" for note in metrics.notes]
    return {
        "report": str(target),
        "lines": len(metrics.lines),
        "last": last,
        "not_drawn": metrics.notes,
        "summary": "\n".join(summary),
    }


def _off_the_axis(lines: Sequence[dict[str, Any]]) -> list[str]:
    """A note of lines that have numbers and no place on the axis."""
    x = x_key(lines)
    without = [str(number) for number, line in enumerate(lines, 1) if _place(line, x, number) is None]
    return [f"{counted(len(without), 'line')} without a number under {x}: {shortened(without, 5)}"] if without else []


def _responses(run: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The sampled responses that can be shown, and a note of those that cannot."""
    try:
        rows = read_completions(run)
    except ValueError as error:  # no JSON, or no UTF-8
        return [], [f"no sampled responses, for {COMPLETIONS} cannot be read: {error}"]
    whole = [row for row in rows if isinstance(row, dict) and _is_response(row)]
    lacking = len(rows) - len(whole)
    return whole, [
        f"{counted(lacking, 'row')} of {COMPLETIONS} without prompt, response, reward or KL"
    ] if lacking else []


def _is_response(row: dict[str, Any]) -> bool:
    numbers = all(is_finite(row.get(key)) for key in ("step", "reward", "kl"))
    return numbers and all(isinstance(row.get(key), str) for key in ("prompt", "response")) and "ended" in row


def panels(lines: Sequence[dict[str, Any]]) -> list[tuple[str, list[Series]]]:
    """What can be drawn: the known panels in their order, then a panel for each other number that is a curve."""
    keys = dict.fromkeys(key for line in lines for key, value in line.items() if is_finite(value))
    known = {key for _, some in PANELS for key in some}
    hidden = {*NOT_CURVES, *BANDS.values(), *known}
    fewest = 2 if len(lines) > 1 else 1  # what stands in one line of many is a figure at the end and no curve
    others = [(key, (key,)) for key in keys if key not in hidden and not key.startswith("train_")]
    found = []
    for title, some in (*PANELS, *others):
        series = [one for key in some if (one := _series(lines, key)) is not None]
        if series and max(len(one.points) for one in series) >= fewest:
            found.append((KL_OF_TRL if title == KL and "reward_mean" not in keys else title, series))
    return found


def page(
    name: str,
    metrics: Metrics,
    drawn: Sequence[tuple[str, list[Series]]],
    record: RunRecord | None,
    completions: Sequence[dict[str, Any]] = (),
) -> str:
    """The whole page. What comes from the run is text in it, never markup."""
    x_label = x_key(metrics.lines)
    figures = "".join(
        f"<section><h2>{escape(title)}</h2><p>{_keys(series)}</p>{panel(title, series, x_label)}</section>"
        for title, series in drawn
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(name)}: training report</title><style>{STYLE}</style></head><body>"
        f"<header><h1>{escape(name)}</h1>{_about(metrics.lines, record)}{_notes(metrics.notes)}</header><main>{figures}</main>"
        f"{_said(completions)}{_table(drawn, x_label)}</body></html>\n"
    )


def x_key(lines: Sequence[dict[str, Any]]) -> str:
    """What the curves run over: episodes where every line has them, else steps, else the file's lines."""
    if lines and all(is_finite(line.get("episodes")) for line in lines):
        return "episodes"
    return "step" if any(is_finite(line.get("step")) for line in lines) else "line"


def _place(line: dict[str, Any], x: str, number: int) -> float | None:
    """Where on the axis the line lies; None where it has no number for it."""
    value = number if x == "line" else line.get(x)
    return float(value) if is_finite(value) else None


def _notes(notes: Sequence[str]) -> str:
    """What is not drawn."""
    told = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f'<p class="stopped">Not drawn:</p><ul class="notes">{told}</ul>' if notes else ""


def _about(lines: Sequence[dict[str, Any]], record: RunRecord | None) -> str:
    if record is None:
        return f"<p>{counted(len(lines), 'line')} so far; the run is not finished.</p>"
    rows = "".join(
        f"<tr><td>{escape(key)}</td><td>{'none, of a single value' if value is None else f'{value:.6g}'}</td></tr>"
        for key, value in sorted(record.metrics.items())
    )
    base = record.parent("base")
    stopped = f'<p class="stopped">Stopped: {escape(record.stopped)}</p>' if record.stopped else ""
    return stopped + (
        f"<p>{escape(record.method)} of {escape(base.hub_id or base.name) if base else 'no base'}, begun {escape(record.started)}, "
        f"{record.seconds:.0f} s on {escape(record.hardware.device)}. Checkpoint {escape(record.checkpoint_digest)}.</p>"
        f"<details><summary>Figures of the run</summary><table>{rows}</table></details>"
    )


def _keys(series: Sequence[Series]) -> str:
    return "".join(
        f'<span class="key" style="--mine:var(--c{number % COLOURS})">{escape(one.name)}'
        f"{' ± deviation' if one.band else ''}: {one.points[-1][1]:.4g}</span>"
        for number, one in enumerate(series)
    )


def _said(completions: Sequence[dict[str, Any]]) -> str:
    """Sampled responses, an update's together: the last update's in sight, SHOWN_UPDATES of all folded, the newest first."""
    steps = sorted({int(row["step"]) for row in completions})
    if not steps:
        return ""
    apart = max(1, -(-len(steps) // SHOWN_UPDATES))
    shown = sorted({*steps[::apart], steps[-1]}, reverse=True)
    parts = []
    for step in shown:
        rows = "".join(
            f"<tr><td>{escape(row['prompt'])}</td><td>{escape(row['response'])}{'' if row['ended'] else ' …'}</td>"
            f"<td>{row['reward']:.4g}</td><td>{row['kl']:.4g}</td></tr>"
            for row in completions
            if row["step"] == step
        )
        parts.append(
            f"<details{' open' if step == steps[-1] else ''}><summary>Responses of update {step}</summary>"
            '<table class="said"><tr><th>prompt</th><th>response</th><th>reward</th><th>KL (nats)</th></tr>'
            f"{rows}</table></details>"
        )
    return "".join(parts)


def _table(drawn: Sequence[tuple[str, list[Series]]], x_label: str) -> str:
    """Every number of the curves, for those who want to read or copy it."""
    series = [one for _, some in drawn for one in some]
    columns = [dict(one.points) for one in series]
    head = "".join(f"<th>{escape(one.name)}</th>" for one in series)
    body = "".join(
        f"<tr><td>{x:g}</td>"
        + "".join(f"<td>{column[x]:.6g}</td>" if x in column else "<td></td>" for column in columns)
        + "</tr>"
        for x in sorted({x for column in columns for x in column})
    )
    return f"<details><summary>All numbers</summary><table><tr><th>{escape(x_label)}</th>{head}</tr>{body}</table></details>"


def _series(lines: Sequence[dict[str, Any]], key: str) -> Series | None:
    x = x_key(lines)
    placed = [(_place(line, x, number), line) for number, line in enumerate(lines, 1) if is_finite(line.get(key))]
    rows = [(place, line) for place, line in placed if place is not None]
    if not rows:
        return None
    if key in SCHEDULES and len({line[key] for _, line in rows}) == 1:
        return None
    band = BANDS.get(key, "")
    spread = [float(line[band]) for _, line in rows] if all(is_finite(line.get(band)) for _, line in rows) else []
    return Series(key, [(place, float(line[key])) for place, line in rows], spread)
