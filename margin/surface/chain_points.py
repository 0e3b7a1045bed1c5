"""From the quotes of one expiry to the points that its slice is fitted to.

Prices are in units of the coin, and coin-settled options are quoted as Black-76 over the forward:
``price in USD = price in coin * forward``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from margin.surface.implied_vol import implied_vol
from margin.surface.slice_fit import SlicePoints
from market.core.arrays import Bools, Floats
from market.core.errors import DataError
from market.quotes.option_chain import OptionChain

_LEAST_SPOT_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class ChainPoints:
    """One expiry ready to be fitted; the arrays run along ``points.k``.

    Attributes
    ----------
    forward:
        Price for delivery at expiry, USD.
    forward_from:
        ``marks``, ``mids`` (put-call parity of either) or ``underlying_price``.
    points:
        One vol for each strike.
    from_marks:
        How many of the vols are the venue's own; the others come from the mid of bid and ask.
    bid_vol, ask_vol:
        What bid and ask of the same option imply; NaN where there is none.
    """

    forward: float
    forward_from: str
    points: SlicePoints
    from_marks: int
    bid_vol: Floats
    ask_vol: Floats


def chain_points(chain: OptionChain, rows: slice, use_marks: bool = True) -> ChainPoints:
    """The points of one expiry of one snapshot, as `OptionChain.snapshots` lists them.

    A strike's vol is the mark vol of its out-of-the-money option (put below the forward, call from
    it on); where that has none the vol of the mid of its bid and ask; where it has neither, the
    same of the other side. Widths come from bid and ask of the option that the vol is of.

    Parameters
    ----------
    use_marks:
        False: as if the venue published neither mark prices nor mark vols.

    Raises
    ------
    DataError
        No forward can be derived, or too few strikes have a vol.
    """
    strike, call = chain.strike[rows], chain.call[rows]
    mark = chain.mark[rows] if use_marks else np.full(strike.shape, np.nan)
    vol = chain.vol[rows] if use_marks else np.full(strike.shape, np.nan)
    bid, ask = chain.bid[rows], chain.ask[rows]
    tau = float(chain.tau[rows][0])
    price = chain.underlying_price[rows]
    forward, source = forward_of(strike, call, mark, 0.5 * (bid + ask), ask - bid, price)
    quotes = np.stack([bid, ask, 0.5 * (bid + ask)]) * forward
    bid_vol, ask_vol, mid_vol = implied_vol(quotes, forward, strike, tau, call)
    is_mark = np.isfinite(vol)
    vol = np.where(is_mark, vol, mid_vol)
    # The best row of each strike comes first: with a vol, then out of the money.
    wrong_side = call != (strike >= forward)
    order = np.lexsort((wrong_side, np.isnan(vol), strike))
    first = np.r_[True, np.diff(strike[order]) > 0.0]
    best = order[first]
    best = best[np.isfinite(vol[best])]
    points = SlicePoints.of(
        tau, np.log(strike[best] / forward), vol[best], (ask_vol - bid_vol)[best]
    )
    return ChainPoints(
        forward, source, points, int(is_mark[best].sum()), bid_vol[best], ask_vol[best]
    )


def forward_of(
    strike: Floats, call: Bools, mark: Floats, mid: Floats, width: Floats, underlying_price: Floats
) -> tuple[float, str]:
    """Forward of an expiry and where it comes from.

    Put-call parity in coin, ``F = K / (1 - (C - P))``: the median over strikes of the marks of
    both options; without such marks that of the mids over the three strikes with the narrowest
    quotes; without those the median of the venue's own column.

    Raises
    ------
    DataError
        None of them is there.
    """
    puts, calls = _pairs(strike, call)
    for source, value in (("marks", mark), ("mids", mid)):
        share = 1.0 - (value[calls] - value[puts])
        paired = np.flatnonzero(np.isfinite(share) & (share > _LEAST_SPOT_SHARE))
        if source == "mids":
            both = (width[calls] + width[puts])[paired]
            paired = paired[np.argsort(both, kind="stable")[:3]]
        if len(paired):
            return float(np.median(strike[puts][paired] / share[paired])), source
    known = underlying_price[np.isfinite(underlying_price)]
    if not len(known):
        raise DataError(
            "no strike has a put and a call with prices and no underlying_price is given; quote "
            "either, or leave the expiry out"
        )
    return float(np.median(known)), "underlying_price"


def _pairs(strike: Floats, call: Bools) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Rows of the put and of the call of every strike that has both."""
    puts, calls = np.flatnonzero(~call), np.flatnonzero(call)
    _, in_puts, in_calls = np.intersect1d(strike[puts], strike[calls], return_indices=True)
    return puts[in_puts], calls[in_calls]
