"""Tier margin: rates that rise with the notional of a position."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from numba import njit

from margin.engines.tier.rules import Bracket, TierRules
from margin.rules.ruleset import RuleSet

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@njit(cache=True)
def tier_margin(notional, bounds, rates, deductions):  # type: ignore[no-untyped-def]
    """Margin of one position: ``|notional| * rate_k - deduction_k`` of its bracket k.

    Compiled, and callable from other compiled kernels.

    Parameters
    ----------
    notional:
        Signed, settlement currency; NaN gives NaN.
    bounds, rates, deductions:
        One symbol's row of a `TierTable`, shape (B,).

    References
    ----------
    Binance, "Leverage and Margin of USD-M Futures" (maintenance amount).
    """
    size = abs(notional)
    k = 0
    while k < bounds.shape[0] - 1 and size > bounds[k]:
        k += 1
    return size * rates[k] - deductions[k]


@njit(cache=True)
def _tier_margins(notional, row, bounds, rates, deductions):  # type: ignore[no-untyped-def]
    out = np.empty(notional.shape[0])
    for i in range(notional.shape[0]):
        s = row[i]
        if s < 0:
            out[i] = np.nan
        else:
            out[i] = tier_margin(notional[i], bounds[s], rates[s], deductions[s])
    return out


@dataclass(frozen=True, slots=True)
class TierTable:
    """Brackets of S symbols as arrays of shape (S, B), padded with copies of the last bracket.

    The deduction makes the margin continuous across brackets:
    ``deduction_k = deduction_{k-1} + bound_{k-1} * (rate_k - rate_{k-1})``, from zero. Where a
    rule set takes its initial margin on the whole notional (`TierRules.initial_margin_basis`), the
    initial deductions are 0: ``|notional| * rate_k`` of the bracket k that the notional reaches,
    a bound being part of the bracket below it. That margin jumps at the bounds, and is at least
    the marginal one, so never below the maintenance margin.

    Attributes
    ----------
    bounds:
        Upper bound of each bracket, settlement currency; infinite in the last.
    maintenance_rates, initial_rates:
        Share of notional.
    maintenance_deductions, initial_deductions:
        Settlement currency; initial ones are 0 on the whole notional.

    References
    ----------
    Binance, "Cost Required to Open a Position in Perpetual Futures Contracts" (initial margin =
    notional / leverage); Hyperliquid Docs, "Margining" and "Margin tiers".
    """

    bounds: Floats
    maintenance_rates: Floats
    maintenance_deductions: Floats
    initial_rates: Floats
    initial_deductions: Floats

    def maintenance(self, notional: Floats, row: Ints) -> Floats:
        """Maintenance margin of positions of signed `notional` in the symbols of `row`.

        Both of shape (L,); row −1 or a NaN notional gives NaN.
        """
        margins: Floats = _tier_margins(
            notional, row, self.bounds, self.maintenance_rates, self.maintenance_deductions
        )
        return margins

    def initial(self, notional: Floats, row: Ints) -> Floats:
        """Initial margin, like `maintenance`."""
        margins: Floats = _tier_margins(
            notional, row, self.bounds, self.initial_rates, self.initial_deductions
        )
        return margins


@lru_cache(maxsize=64)
def bracket_table(ruleset: RuleSet, symbols: tuple[str, ...]) -> TierTable:
    """The brackets of a rule set for these symbols, whatever else scales its margins; kept."""
    brackets = [ruleset.engine_rules(TierRules).table_of(symbol).brackets for symbol in symbols]
    width = max((len(own) for own in brackets), default=1)
    padded = [own + own[-1:] * (width - len(own)) for own in brackets]
    bounds = _column(padded, width, "upper_bound")
    maintenance = _column(padded, width, "maintenance_rate")
    initial = _column(padded, width, "initial_rate")
    whole = ruleset.engine_rules(TierRules).initial_margin_basis == "whole_notional"
    arrays = (
        bounds,
        maintenance,
        _deductions(bounds, maintenance),
        initial,
        np.zeros_like(initial) if whole else _deductions(bounds, initial),
    )
    for array in arrays:
        array.flags.writeable = False  # shared by every caller
    return TierTable(*arrays)


def _column(brackets: list[tuple[Bracket, ...]], width: int, key: str) -> Floats:
    values = [[getattr(bracket, key) for bracket in own] for own in brackets]
    filled = [[np.inf if value is None else value for value in own] for own in values]
    return np.array(filled, dtype=np.float64).reshape(len(brackets), width)


def _deductions(bounds: Floats, rates: Floats) -> Floats:
    deductions = np.zeros_like(rates)
    for k in range(1, rates.shape[1]):
        step = rates[:, k] - rates[:, k - 1]
        # In the padding the bound is infinite and the rate does not move: nothing to add.
        added = np.where(step > 0, bounds[:, k - 1], 0.0) * step
        deductions[:, k] = deductions[:, k - 1] + added
    return deductions
