"""Draws of account-times: chances, weights that make totals unbiased, and nesting."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings, strategies as st

from features.state.market_state import MarketFeatures, MarketState
from margin.rules.ruleset import load_ruleset
from market.bars.history import MarketHistory
from market.bars.panel import BarPanel
from market.core.clock import INTERVALS
from market.simulator.population import Population, sample_population
from market.simulator.simulated_market import simulate_bars
from training.labels.book_intervals import BookIntervals, from_sampled_accounts
from training.labels.dataset import Dataset, DatasetOptions, Samples, build_dataset
from training.labels.market_path import LabelMarket
from training.labels.sampling import BARRIER_CHANCE, BASE_CHANCE, Draws, Exposures, Reservoir

RULES = load_ruleset("linear-tiers")
HORIZONS = (1, 8, 24)


@dataclass(frozen=True)
class World:
    panel: BarPanel
    features: MarketFeatures
    intervals: BookIntervals
    everything: Dataset

    def draw(
        self,
        rows: int,
        samples: Samples = "both",
        seed: int = 3,
        end: int | None = None,
        test_start: int | None = None,
    ) -> Dataset:
        market = LabelMarket(MarketHistory.from_panel(self.panel), self.features)
        options = DatasetOptions(
            HORIZONS,
            end=end,
            max_rows=rows,
            seed=seed,
            samples=samples,
            test_start=test_start,
        )
        return build_dataset(market, self.intervals, RULES, options)


@pytest.fixture(scope="module")
def world() -> World:
    panel = simulate_bars(5, 14, 4, INTERVALS["1h"])
    history = MarketHistory.from_panel(panel)
    features = MarketState(panel.symbols, panel.interval).advance(panel)
    lives = sample_population(
        Population.load("reference-v1"),
        300,
        5,
        panel.closes,
        history.mark,
        features.usable(panel.interval),
    )
    intervals = from_sampled_accounts(lives, panel.symbols)
    market = LabelMarket(history, features)
    options = DatasetOptions(HORIZONS, max_rows=10**9, seed=3, samples="both")
    return World(panel, features, intervals, build_dataset(market, intervals, RULES, options))


def keys(data: Dataset, rows: npt.NDArray[np.bool_] | None = None) -> set[tuple[int, int]]:
    chosen = np.ones(len(data), dtype=np.bool_) if rows is None else rows
    pairs = zip(data.time[chosen].tolist(), data.account[chosen].tolist(), strict=True)
    return set(pairs)


def test_a_limit_above_the_account_times_keeps_each_with_weight_one(world: World) -> None:
    assert (world.everything.weight == 1.0).all()
    assert world.everything.uniform.all()


@pytest.mark.parametrize("samples", ["both", "training"])
@pytest.mark.parametrize("rows", [500, 3_000])
def test_limit_of_rows_is_kept_exactly(world: World, samples: Samples, rows: int) -> None:
    data = world.draw(rows, samples, test_start=int(world.panel.closes[260]))
    assert len(data) <= rows * (1.0 if samples == "both" else 1.06)
    # In so short a span many account-times have no whole horizon, and each part has its share.
    assert len(data) >= (1.0 if samples == "both" else 0.7) * rows


def test_weight_is_the_inverse_of_the_chance_of_the_first_passage(world: World) -> None:
    data = world.draw(2_000)
    drawn = data.weight > 1.0
    chance = BASE_CHANCE + BARRIER_CHANCE * data.columns["first_passage_24"][drawn]
    scale = 1.0 / (data.weight[drawn] * chance)
    assert drawn.sum() > 500
    np.testing.assert_allclose(scale, scale[0], rtol=1e-9)
    certain = data.weight == 1.0
    assert (
        (BASE_CHANCE + BARRIER_CHANCE * data.columns["first_passage_24"][certain]) * scale[0]
        >= 1.0 - 1e-9
    ).all()


def test_weighted_totals_over_seeds_are_those_of_all_account_times(world: World) -> None:
    full = world.everything
    totals = np.array(
        [[data.weight.sum(), *(data.weight @ data.labels)] for data in draws(world, range(40))]
    )
    truth = np.array([len(full), *full.labels.sum(axis=0)], dtype=np.float64)
    error = totals.mean(axis=0) - truth
    # Events within an hour are all certain to be drawn: no error at all.
    assert (np.abs(error) <= 4.0 * totals.std(axis=0) / np.sqrt(len(totals)) + 1e-9).all()
    # Far more events of the draw near the barrier than of as many uniform rows.
    events = np.mean([(data.labels[data.weight > 0.0, 0]).sum() for data in draws(world, range(5))])
    assert events > 3.0 * full.labels[:, 0].sum() * 2_000 / len(full)


def draws(world: World, seeds: range) -> list[Dataset]:
    return [world.draw(2_000, seed=seed) for seed in seeds]


def test_uniform_draw_has_the_base_rate_and_no_regard_for_distance(world: World) -> None:
    full = world.everything
    rates = np.array([d.labels[d.uniform].mean(axis=0) for d in draws(world, range(40))])
    spread = rates.std(axis=0) / np.sqrt(len(rates))
    assert (np.abs(rates.mean(axis=0) - full.labels.mean(axis=0)) < 4.0 * spread).all()


def test_draws_are_nested_and_repeatable(world: World) -> None:
    small, large = world.draw(800), world.draw(2_500)
    assert keys(small, small.weight > 0.0) <= keys(large, large.weight > 0.0)
    assert keys(small, small.uniform) <= keys(large, large.uniform)
    assert world.draw(800).sha256() == small.sha256()
    assert keys(world.draw(800, seed=4)) != keys(small)


def test_training_has_both_draws_before_the_test_span_and_one_in_it(world: World) -> None:
    start = int(world.panel.closes[260])
    data = world.draw(2_000, "training", test_start=start)
    test = data.time >= start
    assert data.uniform[test].all()
    assert (data.weight[test] == 0.0).all()
    assert (data.weight[~test] > 0.0).any()
    # The test span is what a uniform draw of the same limit has there.
    uniform = world.draw(2_000, "uniform")
    assert keys(data, test) == keys(uniform, uniform.time >= start)
    block = data.learning_block(np.where(test, 2, 0).astype(np.int8))
    assert ((block == 0) == (data.weight > 0.0)).all()


def test_what_happens_after_the_last_label_window_never_changes_a_draw(world: World) -> None:
    """Same account-times and weights, whatever becomes of the accounts."""
    end = 230
    values = world.panel.values.copy()
    values[end + 1 :] *= 0.5
    fallen = MarketState(world.panel.symbols, world.panel.interval).advance(
        replace(world.panel, values=values)
    )
    changed = World(replace(world.panel, values=values), fallen, world.intervals, world.everything)
    last = int(world.panel.closes[end])
    old, new = (each.draw(1_500, end=last) for each in (world, changed))
    np.testing.assert_array_equal(old.time, new.time)
    np.testing.assert_array_equal(old.account, new.account)
    np.testing.assert_array_equal(old.weight, new.weight)
    assert old.labels.sum() != new.labels.sum()


def exposures(volatility: float) -> Exposures:
    """One book of one coin at price 1."""
    return Exposures(
        np.array([0, 1]),
        np.array([0]),
        np.array([1.0]),
        np.ones((4, 1)),
        np.full((4, 1, 2), volatility),
        np.ones((4, 1, 1)),
    )


@settings(max_examples=50)
@given(st.integers(0, 2**32), st.integers(1, 400), st.integers(1, 7), st.floats(0.0, 0.3))
def test_reservoir_in_chunks_keeps_what_one_pass_would(
    seed: int, limit: int, chunks: int, share: float
) -> None:
    rng = np.random.default_rng(seed)
    count = 400
    number = rng.random(count)
    row = rng.integers(0, 4, count)
    headroom = rng.exponential(0.1, count)
    columns = (np.zeros(count, dtype=np.int64), row, headroom)
    kept = []
    for parts in (1, chunks):
        made = Reservoir(Draws(np.full(4, share), np.arange(4) < 3, limit), exposures(0.02))
        for part in np.array_split(np.arange(count), parts):
            offered = part[number[part] < made.thresholds()[row[part]]]
            made.offer(number[offered], tuple(column[offered] for column in columns))
        (_, rows, at), weight, uniform = made.close()
        order = np.lexsort((at, rows))
        kept.append((rows[order], at[order], weight[order], uniform[order]))
    for once, chunked in zip(*kept, strict=True):
        np.testing.assert_array_equal(once, chunked)
    rows, _, weight, uniform = kept[0]
    free = int(((number < share) & (row < 3)).sum())
    assert (rows < 3).sum() == min(max(limit, free), int((row < 3).sum()))
    assert ((weight > 0.0) | uniform).all()
    assert (weight[rows == 3] == 0.0).all()
    assert ((weight == 0.0) | (weight >= 1.0)).all()
