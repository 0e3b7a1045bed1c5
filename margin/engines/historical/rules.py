"""``[simulation]`` of a rule set: margin from the losses that the past would bring today.

``margin/rules/presets/emir-ccp.toml`` documents every key; `margin.engines.historical` gives the
formulas.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from margin.rules.floors import StressedBufferRules
from margin.rules.values import NonNegative, Share

Days = Annotated[int, Meta(ge=1, le=3_653)]
Multiple = Annotated[float, Meta(ge=1)]
Coverage = Annotated[float, Meta(ge=0.5, le=1)]
"""Below a half the rank of the measure may lie beyond the losses there are."""

LEAST_MOVE = 0.10
"""Two standard deviations of two days at the least stand-in volatility of the floors, rounded up:
a smaller flat shock would take unknown history for calm."""

LEAST_KNOWN = 0.90
"""What a look-back may lack to days without a price."""


class VolatilityFilter(Struct, frozen=True, forbid_unknown_fields=True):
    """``[simulation.filter]``: past returns are scaled to the volatility of today.

    Attributes
    ----------
    least_ratio, most_ratio:
        Bounds of today's volatility over that of the past day.
    """

    least_ratio: Share = 0.5
    most_ratio: Multiple = 2.0


class LongVolatilityRules(Struct, frozen=True, forbid_unknown_fields=True):
    """``[simulation.long_volatility]``: no less than at the volatility of ten years."""

    enabled: bool = True


class StressedObservationRules(Struct, frozen=True, forbid_unknown_fields=True):
    """``[simulation.stressed_weight]``: a share of the margin from the wildest days on record.

    Attributes
    ----------
    weight:
        Share of the margin that the stressed observations make.
    observations:
        How many of the periods that ended in the highest market volatility count as stressed.
    """

    enabled: bool = True
    weight: Share = 0.25
    observations: Days = 250


class SimulationRules(Struct, frozen=True, forbid_unknown_fields=True):
    """What is simulated and how it becomes a margin; see `margin.engines.historical`.

    Attributes
    ----------
    product:
        Which of the figures of Articles 24 and 26 the others answer to.
    confidence:
        Share of periods that the margin is to cover; 1: all of them, the worst loss.
    period_days:
        Length of a period; periods overlap, one ends each day.
    lookback_days:
        How many of the newest periods are simulated.
    measure:
        ``var``: the mildest of the worst losses that the confidence leaves out; ``es``: their
        mean.
    volatility_half_life_days:
        Of the exponential weights on daily variance; 0: the newest day alone.
    filter:
        Absent: past returns are taken as they were.
    initial_multiple:
        Initial over maintenance margin.
    offset_cap:
        Share of the difference between separate and joint losses that netting may save.
    unknown_move:
        Flat shock, up and down, of an underlying without enough history; 1: its price goes to 0,
        or doubles.
    least_known_share:
        Share of the look-back from which its history is enough; 0: any return that is known.
    buffer, stressed_weight, long_volatility:
        The measures against procyclicality, points (a), (b) and (c) of Article 28(1); one at most
        is on.
    """

    confidence: Coverage
    period_days: Days
    product: Literal["listed", "otc"] = "listed"
    lookback_days: Days = 365
    measure: Literal["var", "es"] = "var"
    volatility_half_life_days: NonNegative = 10.0
    filter: VolatilityFilter | UnsetType = UNSET
    initial_multiple: Multiple = 1.25
    offset_cap: Share = 0.8
    unknown_move: Share = 0.4
    least_known_share: Share = 0.95
    buffer: StressedBufferRules | UnsetType = UNSET
    stressed_weight: StressedObservationRules | UnsetType = UNSET
    long_volatility: LongVolatilityRules | UnsetType = UNSET

    def __post_init__(self) -> None:
        on = self.measures()
        if len(on) > 1:
            raise ValueError(
                f"simulation.{' and simulation.'.join(on)} are on; switch on one measure against "
                "procyclicality at most"
            )

    def measures(self) -> tuple[str, ...]:
        """Names of the measures against procyclicality that are switched on."""
        names = ("buffer", "stressed_weight", "long_volatility")
        return tuple(name for name in names if getattr(getattr(self, name), "enabled", False))


def check_emir_simulation(rules: SimulationRules) -> None:
    """Raise ValueError unless a simulation keeps the figures of the EMIR margin articles.

    Article 24: confidence at least 99.5% (OTC) and 99% (others). 25: look-back at least 12
    months. 26: period at least 5 days (OTC) and 2 days (others). 27(4): offsets at most 80%.
    28(1)(a): buffer of at least 25%, whole while volatility is not above the long one; (b) weight
    of at least 25%. How many measures there must be, `margin.rules.floors.check_emir` says.

    References
    ----------
    Commission Delegated Regulation (EU) No 153/2013, Articles 24 to 28.
    """
    confidence, period = (0.995, 5) if rules.product == "otc" else (0.99, 2)
    least: list[tuple[str, float, float, str]] = [
        ("confidence", rules.confidence, confidence, "24"),
        ("lookback_days", rules.lookback_days, 365, "25"),
        ("period_days", rules.period_days, period, "26"),
    ]
    if isinstance(rules.buffer, StressedBufferRules) and rules.buffer.enabled:
        least.append(("buffer.buffer", rules.buffer.buffer, 0.25, "28(1)(a)"))
        least.append(("buffer.schedule[0][0]", rules.buffer.schedule[0][0], 1.0, "28(1)(a)"))
    if isinstance(rules.stressed_weight, StressedObservationRules) and (
        rules.stressed_weight.enabled
    ):
        least.append(("stressed_weight.weight", rules.stressed_weight.weight, 0.25, "28(1)(b)"))
    for key, value, bound, article in least:
        if value < bound:
            raise ValueError(
                f"regulation = 'emir' and simulation.{key} = {value}; Article {article} asks for "
                f"at least {bound} ({rules.product})"
            )
    if rules.offset_cap > 0.8:
        raise ValueError(
            f"regulation = 'emir' and simulation.offset_cap = {rules.offset_cap}; Article 27 asks "
            "for at most 0.8"
        )
    for key, value, bound in (
        ("unknown_move", rules.unknown_move, LEAST_MOVE),
        ("least_known_share", rules.least_known_share, LEAST_KNOWN),
    ):
        if value < bound:
            raise ValueError(
                f"regulation = 'emir' and simulation.{key} = {value}; expected at least {bound}, "
                "or a history that is not known would pass for a calm one"
            )
