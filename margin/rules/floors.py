"""``[floors]`` of a rule set: which floors are on, and their figures.

A floor whose table is absent is off; ``liquidity`` and ``stale_data`` alone are on by default.
Absent tables stay out of the content of a rule set, so a floor that is new to this version leaves
the identity of the rule sets that do not use it as it was.
"""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import NormalDist
from typing import Annotated, ClassVar, Literal, TypeVar

import numpy as np
from msgspec import UNSET, Meta, Struct, UnsetType

from margin.rules.values import NonNegative, Positive, Share, check_rising
from market.core.errors import RuleSetError

Table = TypeVar("Table", bound=Struct)

Confidence = Annotated[float, Meta(ge=0.5, le=1)]
"""Below a half a normal quantile is negative, and so would be the margin."""

EMIR_MEASURES = ("volatility", "stressed_buffer", "stressed_weight")
"""Floors that answer to Article 28(1), points (c), (a) and (b)."""


class Cover(Struct, frozen=True, forbid_unknown_fields=True):
    """Confidence that a margin holds for a period of days."""

    confidence: Confidence
    period_days: NonNegative

    def __post_init__(self) -> None:
        if self.confidence == 1.0 and self.period_days == 0.0:
            raise ValueError(
                "confidence is 1 and period_days 0: certainty over no time is not defined; give a "
                "confidence below 1 or a period above 0"
            )

    @property
    def multiple(self) -> float:
        """Hourly standard deviations to hold: normal quantile times the root of the hours.

        Infinite at a confidence of 1: any volatility then asks for the whole notional.
        """
        if self.confidence == 1.0:
            return math.inf
        return NormalDist().inv_cdf(self.confidence) * math.sqrt(24.0 * self.period_days)


class CoverageRules(Struct, frozen=True, forbid_unknown_fields=True):
    """``[floors.coverage]``: the margin that the floors on volatility measure, no floor itself.

    See `margin.floors.coverage`.
    """

    product: Literal["listed", "otc"] = "listed"
    listed: Cover = Cover(0.99, 2.0)
    otc: Cover = Cover(0.995, 5.0)
    lookback_days: NonNegative = 365.0
    unknown_volatility: NonNegative = 0.02

    @property
    def multiple(self) -> float:
        """Hourly standard deviations that the product's cover asks for."""
        return (self.listed if self.product == "listed" else self.otc).multiple


class SlippageCurve(Struct, frozen=True, forbid_unknown_fields=True):
    """Cost of trading one symbol through its order books, as shares of the notional.

    Attributes
    ----------
    half_spread:
        Cost of the smallest trade.
    slippage:
        Points (notional, cost from the mid price, the half-spread included), both rising.
    """

    half_spread: NonNegative
    slippage: Annotated[tuple[tuple[Positive, NonNegative], ...], Meta(min_length=1)]

    def __post_init__(self) -> None:
        check_rising("slippage", [notional for notional, _ in self.slippage])
        for before, after in pairwise([self.half_spread, *(share for _, share in self.slippage)]):
            if after < before:
                raise ValueError(
                    f"slippage: a cost of {after} follows {before}; it must be at least the "
                    "half_spread and not fall with notional"
                )


class FloorTable(Struct, frozen=True, forbid_unknown_fields=True):
    """What the table of every floor has: whether it is on.

    Attributes
    ----------
    on_coverage:
        Whether the floor measures the coverage, and needs ``[floors.coverage]``; no TOML key.
    """

    on_coverage: ClassVar[bool] = False
    enabled: bool = True


class LiquidityRules(FloorTable, frozen=True, forbid_unknown_fields=True):
    """``[floors.liquidity]``, see `margin.floors.liquidity`."""

    half_spread: NonNegative = 0.0005
    impact: NonNegative = 1.0
    concentration_share: NonNegative = 0.1
    confidence: NonNegative = 2.33
    unknown_volatility: NonNegative = 0.02
    unknown_participation: NonNegative = 0.1
    depth: dict[str, SlippageCurve] | UnsetType = UNSET
    depth_of_others: SlippageCurve | UnsetType = UNSET

    def __post_init__(self) -> None:
        if (self.depth is UNSET) != (self.depth_of_others is UNSET):
            raise ValueError(
                "depth and depth_of_others go together: give figures by symbol and the curve of "
                "the symbols that have none"
            )


class StaleDataRules(FloorTable, frozen=True, forbid_unknown_fields=True):
    """``[floors.stale_data]``, see `margin.floors.stale_data`."""

    confidence: NonNegative = 2.33
    unknown_volatility: NonNegative = 0.02
    unknown_age_hours: NonNegative = 24.0


class VolatilityRules(FloorTable, frozen=True, forbid_unknown_fields=True):
    """``[floors.volatility]``, see `margin.floors.volatility`."""

    on_coverage: ClassVar[bool] = True
    unknown_long_volatility: NonNegative = 0.02


class StressedBufferRules(FloorTable, frozen=True, forbid_unknown_fields=True):
    """``[floors.stressed_buffer]``, see `margin.floors.stressed_buffer`.

    Attributes
    ----------
    buffer:
        Share of the margin held on top of it.
    schedule:
        Points (stress ratio, share of the buffer that remains): ratios rise, shares fall from 1.
    """

    on_coverage: ClassVar[bool] = True
    buffer: Share = 0.25
    schedule: Annotated[tuple[tuple[NonNegative, Share], ...], Meta(min_length=1)] = (
        (1.5, 1.0),
        (3.0, 0.0),
    )

    def __post_init__(self) -> None:
        check_rising("schedule", [ratio for ratio, _ in self.schedule])
        shares = [share for _, share in self.schedule]
        if shares[0] != 1.0:
            raise ValueError(f"schedule begins with a share of {shares[0]}; expected all of it: 1")
        for before, after in pairwise(shares):
            if after > before:
                raise ValueError(
                    f"schedule: a share of {after} follows {before}; the buffer must not grow "
                    "with stress"
                )


def remaining_share(stress: float, rules: StressedBufferRules) -> float:
    """Share of the buffer that remains: lines through the schedule, level beyond its ends.

    All of it where the stress is not known: no buffer is released without evidence.
    """
    if math.isnan(stress):
        return 1.0
    ratios, shares = zip(*rules.schedule, strict=True)
    return float(np.interp(stress, ratios, shares))


class StressedWeightRules(FloorTable, frozen=True, forbid_unknown_fields=True):
    """``[floors.stressed_weight]``, see `margin.floors.stressed_weight`."""

    on_coverage: ClassVar[bool] = True
    weight: Share = 0.25
    unknown_stressed_volatility: NonNegative = 0.04


class CorrelationRules(FloorTable, frozen=True, forbid_unknown_fields=True):
    """``[floors.correlation]``, see `margin.floors.correlation`."""

    on_coverage: ClassVar[bool] = True
    offset_cap: Share = 0.8
    full_divergence: NonNegative = 0.5


class WrongWayRules(FloorTable, frozen=True, forbid_unknown_fields=True):
    """``[floors.wrong_way]``, see `margin.floors.wrong_way`."""

    on_coverage: ClassVar[bool] = True


class FloorRules(Struct, frozen=True, forbid_unknown_fields=True):
    """``[floors]``: one table a floor, and the coverage that some of them measure."""

    liquidity: LiquidityRules = LiquidityRules()
    stale_data: StaleDataRules = StaleDataRules()
    volatility: VolatilityRules | UnsetType = UNSET
    stressed_buffer: StressedBufferRules | UnsetType = UNSET
    stressed_weight: StressedWeightRules | UnsetType = UNSET
    correlation: CorrelationRules | UnsetType = UNSET
    wrong_way: WrongWayRules | UnsetType = UNSET
    coverage: CoverageRules | UnsetType = UNSET

    def __post_init__(self) -> None:
        needy = [name for name in self.enabled() if getattr(self, name).on_coverage]
        if needy and self.coverage is UNSET:
            raise ValueError(
                f"floors.{needy[0]} is on and measures the coverage; add the table "
                "[floors.coverage]"
            )

    def enabled(self) -> tuple[str, ...]:
        """Names of the floors that are switched on."""
        tables = {name: getattr(self, name) for name in self.__struct_fields__}
        return tuple(
            name
            for name, table in tables.items()
            if isinstance(table, FloorTable) and table.enabled
        )


def table_of(table: Table | UnsetType, name: str) -> Table:
    """A table that a floor cannot do without.

    Raises
    ------
    RuleSetError
        The rule set does not have it.
    """
    if isinstance(table, UnsetType):
        raise RuleSetError(
            f"the rule set has no table [floors.{name}], whose figures are needed here; add it"
        )
    return table


LEAST_STAND_IN = 0.005
"""Hourly volatility, 47% a year: about what the calmest of the large coins has in the long run."""
MOST_DIVERGENCE = 2.0


def check_emir(rules: FloorRules, engine_measures: tuple[str, ...] = ()) -> None:
    """Raise ValueError unless the floors keep the figures of the EMIR margin articles.

    `engine_measures` names the measures of Article 28(1) that the engine takes itself: one there
    takes the place of one here.

    Article 24: confidence at least 99.5% (OTC) and 99% (others). 25: look-back at least 12
    months. 26: period at least 5 days (OTC) and 2 days (others); a market that never closes has
    no other than calendar days. 27(4): offsets at most 80%. 28(1): of the measures (a) buffer of at
    least 25%, whole while the newest volatility is not above the long one, (b) weight of at least
    25% on stressed observations, (c) floor from the long look-back, the article asks for at least
    one; here it is exactly one, so that the rule set says which it rests on.

    References
    ----------
    Commission Delegated Regulation (EU) No 153/2013, Articles 24 to 28.
    """
    measures = [*engine_measures, *(name for name in rules.enabled() if name in EMIR_MEASURES)]
    if len(measures) != 1:
        raise ValueError(
            f"regulation = 'emir' and the floors on against procyclicality are "
            f"{', '.join(measures) or 'none'}; switch on exactly one of "
            f"{', '.join(EMIR_MEASURES)} or of those of [simulation], the one that is to answer "
            "to Article 28(1)"
        )
    if "correlation" not in rules.enabled():
        raise ValueError(
            "regulation = 'emir' needs floors.correlation, the offset cap of Article 27"
        )
    coverage = table_of(rules.coverage, "coverage")
    least = [
        ("coverage.otc.confidence", coverage.otc.confidence, 0.995, "24"),
        ("coverage.listed.confidence", coverage.listed.confidence, 0.99, "24"),
        ("coverage.lookback_days", coverage.lookback_days, 365.0, "25"),
        ("coverage.otc.period_days", coverage.otc.period_days, 5.0, "26"),
        ("coverage.listed.period_days", coverage.listed.period_days, 2.0, "26"),
    ]
    if isinstance(rules.stressed_buffer, StressedBufferRules) and rules.stressed_buffer.enabled:
        least.append(("stressed_buffer.buffer", rules.stressed_buffer.buffer, 0.25, "28(1)(a)"))
        calm = rules.stressed_buffer.schedule[0][0]
        least.append(("stressed_buffer.schedule[0][0]", calm, 1.0, "28(1)(a)"))
    if isinstance(rules.stressed_weight, StressedWeightRules) and rules.stressed_weight.enabled:
        least.append(("stressed_weight.weight", rules.stressed_weight.weight, 0.25, "28(1)(b)"))
    for key, value, bound, article in least:
        if value < bound:
            raise ValueError(
                f"regulation = 'emir' and floors.{key} = {value}; Article {article} asks for at "
                f"least {bound}"
            )
    for key, value in (
        ("coverage.unknown_volatility", coverage.unknown_volatility),
        *(
            (f"{name}.{key}", getattr(table, key))
            for name, table, key in (
                ("volatility", rules.volatility, "unknown_long_volatility"),
                ("stressed_weight", rules.stressed_weight, "unknown_stressed_volatility"),
            )
            if hasattr(table, key)
        ),
    ):
        if value < LEAST_STAND_IN:
            raise ValueError(
                f"regulation = 'emir' and floors.{key} = {value}; the value in place of an unknown "
                f"volatility must be at least {LEAST_STAND_IN} an hour"
            )
    divergence = table_of(rules.correlation, "correlation").full_divergence
    if divergence > MOST_DIVERGENCE:
        raise ValueError(
            f"regulation = 'emir' and floors.correlation.full_divergence = {divergence}; two "
            f"correlations are never more than {MOST_DIVERGENCE} apart: give less"
        )
    cap = table_of(rules.correlation, "correlation").offset_cap
    if cap > 0.8:
        raise ValueError(
            f"regulation = 'emir' and floors.correlation.offset_cap = {cap}; Article 27 asks for "
            "at most 0.8"
        )
