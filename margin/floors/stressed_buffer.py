"""Stressed buffer: built in calm markets, drawn down by a declared schedule in stress."""

from __future__ import annotations

import numpy as np

from margin.book.account_requirement import Requirement
from margin.floors.coverage import JointMargin, current_margin
from margin.floors.term import FloorTerm, beyond_maintenance, maintenance_term
from margin.rules.floors import FloorRules, remaining_share, table_of
from margin.valuation.view import MarketView
from market.core.arrays import Floats


def stressed_buffer_floor(requirement: Requirement, view: MarketView, rules: FloorRules) -> Floats:
    """Level that lifts the margin to the current one with what remains of the buffer.

    ``min(gross notional, M * (1 + buffer * remaining(stress))) - maintenance margin``, where M is
    the current margin, see `margin.floors.coverage.JointMargin`, and `remaining` goes in straight
    lines through the declared schedule, see `margin.rules.floors.remaining_share`. A function of
    the view alone: earlier draw-downs play no part. Shapes, NaN policy and errors as in
    `margin.floors.registry.Floor`. Tables: ``stressed_buffer``, ``coverage``, ``correlation``.

    References
    ----------
    Commission Delegated Regulation (EU) No 153/2013, Article 28(1)(a).
    """
    _, _, usable, current = _parts(requirement, view, rules)
    return beyond_maintenance(requirement, current.margin + usable)


def explain_stressed_buffer(
    requirement: Requirement, view: MarketView, rules: FloorRules
) -> tuple[FloorTerm, ...]:
    """Terms of `stressed_buffer_floor`."""
    share, buffer, usable, current = _parts(requirement, view, rules)
    return (
        *current.terms(),
        FloorTerm(
            "buffer",
            f"buffer on the current margin, {share:.1%} of it left at a stress of "
            f"{market_stress(view):.2f}",
            "account",
            buffer,
        ),
        FloorTerm(
            "not_above_notional", "no margin exceeds the notional", "account", usable - buffer
        ),
        maintenance_term(requirement.maintenance_margin),
    )


def market_stress(view: MarketView) -> float:
    """Newest over long volatility, the median over the symbols where both are known; else NaN."""
    if view.long_volatility is None:
        return float("nan")
    newest, long = view.volatility, view.long_volatility
    known = np.isfinite(newest) & np.isfinite(long) & (newest >= 0.0) & (long > 0.0)
    if not known.any():
        return float("nan")
    with np.errstate(over="ignore"):
        return float(np.median(newest[known] / long[known]))


def _parts(
    requirement: Requirement, view: MarketView, rules: FloorRules
) -> tuple[float, Floats, Floats, JointMargin]:
    """Remaining share, buffer, the part of it that fits under the notional, current margin."""
    table = table_of(rules.stressed_buffer, "stressed_buffer")
    current = current_margin(requirement, view, rules)
    share = remaining_share(market_stress(view), table)
    buffer = table.buffer * share * current.margin
    room = np.maximum(0.0, requirement.gross_notional - current.margin)
    return share, buffer, np.minimum(buffer, room), current
