"""The reference policies that the add-on is compared with.

Every policy requires maintenance margin plus a level, and has one scalar by which it is matched
to a budget. In an hour without usable market data its level is zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.market import inputs
from features.state.market_state import MarketFeatures
from market.bars.history import MarketHistory
from training.fitting.oracle import realised_book_volatility, realised_squares
from training.labels.account_panel import AccountPanel

Floats = npt.NDArray[np.float64]

FLAT_BUFFER = 0.25
"""Share of maintenance margin that sets the budget (EMIR 28(1)(a))."""

DRAWN_DOWN = 0.5
"""Share of the buffer that `emir_buffer` keeps in stress."""

STRESS_QUANTILE = 0.95
"""Quantile of the volatility ratio above which `emir_buffer` is drawn down."""

ORACLE_HOURS = 24


@dataclass(frozen=True, slots=True)
class Policy:
    """A margin policy at N account-times.

    Attributes
    ----------
    levels:
        Level on top of maintenance margin for a scalar; settlement currency, shape (N,).
    least, most:
        Positive scalars of the lowest and the highest level; equal where nothing can be scaled.
        Between them the average level rises with the scalar, up to hysteresis.
    """

    levels: Callable[[float], Floats]
    least: float
    most: float

    @property
    def scalable(self) -> bool:
        """Whether the policy can be matched to a budget."""
        return self.least != self.most


def reference_policies(
    times: AccountPanel, history: MarketHistory, market: MarketFeatures, stress_ratio: float
) -> dict[str, Policy]:
    """Every reference policy, by name.

    With maintenance margin MM and the book's volatility ratio r (`volatility_ratio`):
    ``none`` 0; ``flat_buffer`` k·MM; ``vol_scaled`` k·MM·r; ``emir_buffer`` k·MM, halved while r
    is above `stress_ratio`; ``volatility_oracle`` k·sigma, with the book's volatility sigma that
    is realised within the next `ORACLE_HOURS`: a limit, not a policy.

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
    foresight = realised_book_volatility(
        times.rows,
        realised_squares(history),
        market,
        ORACLE_HOURS * history.bars.interval.per_hour,
    )
    nothing = np.zeros(len(times))
    return {
        "none": Policy(lambda _: nothing, 1.0, 1.0),
        "flat_buffer": _proportional(np.where(usable, margin, 0.0)),
        "vol_scaled": _proportional(np.where(usable, margin * ratio, 0.0)),
        "emir_buffer": _proportional(np.where(usable, margin * buffer, 0.0)),
        "volatility_oracle": _proportional(np.where(usable, foresight, 0.0)),
    }


def volatility_ratio(times: AccountPanel, history: MarketHistory, market: MarketFeatures) -> Floats:
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
    columns = inputs.new_inputs(bars)
    inputs.build(bars, inputs.new_state(len(bars.symbols)), columns)
    squares = columns[inputs.LOG_RETURN].T ** 2
    known = np.cumsum(~np.isnan(squares), axis=0).astype(np.float64)
    known[known == 0.0] = np.nan
    total = np.cumsum(np.nan_to_num(squares), axis=0)
    return np.asarray(np.sqrt(bars.interval.per_hour * total / known))


def _proportional(measure: Floats) -> Policy:
    return Policy(lambda scalar: scalar * measure, 1e-6, 1e6)
