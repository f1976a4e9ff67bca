"""The card of a GGUF repository: small, and every figure from export.json."""

from __future__ import annotations

from pathlib import Path

from release.exports.record import ExportRecord

TEMPLATE = Path(__file__).with_name("card.jinja")


def render_card(record: ExportRecord) -> str:
    """README.md of the export; equal records give equal text."""
    import jinja2

    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, trim_blocks=True, autoescape=False
    )
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    closest = min(record.files, key=lambda file: file.loss.kl_mean)
    return template.render(record=record, closest=closest, bits=_bits)


def _bits(size: int) -> str:
    return f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{size / 1e3:,.0f} kB"
