"""Concentration and liquidity: largest accounts and positions, and the time to close them."""

from __future__ import annotations

import numpy as np

from ledger.store import Ledger
from market.core.arrays import Floats
from market.core.clock import format_time
from pipelines.ledger_reports.book_at_time import BookAtTime, RecordedBook, float_cell
from pipelines.ledger_reports.formats.document import Chart, Report, Table
from pipelines.ledger_reports.request import ReportRequest

LARGEST = (1, 5, 10)
"""Numbers of the largest accounts whose share is reported."""


def concentration(ledger: Ledger, request: ReportRequest) -> Report:
    """Concentration of the book at the end of a span.

    Days to close a position: ``|notional| / (concentration_share x ADV)``, with the share of the
    average daily volume that the rule set's liquidity floor takes as traded in a day.

    Raises
    ------
    DataError
        The book was not evaluated by then.
    """
    book = RecordedBook(ledger).at(request.span.end)
    share = book.ruleset.floors.liquidity.concentration_share
    underlyings, accounts = _by_underlying(book, share), _by_account(book, share)
    chart = Chart(
        "days_to_close",
        "Days to close the net position by underlying",
        tuple(str(row[0]) for row in underlyings.rows[:12]),
        {
            "days": [
                value if isinstance(value := row[-1], float) else None
                for row in underlyings.rows[:12]
            ]
        },
        bars=True,
    )
    return Report(
        "concentration",
        f"Concentration and liquidity, {format_time(request.span.end)}",
        {**request.span.facts(), **book.facts(), "concentration_share": share},
        (_shares(book), underlyings, accounts),
        "by_account",
        (chart,) if underlyings.rows else (),
    )


def herfindahl(values: Floats) -> float | None:
    """Herfindahl-Hirschman index ``sum (x / sum x)^2`` in [1/n, 1]; None where the sum is 0."""
    known = values[values > 0.0]
    total = float(known.sum())
    return float(((known / total) ** 2).sum()) if total > 0.0 else None


def largest_share(values: Floats, count: int) -> float | None:
    """Share of the largest `count` in the sum; None where the sum is 0."""
    known = np.sort(values[values > 0.0])[::-1]
    total = float(known.sum())
    return float(known[:count].sum()) / total if total > 0.0 else None


def _shares(book: BookAtTime) -> Table:
    series = {
        "initial_margin": book.columns.initial_margin,
        "total_requirement": book.total_requirement,
        "gross_notional": book.columns.gross_notional,
    }
    return Table(
        "shares",
        "Shares of the largest accounts",
        ("figure", *(f"largest_{n}_share" for n in LARGEST), "herfindahl_index", "accounts"),
        [
            [
                name,
                *(largest_share(values, n) for n in LARGEST),
                herfindahl(values),
                int((values > 0.0).sum()),
            ]
            for name, values in series.items()
        ],
        "Compare the CPMI-IOSCO disclosures on the concentration of initial margin among the "
        "largest clearing members.",
    )


def _notional(book: BookAtTime) -> Floats:
    return np.nan_to_num(book.requirement.leg_notional)


def _days(size: Floats, adv: Floats, share: float) -> Floats:
    """Days to trade a size; NaN where the volume is not known, infinite without any."""
    with np.errstate(divide="ignore", invalid="ignore"):
        days = size / (share * adv)
    return np.where(size == 0.0, 0.0, days)


def _by_underlying(book: BookAtTime, share: float) -> Table:
    view, found = book.snapshot.view(), book.requirement
    count = len(view.symbols)
    valued = found.leg_symbol >= 0
    symbol, notional = found.leg_symbol[valued], _notional(book)[valued]
    owner = np.repeat(np.arange(len(book.accounts)), np.diff(found.leg_start))[valued]
    long = np.bincount(symbol, np.maximum(notional, 0.0), count)
    short = np.bincount(symbol, np.maximum(-notional, 0.0), count)
    gross, net = long + short, np.abs(long - short)
    held = np.flatnonzero(gross > 0.0).tolist()
    held.sort(key=lambda s: (-gross[s], view.symbols[s]))
    with np.errstate(divide="ignore", invalid="ignore"):
        of_volume = gross / view.adv
    days = _days(net, view.adv, share)

    def of_accounts(s: int) -> Floats:
        mine = symbol == s
        sizes = np.bincount(owner[mine], np.abs(notional[mine]), len(book.accounts))
        return np.asarray(sizes, dtype=np.float64)

    return Table(
        "by_underlying",
        "By underlying",
        (
            *("underlying", "long_notional", "short_notional", "gross_notional", "net_notional"),
            *("average_daily_volume", "gross_over_volume", "herfindahl_index", "largest_share"),
            "days_to_close_net",
        ),
        [
            [
                view.symbols[s],
                float(long[s]),
                float(short[s]),
                float(gross[s]),
                float(long[s] - short[s]),
                float_cell(view.adv[s]),
                float_cell(of_volume[s]),
                herfindahl(of_accounts(s)),
                largest_share(of_accounts(s), 1),
                float_cell(days[s]),
            ]
            for s in held
        ],
        "Herfindahl index and largest share are over accounts, by absolute notional. A dash: the "
        "average daily volume is not known; beside a volume of 0: the position cannot be closed.",
    )


def _by_account(book: BookAtTime, share: float) -> Table:
    view, found = book.snapshot.view(), book.requirement
    size = np.abs(_notional(book))
    days = _days(size, np.where(found.leg_symbol >= 0, view.adv[found.leg_symbol], np.nan), share)
    gross = book.columns.gross_notional
    rows = []
    for i in np.argsort(-gross, kind="stable").tolist():
        legs = slice(int(found.leg_start[i]), int(found.leg_start[i + 1]))
        mine = days[legs]
        slowest = None if np.isnan(mine).all() else legs.start + int(np.nanargmax(mine))
        rows.append(
            [
                book.accounts[i].account.account_id,
                float_cell(gross[i]),
                float_cell(book.total_requirement[i]),
                legs.stop - legs.start,
                herfindahl(size[legs]),
                None if slowest is None else book.book.leg_instrument[slowest],
                None if slowest is None else float_cell(days[slowest]),
            ]
        )
    return Table(
        "by_account",
        "By account",
        (
            *("account_id", "gross_notional", "total_requirement", "positions"),
            *("herfindahl_index", "slowest_instrument", "days_to_close"),
        ),
        rows,
        "The Herfindahl index is over the positions of the account. A dash beside an "
        "instrument: it has no volume, and the position cannot be closed.",
    )
