"""Exogenous series from quotes of expiries: skew, term slope and curvature of a surface."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from features.market.option_surface import surface_figures
from market.bars.panel import CURVATURE, SKEW, TERM_SLOPE
from market.core.clock import Interval
from market.core.errors import InstrumentError
from market.core.instruments import parse_expiry
from market.quotes.quote_store import QuoteField, QuoteStore
from monitoring.market_state.exogenous import ExogenousUpdate, step_open

_SHAPES = ("forward", "svi", "vols")


def surface_updates(
    quotes: QuoteStore,
    applied: Iterable[QuoteField],
    interval: Interval,
    columns: Mapping[str, int],
) -> list[ExogenousUpdate]:
    """Updates of each surface that new fields change, for the step of the newest quote.

    Their values are those of the board at the close of that step. Fields of an earlier time change
    the board and no step that is over.

    Parameters
    ----------
    quotes:
        All quotes, the new ones among them.
    applied:
        The new fields.
    interval:
        Of the bars.
    columns:
        Place of each symbol in the market; an underlying X is symbol X, else XUSDT.
    """
    changed = {
        field.instrument.rpartition("-")[0]
        for field in applied
        if field.figure in _SHAPES and _is_expiry(field.instrument)
    }
    if not changed or quotes.newest is None:
        return []
    open_ = step_open(quotes.newest, interval)
    close = open_ + interval.nanoseconds
    board = quotes.board(close)
    updates: list[ExogenousUpdate] = []
    for underlying in sorted(changed):
        column = columns.get(underlying, columns.get(f"{underlying}USDT"))
        fields = None if board is None else surface_figures(board, underlying, close)
        if column is None or fields is None:
            continue
        values = zip((SKEW, TERM_SLOPE, CURVATURE), fields, strict=True)
        updates += [ExogenousUpdate(open_, column, kind, value) for kind, value in values]
    return updates


def _is_expiry(name: str) -> bool:
    try:
        parse_expiry(name)
    except InstrumentError:
        return False
    return True
