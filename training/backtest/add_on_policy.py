"""The add-on as a margin policy over history: model level, rule floor, cap and hysteresis.

To try many scalars the model is evaluated once, at `LEVEL_SHARES` of each cap, and the level for
any tolerated probability is interpolated: between two shares the log odds are taken as linear in
the level. The result lies within the two shares that bracket the exact level, a factor 1.37 apart.
On the structural model it is within 2% of the exact one: a little high at small levels, where log
odds fall like the logarithm of the level, a little low at large ones, where they fall like its
square. Trees fall in steps and can use more of the bracket.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from features.account.frame import compute_aggregates, set_headroom
from features.state.market_state import MarketFeatures
from features.state.snapshot import MarketSnapshot
from margin.add_on.bounds import add_on_cap, bound_add_on, in_stress
from margin.floors.registry import active_floors, largest_floor
from margin.rules.ruleset import AddOnRules, RuleSet
from market.bars.history import MarketHistory
from market.core.errors import ModelError
from models.forecaster import Forecaster
from training.backtest.policies import Policy
from training.labels.account_panel import AccountPanel, take_rows

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LEVEL_SHARES: Floats = np.concatenate([[0.0], np.geomspace(1.0 / 200.0, 1.0, 18)])
"""Shares of the cap at which the model is evaluated, dense near 0."""

SMALLEST_SCALAR = 1e-6
"""Of the tolerated probabilities; nearly every level is then at the cap."""

_CHUNK = 20_000
_CLIP = 1e-12


@dataclass(frozen=True, slots=True)
class RuleBounds:
    """Bounds of the add-on by the rules alone at N account-times, settlement currency.

    Attributes
    ----------
    floor, cap:
        F and C, shape (N,).
    stress:
        Whether the rule for stress forbids a release, shape (N,).
    """

    floor: Floats
    cap: Floats
    stress: npt.NDArray[np.bool_]


def rule_bounds(
    times: AccountPanel, history: MarketHistory, market: MarketFeatures, ruleset: RuleSet
) -> RuleBounds:
    """Floor, cap and state at each account-time, by the functions that decisions use."""
    floor = np.empty(len(times))
    stress = np.empty(len(times), dtype=np.bool_)
    for row, index in _by_row(times.rows.row):
        as_of = int(market.closes[row])
        snapshot = MarketSnapshot.of_history(history, market, as_of)
        view = snapshot.view()
        figures = times.figures.take(index)
        floor[index] = largest_floor(active_floors(figures, view, ruleset.floors), figures)
        stress[index] = in_stress(snapshot.volatility_ratio(), ruleset.add_on)
    return RuleBounds(floor, add_on_cap(times.initial_margin, ruleset.add_on), stress)


def add_on_policy(
    times: AccountPanel,
    history: MarketHistory,
    market: MarketFeatures,
    ruleset: RuleSet,
    forecaster: Forecaster,
    progress: Callable[[float], None] | None = None,
) -> Policy:
    """Make the add-on policy, with every targeted p* multiplied by one scalar.

    ``A = bound(G(s p*), F, C, previous A)``, computed forward from each account's first time, at
    which there is no previous add-on. Without usable market data the model is not evaluated and
    the level is the floor. A tolerated probability of 1 or more needs no level.

    Parameters
    ----------
    times:
        Books and their margins.
    history, market:
        Marks and market features on the same grid.
    ruleset, forecaster:
        Rules and model.
    progress:
        Called with the share of the forecasts that is done.

    Raises
    ------
    ModelError
        The rule set targets a horizon that the model does not answer.
    """
    bounds = rule_bounds(times, history, market, ruleset)
    targets = ruleset.add_on.targets
    log_odds = log_odds_by_level(times, market, bounds.cap, forecaster, targets, progress)
    by_row = _by_row(times.rows.row)
    owner = times.owner()

    def levels(scalar: float) -> Floats:
        model_level = interpolate_level(log_odds, bounds.cap, targets, scalar)
        return simulate_add_on(times, owner, by_row, model_level, bounds, ruleset.add_on)

    return Policy(levels, 1.0 / min(targets.values()), SMALLEST_SCALAR)


def log_odds_by_level(
    times: AccountPanel,
    market: MarketFeatures,
    cap: Floats,
    forecaster: Forecaster,
    targets: Mapping[int, float],
    progress: Callable[[float], None] | None = None,
) -> Floats:
    """Log odds of a call with headroom at `LEVEL_SHARES` of the cap, for targeted horizons.

    Shape (N, number of shares, number of targets); NaN without usable market data.

    Raises
    ------
    ModelError
        A targeted horizon is not among the model's.
    """
    if missing := sorted(set(targets) - set(forecaster.horizons)):
        raise ModelError(
            f"the rule set targets horizons {missing} h and the model forecasts "
            f"{list(forecaster.horizons)} h; retrain with them or drop them from add_on.p_star"
        )
    columns = [forecaster.horizons.index(hours) for hours in targets]
    names = forecaster.bundle.schema.features
    out = np.full((len(times), len(LEVEL_SHARES), len(targets)), np.nan)
    usable = np.flatnonzero(times.usable).astype(np.int64)
    for begin in range(0, len(usable), _CHUNK):
        part = usable[begin : begin + _CHUNK]
        aggregates = compute_aggregates(take_rows(times.rows, part), market)
        features = forecaster.features(aggregates)
        for k, share in enumerate(LEVEL_SHARES):
            set_headroom(aggregates, features, names, share * cap[part])
            p = np.clip(forecaster.probability(features)[:, columns], _CLIP, 1.0 - _CLIP)
            out[part, k] = np.log(p) - np.log1p(-p)
            if progress is not None:
                done = begin + len(part) * (k + 1) / len(LEVEL_SHARES)
                progress(done / len(usable))
    return out


def interpolate_level(
    log_odds: Floats, cap: Floats, targets: Mapping[int, float], scalar: float
) -> Floats:
    """G: smallest level at which every targeted horizon is tolerated, shape (N,).

    Infinite where even the cap does not suffice; NaN where there is no forecast.

    Parameters
    ----------
    log_odds:
        From `log_odds_by_level`.
    cap:
        C, shape (N,).
    targets:
        Tolerated probability by horizon.
    scalar:
        Multiplies every tolerated probability, above 0.
    """
    p = np.array([scalar * tolerated for tolerated in targets.values()])
    with np.errstate(divide="ignore"):
        tolerated = np.where(p < 1.0, np.log(p) - np.log1p(-np.minimum(p, 1.0)), np.inf)
    share = np.empty(len(cap))
    _interpolate(log_odds, tolerated, LEVEL_SHARES, share)
    # Infinity times a cap of zero would be NaN.
    return np.where(np.isinf(share), np.inf, np.where(np.isinf(share), 0.0, share) * cap)


def simulate_add_on(
    times: AccountPanel,
    owner: Ints,
    by_row: list[tuple[int, Ints]],
    model_level: Floats,
    bounds: RuleBounds,
    rules: AddOnRules,
) -> Floats:
    """The bounded level at every account-time, each bounded against the one before; shape (N,)."""
    level = np.empty(len(times))
    previous = np.full(len(times.start) - 1, np.nan)
    since = np.full(len(previous), times.step_hours)
    for _, index in by_row:
        accounts = owner[index]
        bounded = bound_add_on(
            model_level[index],
            bounds.floor[index],
            bounds.cap[index],
            previous[accounts],
            since[accounts],
            times.initial_margin[index],
            bool(bounds.stress[index[0]]),
            rules,
        ).level
        level[index] = bounded
        previous[accounts] = bounded
    return level


def _by_row(row: Ints) -> list[tuple[int, Ints]]:
    """Every market row, rising, with the account-times at it."""
    order = np.argsort(row, kind="stable")
    rows, first = np.unique(row[order], return_index=True)
    return list(zip(rows.tolist(), np.split(order, first[1:]), strict=True))


@njit(cache=True, error_model="numpy")
def _interpolate(log_odds, tolerated, shares, out):  # type: ignore[no-untyped-def]
    for n in range(log_odds.shape[0]):
        out[n] = 0.0
        for h in range(log_odds.shape[2]):
            if np.isnan(log_odds[n, :, h]).any():
                out[n] = np.nan
                break
            if log_odds[n, 0, h] <= tolerated[h]:
                continue
            share = np.inf
            for k in range(1, len(shares)):
                above, below = log_odds[n, k - 1, h], log_odds[n, k, h]
                if below <= tolerated[h]:
                    weight = (above - tolerated[h]) / (above - below)
                    share = shares[k - 1] + weight * (shares[k] - shares[k - 1])
                    break
            out[n] = max(out[n], share)
