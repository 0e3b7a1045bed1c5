"""Wrong-way floor: collateral that falls when the book it secures loses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit

from margin.book.account_requirement import Collateral, Requirement
from margin.book.portfolio_batch import row_sums
from margin.floors.coverage import JointMargin, current_volatility, joint_margin, net_by_underlying
from margin.floors.term import FloorTerm, beyond_maintenance, maintenance_term
from margin.rules.floors import CoverageRules, FloorRules, table_of
from margin.valuation.view import MarketView
from market.core.arrays import Bools, Floats, Ints

_HEDGED = 1e-12
"""A book whose variance is below this share of its variance without offsets does not lose."""


def wrong_way_floor(requirement: Requirement, view: MarketView, rules: FloorRules) -> Floats:
    r"""Loss of the collateral, beyond its haircut, in the scenario in which the book loses.

    The scenario is the loss that the margin M covers, see `margin.floors.coverage`, at the
    larger of newest and long volatility: what a calm market makes of collateral is no comfort
    for the day on which it is needed. A balance of value v in an asset of hourly volatility s
    then loses in expectation::

        loss = max(0, v * min(1, z * s) * rho - haircut * v)

    where rho is the correlation of the asset with the profit of the book: the larger of slow and
    fast for an asset held, the smaller for one owed. A debt (v < 0) has no haircut and grows
    where the asset rises as the book loses. The floor is ``M + used * loss of all held + loss of
    all owed - maintenance margin``, and 0 for an account whose collateral loses nothing; floors
    are not added to each other, and here book and collateral lose together.

    ``used`` is the share of the collateral that is needed for what is left of it, with the other
    equity, to hold M: ``min(1, (M - other) / (counted - loss))``. Collateral in excess secures
    nothing, so more of it is not punished, and cash in its place is asked nothing.

    A newest volatility that is not known is `unknown_volatility` of the coverage, a long one that
    is not known leaves the newest; with a slow correlation
    that is not known, on which rho depends, rho is the worst there is: 1 held, −1 owed. Without
    fast ones the slow stand alone.

    Shapes, NaN policy and errors as in `margin.floors.registry.Floor`. Tables: ``wrong_way``,
    ``coverage``, ``correlation``.

    References
    ----------
    Commission Delegated Regulation (EU) No 153/2013, Article 41 (haircuts under correlation with
    the exposure); Basel Committee on Banking Supervision, MAR50 (wrong-way risk).
    """
    parts = _parts(requirement, view, rules)
    total = row_sums(parts.collateral.start, parts.loss) + parts.joint.margin
    return np.where(parts.losing, beyond_maintenance(requirement, total), 0.0)


def explain_wrong_way(
    requirement: Requirement, view: MarketView, rules: FloorRules
) -> tuple[FloorTerm, ...]:
    """Terms of `wrong_way_floor`."""
    parts = _parts(requirement, view, rules)
    losing = parts.losing
    by_leg = np.repeat(losing, np.diff(requirement.leg_start))
    book = (
        FloorTerm(
            term.name,
            term.reason,
            term.of,
            np.where(by_leg if term.of == "position" else losing, term.amount, 0.0),
        )
        for term in parts.joint.terms()
    )
    return (
        FloorTerm(
            "collateral_loss",
            "loss of the collateral that is needed, beyond its haircut, as the book loses",
            "collateral",
            parts.loss,
        ),
        *book,
        maintenance_term(np.where(losing, requirement.maintenance_margin, -0.0)),
    )


@dataclass(frozen=True, slots=True)
class _Parts:
    """Loss that counts by balance (B,), whether an account has any (N,), and the rest."""

    collateral: Collateral
    loss: Floats
    losing: Bools
    joint: JointMargin


def _parts(requirement: Requirement, view: MarketView, rules: FloorRules) -> _Parts:
    table_of(rules.wrong_way, "wrong_way")
    cover = table_of(rules.coverage, "coverage")
    collateral = requirement.collateral
    volatility = _scenario_volatility(view, cover)
    margin = joint_margin(volatility, requirement, view, rules)
    fast = view.fast_correlation
    loss = _collateral_losses(
        _Positions(requirement.leg_start, requirement.leg_symbol, requirement.leg_notional),
        _Balances(collateral.start, collateral.symbol, collateral.value, collateral.haircut),
        volatility,
        np.clip(view.correlation, -1.0, 1.0),
        np.clip(view.correlation if fast is None else fast, -1.0, 1.0),
        cover.multiple,
    )
    # Held collateral counts as far as it is needed.
    counted = np.maximum(0.0, collateral.counted())
    held = row_sums(collateral.start, counted)
    lost = row_sums(collateral.start, np.where(collateral.value > 0.0, loss, 0.0))
    with np.errstate(over="ignore", invalid="ignore"):
        needed = np.maximum(0.0, margin.margin - (requirement.equity - held))
        left = held - lost
    used = np.ones(len(requirement))
    np.divide(needed, left, out=used, where=left > needed)
    by_balance = np.repeat(used, np.diff(collateral.start))
    loss = np.where(collateral.value > 0.0, loss * by_balance, loss)
    return _Parts(collateral, loss, row_sums(collateral.start, loss) > 0.0, margin)


class _Positions(NamedTuple):
    """Positions for the kernel, see `Requirement`."""

    start: Ints
    symbol: Ints
    notional: Floats


class _Balances(NamedTuple):
    """Balances for the kernel, see `margin.book.requirement.Collateral`."""

    start: Ints
    symbol: Ints
    value: Floats
    haircut: Floats


def _scenario_volatility(view: MarketView, cover: CoverageRules) -> Floats:
    """The larger of newest and long volatility, as far as they are known, shape (S,)."""
    newest = current_volatility(view, cover)
    if view.long_volatility is None:
        return newest
    long = np.where(np.isfinite(view.long_volatility), view.long_volatility, 0.0)
    return np.maximum(newest, long)


@njit(cache=True, error_model="numpy")
def _profit_correlation(asset, count, under, net, volatility, correlation, unknown):  # type: ignore[no-untyped-def]
    """Correlation of an asset with the profit of a book; `unknown` where it is not known."""
    # Shares of the whole, so that no square leaves the range of float64.
    scale, apart = 0.0, 0.0
    for p in range(count):
        scale += abs(net[p])
    for p in range(count):
        apart += abs(net[p]) / scale * volatility[under[p]]
    if apart == 0.0:
        return 0.0
    covariance, variance = 0.0, 0.0
    for p in range(count):
        x = net[p] / scale * volatility[under[p]] / apart
        variance += x * x
        covariance += x * (1.0 if under[p] == asset else correlation[under[p], asset])
        for q in range(p):
            y = net[q] / scale * volatility[under[q]] / apart
            variance += 2.0 * x * y * correlation[under[p], under[q]]
    if math.isnan(variance) or math.isnan(covariance):
        return unknown
    if not variance > _HEDGED:
        return 0.0
    return max(-1.0, min(1.0, covariance / math.sqrt(variance)))


@njit(cache=True, error_model="numpy")
def _collateral_losses(positions, balances, volatility, slow, fast, multiple):  # type: ignore[no-untyped-def]
    """Loss of each balance beyond its haircut, all of it counted; NaN without figures."""
    start, value = positions.start, balances.value
    loss = np.zeros(value.shape[0])
    most = 0
    for i in range(start.shape[0] - 1):
        most = max(most, start[i + 1] - start[i])
    under, net = np.zeros(most, dtype=np.int64), np.zeros(most)
    for i in range(start.shape[0] - 1):
        if balances.start[i] == balances.start[i + 1]:
            continue
        count = net_by_underlying(
            start[i], start[i + 1], positions.symbol, positions.notional, under, net
        )
        exposed = 0
        for p in range(count):  # an underlying that nets to nothing asks for no correlation
            if net[p] != 0.0:
                under[exposed], net[exposed] = under[p], net[p]
                exposed += 1
        for b in range(balances.start[i], balances.start[i + 1]):
            asset = balances.symbol[b]
            if count < 0 or math.isnan(value[b]):
                loss[b] = np.nan
            elif asset >= 0 and exposed > 0:
                worst = 1.0 if value[b] > 0.0 else -1.0
                rho = _profit_correlation(asset, exposed, under, net, volatility, slow, worst)
                quick = _profit_correlation(asset, exposed, under, net, volatility, fast, rho)
                rho = max(rho, quick) if value[b] > 0.0 else min(rho, quick)
                fall = min(1.0, multiple * volatility[asset]) * rho
                share = fall - balances.haircut[b] if value[b] > 0.0 else fall
                loss[b] = max(0.0, value[b] * share)
    return loss
