"""Daily margin: requirement, add-on and resources of the book, by account and by underlying."""

from __future__ import annotations

import numpy as np

from ledger.store import Ledger
from margin.life_cycle.states import State
from market.core.arrays import Floats
from market.core.clock import format_time
from market.core.errors import DataError
from pipelines.ledger_reports.book_at_time import BookAtTime, RecordedBook, float_cell, total
from pipelines.ledger_reports.formats.document import Cell, Chart, Report, Table
from pipelines.ledger_reports.request import ReportRequest

ACCOUNT_COLUMNS = (
    *("account_id", "state", "equity", "initial_margin", "maintenance_margin", "add_on"),
    *("total_requirement", "headroom", "deposit_to_meet", "gross_notional", "floor", "binding"),
    *("positions", "level_as_of", "problem"),
)


def daily_margin(ledger: Ledger, request: ReportRequest) -> Report:
    """The margin of the book at the end of a span, beside the day before.

    Raises
    ------
    DataError
        The book was not evaluated by then, or has no such account.
    """
    recorded = RecordedBook(ledger)
    before = recorded.find(request.span.start)
    book = recorded.at(request.span.end)
    rows = chosen_rows(book, request.account)
    by_account = Table(
        "by_account",
        "Margin by account",
        ACCOUNT_COLUMNS,
        [account_row(book, row) for row in rows],
        "Largest total requirement first.",
    )
    by_underlying = _by_underlying(book, rows)
    labels = tuple(str(row[0]) for row in by_underlying.rows[:12])
    bars = [row[1] for row in by_underlying.rows[:12]]
    chart = Chart(
        "by_underlying",
        "Total requirement by underlying",
        labels,
        {"total_requirement": [x if isinstance(x, float) else None for x in bars]},
        bars=True,
    )
    return Report(
        "daily-margin",
        f"Daily margin, {format_time(request.span.end)}",
        {**request.span.facts(), **book.facts(), "account_id": request.account},
        (_summary(book, before, request.account), by_underlying, by_account),
        "by_account",
        (chart,) if labels else (),
        (
            "Margin is required on the whole book in the settlement currency: maintenance margin "
            "by the rules, and the add-on above it, within rule floor and cap.",
        ),
    )


def chosen_rows(book: BookAtTime, account: str | None) -> list[int]:
    """Rows of the accounts of a report, the largest requirement first, those unknown last.

    Raises
    ------
    DataError
        The book has no such account.
    """
    if account is None:
        return list(np.argsort(-book.total_requirement, kind="stable").tolist())
    row = book.state.index.get(account)
    if row is None:
        raise DataError(
            f"account {account!r} is not in the live book at {format_time(book.as_of)}; give an "
            "account that is"
        )
    return [row]


def account_row(book: BookAtTime, row: int) -> list[Cell]:
    """The cells of `ACCOUNT_COLUMNS` of one account."""
    columns, level_as_of = book.columns, int(book.state.levels.as_of[row])
    problem = columns.problems.get(row)
    return [
        book.accounts[row].account.account_id,
        State(int(book.state.states.state[row])).label,
        float_cell(columns.equity[row]),
        float_cell(columns.initial_margin[row]),
        float_cell(columns.maintenance_margin[row]),
        float_cell(columns.add_on[row]),
        float_cell(book.total_requirement[row]),
        float_cell(columns.headroom[row]),
        float_cell(book.deposit[row]),
        float_cell(columns.gross_notional[row]),
        float_cell(columns.floor[row]),
        book.binding(row),
        int(columns.positions[row]),
        format_time(level_as_of) if level_as_of >= 0 else None,
        None if problem is None else str(problem),
    ]


def book_figures(book: BookAtTime, rows: list[int] | None = None) -> dict[str, float]:
    """Sums over the book, or over some accounts."""
    chosen = np.arange(len(book.accounts)) if rows is None else np.array(rows, dtype=np.int64)
    columns = book.columns
    state = book.state.states.state[chosen]
    return {
        "total_requirement": total(book.total_requirement[chosen]),
        "maintenance_margin": total(columns.maintenance_margin[chosen]),
        "add_on": total(columns.add_on[chosen]),
        "rule_floor": total(columns.floor[chosen]),
        "initial_margin": total(columns.initial_margin[chosen]),
        "equity": total(columns.equity[chosen]),
        "gross_notional": total(columns.gross_notional[chosen]),
        "deposit_to_meet": total(book.deposit[chosen]),
        "accounts_below_level": float((book.deposit[chosen] > 0.0).sum()),
        "accounts_called": float((state == State.CALLED).sum()),
        "accounts_liquidating": float((state == State.LIQUIDATING).sum()),
    }


def _summary(book: BookAtTime, before: BookAtTime | None, account: str | None) -> Table:
    now = book_figures(book, None if account is None else chosen_rows(book, account))
    then: dict[str, float] = {}
    if before is not None and (account is None or account in before.state.index):
        then = book_figures(before, None if account is None else chosen_rows(before, account))
    rows: list[list[Cell]] = []
    for name, value in now.items():
        old = then.get(name)
        change = None if old is None else value - old
        relative = None if old is None or change is None or old == 0.0 else change / old
        rows.append([name, value, old, change, relative])
    at = "no evaluation" if before is None else format_time(before.as_of)
    return Table(
        "book",
        "The book",
        ("figure", "value", "before", "change", "relative_change"),
        rows,
        f"Before: the book at the start of the span ({at}). Compare initial_margin with "
        "CPMI-IOSCO disclosure 6.1, total initial margin required.",
    )


def _by_underlying(book: BookAtTime, rows: list[int]) -> Table:
    owner, share = book.share_by_leg()
    inside = np.zeros(len(book.accounts), dtype=np.bool_)
    inside[rows] = True
    inside &= np.isfinite(book.total_requirement)
    legs = np.flatnonzero(inside[owner])
    symbols = book.snapshot.features.symbols
    found = book.requirement
    place = found.leg_symbol[legs]
    notional = np.nan_to_num(found.leg_notional[legs])

    def summed(weights: Floats) -> list[float]:
        return list(np.bincount(place, weights, len(symbols)).tolist())

    columns = book.columns
    figures = [
        summed(share[legs] * values[owner[legs]])
        for values in (
            book.total_requirement,
            columns.maintenance_margin,
            columns.add_on,
            columns.initial_margin,
        )
    ]
    figures += [
        summed(np.maximum(notional, 0.0)),
        summed(np.maximum(-notional, 0.0)),
        summed(np.abs(notional)),
    ]
    held = np.flatnonzero(np.bincount(place, minlength=len(symbols))).tolist()
    held.sort(key=lambda s: (-figures[0][s], symbols[s]))
    return Table(
        "by_underlying",
        "Margin by underlying",
        (
            *("underlying", "total_requirement", "maintenance_margin", "add_on", "initial_margin"),
            *("long_notional", "short_notional", "gross_notional", "positions"),
        ),
        [[symbols[s], *(column[s] for column in figures), int((place == s).sum())] for s in held],
        "The margin of an account is spread over its positions by their absolute notional.",
    )
