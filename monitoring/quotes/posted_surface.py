"""Context that quotes of expiries tell: skew, term slope and curvature of a surface."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from features.market.option_surface import surface_figures
from market.bars.panel import CURVATURE, SKEW, TERM_SLOPE
from market.core.clock import Interval
from market.core.errors import InstrumentError
from market.core.instruments import parse_expiry
from market.quotes.quote_store import QuoteField, QuoteStore
from monitoring.market_state.exogenous_updates import ExogenousUpdate, step_open

_SHAPES = ("forward", "svi", "vols")


def surface_facts(
    told: QuoteStore,
    applied: Iterable[QuoteField],
    interval: Interval,
    columns: Mapping[str, int],
) -> list[ExogenousUpdate]:
    """The figures of each surface that new figures moved, as facts of the step of the newest quote.

    They are those of the board as it stands at the close of that step. Figures told of a step
    before it move the board and no step that has gone by.

    Parameters
    ----------
    told:
        All quotes, the new ones among them.
    applied:
        What was new.
    interval:
        Of the bars.
    columns:
        Place of each symbol in the market; an underlying X is symbol X, else XUSDT.
    """
    moved = {
        figure.instrument.rpartition("-")[0]
        for figure in applied
        if figure.figure in _SHAPES and _is_expiry(figure.instrument)
    }
    if not moved or told.newest is None:
        return []
    open_ = step_open(told.newest, interval)
    close = open_ + interval.nanoseconds
    board = told.board(close)
    facts: list[ExogenousUpdate] = []
    for underlying in sorted(moved):
        column = columns.get(underlying, columns.get(f"{underlying}USDT"))
        figures = None if board is None else surface_figures(board, underlying, close)
        if column is None or figures is None:
            continue
        values = zip((SKEW, TERM_SLOPE, CURVATURE), figures, strict=True)
        facts += [ExogenousUpdate(open_, column, kind, value) for kind, value in values]
    return facts


def _is_expiry(name: str) -> bool:
    try:
        parse_expiry(name)
    except InstrumentError:
        return False
    return True
