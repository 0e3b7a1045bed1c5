"""Moments of a book: the few numbers per account from which all account features follow.

Columns: headroom, maintenance margin, gross and net notional, largest share of a symbol's average
daily volume, Herfindahl index, return of the book over the last day, funding paid an hour,
correlation with the market factor, exposure to the market by beta, value of the collateral that is
not cash and its own exposure by beta, of the options their net delta exposure, their gamma and
vega, net and gross, prior volatility, then one book
volatility per estimate in `VOLATILITIES`, then one average per market column in `BOOK_MEANS`.

Notionals x are those of spot and perps at the mark and the delta exposures of options.
Volatilities are standard deviations of the book's profit and loss over one hour, in the
settlement currency, delta plus gamma: ``sqrt(sum_ij x_i x_j rho_ij v_i v_j +
sum_ij g_i g_j (rho_ij v_i v_j)^2 / 2)`` with cash gammas g, which is exact for normal returns and
profit and loss up to the second order.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    FIRST_VOLATILITY,
) = range(19)


def columns(market_columns: Sequence[str], names: Sequence[str]) -> Ints:
    """Positions of market columns by name."""
    return np.array([list(market_columns).index(name) for name in names], dtype=np.int64)


def width(volatilities: int, means: int) -> int:
    """Number of moments."""
    return FIRST_VOLATILITY + volatilities + means


@njit(cache=True, error_model="numpy")
def fill(  # type: ignore[no-untyped-def]
    row,
    leg_start,
    leg_symbol,
    leg_notional,
    leg_collateral,
    leg_option,
    leg_gamma,
    leg_vega,
    headroom,
    maintenance,
    market,
    correlation,
    volatility_columns,
    prior_columns,
    cross_column,
    factor_column,
    beta_column,
    adv_column,
    return_column,
    funding_column,
    mean_columns,
    out,
):
    """Fill `out`, shape (N, M).

    `row`, shape (N,), is each account's row in `market` (T, S, F) and `correlation` (T, S, S);
    legs are compressed sparse rows with signed notionals at the mark, with what they count for as
    collateral, and with whether they are options, their cash gamma and vega. A market feature in
    warm-up makes the moments that need it NaN. Every sum runs over an account's own legs in their
    order, so an account gives the same bits alone and among others.
    """
    volatilities = len(volatility_columns)
    for n in range(len(row)):
        t = row[n]
        first, last = leg_start[n], leg_start[n + 1]
        out[n, :] = 0.0
        gross, squares = 0.0, 0.0
        for a in range(first, last):
            s, x, c = leg_symbol[a], leg_notional[a], leg_collateral[a]
            if c != 0.0:
                out[n, COLLATERAL] += c
                out[n, COLLATERAL_BETA] += c * market[t, s, beta_column]
            if leg_option[a]:
                out[n, OPTION_DELTA] += x
                out[n, GAMMA] += leg_gamma[a]
                out[n, GROSS_GAMMA] += abs(leg_gamma[a])
                out[n, VEGA] += leg_vega[a]
                out[n, GROSS_VEGA] += abs(leg_vega[a])
            if x == 0.0:
                continue  # what is not held says nothing, known or not
            gross += abs(x)
            squares += x * x
            out[n, NET] += x
            share = abs(x) / market[t, s, adv_column]
            # A share that is not known makes the largest one unknown, whichever leg comes first.
            if not (out[n, ADV_SHARE] >= share or np.isnan(out[n, ADV_SHARE])):
                out[n, ADV_SHARE] = share
            out[n, RETURN] += x * market[t, s, return_column]
            out[n, FUNDING] += x * market[t, s, funding_column]
            out[n, BETA_EXPOSURE] += x * market[t, s, beta_column]
            for m in range(len(mean_columns)):
                value = market[t, s, mean_columns[m]]
                out[n, FIRST_VOLATILITY + volatilities + m] += abs(x) * value
        out[n, HEADROOM] = headroom[n]
        out[n, MAINTENANCE] = maintenance[n]
        out[n, GROSS] = gross
        if gross > 0.0:
            out[n, HERFINDAHL] = squares / (gross * gross)
            out[n, RETURN] /= gross
            out[n, FUNDING] /= gross
            for m in range(len(mean_columns)):
                out[n, FIRST_VOLATILITY + volatilities + m] /= gross
        for v in range(volatilities):
            out[n, FIRST_VOLATILITY + v] = _volatility(
                t,
                first,
                last,
                leg_symbol,
                leg_notional,
                leg_gamma,
                market,
                correlation,
                volatility_columns[v],
            )
        variance = 0.0
        for p in range(len(prior_columns)):
            sigma = out[n, FIRST_VOLATILITY + prior_columns[p]]
            variance += sigma * sigma
        out[n, PRIOR_VOLATILITY] = np.sqrt(variance / len(prior_columns))
        book = _volatility(
            t, first, last, leg_symbol, leg_notional, leg_gamma, market, correlation, cross_column
        )
        common = 0.0
        for a in range(first, last):
            s = leg_symbol[a]
            if leg_notional[a] == 0.0:
                continue
            common += leg_notional[a] * market[t, s, cross_column] * market[t, s, factor_column]
        out[n, MARKET_CORRELATION] = common / book if book != 0.0 else 0.0


@njit(cache=True, error_model="numpy")
def _volatility(  # type: ignore[no-untyped-def]
    t, first, last, leg_symbol, leg_notional, leg_gamma, market, correlation, column
):
    variance = 0.0
    for a in range(first, last):
        i = leg_symbol[a]
        if leg_notional[a] == 0.0:
            continue
        x = leg_notional[a] * market[t, i, column]
        variance += x * x
        for b in range(first, a):
            j = leg_symbol[b]
            if leg_notional[b] == 0.0:
                continue
            y = leg_notional[b] * market[t, j, column]
            variance += 2.0 * x * y * correlation[t, i, j]
    curved = _gamma_variance(t, first, last, leg_symbol, leg_gamma, market, correlation, column)
    # A hedged book can round to just below zero; NaN must stay NaN.
    return np.sqrt(curved) if variance <= 0.0 else np.sqrt(variance + curved)


@njit(cache=True, error_model="numpy")
def _gamma_variance(t, first, last, leg_symbol, leg_gamma, market, correlation, column):  # type: ignore[no-untyped-def]
    """Variance of ``sum_i g_i r_i^2 / 2`` for normal returns r; exactly 0 without gamma."""
    variance = 0.0
    for a in range(first, last):
        i = leg_symbol[a]
        if leg_gamma[a] == 0.0:
            continue
        x = market[t, i, column]
        variance += 0.5 * (leg_gamma[a] * x * x) ** 2
        for b in range(first, a):
            j = leg_symbol[b]
            if leg_gamma[b] == 0.0:
                continue
            y = x * market[t, j, column] * correlation[t, i, j]
            variance += leg_gamma[a] * leg_gamma[b] * y * y
    if variance < 0.0:  # by rounding
        return 0.0
    return variance
