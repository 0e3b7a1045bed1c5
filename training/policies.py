"""The reference policies that the add-on is compared with.

Every policy asks for maintenance margin plus a level, and has one scalar by which it is matched
to a budget. In an hour without usable market data none of them asks for anything beyond
maintenance margin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from features import inputs
from features.market_state import MarketFeatures
from market.history import MarketHistory
from training.account_times import AccountTimes
from training.oracle import realised_squares

Floats = npt.NDArray[np.float64]

FLAT_BUFFER = 0.25
"""Share of maintenance margin that sets the budget (EMIR 28(1)(a))."""

DRAWN_DOWN = 0.5
"""Share of the buffer that `emir_buffer` keeps in stress."""

STRESS_QUANTILE = 0.95
"""Quantile of the volatility ratio above which `emir_buffer` is drawn down."""

ORACLE_HOURS = 24

REFERENCE_POLICIES = ("none", "flat_buffer", "vol_scaled", "emir_buffer", "volatility_oracle")


@dataclass(frozen=True, slots=True)
class Policy:
    """A margin policy at N account-times.

    Attributes
    ----------
    levels:
        Level on top of maintenance margin for a scalar; settlement currency, shape (N,).
    least, most:
        Positive scalars that ask for least and for most; equal where there is nothing to scale.
        On the way from one to the other the average level never falls, up to hysteresis.
    """

    levels: Callable[[float], Floats]
    least: float
    most: float

    @property
    def scalable(self) -> bool:
        """Whether the policy can be matched to a budget."""
        return self.least != self.most


def reference_policies(
    times: AccountTimes, history: MarketHistory, market: MarketFeatures, stress_ratio: float
) -> dict[str, Policy]:
    """The policies in `REFERENCE_POLICIES`, by name.

    With maintenance margin MM and the book's volatility ratio r (`volatility_ratio`):
    ``none`` 0; ``flat_buffer`` k·MM; ``vol_scaled`` k·MM·r; ``emir_buffer`` k·MM, halved while r
    is above `stress_ratio`; ``volatility_oracle`` k·sigma, with the book's volatility sigma that
    is going to be realised within `ORACLE_HOURS`: a limit, not a policy anyone can have.

    Parameters
    ----------
    times:
        Books and their margins.
    history, market:
        Marks and market features on the same grid.
    stress_ratio:
        From calibration months, see `STRESS_QUANTILE`.

    References
    ----------
    Regulation (EU) 153/2013, Article 28; Murphy, Vasios, Vause (2014), Bank of England FSP 29.
    """
    usable, margin = times.usable, times.maintenance_margin
    ratio = volatility_ratio(times, history, market)
    buffer = np.where(ratio > stress_ratio, DRAWN_DOWN, 1.0)
    foresight = realised_book_volatility(times, history, market, ORACLE_HOURS)
    nothing = np.zeros(len(times))
    return {
        "none": Policy(lambda _: nothing, 1.0, 1.0),
        "flat_buffer": _proportional(np.where(usable, margin, 0.0)),
        "vol_scaled": _proportional(np.where(usable, margin * ratio, 0.0)),
        "emir_buffer": _proportional(np.where(usable, margin * buffer, 0.0)),
        "volatility_oracle": _proportional(np.where(usable, foresight, 0.0)),
    }


def volatility_ratio(times: AccountTimes, history: MarketHistory, market: MarketFeatures) -> Floats:
    """Last day's over long-run volatility of each book, shape (N,).

    ``sum |x| sigma_24h / sigma_long / sum |x|`` over the positions x, with sigma_24h the
    realised volatility of 24 hours. NaN in warm-up; 1 for a price that never moved and for a book
    without notional.

    References
    ----------
    Andersen, Bollerslev, Diebold and Labys, Econometrica 71 (2003).
    """
    recent, long_run = market.column("realised_volatility_24h"), long_run_volatility(history)
    ratio = np.divide(recent, long_run, out=np.ones_like(recent), where=long_run != 0.0)
    rows = times.rows
    owner = np.repeat(np.arange(len(times)), np.diff(rows.leg_start))
    size = np.abs(rows.leg_notional)
    at_legs = np.where(size > 0.0, ratio[rows.row[owner], rows.leg_symbol] * size, 0.0)
    weighted = np.bincount(owner, at_legs, len(times))
    gross = times.gross_notional()
    return np.divide(weighted, gross, out=np.ones(len(times)), where=gross > 0.0)


def long_run_volatility(history: MarketHistory) -> Floats:
    """Root of the mean squared hourly log return of all bars known so far, shape (T, S).

    ``sqrt(n * mean r^2)`` with n bars an hour. NaN before the first return.
    """
    bars = history.bars
    columns, _, _ = inputs.build(bars, inputs.new_state(len(bars.symbols)))
    squares = columns[:, :, inputs.LOG_RETURN] ** 2
    known = np.cumsum(~np.isnan(squares), axis=0).astype(np.float64)
    known[known == 0.0] = np.nan
    total = np.cumsum(np.nan_to_num(squares), axis=0)
    return np.asarray(np.sqrt(bars.interval.per_hour * total / known))


def realised_book_volatility(
    times: AccountTimes, history: MarketHistory, market: MarketFeatures, hours: int
) -> Floats:
    """Standard deviation of each book's profit and loss with volatilities not yet known.

    ``sqrt(sum_ij x_i x_j rho_ij v_i v_j)`` over (t, t + hours], v realised from the finest bars
    after t, rho the correlation known at t; settlement currency, shape (N,). NaN where a
    correlation is not known. See `training.oracle`.
    """
    out = np.empty(len(times))
    rows = times.rows
    _book_volatility(
        rows.row,
        rows.leg_start,
        rows.leg_symbol,
        rows.leg_notional,
        market.correlation,
        realised_squares(history),
        hours * history.bars.interval.per_hour,
        out,
    )
    return out


def _proportional(measure: Floats) -> Policy:
    return Policy(lambda scalar: scalar * measure, 1e-6, 1e6)


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
