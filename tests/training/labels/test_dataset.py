"""The data set: nothing of the future in a row, and one hash for one content."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.registry import ACCOUNT_COLUMNS
from features.state.market_state import MarketState
from margin.rules.ruleset import load_ruleset
from market.accounts.account_files import read_accounts, write_accounts
from market.bars.history import MarketHistory
from market.bars.panel import BarPanel
from market.core.clock import HOUR, INTERVALS
from market.core.errors import DataError
from market.simulator.account_behaviour import AccountTrajectories
from market.simulator.population import Population, SampledAccounts, sample_population
from market.simulator.simulated_market import simulate_bars
from training.labels.book_intervals import BookIntervals, from_history, from_sampled_accounts
from training.labels.dataset import Dataset, DatasetOptions, build_dataset
from training.labels.dataset_file import stored_features, write_dataset
from training.labels.market_path import LabelMarket

RULES = load_ruleset("linear-tiers")
HORIZONS = (1, 8, 24)
CUT = 225
"""Bars after this row are changed."""


@dataclass(frozen=True)
class World:
    panel: BarPanel
    lives: SampledAccounts
    intervals: BookIntervals
    data: Dataset


def market_of(panel: BarPanel) -> LabelMarket:
    features = MarketState(panel.symbols, panel.interval).advance(panel)
    return LabelMarket(MarketHistory.from_panel(panel), features)


def label_market(world: World) -> LabelMarket:
    return market_of(world.panel)


def build(panel: BarPanel, intervals: BookIntervals, end: int | None = None) -> Dataset:
    market = market_of(panel)
    options = DatasetOptions(HORIZONS, end=end, extremes="bound", max_rows=10**9, seed=3)
    return build_dataset(market, intervals, RULES, options)


@pytest.fixture(scope="module")
def world() -> World:
    panel = simulate_bars(3, 12, 3, INTERVALS["1h"])
    history = MarketHistory.from_panel(panel)
    eligible = MarketState(panel.symbols, panel.interval).advance(panel).usable(panel.interval)
    lives = sample_population(
        Population.load("reference-v1"), 600, 5, panel.closes, history.mark, eligible
    )
    intervals = from_sampled_accounts(lives, panel.symbols)
    return World(panel, lives, intervals, build(panel, intervals))


@pytest.fixture(scope="module")
def changed(world: World) -> Dataset:
    """The same books over bars that fall by a third right after row `CUT` and shake on."""
    values = world.panel.values.copy()
    noise = np.random.default_rng(0).uniform(0.6, 0.7, values[CUT + 1 :, :, :1].shape)
    values[CUT + 1 :] *= noise
    return build(replace(world.panel, values=values), world.intervals)


def before(data: Dataset, time: int) -> Dataset:
    return data.take(np.flatnonzero(data.time <= time))


def same_bits(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> bool:
    return np.ascontiguousarray(a).tobytes() == np.ascontiguousarray(b).tobytes()


def test_bars_after_the_horizon_never_change_a_row(world: World, changed: Dataset) -> None:
    last = int(world.panel.closes[CUT]) - HORIZONS[-1] * HOUR
    old, new = before(world.data, last), before(changed, last)
    assert len(old) > 1000
    assert old.labels.any()
    assert old.sha256() == new.sha256()


def test_later_bars_never_change_features_or_baseline_inputs(
    world: World, changed: Dataset
) -> None:
    last = int(world.panel.closes[CUT])
    old, new = before(world.data, last), before(changed, last)
    np.testing.assert_array_equal(old.time, new.time)
    np.testing.assert_array_equal(old.account, new.account)
    assert same_bits(old.features, new.features)
    known = [name for name in old.columns if not name.startswith("oracle_")]
    assert {"margin_ratio", "lagged_breach_rate", "first_passage_1"} <= set(known)
    for name in known:
        assert same_bits(old.columns[name], new.columns[name]), name


@pytest.mark.parametrize("horizon", HORIZONS)
def test_label_sees_its_own_horizon_and_no_more(
    world: World, changed: Dataset, horizon: int
) -> None:
    h = HORIZONS.index(horizon)
    cut = int(world.panel.closes[CUT])
    old, new = before(world.data, cut), before(changed, cut)
    differs = old.labels[:, h] != new.labels[:, h]
    assert old.time[differs].min() == cut - (horizon - 1) * HOUR
    assert (new.labels[differs, h] == 1).any()


def test_labels_never_fall_with_the_horizon(world: World) -> None:
    assert (np.diff(world.data.labels, axis=1) >= 0).all()
    assert world.data.labels.any(axis=0).all()


def test_horizons_of_any_whole_hours(world: World) -> None:
    horizons = (2, 12, 24)
    options = DatasetOptions(horizons, extremes="bound", max_rows=10**9, seed=3)
    data = build_dataset(label_market(world), world.intervals, RULES, options)
    assert data.horizons == horizons
    np.testing.assert_array_equal(data.time, world.data.time)
    np.testing.assert_array_equal(data.labels[:, 2], world.data.labels[:, 2])
    assert (data.labels[:, 0] >= world.data.labels[:, 0]).all()
    assert (data.labels[:, 1] >= world.data.labels[:, 1]).all()
    headroom, volatility = data.columns["headroom"], data.columns["prior_volatility"]
    for hours in horizons:
        passage = [math.erfc(d) for d in headroom / volatility / math.sqrt(2.0 * hours)]
        np.testing.assert_allclose(passage, data.columns[f"first_passage_{hours}"], rtol=1e-9)
        assert f"oracle_first_passage_{hours}" in data.columns
    assert data.feature_names[-2:] == ("forecast_distance_2h", "forecast_distance_12h")
    two, twelve, day = (
        data.features[:, data.feature_names.index(f"forecast_distance_{hours}h")]
        for hours in horizons
    )
    assert (two > twelve).all()
    assert (twelve > day).all()


def test_lagged_breach_rate_counts_only_breaches_already_seen(world: World) -> None:
    assert (
        world.data.columns["lagged_breach_rate"][world.data.time == world.data.time[0]] == 0
    ).all()
    assert world.data.columns["lagged_breach_rate"].max() > 0.0


def test_every_account_time_is_kept_or_counted(world: World) -> None:
    data = world.data
    assert data.considered == len(data) + sum(data.dropped.values())
    assert (np.diff(data.time) >= 0).all()
    pairs = np.stack([data.time, data.account])
    assert np.unique(pairs, axis=1).shape == pairs.shape


def test_end_bounds_decisions_not_labels(world: World) -> None:
    end = int(world.panel.closes[CUT])
    part = build(world.panel, world.intervals, end)
    assert part.time[-1] == end
    assert part.sha256() == before(world.data, end).sha256()


def test_same_inputs_give_the_same_hash(world: World) -> None:
    assert build(world.panel, world.intervals).sha256() == world.data.sha256()


def test_order_of_rows_in_the_account_files_does_not_change_the_hash(
    world: World, tmp_path: Path
) -> None:
    panel = world.panel
    openings = AccountTrajectories.idle(world.lives).snapshots(panel.symbols, panel.closes)
    write_accounts(tmp_path, openings)

    def sha() -> str:
        mark = MarketHistory.from_panel(panel).mark
        accounts = read_accounts(tmp_path)
        intervals = from_history(accounts, panel.closes, panel.symbols, mark, RULES)
        return build(panel, intervals).sha256()

    first = sha()
    rng = np.random.default_rng(1)
    for path in tmp_path.glob("*.parquet"):
        table = pq.read_table(path)
        pq.write_table(table.take(pa.array(rng.permutation(len(table)))), path)
    assert sha() == first


def test_any_changed_cell_changes_the_hash(world: World) -> None:
    data = world.data.take(np.arange(50))
    hashes = {data.sha256()}
    variants = 1

    def vary(**changes: object) -> None:
        nonlocal variants
        variants += 1
        hashes.add(replace(data, **changes).sha256())  # type: ignore[arg-type]

    for name in ("time", "account", "labels", "weight", "uniform"):
        array = getattr(data, name).copy()
        array.flat[-1] = 1 - array.flat[-1]
        vary(**{name: array})
    for column in range(data.features.shape[1]):
        array = data.features.copy()
        # A column this market lacks is NaN; a number in its place is a change too.
        array[7, column] = np.nextafter(np.nan_to_num(array[7, column]), np.inf)
        vary(features=array)
    for name, own in data.columns.items():
        array = own.copy()
        array[0] = np.nextafter(array[0], np.inf)
        vary(columns={**data.columns, name: array})
    vary(account_ids=tuple(f"{name}x" for name in data.account_ids))
    assert len(hashes) == variants


def test_account_ids_beyond_ascii_have_a_hash(world: World) -> None:
    data = world.data.take(np.arange(5))
    names = tuple(f"Müller-{i}" for i in range(len(data.account_ids)))
    assert replace(data, account_ids=names).sha256() != data.sha256()


def test_file_has_the_rows_and_gives_back_every_feature(world: World, tmp_path: Path) -> None:
    data, path = world.data, tmp_path / "made" / "dataset.parquet"
    write_dataset(data, path)
    assert [made.name for made in path.parent.iterdir()] == ["dataset.parquet"]
    table = pq.read_table(path)
    np.testing.assert_array_equal(table["ts"].cast(pa.int64()).to_numpy(), data.time)
    assert table["account_id"].to_pylist() == [data.account_ids[a] for a in data.account]
    for name in table.column_names[2:-2]:
        column = table[name].to_numpy()
        if name.startswith("label_"):
            hours = int(name.removeprefix("label_").removesuffix("h"))
            np.testing.assert_array_equal(column, data.labels[:, HORIZONS.index(hours)])
        else:
            assert same_bits(column, data.columns[name]), name
    assert same_bits(table["weight"].to_numpy(), data.weight)
    np.testing.assert_array_equal(table["uniform"].to_numpy(), data.uniform)
    headroom, margin, volatility = (
        table[name].to_numpy() for name in ("headroom", "maintenance_margin", "prior_volatility")
    )
    assert same_bits(margin / (headroom + margin), data.columns["margin_ratio"])
    passage = [math.erfc(d) for d in headroom / volatility / math.sqrt(2.0 * 24.0)]
    np.testing.assert_allclose(passage, data.columns["first_passage_24"], rtol=1e-9)
    features = stored_features(path, ACCOUNT_COLUMNS, label_market(world), world.intervals, RULES)
    assert features.column_names == ["ts", "account_id", *ACCOUNT_COLUMNS]
    for i, name in enumerate(ACCOUNT_COLUMNS):
        assert same_bits(features[name].to_numpy(), data.features[:, i]), name


def test_file_of_other_accounts_is_refused(world: World, tmp_path: Path) -> None:
    path = tmp_path / "dataset.parquet"
    write_dataset(world.data, path)
    others = replace(
        world.intervals,
        account_ids=tuple(f"other-{name}" for name in world.intervals.account_ids),
    )
    with pytest.raises(DataError, match="not among the configured accounts"):
        stored_features(path, ("net_share",), label_market(world), others, RULES)
    with pytest.raises(DataError, match="cannot be read as a data set"):
        stored_features(tmp_path / "none", ("net_share",), label_market(world), others, RULES)


def test_no_row_left_is_refused_with_the_counts(world: World) -> None:
    panel = world.panel.rows(0, 175)
    with pytest.raises(DataError, match="horizon_past_end"):
        build(panel, replace(world.intervals, last_row=np.minimum(world.intervals.last_row, 175)))
