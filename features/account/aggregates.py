"""Aggregates of a book: the few numbers per account from which all account features follow.

Columns: headroom, maintenance margin, gross and net notional, largest share of a symbol's average
daily volume, Herfindahl index, return of the book over the last day, funding paid an hour,
correlation with the market factor, exposure to the market by beta, value of the collateral that is
not cash and its own exposure by beta, of the options their net delta exposure, their gamma and
vega, net and gross, prior volatility, under the forecast of a day the sum of the legs' own
volatilities and the book's volatility with fast correlations, the book's long-run volatility, then
one book volatility per market feature whose `book_form` is ``volatility``, one average per market
feature whose `book_form` is ``mean``, and one book volatility per market feature whose `book_form`
is ``forecast``.

Notionals x are those of spot and perps at the mark and the delta exposures of options.
Volatilities are standard deviations of the book's profit and loss over one hour, in the
settlement currency, delta plus gamma: ``sqrt(sum_ij x_i x_j rho_ij v_i v_j +
sum_ij g_i g_j (rho_ij v_i v_j)^2 / 2)`` with cash gammas g, which is exact for normal returns and
profit and loss up to the second order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

(
    HEADROOM,
    MAINTENANCE,
    GROSS,
    NET,
    ADV_SHARE,
    HERFINDAHL,
    RETURN,
    FUNDING,
    MARKET_CORRELATION,
    BETA_EXPOSURE,
    COLLATERAL,
    COLLATERAL_BETA,
    OPTION_DELTA,
    GAMMA,
    GROSS_GAMMA,
    VEGA,
    GROSS_VEGA,
    PRIOR_VOLATILITY,
    FORECAST_SUM,
    FAST_FORECAST,
    LONG_RUN_VOLATILITY,
    FIRST_VOLATILITY,
) = range(22)

FORECAST_BASE_HOURS = 24
"""Horizon of the forecast from which the aggregates beside the book volatilities are made."""


class Legs(NamedTuple):
    """Legs of N accounts as compressed sparse rows, see `features.account.frame.AccountRows`.

    Attributes
    ----------
    start:
        Offsets, shape (N + 1,).
    symbol, notional, collateral, option, gamma, vega:
        Of each leg, shape (L,): symbol index, signed notional at the mark, what it counts for as
        collateral, whether it is an option, its cash gamma and vega.
    """

    start: Ints
    symbol: Ints
    notional: Floats
    collateral: Floats
    option: npt.NDArray[np.bool_]
    gamma: Floats
    vega: Floats


class MarketColumns(NamedTuple):
    """Positions of the market columns that aggregates are computed from.

    Attributes
    ----------
    volatilities, means, forecasts:
        Columns by `book_form`, in the order of the aggregates.
    prior:
        Positions among `volatilities` of those of the prior.
    cross, factor, beta, adv, trailing_return, funding:
        The volatility of the correlation matrix, correlation with and beta to the market, average
        daily volume, return and funding of the last day.
    base:
        Position among `forecasts` of that of `FORECAST_BASE_HOURS`.
    long_run:
        Position among `means` of the mean log volatility in the long run.
    """

    volatilities: Ints
    means: Ints
    forecasts: Ints
    prior: Ints
    cross: int
    factor: int
    beta: int
    adv: int
    trailing_return: int
    funding: int
    base: int
    long_run: int

    @property
    def width(self) -> int:
        """Number of aggregates."""
        columns = len(self.volatilities) + len(self.means) + len(self.forecasts)
        return FIRST_VOLATILITY + columns


class MarketRows(NamedTuple):
    """Features of T market rows: values (T, S, F), slow and fast correlations (T, S, S)."""

    values: Floats
    correlation: Floats
    fast_correlation: Floats


def positions(columns: Sequence[str], names: Sequence[str]) -> Ints:
    """Positions of some columns by name."""
    return np.array([list(columns).index(name) for name in names], dtype=np.int64)


@njit(cache=True, error_model="numpy", nogil=True)
def fill(row, headroom, maintenance, legs, market, columns, out):  # type: ignore[no-untyped-def]
    """Fill `out`, shape (N, M).

    `row`, shape (N,), is each account's row in `market`, a `MarketRows`; `legs` are `Legs` and
    `columns` are `MarketColumns`. A market feature in warm-up makes the aggregates that need it
    NaN. Every sum runs over an account's own legs in their order, so an account gives the same
    bits alone and among others.
    """
    values = market.values
    first_mean = FIRST_VOLATILITY + len(columns.volatilities)
    first_forecast = first_mean + len(columns.means)
    base = columns.forecasts[columns.base]
    at_fast = MarketRows(values, market.fast_correlation, market.fast_correlation)
    for n in range(len(row)):
        t = row[n]
        first, last = legs.start[n], legs.start[n + 1]
        out[n, :] = 0.0
        gross, squares = 0.0, 0.0
        for a in range(first, last):
            s, x, c = legs.symbol[a], legs.notional[a], legs.collateral[a]
            if c != 0.0:
                out[n, COLLATERAL] += c
                out[n, COLLATERAL_BETA] += c * values[t, s, columns.beta]
            if legs.option[a]:
                out[n, OPTION_DELTA] += x
                out[n, GAMMA] += legs.gamma[a]
                out[n, GROSS_GAMMA] += abs(legs.gamma[a])
                out[n, VEGA] += legs.vega[a]
                out[n, GROSS_VEGA] += abs(legs.vega[a])
            if x == 0.0:
                continue  # a symbol without a position has no part, known or not
            gross += abs(x)
            squares += x * x
            out[n, NET] += x
            share = abs(x) / values[t, s, columns.adv]
            # A share that is not known makes the largest one unknown, whichever leg comes first.
            if not (out[n, ADV_SHARE] >= share or np.isnan(out[n, ADV_SHARE])):
                out[n, ADV_SHARE] = share
            out[n, RETURN] += x * values[t, s, columns.trailing_return]
            out[n, FUNDING] += x * values[t, s, columns.funding]
            out[n, BETA_EXPOSURE] += x * values[t, s, columns.beta]
            out[n, FORECAST_SUM] += abs(x) * values[t, s, base]
            for m in range(len(columns.means)):
                out[n, first_mean + m] += abs(x) * values[t, s, columns.means[m]]
        out[n, HEADROOM] = headroom[n]
        out[n, MAINTENANCE] = maintenance[n]
        out[n, GROSS] = gross
        if gross > 0.0:
            out[n, HERFINDAHL] = squares / (gross * gross)
            out[n, RETURN] /= gross
            out[n, FUNDING] /= gross
            for m in range(len(columns.means)):
                out[n, first_mean + m] /= gross
        for v in range(len(columns.volatilities)):
            sigma = _volatility(t, first, last, legs, market, columns.volatilities[v])
            out[n, FIRST_VOLATILITY + v] = sigma
        variance = 0.0
        for p in range(len(columns.prior)):
            sigma = out[n, FIRST_VOLATILITY + columns.prior[p]]
            variance += sigma * sigma
        out[n, PRIOR_VOLATILITY] = np.sqrt(variance / len(columns.prior))
        for f in range(len(columns.forecasts)):
            sigma = _volatility(t, first, last, legs, market, columns.forecasts[f])
            out[n, first_forecast + f] = sigma
        out[n, FAST_FORECAST] = _volatility(t, first, last, legs, at_fast, base)
        out[n, LONG_RUN_VOLATILITY] = _long_run(
            out[n, first_forecast + columns.base],
            out[n, FORECAST_SUM],
            gross,
            out[n, first_mean + columns.long_run],
        )
        book = _volatility(t, first, last, legs, market, columns.cross)
        common = 0.0
        for a in range(first, last):
            s, x = legs.symbol[a], legs.notional[a]
            if x != 0.0:
                common += x * values[t, s, columns.cross] * values[t, s, columns.factor]
        out[n, MARKET_CORRELATION] = common / book if book != 0.0 else 0.0


@njit(cache=True, error_model="numpy")
def _long_run(sigma, total, gross, mean_log):  # type: ignore[no-untyped-def]
    """Long-run volatility of a book, see `features.account.forecast_distance.long_run_distance`.

    `sigma` and `total` are the book's volatility and the sum of its legs' under the forecast.
    Without delta exposure there is nothing to average over: the forecast stands.
    """
    if gross == 0.0 or total == 0.0:
        return sigma
    return sigma * (np.exp(mean_log) * (gross / total))


@njit(cache=True, error_model="numpy")
def _volatility(t, first, last, legs, market, column):  # type: ignore[no-untyped-def]
    variance = 0.0
    for a in range(first, last):
        i = legs.symbol[a]
        if legs.notional[a] == 0.0:
            continue
        x = legs.notional[a] * market.values[t, i, column]
        variance += x * x
        for b in range(first, a):
            j = legs.symbol[b]
            if legs.notional[b] == 0.0:
                continue
            y = legs.notional[b] * market.values[t, j, column]
            variance += 2.0 * x * y * market.correlation[t, i, j]
    curved = _gamma_variance(t, first, last, legs, market, column)
    # A hedged book can round to just below zero; NaN must stay NaN.
    return np.sqrt(curved) if variance <= 0.0 else np.sqrt(variance + curved)


@njit(cache=True, error_model="numpy")
def _gamma_variance(t, first, last, legs, market, column):  # type: ignore[no-untyped-def]
    """Variance of ``sum_i g_i r_i^2 / 2`` for normal returns r; exactly 0 without gamma."""
    variance = 0.0
    for a in range(first, last):
        i = legs.symbol[a]
        if legs.gamma[a] == 0.0:
            continue
        x = market.values[t, i, column]
        variance += 0.5 * (legs.gamma[a] * x * x) ** 2
        for b in range(first, a):
            j = legs.symbol[b]
            if legs.gamma[b] == 0.0:
                continue
            y = x * market.values[t, j, column] * market.correlation[t, i, j]
            variance += legs.gamma[a] * legs.gamma[b] * y * y
    if variance < 0.0:  # by rounding
        return 0.0
    return variance
