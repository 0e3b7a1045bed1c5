"""Account features of many accounts: from positions and market features to the model's columns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.account import aggregates as moment
from features.registry import (
    ACCOUNT_COLUMNS,
    ACCOUNT_FEATURES,
    ADV,
    BOOK_MEANS,
    CROSS_VOLATILITY,
    MARKET_COLUMNS,
    PRIOR_VOLATILITIES,
    VOLATILITIES,
)
from features.state.market_state import MarketFeatures

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LegGreeks:
    """Of L legs, every array of shape (L,).

    Attributes
    ----------
    option:
        Whether it is an option.
    gamma, vega:
        Settlement currency, see `margin.valuation.exposures.Exposures`; 0 where it is none.
    """

    option: npt.NDArray[np.bool_]
    gamma: Floats
    vega: Floats

    @classmethod
    def none(cls, legs: int) -> LegGreeks:
        """Of legs of which none is an option."""
        nothing = np.zeros(legs)
        return cls(np.zeros(legs, dtype=np.bool_), nothing, nothing)

    def padded(self, more: int, order: Ints) -> LegGreeks:
        """With so many legs more that are no options, in another order."""
        nothing = LegGreeks.none(more)
        return LegGreeks(
            np.concatenate([self.option, nothing.option])[order],
            np.concatenate([self.gamma, nothing.gamma])[order],
            np.concatenate([self.vega, nothing.vega])[order],
        )


@dataclass(frozen=True, slots=True)
class AccountRows:
    """N accounts, each at its own row of the market features.

    Attributes
    ----------
    row:
        Row of the market features, int64, shape (N,).
    leg_start, leg_symbol, leg_notional:
        Positions, and collateral in coins as legs of no notional, as compressed sparse rows:
        offsets (N + 1,), symbol index and signed notional at the mark (L,); of an option its
        delta exposure.
    headroom, maintenance_margin:
        Settlement currency, shape (N,).
    leg_collateral:
        What each leg counts for as collateral, after haircuts, shape (L,): 0 for a position. None
        where there is none but cash, or none was told.
    leg_greeks:
        Which legs are options, and how they are curved; None where no leg is one.
    """

    row: Ints
    leg_start: Ints
    leg_symbol: Ints
    leg_notional: Floats
    headroom: Floats
    maintenance_margin: Floats
    leg_collateral: Floats | None = None
    leg_greeks: LegGreeks | None = None


def compute_moments(rows: AccountRows, market: MarketFeatures) -> Floats:
    """Moments of each account, shape (N, M); see `features.account.aggregates`."""
    out = np.empty((len(rows.row), moment.width(len(VOLATILITIES), len(BOOK_MEANS))))
    collateral = rows.leg_collateral
    greeks = rows.leg_greeks or LegGreeks.none(len(rows.leg_notional))
    moment.fill(
        rows.row,
        rows.leg_start,
        rows.leg_symbol,
        rows.leg_notional,
        np.zeros(len(rows.leg_notional)) if collateral is None else collateral,
        greeks.option,
        greeks.gamma,
        greeks.vega,
        rows.headroom,
        rows.maintenance_margin,
        market.values,
        market.correlation,
        moment.columns(MARKET_COLUMNS, VOLATILITIES),
        moment.columns(VOLATILITIES, PRIOR_VOLATILITIES),
        MARKET_COLUMNS.index(CROSS_VOLATILITY),
        MARKET_COLUMNS.index("market_correlation"),
        MARKET_COLUMNS.index("market_beta"),
        MARKET_COLUMNS.index(ADV),
        MARKET_COLUMNS.index("trailing_return_24h"),
        MARKET_COLUMNS.index("funding_rate_24h"),
        moment.columns(MARKET_COLUMNS, BOOK_MEANS),
        out,
    )
    return out


def compute_features(moments: Floats, names: Iterable[str] = ACCOUNT_COLUMNS) -> Floats:
    """The named account features, shape (N, number of names), C-contiguous."""
    wanted = list(names)
    out = np.empty((len(moments), len(wanted)))
    column = np.empty(len(moments))
    by_name = {feature.name: feature for feature in ACCOUNT_FEATURES}
    for i, name in enumerate(wanted):
        feature = by_name[name]
        feature.kernel(moments, column, *feature.params)
        out[:, i] = column
    return out


def set_headroom(moments: Floats, features: Floats, names: Iterable[str], headroom: Floats) -> None:
    """Put the accounts at another headroom, in place: only what depends on equity is redone."""
    moments[:, moment.HEADROOM] = headroom
    column = np.empty(len(moments))
    by_name = {feature.name: feature for feature in ACCOUNT_FEATURES}
    for i, name in enumerate(names):
        feature = by_name[name]
        if feature.uses_equity:
            feature.kernel(moments, column, *feature.params)
            features[:, i] = column
