"""Outlier filter for quoted prices and vols: marks, forwards, cash assets, vols of options.

The rule is that of bars (`market.bars.outlier_filter`), for prices that come at any time:

* Farther than ``log(hard_band)`` from the last good price, and from the suspect one that waits on
  the same side, a price is rejected. No time without a price widens this band.
* Within ``band * sqrt(min(24, max(1, hours)))`` of the last good price it is good, over the hours
  between the two. A vol has ``vol_band`` likewise, a cash asset ``cash_band``, whatever the hours.
* Beyond that it is good if the majority of it and its sources lies within ``agreement`` of it.
* So it is if suspect prices of the same figure lie on its side for `CONFIRMATION` already, without
  a good one among them. The same value again is an echo and confirms nothing.
* Otherwise it is suspect: the last good price stays in force.

A price without any reference is good: nothing is known that it could contradict.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from market.bars.outlier_filter import MAX_GAP_HOURS, OutlierFilter
from market.core.clock import HOUR, MINUTE, format_time

CONFIRMATION = 5 * MINUTE
"""So long a suspect price has to stand on one side before the next one confirms it, where no
second source does."""

SOURCE_INTERVALS = 2
"""Prices of two sources are compared where so many intervals of the market or less lie between."""


Kind = Literal["price", "cash", "vol"]
"""What is quoted: each kind has its band."""

_ADVICE = {
    "price": "quote it in the settlement currency, for one unit",
    "cash": "quote it in the settlement currency, for one unit",
    "vol": "quote it annual and as a fraction, 0.5 for 50%",
}


@dataclass(frozen=True, slots=True)
class TimedPrice:
    """A price, or an annual vol, and when it held, nanoseconds."""

    ts: int
    value: float


@dataclass(frozen=True, slots=True)
class FilterInputs:
    """What a quoted price is held against.

    Attributes
    ----------
    reference:
        Last good price of the same thing; None where there is none.
    held:
        Suspect price of the same figure that waits.
    held_since:
        Time of the first of its run.
    sources:
        Prices of other sources near it in time, good or suspect; read only where they matter.
    kind:
        What is quoted.
    least_hours:
        The band is that of so many hours at least; more than one where the reference is of
        something else, whose level may differ.
    """

    reference: TimedPrice | None
    held: TimedPrice | None = None
    held_since: int = 0
    sources: Iterable[TimedPrice] = ()
    kind: Kind = "price"
    least_hours: float = 1.0


@dataclass(frozen=True, slots=True)
class QuoteVerdict:
    """What the filter says of a price, why, and of a suspect one since when its run stands."""

    status: Literal["good", "suspect", "rejected"]
    detail: str = ""
    since: int = 0


GOOD = QuoteVerdict("good")


def filter_quote(
    price: TimedPrice, context: FilterInputs, outlier_filter: OutlierFilter
) -> QuoteVerdict:
    """Judge a quoted price."""
    reference, held = context.reference, context.held
    if reference is None:
        return GOOD
    move = math.log(price.value / reference.value)
    same_side = held is not None and move * math.log(held.value / reference.value) > 0.0
    distance = abs(move)
    if held is not None and same_side:
        distance = min(distance, abs(math.log(price.value / held.value)))
    if distance > math.log(outlier_filter.hard_band):
        return QuoteVerdict(
            "rejected",
            f"{price.value:g} is beyond a factor of {outlier_filter.hard_band:g} from the last "
            f"good {_noun(context)} {_named(reference)}; {_ADVICE[context.kind]}",
        )
    if abs(move) <= _band(price, context, outlier_filter) or agree(
        price, context.sources, outlier_filter
    ):
        return GOOD
    since = price.ts
    if held is not None and same_side:
        since = min(context.held_since, price.ts)
        if price.value != held.value and price.ts - since >= CONFIRMATION:
            return GOOD
    return QuoteVerdict(
        "suspect",
        f"{price.value:g} is {math.expm1(move):+.1%} from the last good {_noun(context)} "
        f"{_named(reference)}, which stays in force until a second source agrees or quotes stay "
        f"there for {CONFIRMATION // MINUTE} minutes",
        since,
    )


def agree(price: TimedPrice, sources: Iterable[TimedPrice], outlier_filter: OutlierFilter) -> bool:
    """Whether the majority of a price and its sources lies within ``agreement`` of it.

    So does their median then.
    """
    near = [within(price, source, outlier_filter) for source in sources]
    return any(near) and 2 * (sum(near) + 1) > len(near) + 1


def within(price: TimedPrice, other: TimedPrice, outlier_filter: OutlierFilter) -> bool:
    """Whether two prices lie within ``agreement`` of each other."""
    return abs(math.log(price.value / other.value)) <= outlier_filter.agreement


def _band(price: TimedPrice, context: FilterInputs, outlier_filter: OutlierFilter) -> float:
    if context.kind == "cash" or context.reference is None:
        return outlier_filter.cash_band
    hours = abs(price.ts - context.reference.ts) / HOUR
    band = outlier_filter.vol_band if context.kind == "vol" else outlier_filter.band
    return band * math.sqrt(min(MAX_GAP_HOURS, max(context.least_hours, hours)))


def _noun(context: FilterInputs) -> str:
    return "vol" if context.kind == "vol" else "price"


def _named(price: TimedPrice) -> str:
    return f"{price.value:g}" + (f" of {format_time(price.ts)}" if price.ts > 0 else "")
