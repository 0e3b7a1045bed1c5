"""A book held through a window hour by hour, sold where it breaches or cannot meet a call."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np

from features.registry import ADV, CROSS_VOLATILITY
from margin.floors.liquidity import closing_costs
from market.bars.panel import CLOSE, HIGH, LOW, OPEN, BarPanel
from market.core.arrays import Floats
from research.experiments.forced_selling.levels import Plan, Terms, measure, stressed
from research.experiments.forced_selling.windows import Settings, VenueBook, Window, crowded

OVER_NOTIONAL = ("forced", "in_breach", "worst_hour", "uncovered", "placed", "paid")
FIGURES = (*OVER_NOTIONAL, "extra_fall", "accounts_sold", "first_level", "highest_level")


def simulate(
    window: Window,
    book: VenueBook,
    plan: Plan,
    scalar: float,
    terms: Terms,
    settings: Settings,
    feedback: bool,
) -> dict[str, float]:
    """Hold a book through a window.

    At the first hour every account places what is asked, out of its reserve as far as it has one.
    Later an account with equity below MM + A pays the difference out of its reserve. One that is
    still short after `call_hours`, or whose equity is below MM, closes the same share of every
    position, the smallest after which ``equity >= (1 + buffer) (MM + A)`` before costs; without
    equity, all. It pays the half-spread and what the sales of the hour move the price. The sales
    of a symbol in the window count as one order: its impact grows with the root of their sum. With
    feedback the `permanent` share of the impact stays in the marks and bars of the later hours.

    Returns
    -------
    Over the notional of the first hour, and at its marks: ``forced`` sales and repurchases, those
    of accounts ``in_breach`` and those of the ``worst_hour``. Over that notional too: the
    ``uncovered`` loss of accounts closed below zero, what was ``placed`` at the first hour and
    ``paid`` on calls later.
    ``accounts_sold``: share of accounts sold at least once. ``extra_fall``: lowest displacement of
    the crowded symbols' price by the sales, weighted by volume, at most 0; 0 without feedback.
    ``first_level`` and ``highest_level``: of all hours, the level over the notional left.
    """
    ruleset = terms.ruleset
    half_spread = ruleset.floors.liquidity.half_spread
    buffer = ruleset.liquidation_or_default.partial.buffer
    quantity, cash, reserve = book.quantity.copy(), book.cash.copy(), book.reserve.copy()
    state = copy.deepcopy(window.state) if feedback else None
    accounts, symbols = quantity.shape
    sold, moved, before = np.zeros(symbols), np.zeros(symbols), np.zeros(symbols)
    previous, late = np.full(accounts, np.nan), np.zeros(accounts, dtype=np.int64)
    rate, ever = np.zeros(accounts), np.zeros(accounts, dtype=np.bool_)
    top = crowded(window, settings)
    volume = window.figure(0, ADV)[top]
    total = dict.fromkeys(FIGURES, 0.0)
    for hour in range(len(window.mark)):
        features = window.observed[hour]
        if state is not None:
            features = state.advance(moved_bar(window.bars.rows(hour, hour + 1), before, moved))
        x = quantity * (window.mark[hour] * np.exp(moved))
        gross, equity = np.abs(x).sum(axis=1), cash + x.sum(axis=1)
        raw = rate * gross
        if hour == 0 or not plan.fixed:
            raw = scalar * measure(plan, x, features, terms)
            rate = np.divide(raw, gross, out=np.zeros(accounts), where=gross > 0.0)
        stress = stressed(window, features, hour, plan.rules)
        level = terms.bounded(plan, raw, gross, previous, stress)
        margin = terms.maintenance_rate * gross

        short = np.maximum(margin + level - equity, 0.0)
        paid = short if hour == 0 else np.minimum(short, reserve)
        cash, equity = cash + paid, equity + paid
        reserve = np.maximum(reserve - paid, 0.0)
        late = np.where(short > paid, late + 1, 0)
        breach = equity < margin
        due = (gross > 0.0) & (breach | (late > settings.call_hours))
        target = (1.0 + buffer) * (margin + level)
        kept = np.divide(equity, target, out=np.ones(accounts), where=due)
        closed = np.clip(1.0 - kept, 0.0, 1.0)

        trade = closed[:, None] * x
        net = trade.sum(axis=0)
        step = settings.impact * (
            impact(window, hour, sold + net, terms) - impact(window, hour, sold, terms)
        )
        sold += net
        cash += trade.sum(axis=1) - trade @ step - closed * gross * half_spread
        at_first = closed * (np.abs(quantity) @ window.mark[0])
        quantity *= (1.0 - closed)[:, None]
        previous = level * (1.0 - closed)
        gone = closed >= 1.0
        total["uncovered"] += float(np.maximum(-cash[gone], 0.0).sum())
        cash[gone] = np.maximum(cash[gone], 0.0)
        total["forced"] += float(at_first.sum())
        total["worst_hour"] = max(total["worst_hour"], float(at_first.sum()))
        total["in_breach"] += float(at_first[breach].sum())
        total["paid" if hour else "placed"] += float(paid.sum())
        ever |= due
        share = float(level.sum() / gross.sum()) if gross.any() else 0.0
        total["highest_level"] = max(total["highest_level"], share)
        if hour == 0:
            total["first_level"] = share
        before = moved
        if feedback:
            moved = moved - settings.permanent * step
            fall = float(np.average(np.expm1(moved[top]), weights=volume))
            total["extra_fall"] = min(total["extra_fall"], fall)
    notional = float(np.abs(book.quantity * window.mark[0]).sum())
    for name in OVER_NOTIONAL:
        total[name] /= notional
    return total | {"accounts_sold": float(ever.mean())}


def impact(window: Window, hour: int, sold: Floats, terms: Terms) -> Floats:
    """How far net sales of each symbol push its price down, as a share; below 0 for purchases.

    The impact term of `margin.floors.liquidity`, at the volatility and the volume observed then.
    Net sales in the settlement currency, shape (S,).

    References
    ----------
    Almgren, Thum, Hauptmann, Li (2005) and Toth et al. (2011), as there.
    """
    costs = closing_costs(
        np.arange(len(sold)),
        sold,
        window.figure(hour, CROSS_VOLATILITY),
        window.figure(hour, ADV),
        window.bars.symbols,
        terms.ruleset.floors.liquidity,
    )
    return np.divide(costs.impact, sold, out=np.zeros(len(sold)), where=sold != 0.0)


def moved_bar(bar: BarPanel, before: Floats, moved: Floats) -> BarPanel:
    """One bar whose price is displaced by `before` at its open and by `moved` at its close, in
    logs, shape (S,) each. Volume stays."""
    values = bar.values.copy()
    values[:, :, OPEN] *= np.exp(before)
    values[:, :, CLOSE] *= np.exp(moved)
    values[:, :, HIGH] *= np.exp(np.maximum(before, moved))
    values[:, :, LOW] *= np.exp(np.minimum(before, moved))
    return replace(bar, values=values)
