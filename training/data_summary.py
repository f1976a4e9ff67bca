"""What is said of data before it is used: one line with formats, columns, rows, what was left out, and one row, shortened.

data org/name (train): hh-rlhf transcripts {chosen, rejected}; columns chosen, rejected; 1500 rows to train on, 500 held out; ...
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from training.counted import counted
from training.run_record import DataSource

if TYPE_CHECKING:
    from training.data import Conversation

WIDTH = 48  # characters of each of the row's texts


def described(source: DataSource, row: Conversation) -> str:
    """The line for data of which `row` is one."""
    left_out = ", ".join(f"{count} {why}" for why, count in sorted(source.why_dropped.items()))
    said = [
        f"data {source.id} ({source.split}): {' and '.join(source.formats)}",
        f"columns {', '.join(source.columns)}",
        f"{counted(source.rows, 'row')} to train on, {source.heldout_rows} held out",
        f"left out: {left_out or 'none'}",
    ]
    return "; ".join(said + [f"{name} {_shortened(value)}" for name, value in vars(row).items() if value != []])


def _shortened(value: Any) -> str:
    """A value of a row on one line: of messages, what the last one says."""
    if isinstance(value, list):
        value = value[-1]["content"]
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 4]}...{text[0]}"
