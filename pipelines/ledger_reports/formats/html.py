"""A report as one HTML page: no script, no outside reference, light and dark, fit for printing."""

from __future__ import annotations

from base64 import b64encode
from html import escape

from pipelines.ledger_reports.formats.charts import draw_chart
from pipelines.ledger_reports.formats.document import (
    Cell,
    Chart,
    Report,
    Table,
    cell_text,
    is_numeric,
)

_STYLE = """
:root { color-scheme: light dark; --ink: #1f2933; --muted: #52606d; --line: #d5dae0;
  --paper: #ffffff; --soft: #f5f7fa; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7eb; --muted: #a3adb8; --line: #3a444f;
  --paper: #15191e; --soft: #1e242b; } }
@media print { :root { --ink: #000000; --muted: #333333; --line: #999999; --paper: #ffffff;
  --soft: #ffffff; } }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 72rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.6rem; margin: 0 0 .5rem; }
p { max-width: 78ch; margin: .4rem 0; }
.note { color: var(--muted); font-size: .9rem; }
.scroll { overflow-x: auto; margin: 1.4rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
caption { text-align: left; font-weight: 600; font-size: 1.05rem; padding: .3rem 0; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
thead th { background: var(--soft); }
.number { text-align: right; white-space: nowrap; }
.facts td { overflow-wrap: anywhere; }
figure { margin: 1.4rem 0; }
figure img { max-width: 100%; height: auto; background: #ffffff; border-radius: 6px;
  padding: .5rem; box-sizing: border-box; }
"""


def html_page(report: Report) -> str:
    """The page of a report; all text is escaped, and the same report gives the same text."""
    title = escape(report.title)
    notes = "".join(f"<p>{escape(note)}</p>\n" for note in report.notes)
    facts = "\n".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(cell_text(value))}</td></tr>'
        for name, value in report.all_facts().items()
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style></head>\n<body><main>\n<h1>{title}</h1>\n"
        + notes
        + "".join(map(_figure, report.charts))
        + "".join(map(_table, report.tables))
        + '<div class="scroll" role="region" aria-label="Basis of the report" tabindex="0">'
        f'<table class="facts"><caption>Basis of the report</caption><tbody>\n{facts}\n'
        "</tbody></table></div>\n</main></body></html>\n"
    )


def _figure(chart: Chart) -> str:
    picture = b64encode(draw_chart(chart, "svg")).decode()
    title = escape(chart.title)
    return (
        f'<figure><img alt="{title}; the figures are in the tables" '
        f'src="data:image/svg+xml;base64,{picture}"></figure>\n'
    )


def _table(table: Table) -> str:
    columns, rows = table.shown()
    numeric = [any(is_numeric(row[i]) for row in rows) for i in range(len(columns))]
    head = "".join(
        f'<th scope="col"{_class(right)}>{escape(name)}</th>'
        for name, right in zip(columns, numeric, strict=True)
    )
    body = "\n".join(_row(row, numeric) for row in rows)
    if not rows:
        body = f'<tr><td colspan="{len(columns)}">none</td></tr>'
    note = f'<p class="note">{escape(table.note)}</p>\n' if table.note else ""
    caption = escape(table.caption())
    return (
        f'<div class="scroll" role="region" aria-label="{caption}" tabindex="0">'
        f"<table><caption>{caption}</caption>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{body}\n</tbody></table></div>\n{note}"
    )


def _row(row: list[Cell], numeric: list[bool]) -> str:
    first, *rest = (escape(cell_text(cell)) for cell in row)
    cells = (f"<td{_class(n)}>{text}</td>" for text, n in zip(rest, numeric[1:], strict=True))
    return f'<tr><th scope="row"{_class(numeric[0])}>{first}</th>{"".join(cells)}</tr>'


def _class(right: bool) -> str:
    return ' class="number"' if right else ""
