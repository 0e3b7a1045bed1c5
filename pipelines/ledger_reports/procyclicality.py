"""Procyclicality: how far and how fast the requirement of the live book moved.

Reference: Murphy, Vasios, Vause (2014), "An investigation into the procyclicality of risk-based
initial margin models", Bank of England FSP 29.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ledger.store import Ledger
from market.core.arrays import Floats
from market.core.clock import DAY, format_time
from market.core.errors import DataError
from pipelines.ledger_reports.book_at_time import BookAtTime, RecordedBook
from pipelines.ledger_reports.daily_margin import book_figures
from pipelines.ledger_reports.formats.document import Chart, Report, Table
from pipelines.ledger_reports.request import ReportRequest

INCREASE_DAYS = (1, 5, 20)
"""Days over which the largest increase is measured."""

_SERIES = ("total_requirement", "maintenance_margin", "add_on", "initial_margin")


def procyclicality(ledger: Ledger, request: ReportRequest) -> Report:
    """The requirement of the book at the end of each day, in money and over gross notional.

    Over notional it is free of what clients trade; in money it is what they had to find. A day in
    which the book was not evaluated is left out.

    Raises
    ------
    DataError
        The book was not evaluated in the span.
    """
    recorded = RecordedBook(ledger)
    rows: list[dict[str, float]] = []
    times: list[str] = []
    ends: list[int] = []
    newest: BookAtTime | None = None
    before = request.span.start
    for end in request.span.days():
        book = recorded.find(end)
        if book is not None and book.as_of > before:
            newest = book
            times.append(format_time(book.as_of))
            ends.append(end)
            rows.append(book_figures(book))
        before = end
    if newest is None:
        raise DataError(
            f"the live book was not evaluated after {format_time(request.span.start)} up to "
            f"{format_time(request.span.end)}; choose another span"
        )
    gross = np.array([row["gross_notional"] for row in rows])
    money = {name: np.array([row[name] for row in rows]) for name in _SERIES}
    rates = {
        f"{name}_rate": np.divide(
            values, gross, out=np.full(len(values), np.nan), where=gross > 0.0
        )
        for name, values in money.items()
    }
    series = money | rates
    columns = ("day_end", "gross_notional", *series)
    daily = Table(
        "daily",
        "Requirement at the end of each day",
        columns,
        [
            [time, float(gross[i]), *(_cell(values[i]) for values in series.values())]
            for i, time in enumerate(times)
        ],
        "Names ending in _rate are over gross notional.",
    )
    chart = Chart(
        "rate",
        "Requirement over gross notional",
        tuple(time[:10] for time in times),
        {
            name: [_cell(v) for v in rates[name].tolist()]
            for name in ("total_requirement_rate", "maintenance_margin_rate")
        },
    )
    return Report(
        "procyclicality",
        f"Procyclicality, {format_time(request.span.start)} to {format_time(request.span.end)}",
        {**request.span.facts(), **newest.facts(), "days": len(times)},
        (_measures(series, ends), daily),
        "daily",
        (chart,),
    )


def _measures(series: dict[str, Floats], ends: Sequence[int]) -> Table:
    names = ("peak_to_trough", *(f"max_increase_{n}_days" for n in INCREASE_DAYS))
    return Table(
        "measures",
        "Measures of procyclicality",
        ("series", *names),
        [
            [name, peak_to_trough(values), *(max_increase(values, ends, n) for n in INCREASE_DAYS)]
            for name, values in series.items()
        ],
        "Peak-to-trough: max M / min M. n-day increase: max of M(t + n) / M(t) - 1 over days "
        "that are n days apart; a dash where there are none. A last day that the span cuts off is "
        "not compared.",
    )


def peak_to_trough(values: Floats) -> float | None:
    """``max M / min M``; None without two known values above 0."""
    known = values[values > 0.0]
    return float(known.max() / known.min()) if len(known) > 1 else None


def max_increase(values: Floats, ends: Sequence[int], days: int) -> float | None:
    """The largest ``M(t + n) / M(t) - 1``; None where there are no such days.

    Parameters
    ----------
    values:
        M at the end of each day, shape (T,); NaN, and M(t) up to 0, do not count.
    ends:
        These ends, nanoseconds, length T, rising; days may be missing.
    days:
        n; only ends that are exactly n days apart are compared.
    """
    later = {end - days * DAY: value for end, value in zip(ends, values.tolist(), strict=True)}
    after = np.array([later.get(end, np.nan) for end in ends])
    known = (values > 0.0) & np.isfinite(after)
    return float((after[known] / values[known] - 1.0).max()) if known.any() else None


def _cell(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
