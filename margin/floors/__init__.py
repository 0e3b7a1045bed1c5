"""The rule floors of the add-on: one pure function each, listed here once.

A floor is one file, one table ``[floors.<name>]`` in `margin.ruleset.FloorRules` with a key
``enabled``, and one line in `FLOORS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from margin.floors.liquidity import liquidity_floor
from margin.floors.stale_data import stale_data_floor
from margin.requirement import Requirement
from margin.ruleset import FloorRules
from margin.view import MarketView

Floats = npt.NDArray[np.float64]
Floor = Callable[[Requirement, MarketView, FloorRules], Floats]

FLOORS: Mapping[str, Floor] = {
    "liquidity": liquidity_floor,
    "stale_data": stale_data_floor,
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
        name: np.where(unknown, np.nan, FLOORS[name](requirement, view, rules))
        for name in rules.enabled()
    }


def largest_floor(floors: Mapping[str, Floats], requirement: Requirement) -> Floats:
    """F: the largest floor of each account, shape (N,); 0 where none is active.

    NaN for the accounts in ``requirement.problems``.
    """
    largest = np.where(np.isnan(requirement.maintenance_margin), np.nan, 0.0)
    for floor in floors.values():
        largest = np.maximum(largest, floor)
    return largest
