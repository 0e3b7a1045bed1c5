"""The terms that a floor is the sum of: its explanation, for a whole book at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from margin.book.account_requirement import Requirement
from market.core.arrays import Floats


@dataclass(frozen=True, slots=True)
class FloorTerm:
    """One term of a floor: the floor of an account is the sum of all that belongs to it.

    Attributes
    ----------
    name:
        Short name, unique within the floor.
    reason:
        What it is, in words.
    of:
        Owner of the amounts: each ``position``, each ``collateral`` balance or each ``account``.
    amount:
        Settlement currency, signed, shape (L,), (B,) or (N,) accordingly.
    """

    name: str
    reason: str
    of: Literal["position", "collateral", "account"]
    amount: Floats


def maintenance_term(maintenance_margin: Floats) -> FloorTerm:
    """The maintenance margin, which a floor comes on top of."""
    reason = "the rules ask for this already"
    return FloorTerm("maintenance_margin", reason, "account", -maintenance_margin)


def less_maintenance(requirement: Requirement, total: Floats) -> tuple[FloorTerm, FloorTerm]:
    """The terms that lead from a total to the level on top of maintenance margin, at least 0."""
    maintenance = requirement.maintenance_margin
    return (
        maintenance_term(maintenance),
        FloorTerm(
            "not_below_zero",
            "the rules ask for more than this floor",
            "account",
            np.maximum(0.0, maintenance - total),
        ),
    )


def beyond_maintenance(requirement: Requirement, total: Floats) -> Floats:
    """Level on top of maintenance margin that a total asks for, at least 0, shape (N,)."""
    return np.maximum(0.0, total - requirement.maintenance_margin)
