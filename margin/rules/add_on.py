"""Tables under ``[add_on]`` of a rule set: how p* was chosen, and the phase-in of a model.

Absent tables stay out of the content of a rule set, so they leave the identity of the rule sets
that do not use them as it was.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from margin.rules.values import NonNegative, Positive, Text
from market.core.clock import parse_time
from market.core.errors import DataError

Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Meta(ge=0)]
Bounds = Annotated[tuple[float, ...], Meta(max_length=2)]
"""A 95% interval; empty where it is not defined."""


class ReasoningCosts(Struct, frozen=True, forbid_unknown_fields=True):
    """``[add_on.reasoning.costs]``, see `training.backtest.p_star_choice.PolicyCosts`.

    Attributes
    ----------
    collateral:
        Share of the add-on a year.
    call:
        Of each call, share of the account's gross notional.
    uncovered:
        Value of a unit of uncovered loss.
    """

    collateral: NonNegative
    call: NonNegative
    uncovered: NonNegative


class ReasoningPoint(Struct, frozen=True, forbid_unknown_fields=True):
    """The chosen row of the frontier, see `training.backtest.p_star_frontier.frontier_figures`.

    Attributes
    ----------
    cost:
        Share of gross notional a year.
    """

    average_add_on: NonNegative
    add_on_over_maintenance: NonNegative
    uncovered: NonNegative
    calls_per_account_year: NonNegative
    prevented_breaches: int
    missed_breaches: Count
    cost: NonNegative


class PStarReasoning(Struct, frozen=True, forbid_unknown_fields=True):
    """``[add_on.reasoning]``: what ``margincast policy`` chose p* on. It changes no margin.

    Attributes
    ----------
    rule:
        The rule in words.
    costs:
        What it weighed.
    begin, end:
        Span of the choice, ISO 8601: decisions close after the first, and the day that follows
        them no later than the second.
    account_hours, accounts:
        Size of the sample.
    incumbent:
        p* before, by horizon in hours.
    factor:
        On every p* of before; 1 where the incumbent was kept.
    cheapest:
        The factor of least cost on the grid.
    cost_difference, cost_difference_ci95:
        Cost of `cheapest` less that of the incumbent, share of gross notional a year.
    chosen:
        The row of the frontier at `factor`.
    bundle_sha256, data_sha256, ruleset_sha256:
        The model, the account-hours and the rule set that p* was chosen with.
    """

    rule: Text
    costs: ReasoningCosts
    begin: Text
    end: Text
    account_hours: Count
    accounts: Count
    incumbent: dict[str, float]
    factor: Positive
    cheapest: Positive
    cost_difference: float
    cost_difference_ci95: Bounds
    chosen: ReasoningPoint
    bundle_sha256: Sha256
    data_sha256: Sha256
    ruleset_sha256: Sha256


class PhaseIn(Struct, frozen=True, forbid_unknown_fields=True):
    """``[add_on.phase_in]``: when the model's level begins to count, and when it counts in full.

    Attributes
    ----------
    starts, ends:
        ISO 8601; the weight rises linearly from 0 to 1 between them.
    """

    starts: Text
    ends: Text

    def __post_init__(self) -> None:
        begin, end = self.span
        if begin >= end:
            raise ValueError(
                f"add_on.phase_in: starts {self.starts} is not before ends {self.ends}"
            )

    @property
    def span(self) -> tuple[int, int]:
        """Start and end in nanoseconds."""
        return _time("starts", self.starts), _time("ends", self.ends)

    def weight(self, as_of: int) -> float:
        """Weight of the model's level at a time in nanoseconds, from 0 to 1."""
        begin, end = self.span
        return min(1.0, max(0.0, (as_of - begin) / (end - begin)))


def _time(key: str, text: str) -> int:
    try:
        return parse_time(text)
    except DataError as error:
        raise ValueError(f"add_on.phase_in.{key}: {error}") from error
