"""The walk through the whole add-on equals the rules applied account by account."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from decisions.book_scoring import CARRIED_HOURS, PreviousAddOn
from margin.add_on.bounds import BINDINGS, bound_add_on
from margin.rules.add_on import PhaseIn
from market.core.clock import HOUR
from models.forecaster import Forecaster
from tests.training.backtest.conftest import World
from training.backtest.account_hours import AccountHours
from training.backtest.paced_add_on import AddOnWalk, rule_bounds
from training.backtest.policies import Policy


def walk_of(world: World, hours: AccountHours) -> AddOnWalk:
    bounds = rule_bounds(hours.times, world.history, world.market, world.ruleset)
    closes = world.history.bars.closes
    return AddOnWalk(hours.times, hours.interval, closes, bounds, world.ruleset.add_on)


def raw_policy(world: World, forecaster: Forecaster, hours: AccountHours) -> Policy:
    return world.sources(forecaster).raw_policy(hours.times)


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("books_change", [False, True])
def test_walk_equals_decisions_one_after_the_other(
    world: World, forecaster: Forecaster, gaps: bool, books_change: bool
) -> None:
    hours = world.hours(least_hours=400)
    times = hours.times
    model_level = raw_policy(world, forecaster, hours).levels(40.0)
    if gaps:
        model_level[::7] = np.nan
        model_level[100:140] = np.nan
    if books_change:
        hours = replace(hours, interval=np.arange(len(hours)) // 5)
    level = walk_of(world, hours).levels(model_level)
    bounds = rule_bounds(times, world.history, world.market, world.ruleset)
    closes = world.history.bars.closes[times.rows.row]
    bindings: set[str] = set()
    for i in range(len(times.start) - 1):
        before: PreviousAddOn | None = None
        for n in range(times.start[i], times.start[i + 1]):
            own = slice(n, n + 1)
            margin = float(times.initial_margin[n])
            held = {"book": float(hours.interval[n])}
            as_of = int(closes[n])
            previous = np.nan if before is None else before.level(held, margin)
            since = np.nan if before is None else before.hours_since(as_of)
            step = bound_add_on(
                model_level[own],
                bounds.floor[own],
                bounds.cap[own],
                np.array([previous]),
                np.array([since]),
                times.initial_margin[own],
                bool(bounds.stress[n]),
                world.ruleset.add_on,
            )
            assert step.level[0] == level[n]
            if not np.isnan(model_level[n]):
                before = PreviousAddOn(float(step.level[0]), as_of, margin, held)
            elif before is not None:
                before = replace(before, carried=True)
            bindings |= {BINDINGS[code] for code in step.binding}
    assert {"dead_band", "release"} <= bindings
    assert ("fallback" in bindings) == gaps
    assert CARRIED_HOURS * HOUR > 0


@pytest.mark.parametrize("factor", [1e-3, 1.0, 30.0, 200.0])
def test_add_on_lies_between_floor_and_cap(
    world: World, forecaster: Forecaster, factor: float
) -> None:
    hours = world.hours()
    bounds = rule_bounds(hours.times, world.history, world.market, world.ruleset)
    level = walk_of(world, hours).levels(raw_policy(world, forecaster, hours).levels(factor))
    assert (level >= bounds.floor).all()
    assert (level <= np.maximum(bounds.floor, bounds.cap)).all()
    assert (bounds.floor > 0.0).all()


def test_the_walk_judges_the_model_in_full_whatever_the_phase_in(
    world: World, forecaster: Forecaster
) -> None:
    hours = world.hours(least_hours=400)
    raw = raw_policy(world, forecaster, hours).levels(0.05)
    closes = world.history.bars.closes
    phase_in = PhaseIn("2100-01-01T00:00:00Z", "2100-02-01T00:00:00Z")
    rules = msgspec.structs.replace(world.ruleset.add_on, phase_in=phase_in)
    bounds = rule_bounds(hours.times, world.history, world.market, world.ruleset)
    walked = AddOnWalk(hours.times, hours.interval, closes, bounds, rules).levels(raw)
    assert walked.tobytes() == walk_of(world, hours).levels(raw).tobytes()
