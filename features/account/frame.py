"""Account features of many accounts: from positions and market features to the model's columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.account.aggregates import (
    FORECAST_BASE_HOURS,
    HEADROOM,
    Legs,
    MarketColumns,
    MarketRows,
    fill,
    positions,
)
from features.account.column_plan import column_plan, fill_columns
from features.registry import (
    ACCOUNT_COLUMNS,
    ADV,
    BOOK_MEANS,
    CROSS_VOLATILITY,
    FORECAST_VOLATILITIES,
    MARKET_COLUMNS,
    PRIOR_VOLATILITIES,
    VOLATILITIES,
)
from features.state.market_state import MarketFeatures

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LegGreeks:
    """Options among L legs and their greeks, every array of shape (L,).

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
        """Greeks of legs of which none is an option."""
        nothing = np.zeros(legs)
        return cls(np.zeros(legs, dtype=np.bool_), nothing, nothing)

    def padded(self, more: int, order: Ints) -> LegGreeks:
        """These and `more` legs that are no options, in another order."""
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
        where there is none but cash, or none is known.
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


_COLUMNS = MarketColumns(
    volatilities=positions(MARKET_COLUMNS, VOLATILITIES),
    means=positions(MARKET_COLUMNS, BOOK_MEANS),
    forecasts=positions(MARKET_COLUMNS, FORECAST_VOLATILITIES),
    prior=positions(VOLATILITIES, PRIOR_VOLATILITIES),
    cross=MARKET_COLUMNS.index(CROSS_VOLATILITY),
    factor=MARKET_COLUMNS.index("market_correlation"),
    beta=MARKET_COLUMNS.index("market_beta"),
    adv=MARKET_COLUMNS.index(ADV),
    trailing_return=MARKET_COLUMNS.index("trailing_return_24h"),
    funding=MARKET_COLUMNS.index("funding_rate_24h"),
    base=FORECAST_VOLATILITIES.index(f"volatility_forecast_{FORECAST_BASE_HOURS}h"),
    long_run=BOOK_MEANS.index("log_volatility_long_run"),
)
AGGREGATES = _COLUMNS.width
"""Number M of the aggregates of an account."""


def compute_aggregates(rows: AccountRows, market: MarketFeatures) -> Floats:
    """Aggregates of each account, shape (N, M); see `features.account.aggregates`."""
    legs = len(rows.leg_notional)
    greeks = rows.leg_greeks or LegGreeks.none(legs)
    out = np.empty((len(rows.row), AGGREGATES))
    fill(
        rows.row,
        rows.headroom,
        rows.maintenance_margin,
        Legs(
            rows.leg_start,
            rows.leg_symbol,
            rows.leg_notional,
            np.zeros(legs) if rows.leg_collateral is None else rows.leg_collateral,
            greeks.option,
            greeks.gamma,
            greeks.vega,
        ),
        MarketRows(market.values, market.correlation, market.fast_correlation),
        _COLUMNS,
        out,
    )
    return out


def compute_features(aggregates: Floats, names: Sequence[str] = ACCOUNT_COLUMNS) -> Floats:
    """The named account features, shape (N, number of names), C-contiguous."""
    plan = column_plan(tuple(names))
    out = np.empty((len(aggregates), len(names)))
    fill_columns(plan.fused, aggregates, out)
    column = np.empty(len(aggregates))
    for place, feature in plan.others:
        feature.kernel(aggregates, column, *feature.params)
        out[:, place] = column
    return out


def set_headroom(
    aggregates: Floats, features: Floats, names: Iterable[str], headroom: Floats
) -> None:
    """Put the accounts at another headroom, in place: only what depends on equity is recomputed."""
    aggregates[:, HEADROOM] = headroom
    fill_columns(column_plan(tuple(names)).of_equity, aggregates, features)
