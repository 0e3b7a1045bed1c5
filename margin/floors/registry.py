"""The registry of the rule floors of the add-on: one line each in `FLOORS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from margin.book.account_requirement import Requirement
from margin.floors.correlation import correlation_floor, explain_correlation
from margin.floors.liquidity import explain_liquidity, liquidity_floor
from margin.floors.stale_data import explain_stale_data, stale_data_floor
from margin.floors.stressed_buffer import explain_stressed_buffer, stressed_buffer_floor
from margin.floors.stressed_weight import explain_stressed_weight, stressed_weight_floor
from margin.floors.term import FloorTerm
from margin.floors.volatility import explain_volatility, volatility_floor
from margin.floors.wrong_way import explain_wrong_way, wrong_way_floor
from margin.rules.floors import FloorRules
from margin.valuation.view import MarketView
from market.core.arrays import Floats


@dataclass(frozen=True, slots=True)
class Floor:
    """A floor and its explanation, both pure functions of (requirement, view, rules).

    A floor is a level on top of maintenance margin, settlement currency, shape (N,): finite and
    never negative; NaN for an account without figures. Both raise `RuleSetError` where the rule
    set lacks a table that they read.

    Attributes
    ----------
    amount:
        The floor of each account, shape (N,).
    explain:
        The terms that it is the sum of.
    """

    amount: Callable[[Requirement, MarketView, FloorRules], Floats]
    explain: Callable[[Requirement, MarketView, FloorRules], tuple[FloorTerm, ...]]


FLOORS: Mapping[str, Floor] = {
    "liquidity": Floor(liquidity_floor, explain_liquidity),
    "stale_data": Floor(stale_data_floor, explain_stale_data),
    "volatility": Floor(volatility_floor, explain_volatility),
    "stressed_buffer": Floor(stressed_buffer_floor, explain_stressed_buffer),
    "stressed_weight": Floor(stressed_weight_floor, explain_stressed_weight),
    "correlation": Floor(correlation_floor, explain_correlation),
    "wrong_way": Floor(wrong_way_floor, explain_wrong_way),
}


def active_floors(
    requirement: Requirement, view: MarketView, rules: FloorRules
) -> dict[str, Floats]:
    """Every floor that the rules switch on, by name, each of shape (N,).

    Values are finite and never negative, except NaN for the accounts in
    ``requirement.problems``.
    """
    unknown = np.isnan(requirement.maintenance_margin)
    return {
        name: np.where(unknown, np.nan, FLOORS[name].amount(requirement, view, rules))
        for name in rules.enabled()
    }


def floor_terms(
    requirement: Requirement, view: MarketView, rules: FloorRules
) -> dict[str, tuple[FloorTerm, ...]]:
    """The terms of every floor that the rules switch on, for the whole book at once.

    Those of an account add up to its entry in `active_floors`; they mean nothing for the accounts
    in ``requirement.problems``.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # in those accounts
        return {name: FLOORS[name].explain(requirement, view, rules) for name in rules.enabled()}


def largest_floor(floors: Mapping[str, Floats], requirement: Requirement) -> Floats:
    """F: the largest floor of each account, shape (N,); 0 where none is active.

    NaN for the accounts in ``requirement.problems``.
    """
    largest = np.where(np.isnan(requirement.maintenance_margin), np.nan, 0.0)
    for floor in floors.values():
        largest = np.maximum(largest, floor)
    return largest
