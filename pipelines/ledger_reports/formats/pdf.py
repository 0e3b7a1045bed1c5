"""A report as PDF by ReportLab (BSD licence), in the extra ``pdf``.

The fonts are those that every reader has, of which Latin-1 is sure to be drawn: other characters
are written as ``\\uXXXX``. Dates and ids of the file are fixed, so the same report gives the same
bytes under one version of ReportLab.
"""

from __future__ import annotations

import io
from html import escape
from typing import Any

from reportlab.lib import colors
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4, landscape
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.platypus import Image, LongTable, Paragraph, SimpleDocTemplate, Spacer, TableStyle

from pipelines.ledger_reports.formats.charts import draw_chart
from pipelines.ledger_reports.formats.document import Cell, Report, Table, cell_text, is_numeric

_BODY = ParagraphStyle("body", fontName="Helvetica", fontSize=9, leading=12, spaceAfter=3)
_TITLE = ParagraphStyle("title", parent=_BODY, fontName="Helvetica-Bold", fontSize=16, leading=20)
_CAPTION = ParagraphStyle(
    "caption", parent=_BODY, fontName="Helvetica-Bold", fontSize=11, leading=15, keepWithNext=1
)
_CELL = ParagraphStyle("cell", fontName="Helvetica", fontSize=7, leading=9, splitLongWords=True)
_NUMBER = ParagraphStyle("number", parent=_CELL, alignment=TA_RIGHT)
_HEAD = ParagraphStyle("head", parent=_CELL, fontName="Helvetica-Bold")
_NUMBER_HEAD = ParagraphStyle("number-head", parent=_HEAD, alignment=TA_RIGHT)
_GRID = TableStyle(
    [
        ("LINEBELOW", (0, 0), (-1, -1), 0.25, colors.HexColor("#d5dae0")),
        ("BACKGROUND", (0, 0), (-1, 0), colors.HexColor("#f5f7fa")),
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        *(((side), (0, 0), (-1, -1), 2) for side in ("LEFTPADDING", "RIGHTPADDING")),
        *(((side), (0, 0), (-1, -1), 1.5) for side in ("TOPPADDING", "BOTTOMPADDING")),
    ]
)
_MARGIN = 14 * mm
_WIDTH = landscape(A4)[0] - 2 * _MARGIN


def pdf_bytes(report: Report) -> bytes:
    """The report on landscape A4 pages, with its kind and number at the foot of each."""
    sink = io.BytesIO()
    document = SimpleDocTemplate(
        sink,
        pagesize=landscape(A4),
        leftMargin=_MARGIN,
        rightMargin=_MARGIN,
        topMargin=_MARGIN,
        bottomMargin=_MARGIN,
        title=_latin(report.title),
        author="Margincast",
        subject=report.kind,
        creator="Margincast",
        lang="en",
        invariant=1,
    )
    parts: list[Any] = [Paragraph(_markup(report.title), _TITLE), Spacer(1, 3 * mm)]
    parts += [Paragraph(_markup(note), _BODY) for note in report.notes]
    for chart in report.charts:
        picture = Image(io.BytesIO(draw_chart(chart, "png")))
        picture.drawWidth, picture.drawHeight = _fit(picture.drawWidth, picture.drawHeight)
        parts += [Spacer(1, 3 * mm), picture]
    for table in report.tables:
        parts += _table(table)
    facts = [[name, cell_text(value)] for name, value in report.all_facts().items()]
    parts += _table(Table("facts", "Basis of the report", ("name", "value"), facts))

    def foot(canvas: Any, _document: Any) -> None:
        canvas.setFont("Helvetica", 7)
        canvas.drawString(_MARGIN, 7 * mm, _latin(report.title))
        canvas.drawRightString(_MARGIN + _WIDTH, 7 * mm, str(canvas.getPageNumber()))

    document.build(parts, onFirstPage=foot, onLaterPages=foot)
    return sink.getvalue()


def _table(table: Table) -> list[Any]:
    columns, rows = table.shown()
    styles = [
        (_NUMBER, _NUMBER_HEAD) if any(is_numeric(row[i]) for row in rows) else (_CELL, _HEAD)
        for i in range(len(columns))
    ]
    head = [
        Paragraph(_markup(name.replace("_", " ")), style)
        for name, (_, style) in zip(columns, styles, strict=True)
    ]
    body = [
        [
            Paragraph(_markup(cell_text(cell)), style)
            for cell, (style, _) in zip(row, styles, strict=True)
        ]
        for row in rows
    ]
    if not body:
        body = [[Paragraph("none", _CELL), *([""] * (len(columns) - 1))]]
    parts = [
        Spacer(1, 4 * mm),
        Paragraph(_markup(table.caption()), _CAPTION),
        LongTable(
            [head, *body],
            colWidths=_widths(columns, rows),
            repeatRows=1,
            style=_GRID,
            hAlign="LEFT",
        ),
    ]
    return [*parts, Paragraph(_markup(table.note), _BODY)] if table.note else parts


def _widths(columns: tuple[str, ...], rows: list[list[Cell]]) -> list[float]:
    """Widths by the longest text of each column, within bounds, as wide as the page at most."""
    longest = [
        max(len(name) * 0.7, *(len(cell_text(row[i])) for row in rows), 4.0)
        if rows
        else float(len(name))
        for i, name in enumerate(columns)
    ]
    wanted = [min(70.0, chars) * 4.0 + 6.0 for chars in longest]
    scale = min(1.0, _WIDTH / sum(wanted))
    return [width * scale for width in wanted]


def _fit(width: float, height: float) -> tuple[float, float]:
    scale = min(1.0, 0.8 * _WIDTH / width)
    return width * scale, height * scale


def _markup(text: str) -> str:
    return escape(_latin(text))


def _latin(text: str) -> str:
    """Text in the characters of Latin-1; dashes are plain, others escaped."""
    plain = text.replace("\N{EN DASH}", "-").replace("\N{MINUS SIGN}", "-")
    return plain.encode("latin-1", "backslashreplace").decode("latin-1")
