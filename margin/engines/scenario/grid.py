"""The grid of scenarios as arrays, and the names of its rows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from margin.engines.scenario.rules import GridRow, ScenarioRules

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

UP, NONE, DOWN, LINEAR, ABSOLUTE = range(5)
"""How vols move; codes of the kernels."""
_MOVES = {"up": UP, "none": NONE, "down": DOWN, "linear": LINEAR, "abs": ABSOLUTE}
_WORDS = {
    "up": "vol up",
    "none": "vol unchanged",
    "down": "vol down",
    "linear": "linear skew",
    "abs": "absolute skew",
}

BASIS = "basis contingency"
"""What the worst is called where the forwards alone do it."""


class Grid(NamedTuple):
    """R scenarios and three rows that every option is valued in beside them, shape (R + 3,).

    Compiled kernels take it as it is. The three are the basis moves up and down, and today.

    Attributes
    ----------
    spot, log_spot:
        Multiplier of the spot and its logarithm.
    move:
        Code of the vol move.
    dampening:
        Of the result; 1 for the last three.
    """

    spot: Floats
    log_spot: Floats
    move: Ints
    dampening: Floats

    @classmethod
    def of(cls, rules: ScenarioRules) -> Grid:
        """The grid of a rule set."""
        spot = [row.spot for row in rules.grid]
        spot += [rules.basis_spot_up, rules.basis_spot_down, 1.0]
        move = [_MOVES[row.vol] for row in rules.grid] + [NONE] * 3
        dampening = [row.dampening for row in rules.grid] + [1.0] * 3
        multiplier = np.array(spot)
        with np.errstate(divide="ignore"):  # a price of 0 has the logarithm -inf
            log_spot = np.log(multiplier)
        return cls(multiplier, log_spot, np.array(move, dtype=np.int64), np.array(dampening))


def scenario_name(row: GridRow) -> str:
    """A scenario in words: ``scenario spot -18%, vol up``, ``scenario spot +100%, vol up, 3.6% of
    the result``."""
    change = f"{100.0 * (row.spot - 1.0):+.6g}%"
    if change in ("+0%", "-0%"):
        change = "unchanged"
    weight = "" if row.dampening == 1.0 else f", {100.0 * row.dampening:.6g}% of the result"
    return f"scenario spot {change}, {_WORDS[row.vol]}{weight}"
