"""The backtest on a small simulated market, with a model of the structural prior alone."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from features.account.frame import compute_aggregates
from features.identity import digests_of
from features.state.market_state import MarketFeatures, MarketState
from features.state.snapshot import MarketSnapshot
from margin.add_on.bounds import BINDINGS, bound_add_on
from margin.book.requirement import compute_requirement
from margin.floors.liquidity import liquidity_floor
from margin.rules.ruleset import AddOnRules, RuleSet, load_ruleset
from market.bars.history import MarketHistory
from market.bars.panel import CLOSE, VOLUME, BarPanel
from market.core.clock import DAY, HOUR, INTERVALS
from market.core.errors import DataError, ModelError
from market.simulator.market_parameters import MarketParameters
from market.simulator.population import Population, SampledAccounts, sample_population
from market.simulator.simulated_market import simulate_bars
from models.bundle.bundle import bundle_files, load_bundle, write_bundle
from models.bundle.manifest import TrainingRecord
from models.bundle.schema import ModelSchema
from models.forecaster import Forecaster
from models.onnx.export import export
from models.trees.tree_table import TreeTable
from training.backtest.add_on_policy import (
    LEVEL_SHARES,
    add_on_policy,
    interpolate_level,
    log_odds_by_level,
    rule_bounds,
)
from training.backtest.backtest import BacktestSettings, backtest
from training.backtest.budget_matching import (
    FRONTIER_FACTORS,
    AverageMargin,
    Frontier,
    solve_scalar,
    trace_frontier,
)
from training.backtest.margin_paths import (
    FOLLOW_HOURS,
    MarginPaths,
    closing_cost,
    sample_margin_paths,
)
from training.backtest.policies import reference_policies, volatility_ratio
from training.backtest.policy_simulation import MarginOutcome, average_margin
from training.backtest.reference_portfolios import covering_buffer, draw_portfolios
from training.labels.account_panel import AccountPanel, take_rows
from training.labels.book_intervals import BookIntervals, from_sampled_accounts
from training.labels.market_path import LabelMarket

Floats = npt.NDArray[np.float64]

DAYS, SYMBOLS, SLOTS = 34, 4, 30
HOURS_LIMIT = 1500
POLICIES = {
    "margincast",
    "none",
    "flat_buffer",
    "vol_scaled",
    "emir_buffer",
    "volatility_oracle",
}
FIGURES = {
    "matched",
    "average_margin",
    "average_collected",
    "breaches",
    "shortfall",
    "calls_issued",
    "calls_needed",
    "calls_in_vain",
    "coverage",
    "kupiec_p",
    "christoffersen_p",
    "share_not_rejected",
    "peak_to_trough",
    "n_day_max_increase",
}


@dataclass(frozen=True)
class World:
    history: MarketHistory
    market: MarketFeatures
    accounts: SampledAccounts
    intervals: BookIntervals
    ruleset: RuleSet
    calibrate: tuple[int, int]
    test: tuple[int, int]

    @property
    def label_market(self) -> LabelMarket:
        return LabelMarket(self.history, self.market)

    def paths(self, span: tuple[int, int] | None = None, **changes: int) -> MarginPaths:
        settings = {"max_account_hours": HOURS_LIMIT, "seed": 1} | changes
        return sample_margin_paths(
            self.intervals, self.label_market, self.ruleset, span or self.test, **settings
        )


def features_of(panel: BarPanel) -> tuple[MarketHistory, MarketFeatures]:
    market = MarketState(panel.symbols, panel.interval).advance(panel)
    return MarketHistory.from_panel(panel), market


def steady() -> MarketParameters:
    """A market without slow volatility or stress, so that no test depends on its last days."""
    assumed = MarketParameters.load("assumed")
    volatility = msgspec.structs.replace(assumed.volatility, slow_spread=0.0, fast_spread=0.35)
    regimes = msgspec.structs.replace(assumed.regimes, stress_share=0.0)
    return msgspec.structs.replace(assumed, volatility=volatility, regimes=regimes)


@pytest.fixture(scope="module")
def world() -> World:
    """Accounts of three times the usual leverage, so that a month has shortfalls."""
    panel = simulate_bars(5, DAYS, SYMBOLS, INTERVALS["1h"], parameters=steady())
    history, market = features_of(panel)
    population = Population.load("reference-v1")
    leverage = msgspec.structs.replace(population.leverage, median=15.0)
    population = msgspec.structs.replace(population, leverage=leverage)
    eligible = market.usable(panel.interval)
    accounts = sample_population(population, SLOTS, 7, panel.closes, history.mark, eligible)
    middle = int(panel.closes[0]) + 20 * DAY
    return World(
        history,
        market,
        accounts,
        from_sampled_accounts(accounts, panel.symbols),
        load_ruleset("linear-tiers"),
        (int(panel.closes[0]), middle),
        (middle, int(panel.closes[-1])),
    )


def make_forecaster(folder: Path, horizons: tuple[int, ...] = (1, 8, 24)) -> Forecaster:
    names = tuple(f"prior_logit_{hours}h" for hours in horizons)
    schema = ModelSchema.of_columns(names, (1,) * len(names), horizons, names, digests_of(names))
    trees = {hours: TreeTable.empty(len(names)) for hours in horizons}
    calibration = dict.fromkeys(horizons, (0.9, 0.1))
    files = bundle_files(
        model=export(schema, trees, calibration),
        schema=schema,
        trees=trees,
        calibration=calibration,
        record=TrainingRecord("1" * 64, "2" * 64, {}),
    )
    return Forecaster(load_bundle(folder / write_bundle(folder, files)))


@pytest.fixture(scope="module")
def forecaster(tmp_path_factory: pytest.TempPathFactory) -> Forecaster:
    return make_forecaster(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def report(world: World, forecaster: Forecaster) -> dict[str, Any]:
    return backtest(
        world.label_market,
        world.intervals,
        world.ruleset,
        forecaster,
        BacktestSettings(world.calibrate, world.test, 1, HOURS_LIMIT),
    )


def test_report_has_every_figure_and_is_plain_json(report: dict[str, Any]) -> None:
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    for table in (report, report["at_99_coverage"]):
        assert set(table["policies"]) == set(table["frontier"]) == POLICIES
        for figures in table["policies"].values():
            assert set(figures) >= FIGURES
            assert set(figures["n_day_max_increase"]) == {"1", "5", "20"}
    assert report["matched_on"] == "average_margin"
    assert report["policies"]["none"]["n_day_max_increase"]["20"] is None  # 13 days only


def test_policies_match_the_budget_and_none_is_unmatched(report: dict[str, Any]) -> None:
    for table in (report, report["at_99_coverage"]):
        matched = {name for name, figures in table["policies"].items() if figures["matched"]}
        assert "none" not in matched
        for name in matched:
            average = table["policies"][name]["average_margin"]
            assert average == pytest.approx(table["budget"], rel=0.01)
    assert {n for n, f in report["policies"].items() if f["matched"]} == POLICIES - {"none"}


def test_budget_is_the_flat_buffer_of_a_quarter(world: World, report: dict[str, Any]) -> None:
    paths = world.paths()
    margin = paths.times.maintenance_margin[paths.at_risk].mean()
    assert report["budget"] == pytest.approx(1.25 * margin, rel=1e-12)
    assert report["policies"]["flat_buffer"]["scalar"] == pytest.approx(0.25, rel=1e-4)
    assert report["policies"]["none"]["average_margin"] == pytest.approx(margin, rel=1e-12)
    assert report["account_hours"] == paths.at_risk.sum()


def test_scalars_meet_the_budget_of_the_calibration_span(
    world: World, forecaster: Forecaster, report: dict[str, Any]
) -> None:
    paths = world.paths(world.calibrate)
    budget = average_margin(paths, 0.25 * paths.times.maintenance_margin)
    add_on = add_on_policy(paths.times, world.history, world.market, world.ruleset, forecaster)
    scalar = report["policies"]["margincast"]["scalar"]
    assert average_margin(paths, add_on.levels(scalar)) == pytest.approx(budget, rel=1e-4)


def test_flat_buffer_breaches_no_more_and_collects_more_with_more_margin(world: World) -> None:
    paths = world.paths()
    flat = reference_policies(paths.times, world.history, world.market, 1.5)["flat_buffer"]
    outcomes = trace_frontier(paths, flat, np.geomspace(0.05, 20.0, 12).tolist()).outcomes
    assert len(outcomes) == 12
    for less, more in pairwise(outcomes):
        assert more.average_margin > less.average_margin
        assert more.breaches <= less.breaches
        assert more.average_collected >= less.average_collected
    assert outcomes[-1].breaches < outcomes[0].breaches


def test_frontiers_rise_in_margin_and_the_longest_ends_without_shortfall(
    report: dict[str, Any],
) -> None:
    for table in (report, report["at_99_coverage"]):
        for name, points in table["frontier"].items():
            margins = np.array(points)[:, 0]
            assert (np.diff(margins) > 0.0).all(), name
            # The add-on's larger budgets can all be at its cap.
            least = {"none": 1, "margincast": 5}.get(name, len(FRONTIER_FACTORS))
            assert least <= len(points) <= len(FRONTIER_FACTORS), name
    assert report["at_99_coverage"]["frontier"]["flat_buffer"][-1][1] == 0.0


def test_no_calls_without_a_policy(report: dict[str, Any]) -> None:
    none = report["policies"]["none"]
    assert (none["calls_issued"], none["average_collected"]) == (0.0, 0.0)
    assert none["breaches"] > 0.0
    assert none["peak_to_trough"] == pytest.approx(1.0)


def test_calls_are_needed_or_in_vain(report: dict[str, Any]) -> None:
    for figures in report["policies"].values():
        parts = figures["calls_needed"] + figures["calls_in_vain"]
        assert figures["calls_issued"] == pytest.approx(parts)


def test_report_is_the_same_twice(
    world: World, forecaster: Forecaster, report: dict[str, Any]
) -> None:
    progress: list[float] = []
    again = backtest(
        world.label_market,
        world.intervals,
        world.ruleset,
        forecaster,
        BacktestSettings(world.calibrate, world.test, 1, HOURS_LIMIT),
        progress.append,
    )
    assert again == report
    assert progress == sorted(progress)
    assert progress[-1] == 1.0


# Margin paths


def test_sample_is_of_whole_accounts_within_the_limit(world: World) -> None:
    small, large = world.paths(max_account_hours=700), world.paths(max_account_hours=HOURS_LIMIT)
    assert 350 < len(small.times) <= 700 < len(large.times) <= HOURS_LIMIT
    assert len(world.paths(seed=2).times) != len(large.times) or not np.array_equal(
        world.paths(seed=2).headroom, large.headroom
    )


def test_at_risk_hours_end_with_the_first_breach_without_top_ups(world: World) -> None:
    paths = world.paths()
    times = paths.times
    for i in range(len(paths)):
        own = slice(times.start[i], times.start[i + 1])
        headroom = times.rows.headroom[own]
        breach = np.flatnonzero(headroom < 0.0)
        alive = np.arange(len(headroom)) < (breach[0] if len(breach) else len(headroom))
        assert np.array_equal(paths.at_risk[own], alive & times.usable[own])
        begin = int(times.start[i]) + i * FOLLOW_HOURS
        for n in range(0, len(headroom), 37):
            after = paths.headroom[begin + n + 1 : begin + n + 1 + FOLLOW_HOURS]
            assert paths.lowest_headroom[own][n] == after.min()
    assert not paths.at_risk.all()


def test_decisions_and_what_follows_them_lie_within_the_span(world: World) -> None:
    closes = world.history.bars.closes[world.paths().times.rows.row]
    assert closes.min() >= world.test[0]
    assert closes.max() + FOLLOW_HOURS * HOUR <= world.test[1]


def test_a_life_over_before_the_span_is_not_in_it(world: World) -> None:
    begin = world.test[0] + 5 * DAY
    closes = world.history.bars.closes
    paths = world.paths((begin, world.test[1]), max_account_hours=10**6)
    whole = world.paths((int(closes[0]), world.test[1]), max_account_hours=10**6)
    hours = closes[whole.times.rows.row] >= begin
    assert paths.at_risk.sum() == (whole.at_risk & hours).sum()


def test_a_life_ends_where_a_following_mark_is_missing(world: World) -> None:
    row = int(np.searchsorted(world.history.bars.closes, world.test[0])) + 150
    mark = world.history.mark.copy()
    mark[row] = np.nan
    interrupted = replace(world, history=replace(world.history, mark=mark))
    paths = interrupted.paths(max_account_hours=10**6)
    assert not np.isnan(paths.headroom).any()
    rows = paths.times.rows.row
    assert not ((rows > row - FOLLOW_HOURS - 1) & (rows <= row)).any()


def test_closing_cost_is_the_liquidity_floor_without_extra_days(world: World) -> None:
    rules = msgspec.structs.replace(world.ruleset.floors.liquidity, confidence=0.0)
    floors = msgspec.structs.replace(world.ruleset.floors, liquidity=rules)
    times = world.paths().times
    row = int(times.rows.row[len(times) // 2])
    as_of = int(world.market.closes[row])
    view = MarketSnapshot.of_history(world.history, world.market, as_of).view()
    open_accounts = world.accounts.open_at(row)
    requirement = compute_requirement(
        world.accounts.book_of(open_accounts, world.history.bars.symbols), view, world.ruleset
    )
    expected = liquidity_floor(requirement, view, floors)
    here = np.flatnonzero(times.rows.row == row)
    found = closing_cost(times, world.market, world.ruleset.floors.liquidity)[here]
    match = [np.isclose(requirement.headroom, h, rtol=1e-12) for h in times.rows.headroom[here]]
    assert all(mask.sum() == 1 for mask in match)
    assert found == pytest.approx([expected[mask][0] for mask in match], rel=1e-12)
    assert (found > 0.0).all()


def test_spans_that_overlap_are_refused(world: World, forecaster: Forecaster) -> None:
    with pytest.raises(DataError, match="calibration ends"):
        backtest(
            world.label_market,
            world.intervals,
            world.ruleset,
            forecaster,
            BacktestSettings((world.calibrate[0], world.test[0] + 1), world.test, 1),
        )


def test_a_sample_without_hours_is_refused(world: World) -> None:
    with pytest.raises(DataError, match="max_account_hours = 3"):
        world.paths(max_account_hours=3)


# Policies


def test_volatility_ratio_by_hand(world: World) -> None:
    times = world.paths().times
    n = len(times) // 3
    row = int(times.rows.row[n])
    close = world.history.bars.values[: row + 1, :, CLOSE]
    squares = np.diff(np.log(close), axis=0) ** 2
    ratio = np.sqrt(squares[-24:].mean(axis=0) / squares.mean(axis=0))
    legs = slice(times.rows.leg_start[n], times.rows.leg_start[n + 1])
    weight = np.abs(times.rows.leg_notional[legs])
    expected = (weight * ratio[times.rows.leg_symbol[legs]]).sum() / weight.sum()
    found = volatility_ratio(times, world.history, world.market)[n]
    assert found == pytest.approx(expected, rel=1e-9)


def test_emir_buffer_is_halved_in_stress(world: World) -> None:
    times = world.paths().times
    ratio = volatility_ratio(times, world.history, world.market)
    limit = float(np.quantile(ratio, 0.9))
    level = reference_policies(times, world.history, world.market, limit)["emir_buffer"].levels(0.4)
    expected = np.where(ratio > limit, 0.2, 0.4) * times.maintenance_margin
    assert level == pytest.approx(np.where(times.usable, expected, 0.0))


def levels_at(
    world: World, forecaster: Forecaster, times: AccountPanel
) -> dict[str, npt.NDArray[np.float64]]:
    policies = reference_policies(times, world.history, world.market, 1.5)
    policies["margincast"] = add_on_policy(
        times, world.history, world.market, world.ruleset, forecaster
    )
    scalars = {"margincast": 20.0}
    return {name: policy.levels(scalars.get(name, 0.3)) for name, policy in policies.items()}


def test_future_bars_change_no_earlier_margin_except_the_oracles(
    world: World, forecaster: Forecaster
) -> None:
    panel = world.history.bars
    row = int(np.searchsorted(panel.closes, world.test[0])) + 100
    values = panel.values.copy()
    shock = 1.0 + 0.2 * np.random.default_rng(0).random((len(panel) - row - 1, SYMBOLS, 1))
    values[row + 1 :, :, :VOLUME] *= shock
    values[row + 1 :, :, VOLUME] *= 3.0
    other = BarPanel(panel.interval, panel.symbols, panel.opens, values)
    history, market = features_of(other)
    changed = replace(world, history=history, market=market)

    before = levels_at(world, forecaster, world.paths().times)
    times = changed.paths().times
    after = levels_at(changed, forecaster, times)
    ours = world.paths().times.rows.row
    # A book that breached by then differs in its hours; the account-times up to the row do not.
    known, theirs = ours <= row, times.rows.row <= row
    assert np.array_equal(ours[known], times.rows.row[theirs])
    for name in POLICIES - {"volatility_oracle"}:
        assert np.array_equal(before[name][known], after[name][theirs]), name
        if name != "none":
            assert not np.array_equal(before[name][~known], after[name][~theirs]), name
    near = (ours > row - 20) & known
    oracle = "volatility_oracle"
    assert not np.array_equal(
        before[oracle][near], after[oracle][(times.rows.row > row - 20) & theirs]
    )


def test_oracle_is_the_volatility_of_the_next_day(world: World) -> None:
    times = world.paths().times
    level = reference_policies(times, world.history, world.market, 1.0)["volatility_oracle"].levels(
        1.0
    )
    single = np.flatnonzero(np.diff(times.rows.leg_start) == 1)[::50]
    assert len(single)
    for n in single:
        leg, row = times.rows.leg_start[n], times.rows.row[n]
        marks = world.history.mark[row : row + 25, times.rows.leg_symbol[leg]]
        realised = np.sqrt((np.diff(np.log(marks)) ** 2).sum())
        assert level[n] == pytest.approx(abs(times.rows.leg_notional[leg]) * realised, rel=1e-6)


# The add-on


@pytest.mark.parametrize("scalar", [1e-6, 0.05, 1.0, 30.0, 200.0, 500.0])
def test_add_on_lies_between_floor_and_cap(
    world: World, forecaster: Forecaster, scalar: float
) -> None:
    times = world.paths().times
    bounds = rule_bounds(times, world.history, world.market, world.ruleset)
    policy = add_on_policy(times, world.history, world.market, world.ruleset, forecaster)
    level = policy.levels(scalar)
    assert (level >= bounds.floor).all()
    assert (level <= np.maximum(bounds.floor, bounds.cap)).all()
    assert (bounds.floor > 0.0).all()


def test_interpolated_level_is_the_exact_one_within_two_per_cent(
    world: World, forecaster: Forecaster
) -> None:
    whole = world.paths().times
    sample = np.flatnonzero(whole.usable)[::29].astype(np.int64)
    targets = world.ruleset.add_on.targets
    bounds = rule_bounds(whole, world.history, world.market, world.ruleset)
    cap = bounds.cap[sample]
    odds = log_odds_by_level(whole, world.market, bounds.cap, forecaster, targets)[sample]
    aggregates = compute_aggregates(take_rows(whole.rows, sample), world.market)
    compared = 0
    for scalar in (0.02, 1.0, 20.0, 150.0, 400.0):
        found = interpolate_level(odds, cap, targets, scalar)
        tolerated = {hours: p * scalar for hours, p in targets.items() if p * scalar < 1.0}
        exact = forecaster.required_level(aggregates, cap, tolerated).level
        assert np.array_equal(np.isinf(found), np.isinf(exact))
        inside = np.isfinite(exact) & (exact > LEVEL_SHARES[1] * cap)
        compared += int(inside.sum())
        assert found[inside] == pytest.approx(exact[inside], rel=0.02)
        small = np.isfinite(exact) & ~inside
        assert (found[small] <= LEVEL_SHARES[1] * cap[small] * (1.0 + 1e-12)).all()
    assert compared > 50


def test_level_is_linear_in_log_odds_between_two_shares() -> None:
    odds = np.linspace(4.0, -4.0, len(LEVEL_SHARES))[None, :, None]
    cap = np.array([10.0])
    at = 0.5 * (odds[0, 8, 0] + odds[0, 9, 0])
    found = interpolate_level(odds, cap, {24: 1.0 / (1.0 + np.exp(-at))}, 1.0)
    assert found[0] == pytest.approx(5.0 * (LEVEL_SHARES[8] + LEVEL_SHARES[9]))


def test_level_is_nan_without_a_forecast_and_infinite_where_the_cap_does_not_suffice() -> None:
    odds = np.full((3, len(LEVEL_SHARES), 1), 5.0)
    odds[0, 3] = np.nan
    odds[2] = -5.0
    found = interpolate_level(odds, np.array([1.0, 0.0, 1.0]), {24: 0.5}, 1.0)
    assert np.isnan(found[0])
    assert np.isinf(found[1])
    assert found[2] == 0.0


def test_more_tolerance_never_needs_a_higher_level(world: World, forecaster: Forecaster) -> None:
    times = world.paths().times
    targets = world.ruleset.add_on.targets
    bounds = rule_bounds(times, world.history, world.market, world.ruleset)
    odds = log_odds_by_level(times, world.market, bounds.cap, forecaster, targets)
    levels = [interpolate_level(odds, bounds.cap, targets, s) for s in np.geomspace(0.01, 500, 12)]
    for stricter, looser in pairwise(levels):
        known = ~np.isnan(stricter)
        assert (looser[known] <= stricter[known]).all()
    assert (levels[-1][known] == 0.0).all()  # 500 times 0.002 tolerates everything


def test_hysteresis_equals_the_rules_applied_account_by_account(
    world: World, forecaster: Forecaster
) -> None:
    times = world.paths(max_account_hours=700).times
    rules: AddOnRules = world.ruleset.add_on
    scalar = 40.0
    policy = add_on_policy(times, world.history, world.market, world.ruleset, forecaster)
    level = policy.levels(scalar)
    bounds = rule_bounds(times, world.history, world.market, world.ruleset)
    odds = log_odds_by_level(times, world.market, bounds.cap, forecaster, rules.targets)
    model_level = interpolate_level(odds, bounds.cap, rules.targets, scalar)
    bindings: set[str] = set()
    for i in range(len(times.start) - 1):
        previous = np.array([np.nan])
        for n in range(times.start[i], times.start[i + 1]):
            own = slice(n, n + 1)
            step = bound_add_on(
                model_level[own],
                bounds.floor[own],
                bounds.cap[own],
                previous,
                np.ones(1),
                times.initial_margin[own],
                bool(bounds.stress[n]),
                rules,
            )
            assert step.level[0] == level[n]
            previous = step.level
            bindings |= {BINDINGS[code] for code in step.binding}
    assert {"dead_band", "release"} <= bindings


def test_unusable_hours_fall_back_to_the_floor(world: World, forecaster: Forecaster) -> None:
    times = world.paths().times
    usable = times.usable.copy()
    usable[::3] = False
    gappy = replace(times, usable=usable)
    bounds = rule_bounds(gappy, world.history, world.market, world.ruleset)
    level = add_on_policy(gappy, world.history, world.market, world.ruleset, forecaster).levels(1.0)
    assert np.array_equal(level[::3], bounds.floor[::3])


def test_targeted_horizon_that_the_model_lacks_is_refused(world: World, tmp_path: Path) -> None:
    short = make_forecaster(tmp_path, (1, 8))
    with pytest.raises(ModelError, match="24"):
        add_on_policy(world.paths().times, world.history, world.market, world.ruleset, short)


# Matching


def test_scalar_beyond_its_range_is_the_end_of_it(world: World) -> None:
    paths = world.paths()
    policies = reference_policies(paths.times, world.history, world.market, 1.5)
    flat = policies["flat_buffer"]
    average = AverageMargin(paths, flat)
    assert solve_scalar(flat, average, 0.5 * average.at_zero()) == flat.least
    assert solve_scalar(flat, average, 1e9 * average.at_zero()) == flat.most
    assert solve_scalar(policies["none"], average, 1.0) == policies["none"].least


def test_frontier_is_interpolated_between_neighbours_and_not_beyond_its_ends(
    world: World, report: dict[str, Any]
) -> None:
    points = np.array(report["frontier"]["flat_buffer"])
    shortfall = np.interp(report["budget"], points[:, 0], points[:, 1])
    assert report["policies"]["flat_buffer"]["shortfall"] == pytest.approx(shortfall, rel=1e-9)
    low = MarginOutcome(1.0, 0.0, 4.0, 2.0, 1.0, 1.0, 0.0)
    high = MarginOutcome(3.0, 1.0, 2.0, 1.0, 5.0, 2.0, 3.0)
    frontier = Frontier((low, high))
    assert frontier.at(2.0) == (MarginOutcome(2.0, 0.5, 3.0, 1.5, 3.0, 1.5, 1.5), True)
    assert frontier.at(0.5) == (low, False)
    assert frontier.at(4.0) == (high, False)


# Reference portfolios


def test_portfolios_hold_fixed_quantities_of_books_from_the_population(world: World) -> None:
    portfolios = draw_portfolios(
        world.intervals, world.label_market, world.ruleset, world.test, seed=1, count=20
    )
    count, days = portfolios.loss.shape
    rows = portfolios.times.rows
    assert (count, days) == (20, 13)
    closes = world.history.bars.closes[rows.row]
    assert (closes % DAY == 0).all()
    assert (closes + DAY <= world.test[1]).all()
    gross = portfolios.by_day(portfolios.times.gross_notional())[:, 0]
    assert ((gross >= 0.5 - 1e-9) & (gross <= 40.0 + 1e-9)).all()
    for k in range(count):
        at = [k * days, k * days + 4]
        legs = [slice(rows.leg_start[n], rows.leg_start[n + 1]) for n in at]
        quantity = [
            rows.leg_notional[own] / world.history.mark[rows.row[n], rows.leg_symbol[own]]
            for n, own in zip(at, legs, strict=True)
        ]
        assert quantity[1] == pytest.approx(quantity[0], rel=1e-12)
        row, symbol = rows.row[at[1]], rows.leg_symbol[legs[1]]
        move = world.history.mark[row + 24, symbol] - world.history.mark[row, symbol]
        assert portfolios.loss[k, 4] == pytest.approx(-(quantity[1] * move).sum(), rel=1e-9)


def test_covering_buffer_covers_99_per_cent_and_no_less_does(world: World) -> None:
    portfolios = draw_portfolios(
        world.intervals, world.label_market, world.ruleset, world.test, seed=1
    )
    margin = portfolios.by_day(portfolios.times.maintenance_margin)
    buffer = covering_buffer(portfolios, 0.99)

    def covered(k: float) -> float:
        return float((portfolios.loss <= (1.0 + k) * margin + 1e-12).mean())

    assert covered(buffer) >= 0.99 > covered(0.98 * buffer)
