"""Averages over the positions of a book: features that are one of its aggregates as it stands."""

from __future__ import annotations

from numba import njit

from features.account.aggregates import FUNDING, HERFINDAHL, MARKET_CORRELATION, RETURN
from features.definition import AccountFeature, Family, feature


@feature
def book_mean(column: int, market_feature: str, family: Family) -> AccountFeature:
    """A market feature averaged over the positions, weighted by absolute notional.

    Formula: ``sum_i |x_i| f_i / sum_i |x_i|``. Unit: that of the market feature. Zero without
    positions; NaN while one of its symbols has none. Its family is the market feature's.

    References
    ----------
    The market feature's own.
    """
    return AccountFeature(
        name=f"book_{market_feature}",
        unit=f"as {market_feature}",
        formula=f"sum |x| f / sum |x|, f = {market_feature}",
        reference=f"as {market_feature}",
        kernel=aggregate_kernel,
        inputs=(market_feature,),
        params=(column,),
        family=family,
    )


@feature
def book_return() -> AccountFeature:
    """Return of the present positions over the last day.

    Formula: ``sum_i x_i r_i / sum_i |x_i|`` with the log returns r of the last 24 hours.
    Unit: log return, positive where the market went the account's way. NaN in warm-up.

    References
    ----------
    Moskowitz, Ooi and Pedersen, Journal of Financial Economics 104 (2012) 228-250.
    """
    return AccountFeature(
        name="book_return",
        unit="log return",
        formula="sum x r_24h / sum |x|",
        reference="Moskowitz, Ooi and Pedersen (2012)",
        kernel=aggregate_kernel,
        inputs=("trailing_return_24h",),
        params=(RETURN,),
        family="momentum",
    )


@feature
def book_funding() -> AccountFeature:
    """Funding that the present positions pay an hour at the mean rate of the last day.

    Formula: ``sum_i x_i f_i / sum_i |x_i|`` with the mean funding rates f. Unit: fraction of gross
    notional an hour, positive where the account pays. Zero without positions; NaN where a rate is
    not known.

    References
    ----------
    He, Manela, Ross and von Wachter, "Fundamentals of Perpetual Futures" (2022).
    """
    return AccountFeature(
        name="book_funding",
        unit="of gross per hour",
        formula="sum x f / sum |x|, f = funding_rate_24h",
        reference="He, Manela, Ross and von Wachter (2022)",
        kernel=aggregate_kernel,
        inputs=("funding_rate_24h",),
        params=(FUNDING,),
        family="liquidity",
    )


@feature
def concentration() -> AccountFeature:
    """Herfindahl index of absolute notionals.

    Formula: ``sum_i x_i^2 / (sum_i |x_i|)^2``. Unit: fraction, 1 for a single position.
    Zero without positions.

    References
    ----------
    Hirschman, American Economic Review 54 (1964) 761-762.
    """
    return AccountFeature(
        name="herfindahl",
        unit="fraction",
        formula="sum x^2 / (sum |x|)^2",
        reference="Hirschman (1964)",
        kernel=aggregate_kernel,
        params=(HERFINDAHL,),
    )


@feature
def market_exposure() -> AccountFeature:
    """Correlation of the book with the equally weighted market.

    Formula: ``sum_i x_i v_i rho_im / sigma`` with the correlations rho_im of symbols and market.
    Unit: correlation, signed by direction. Zero without positions; NaN in warm-up.

    References
    ----------
    Sharpe, Management Science 9 (1963) 277-293.
    """
    return AccountFeature(
        name="market_exposure",
        unit="correlation",
        formula="sum x v rho_m / sigma",
        reference="Sharpe (1963)",
        kernel=aggregate_kernel,
        inputs=("market_correlation", "cross_volatility", "correlation.slow"),
        params=(MARKET_CORRELATION,),
        family="correlation",
    )


@njit(cache=True, error_model="numpy")
def aggregate_kernel(aggregates, out, column):  # type: ignore[no-untyped-def]
    """`column` is the aggregate that the feature is."""
    for n in range(len(aggregates)):
        out[n] = aggregates[n, column]
