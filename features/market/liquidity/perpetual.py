"""Funding and basis of a symbol's perpetual: what holding it costs, how far it is from spot."""

from __future__ import annotations

from collections.abc import Callable

from numba import njit

from features.definition import MarketFeature, feature
from features.market import rolling
from features.market.inputs import BASIS, FUNDING, RESET
from market.core.clock import Interval


@feature
def funding_rate(hours: float) -> MarketFeature:
    """Mean funding rate an hour over the last `hours`.

    Formula: ``mean(f_i)`` of the rate in force at each bar's close, a settlement's rate divided
    by the hours of its own interval. Unit: fraction of notional an hour, paid by long positions
    where positive. Bars at which no rate is in force are left out; NaN until the window is full or
    while under half of it is there.

    References
    ----------
    He, Manela, Ross and von Wachter, "Fundamentals of Perpetual Futures" (2022).
    """
    return MarketFeature(
        name=f"funding_rate_{hours:g}h",
        family="liquidity",
        unit="per hour",
        formula="mean(f)",
        reference="He, Manela, Ross and von Wachter (2022)",
        kernel=_mean_of_series,
        inputs=("context.funding",),
        params=_window_of_series(hours, FUNDING),
        state_size=rolling.state_size(hours),
        settings=(hours,),
        needs_exogenous=True,
    )


@feature
def basis(hours: float) -> MarketFeature:
    """Mean log distance of the perpetual's price from spot over the last `hours`.

    Formula: ``mean(ln(P_i / S_i))`` over the closes at which both are known. Unit: log ratio,
    positive where the perpetual is dearer. NaN until the window is full or while under half of it
    is there.

    References
    ----------
    Makarov and Schoar, Journal of Financial Economics 135 (2020) 293-319.
    """
    return MarketFeature(
        name=f"basis_{hours:g}h",
        family="liquidity",
        unit="log ratio",
        formula="mean(ln(perpetual / spot))",
        reference="Makarov and Schoar (2020)",
        kernel=_mean_of_series,
        inputs=("context.basis",),
        params=_window_of_series(hours, BASIS),
        state_size=rolling.state_size(hours),
        settings=(hours,),
        book_form="mean",
        needs_exogenous=True,
    )


def _window_of_series(hours: float, column: int) -> Callable[[Interval], tuple[float, ...]]:
    return lambda interval: (rolling.bars_in(hours, interval), column)


@njit(cache=True, error_model="numpy")
def _mean_of_series(inputs, state, out, window, column):  # type: ignore[no-untyped-def]
    """State: `features.market.rolling` of the series in that column of the inputs."""
    rolling.fold_mean(inputs[column], inputs[RESET], state, out, window)
