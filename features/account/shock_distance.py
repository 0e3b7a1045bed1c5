"""Distance to a call in market shocks: headroom against the loss in a scenario."""

from __future__ import annotations

from numba import njit

from features.account.aggregates import BETA_EXPOSURE, HEADROOM
from features.account.distance import LIMIT, ratio
from features.definition import AccountFeature

SHOCK = 0.10
"""The scenario: the market moves by so much, either way."""


def shock_distance() -> AccountFeature:
    """Headroom over the loss in the worse of two shocks of the whole market.

    Formula: ``max(0, headroom) / (0.10 |sum_i x_i beta_i|)``, at most 1000: every symbol moves by
    its beta times 10%, up or down. Unit: shocks that the account can bear. Zero at and below zero
    headroom; NaN in warm-up. Says nothing of a book without market exposure (1000).

    References
    ----------
    CME Group, SPAN methodology (worst of a set of scenarios); Sharpe, Management Science 9 (1963)
    277-293.
    """
    return AccountFeature(
        name="shock_distance",
        unit="market shocks of 10%",
        formula="max(0, headroom) / (0.10 |sum x beta|)",
        reference="CME SPAN, Sharpe (1963)",
        kernel=kernel,
        inputs=("market_beta",),
        constants=(SHOCK, LIMIT),
        family="correlation",
        monotone=-1,
        uses_equity=True,
    )


@njit(cache=True, error_model="numpy")
def kernel(moments, out):  # type: ignore[no-untyped-def]
    """One number per account."""
    for n in range(len(moments)):
        out[n] = ratio(moments[n, HEADROOM], SHOCK * abs(moments[n, BETA_EXPOSURE]))
