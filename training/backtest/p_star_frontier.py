"""What a factor on every p* asks for and prevents: the frontier that p* is chosen from.

One factor multiplies the tolerated probability of every horizon, so the ratio between horizons
stays that of the rule set. Each grid point is the whole add-on (model, floor, cap and pacing) on
accounts as their owners run them. Sums are kept by block of days, so that figures of any grid
points and any costs can be compared under the same resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from training.backtest.account_hours import AccountHours
from training.backtest.margin_calls import FollowedHours, follow
from training.backtest.policies import ORACLE, PACED, Policy
from training.backtest.uncovered_loss import BLOCK_DAYS, uncovered, with_known_levels
from training.evaluation.bootstrap import LEVEL, RESAMPLES, resampled_sums, utc_day

Floats = npt.NDArray[np.float64]

FACTORS = tuple(2.0 ** (k / 2) for k in range(-10, 11))
"""Grid of factors on p*, from 1/32 to 32; 1 is the rule set's own."""

HOURS_A_YEAR = 8_766
"""Of 365.25 days."""

_COLUMNS = (
    *("counted", "maintenance", "add_on", "uncovered", "oracle_uncovered"),
    *("followed", "calls", "breaches", "breaches_without", "oracle_breaches"),
)


@dataclass(frozen=True, slots=True)
class PStarFrontier:
    """Sums over account-hours at K factors in B blocks of `BLOCK_DAYS` days.

    Attributes
    ----------
    factors:
        Rising, shape (K,).
    sums:
        Of what `frontier_figures` divides, shape (B, C, K).
    account_hours, accounts:
        Size of the sample.
    """

    factors: Floats
    sums: Floats
    account_hours: int
    accounts: int

    @property
    def incumbent(self) -> int:
        """Index of the factor 1."""
        return int(np.flatnonzero(self.factors == 1.0)[0])

    def resampled(self, seed: int, n: int = RESAMPLES) -> Floats | None:
        """Sums under n resamples of the blocks, shape (n, C, K); None with fewer than two."""
        blocks, columns, points = self.sums.shape
        if blocks < 2:
            return None
        return resampled_sums(self.sums.reshape(blocks, -1), n, seed).reshape(n, columns, points)


def sample_frontier(
    owners: AccountHours, policies: Mapping[str, Policy], factors: Sequence[float]
) -> PStarFrontier:
    """Walk the accounts through the add-on at every factor.

    The oracle, `training.backtest.policies.ORACLE`, is scaled to the average level of each factor.

    Parameters
    ----------
    owners:
        Accounts as their owners run them.
    policies:
        From `training.backtest.policies.PolicySources.policies` at these account-hours.
    factors:
        Rising, with 1 among them, within the range of the policies' scalar.
    """
    paced, oracle = policies[PACED], policies[ORACLE]
    hours = with_known_levels(owners, {PACED: paced, ORACLE: oracle})
    block = utc_day(hours.closes[hours.times.rows.row]) // BLOCK_DAYS
    fall, unit = hours.share(hours.fall), oracle.levels(1.0)
    _, code = np.unique(block, return_inverse=True)
    blocks = int(code.max()) + 1

    def at_counted(values: Floats) -> Floats:
        return np.bincount(code[hours.counted], values, blocks).astype(np.float64)

    def by_block(flags: npt.NDArray[np.bool_]) -> Floats:
        return np.bincount(code, flags, blocks).astype(np.float64)

    without = by_block(follow(hours, np.full(len(hours), -1.0)).breached)
    counted = at_counted(np.ones(len(fall)))
    maintenance = at_counted(hours.share(hours.times.maintenance_margin))
    unit_average = float(hours.share(unit).mean())
    points = []
    for factor in factors:
        level = paced.levels(factor)
        share = hours.share(level)
        scale = float(share.mean()) / unit_average if unit_average > 0.0 else 0.0
        found: FollowedHours = follow(hours, level)
        points.append(
            [
                counted,
                maintenance,
                at_counted(share),
                at_counted(uncovered(fall, share)),
                at_counted(uncovered(fall, hours.share(scale * unit))),
                by_block(found.followed),
                by_block(found.called),
                by_block(found.breached),
                without,
                by_block(follow(hours, scale * unit).breached),
            ]
        )
    sums = np.array(points, dtype=np.float64).transpose(2, 1, 0)
    return PStarFrontier(
        np.asarray(factors), sums, int(hours.counted.sum()), len(hours.times.start) - 1
    )


def frontier_figures(sums: Floats) -> dict[str, Floats]:
    """Figures of sums over blocks, each of shape (..., K); NaN where they are not defined.

    Parameters
    ----------
    sums:
        Shape (..., C, K).

    Returns
    -------
    ``average_add_on`` and ``uncovered`` are means over account-hours of the level, and of
    ``max(0, d - a)`` (see `training.backtest.uncovered_loss`), both over gross notional;
    ``add_on_over_maintenance`` the former over the mean of maintenance margin;
    ``calls_per_account_year`` and ``breaches_per_account_year`` counts over the time that accounts
    were followed; ``prevented_share`` the share of the breaches without any add-on that it
    prevents; ``oracle_uncovered`` and ``oracle_prevented_share`` those of an add-on of the same
    average level that is proportional to the volatility to come.
    """
    sum_of = {name: sums[..., c, :] for c, name in enumerate(_COLUMNS)}
    with np.errstate(divide="ignore", invalid="ignore"):
        followed = sum_of["followed"] / HOURS_A_YEAR
        without = sum_of["breaches_without"]
        return {
            "average_add_on": sum_of["add_on"] / sum_of["counted"],
            "add_on_over_maintenance": sum_of["add_on"] / sum_of["maintenance"],
            "uncovered": sum_of["uncovered"] / sum_of["counted"],
            "calls_per_account_year": sum_of["calls"] / followed,
            "breaches_per_account_year": sum_of["breaches"] / followed,
            "prevented_share": 1.0 - sum_of["breaches"] / without,
            "oracle_uncovered": sum_of["oracle_uncovered"] / sum_of["counted"],
            "oracle_prevented_share": 1.0 - sum_of["oracle_breaches"] / without,
        }


def frontier_table(frontier: PStarFrontier, seed: int) -> dict[str, Any]:
    """The frontier as plain values, with 95% intervals over blocks of days; see
    `frontier_figures`.

    Returns
    -------
    ``account_hours``, ``accounts``, ``blocks`` and ``points``, one a factor: every figure, and
    under ``<figure>_ci95`` its interval, None where it is not defined.
    """
    figures = frontier_figures(frontier.sums.sum(axis=0))
    drawn = frontier.resampled(seed)
    resampled = None if drawn is None else frontier_figures(drawn)
    calls, breaches, without = (
        frontier.sums[:, _COLUMNS.index(name)].sum(axis=0)
        for name in ("calls", "breaches", "breaches_without")
    )
    points: list[dict[str, Any]] = []
    for k, factor in enumerate(frontier.factors.tolist()):
        point: dict[str, Any] = {
            "factor": factor,
            "calls": int(calls[k]),
            "prevented_breaches": int(without[k] - breaches[k]),
            "missed_breaches": int(breaches[k]),
        }
        for name, values in figures.items():
            point[name] = plain(values[k])
            point[f"{name}_ci95"] = None if resampled is None else interval(resampled[name][:, k])
        points.append(point)
    return {
        "account_hours": frontier.account_hours,
        "accounts": frontier.accounts,
        "blocks": len(frontier.sums),
        "points": points,
    }


def plain(value: float) -> float | None:
    """A float; None where it is not finite."""
    return float(value) if np.isfinite(value) else None


def interval(values: Floats) -> list[float] | None:
    """95% percentile interval over resamples, those without a figure left out."""
    known = values[np.isfinite(values)]
    if not len(known):
        return None
    low, high = np.quantile(known, [(1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0])
    return [float(low), float(high)]
