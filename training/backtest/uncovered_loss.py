"""Uncovered loss at equal average add-on: what falls of headroom exceed the levels asked for.

At an account-hour, d is the worst fall of headroom within the next day and a the policy's level,
both over gross notional. A policy's uncovered loss is the mean of ``max(0, d - a)``. A budget is an
average level: that of a flat share of maintenance margin which covers a stated share of the
account-hours. Every policy's scalar is solved so that its average level is the budget; what came
after the hours has no part in that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from market.core.clock import DAY
from training.backtest.account_hours import AccountHours
from training.backtest.policies import FLAT, Policy, is_simple

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Interval = tuple[float, float]

COVERAGES = (0.90, 0.95, 0.99)
"""Shares of the account-hours that the flat level covers at the budgets."""

CHOICE_COVERAGE = 0.95
"""The budget at which the best simple estimator is chosen."""

BLOCK_DAYS = 3
DRAWS = 1_000
LEVEL = 0.95
_SEED = 20_240_229


class Averaged(Protocol):
    """Account-times over some of which averages go."""

    def share(self, values: Floats) -> Floats:
        """Values over gross notional at the account-times that count."""
        ...


@dataclass(frozen=True, slots=True)
class Match:
    """A policy at a budget.

    Attributes
    ----------
    scalar:
        Of the policy.
    levels:
        Settlement currency, at every account-time.
    share:
        Over gross notional, at the account-times that count.
    matched:
        Whether the average of `share` is the budget; else the budget lies beyond what the policy
        can ask for.
    """

    scalar: float
    levels: Floats
    share: Floats
    matched: bool


def flat_budget(hours: AccountHours, coverage: float) -> tuple[float, float]:
    """The flat share k of maintenance margin that covers so many falls, and its average level.

    k is the smallest with ``P(D <= k * MM) >= coverage``; the average is over gross notional.
    """
    margin = hours.times.maintenance_margin
    ratio = hours.fall[hours.counted] / margin[hours.counted]
    k = float(np.quantile(ratio, coverage, method="inverted_cdf"))
    return k, k * float(hours.share(margin).mean())


def match(times: Averaged, policy: Policy, budget: float) -> Match:
    """Scale a policy to an average level over gross notional."""

    def average(levels: Floats) -> float:
        return float(times.share(levels).mean())

    scalar = policy.solve(average, budget)
    levels = policy.levels(scalar)
    share = times.share(levels)
    return Match(scalar, levels, share, abs(float(share.mean()) / budget - 1.0) < 1e-3)


def with_known_levels(hours: AccountHours, policies: Mapping[str, Policy]) -> AccountHours:
    """Count only the hours at which every policy has a level."""
    known = [np.isfinite(policy.levels(policy.scalars[0])) for policy in policies.values()]
    return replace(hours, counted=hours.counted & np.all(known, axis=0))


def uncovered(fall: Floats, level: Floats) -> Floats:
    """``max(0, d - a)`` of each account-hour."""
    return np.maximum(0.0, fall - level)


def choose_best_simple(hours: AccountHours, policies: Mapping[str, Policy]) -> str:
    """The simple estimate with the least uncovered loss at the budget of `CHOICE_COVERAGE`."""
    _, budget = flat_budget(hours, CHOICE_COVERAGE)
    fall = hours.share(hours.fall)
    loss = {
        name: float(uncovered(fall, match(hours, policy, budget).share).mean())
        for name, policy in policies.items()
        if is_simple(name)
    }
    return min(loss, key=lambda name: loss[name])


def compare_at_budget(
    hours: AccountHours, matches: Mapping[str, Match], best_simple: str
) -> dict[str, dict[str, Any]]:
    """Uncovered loss of each policy and its ratios, with intervals; see `ratio_interval`.

    A ratio is None where the other policy leaves nothing uncovered.
    """
    fall = hours.share(hours.fall)
    block = block_of(hours)
    losses = {name: uncovered(fall, found.share) for name, found in matches.items()}
    figures: dict[str, dict[str, Any]] = {}
    for name, found in matches.items():
        figures[name] = {
            "uncovered": float(losses[name].mean()),
            "breach_rate": float((fall > found.share).mean()),
            "average_add_on": float(found.share.mean()),
            "matched": found.matched,
            "scalar": found.scalar,
        }
        for label, other in (("flat", FLAT), ("best_simple", best_simple)):
            ratio, interval = ratio_interval(losses[name], losses[other], block)
            figures[name][f"ratio_to_{label}"] = ratio
            figures[name][f"ratio_to_{label}_ci95"] = None if interval is None else list(interval)
    return figures


def block_of(hours: AccountHours) -> Ints:
    """Block of `BLOCK_DAYS` days since 1970 of each counted hour, for the bootstrap."""
    time = hours.times.rows.row[hours.counted]
    days = hours.closes[time] // DAY
    return np.asarray(days // BLOCK_DAYS, dtype=np.int64)


def ratio_interval(
    loss: Floats, other: Floats, block: Ints, draws: int = DRAWS
) -> tuple[float | None, Interval | None]:
    """Ratio of two mean losses on the same account-hours, and its 95% interval.

    A paired bootstrap: whole blocks are drawn with replacement, the same for both losses, and the
    interval is that between the percentiles of the ratios. Draws in which the other loss is 0 are
    left out. The draws depend on the number of blocks alone, so equal losses give exactly 1.

    Parameters
    ----------
    loss, other:
        Of each account-hour, at least 0, shape (n,).
    block:
        Any integers, shape (n,).
    draws:
        Number of resamples.

    Returns
    -------
    The ratio, None where the other loss is 0; the interval, None with fewer than two blocks or
    where there is no ratio.

    References
    ----------
    Davison and Hinkley (1997), Bootstrap Methods and their Application, 2.4 and 8.2.3.
    """
    _, code = np.unique(block, return_inverse=True)
    above, below = np.bincount(code, loss), np.bincount(code, other)
    if not below.sum() > 0.0:
        return None, None
    ratio = float(above.sum() / below.sum())
    if len(below) < 2:
        return ratio, None
    rng = np.random.default_rng(_SEED)
    counts = rng.multinomial(len(below), np.full(len(below), 1.0 / len(below)), size=draws)
    top, bottom = counts @ above, counts @ below
    drawn = bottom > 0.0
    low, high = np.quantile(top[drawn] / bottom[drawn], [(1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0])
    return ratio, (float(low), float(high))
