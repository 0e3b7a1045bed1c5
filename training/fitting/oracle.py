"""First passage under a known volatility: the estimate of today, and the one that really came.

The first is a baseline. The second, perfect volatility foresight, is the limit of what a better
volatility forecast can bring.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from features.account.aggregates import HEADROOM, PRIOR_VOLATILITY
from features.account.frame import AccountRows
from features.account.prior import first_passage
from features.state.market_state import MarketFeatures
from market.bars.history import MarketHistory

Floats = npt.NDArray[np.float64]


def first_passage_probability(aggregates: Floats, horizon_hours: int) -> Floats:
    """``2 Phi(-d)``, d = headroom over the prior volatility times the root of the horizon.

    `aggregates` as in `features.account.aggregates`; shape (N,).
    """
    sigma = aggregates[:, PRIOR_VOLATILITY] * np.sqrt(horizon_hours)
    out = np.empty(len(aggregates))
    _first_passages(aggregates[:, HEADROOM], sigma, out)
    return out


@njit(cache=True)
def _first_passages(headroom, sigma, out):  # type: ignore[no-untyped-def]
    for n in range(len(out)):
        out[n] = first_passage(headroom[n], sigma[n])


def realised_squares(history: MarketHistory) -> Floats:
    """Running sum of squared log returns of the finest bars, at each bar's close; shape (T, S)."""
    per_bar = len(history.fine_mark) // len(history.mark)
    returns = np.diff(np.log(history.fine_mark), axis=0, prepend=np.nan)
    return np.cumsum(np.nan_to_num(returns * returns), axis=0)[per_bar - 1 :: per_bar]


def oracle_first_passage(
    rows: AccountRows,
    history: MarketHistory,
    squares: Floats,
    market: MarketFeatures,
    horizon_hours: int,
) -> Floats | None:
    """First-passage probability with the volatility that was really realised over (t, t+h].

    Formula: ``erfc(d / sqrt 2)``, d = headroom over `realised_book_volatility`.
    None where only one return falls into the horizon, because that return is nearly the outcome.
    """
    steps = horizon_hours * history.bars.interval.per_hour
    if horizon_hours * history.fine_interval.per_hour < 2:
        return None
    out = np.empty(len(rows.row))
    _first_passages(rows.headroom, realised_book_volatility(rows, squares, market, steps), out)
    return out


def realised_book_volatility(
    rows: AccountRows, squares: Floats, market: MarketFeatures, steps: int
) -> Floats:
    """Standard deviation of each book's profit and loss with volatilities not yet known.

    ``sqrt(sum_ij x_i x_j rho_ij v_i v_j)`` over the `steps` bars after t, v^2 the growth of
    `squares` (see `realised_squares`) over them, rho the correlation known at t; settlement
    currency, shape (N,). NaN where a correlation is not known.
    """
    out = np.empty(len(rows.row))
    _book_volatility(
        rows.row,
        rows.leg_start,
        rows.leg_symbol,
        rows.leg_notional,
        market.correlation,
        squares,
        steps,
        out,
    )
    return out


@njit(cache=True, error_model="numpy")
def _book_volatility(  # type: ignore[no-untyped-def]
    row, leg_start, leg_symbol, leg_notional, correlation, squares, steps, out
):
    for n in range(len(row)):
        t = row[n]
        variance = 0.0
        for a in range(leg_start[n], leg_start[n + 1]):
            i = leg_symbol[a]
            x = leg_notional[a] * np.sqrt(squares[t + steps, i] - squares[t, i])
            variance += x * x
            for b in range(leg_start[n], a):
                j = leg_symbol[b]
                y = leg_notional[b] * np.sqrt(squares[t + steps, j] - squares[t, j])
                variance += 2.0 * x * y * correlation[t, i, j]
        # A hedged book can round to just below zero; NaN must stay NaN.
        out[n] = 0.0 if variance <= 0.0 else np.sqrt(variance)
