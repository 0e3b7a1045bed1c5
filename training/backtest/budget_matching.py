"""Match policies to a budget, so that they are compared at equal average margin."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from training.backtest.margin_paths import MarginPaths
from training.backtest.policies import Policy
from training.backtest.policy_simulation import MarginOutcome, average_margin, simulate_policy

Floats = npt.NDArray[np.float64]

FRONTIER_FACTORS = (0.4, 0.55, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 2.7)
"""Average levels of the frontier's scalars on the calibration months, over the matched one."""

_HALVINGS = 50


class AverageMargin:
    """Average margin of one policy by its scalar; each scalar is computed once."""

    def __init__(self, paths: MarginPaths, policy: Policy) -> None:
        self._paths = paths
        self._known: dict[float, float] = {}
        self.policy = policy

    def __call__(self, scalar: float) -> float:
        """Mean of maintenance margin plus level over the at-risk account-hours."""
        if scalar not in self._known:
            self._known[scalar] = average_margin(self._paths, self.policy.levels(scalar))
        return self._known[scalar]

    def at_zero(self) -> float:
        """Average of the maintenance margin alone."""
        return average_margin(self._paths, np.zeros(len(self._paths.times)))


@dataclass(frozen=True, slots=True)
class Frontier:
    """Outcomes of one policy by scalar, in rising order of average margin."""

    outcomes: tuple[MarginOutcome, ...]

    def at(self, budget: float) -> tuple[MarginOutcome, bool]:
        """The outcome at exactly this average margin, linear between two neighbours.

        Returns
        -------
        The outcome and True; outside the frontier its nearest end and False.
        """
        first, last = self.outcomes[0], self.outcomes[-1]
        if budget <= first.average_margin or len(self.outcomes) == 1:
            return first, budget == first.average_margin
        for low, high in pairwise(self.outcomes):
            if budget <= high.average_margin:
                width = high.average_margin - low.average_margin
                return low.between(high, (budget - low.average_margin) / width), True
        return last, False

    def points(self) -> list[list[float]]:
        """Average margin and shortfall of each outcome."""
        return [[o.average_margin, o.shortfall] for o in self.outcomes]


def solve_scalar(
    policy: Policy, average: Callable[[float], float], budget: float, tolerance: float = 1e-6
) -> float:
    """Scalar at which the average margin is the budget, by bisection of its logarithm.

    Parameters
    ----------
    policy:
        Gives the range of the scalar.
    average:
        Average margin by scalar.
    budget:
        Settlement currency, above 0.
    tolerance:
        Relative difference from the budget at which the search ends.

    Returns
    -------
    The scalar; the end of its range where the budget lies beyond it.

    References
    ----------
    Brent (1973), "Algorithms for Minimization without Derivatives", ch. 3 (bisection).
    """
    if not policy.scalable or average(policy.least) >= budget:
        return policy.least
    if average(policy.most) <= budget:
        return policy.most
    low, high = math.log(policy.least), math.log(policy.most)
    scalar = math.exp(0.5 * (low + high))
    for _ in range(_HALVINGS):
        margin = average(scalar)
        if abs(margin - budget) <= tolerance * budget:
            break
        if margin < budget:
            low = math.log(scalar)
        else:
            high = math.log(scalar)
        scalar = math.exp(0.5 * (low + high))
    return scalar


def frontier_scalars(average: AverageMargin, budget: float, matched: float) -> tuple[float, ...]:
    """The matched scalar and those of smaller and larger budgets on the calibration months."""
    if not average.policy.scalable:
        return (matched,)
    bare = average.at_zero()
    around = (
        solve_scalar(average.policy, average, bare + factor * (budget - bare), tolerance=2e-3)
        for factor in FRONTIER_FACTORS
        if factor != 1.0
    )
    return tuple(sorted({matched, *around}))


def trace_frontier(paths: MarginPaths, policy: Policy, scalars: Sequence[float]) -> Frontier:
    """Simulate the accounts at each scalar."""
    outcomes = [simulate_policy(paths, policy.levels(scalar)) for scalar in scalars]
    outcomes.sort(key=lambda outcome: outcome.average_margin)
    distinct = outcomes[:1]
    for outcome in outcomes[1:]:
        if outcome.average_margin > distinct[-1].average_margin:
            distinct.append(outcome)
    return Frontier(tuple(distinct))
