"""What every market feature promises, over all that the registry lists."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings, strategies as st

from features.definition import MarketFeature
from features.registry import (
    CROSS_FEATURES,
    GROUP_FEATURES,
    MARKET_COLUMNS,
    MARKET_FEATURES,
    REQUIRED_COLUMNS,
    WARM_UP_HOURS,
)
from features.state.market_state import MarketFeatures, MarketState
from market.bars.history import load_history
from market.bars.outlier_filter import MAX_GAP_HOURS
from market.bars.panel import BarPanel
from market.core.clock import INTERVALS
from market.sources.parquet import BarFolder

Floats = npt.NDArray[np.float64]
Advance = Callable[[BarPanel], MarketFeatures]
RowsOf = Callable[[BarPanel, int, int], BarPanel]
SameBits = Callable[[Floats, Floats], bool]
SomeSymbols = Callable[..., BarPanel]
MakePanel = Callable[..., BarPanel]
Hazards = dict[str, range]

OWN = tuple(feature.name for feature in MARKET_FEATURES)
CROSS = tuple(feature.name for feature in CROSS_FEATURES)
GROUPED = tuple(feature.name for feature in GROUP_FEATURES)
SURVIVORS = {feature.name for feature in MARKET_FEATURES if feature.survives_gaps}
ITERATED = {"absorption_ratio"}
"""Found by iteration from the bar before, so that another past moves the last bits."""
INTERVAL_NAMES = ("1h", "30m")

every_feature = pytest.mark.parametrize("name", MARKET_COLUMNS)
every_required_feature = pytest.mark.parametrize("name", REQUIRED_COLUMNS)
every_own_feature = pytest.mark.parametrize("name", OWN)
every_cross_feature = pytest.mark.parametrize("name", CROSS)


def _in_pieces(panel: BarPanel, borders: list[int], rows_of: RowsOf) -> MarketFeatures:
    state = MarketState(panel.symbols, panel.interval)
    edges = [0, *sorted(borders), len(panel)]
    parts = [state.advance(rows_of(panel, first, last)) for first, last in pairwise(edges)]
    return MarketFeatures.concatenate(parts, None, {})


def _different(a: MarketFeatures, b: MarketFeatures, same_bits: SameBits) -> list[str]:
    names = [name for name in MARKET_COLUMNS if not same_bits(a.column(name), b.column(name))]
    arrays = ("correlation", "fast_correlation", "age", "history", "bar_hours")
    return names + [x for x in arrays if not same_bits(getattr(a, x), getattr(b, x))]


@pytest.fixture(scope="module")
def batch(hazard_panel: BarPanel, advance: Advance) -> MarketFeatures:
    return advance(hazard_panel)


@pytest.fixture(scope="module")
def live(hazard_panel: BarPanel, rows_of: RowsOf) -> MarketFeatures:
    """The same, one bar at a time."""
    return _in_pieces(hazard_panel, list(range(1, len(hazard_panel))), rows_of)


@every_feature
def test_batch_equals_one_bar_at_a_time(
    name: str, batch: MarketFeatures, live: MarketFeatures, same_bits: SameBits
) -> None:
    assert same_bits(batch.column(name), live.column(name))


def test_batch_equals_one_bar_at_a_time_beside_the_features(
    batch: MarketFeatures, live: MarketFeatures, same_bits: SameBits
) -> None:
    assert _different(batch, live, same_bits) == []
    assert np.array_equal(batch.closes, live.closes)


@given(borders=st.lists(st.integers(0, 620), max_size=12))
@settings(max_examples=30)
def test_any_chunking_equals_batch(
    borders: list[int],
    hazard_panel: BarPanel,
    batch: MarketFeatures,
    rows_of: RowsOf,
    same_bits: SameBits,
) -> None:
    pieces = _in_pieces(hazard_panel, borders, rows_of)
    assert _different(pieces, batch, same_bits) == []


@pytest.mark.parametrize("interval", ["5m", "30m"])
def test_chunks_of_finer_bars_equal_batch(
    interval: str, make_panel: MakePanel, advance: Advance, rows_of: RowsOf, same_bits: SameBits
) -> None:
    rows = 170 * INTERVALS[interval].per_hour
    panel = make_panel(rows, interval=interval)
    panel.values[rows // 2 : rows // 2 + 7, 1] = np.nan
    borders = [1, 2, rows // 3, rows // 2 + 3, rows - 1]
    whole = advance(panel)
    assert _different(_in_pieces(panel, borders, rows_of), whole, same_bits) == []
    assert np.isfinite(whole.values[-1]).all()


@given(cut=st.integers(1, 619), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_wild_future_never_changes_the_past(
    cut: int,
    seed: int,
    hazard_panel: BarPanel,
    batch: MarketFeatures,
    advance: Advance,
    same_bits: SameBits,
) -> None:
    rng = np.random.default_rng(seed)
    assert hazard_panel.exogenous is not None
    values, exogenous = hazard_panel.values.copy(), hazard_panel.exogenous.copy()
    for wild in (values, exogenous):
        wild[cut:] *= np.exp(rng.normal(0.0, 5.0, wild[cut:].shape))
        wild[cut:][rng.random(wild[cut:].shape[:2]) < 0.3] = np.nan
    changed = advance(replace(hazard_panel, values=values, exogenous=exogenous))
    for field in ("values", "correlation", "fast_correlation", "age", "history"):
        assert same_bits(getattr(changed, field)[:cut], getattr(batch, field)[:cut]), field


@pytest.mark.parametrize("cut", [1, 100, 201, 270, 312, 421, 619])
def test_appending_the_future_never_changes_the_past(
    cut: int,
    hazard_panel: BarPanel,
    batch: MarketFeatures,
    advance: Advance,
    rows_of: RowsOf,
    same_bits: SameBits,
) -> None:
    prefix = advance(rows_of(hazard_panel, 0, cut))
    assert same_bits(prefix.values, batch.values[:cut])
    assert same_bits(prefix.correlation, batch.correlation[:cut])


@pytest.fixture(scope="module")
def permuted(
    hazard_panel: BarPanel, advance: Advance, some_symbols: SomeSymbols
) -> tuple[list[int], MarketFeatures]:
    """Other labels, so that the symbols sort into another order."""
    order = [3, 0, 7, 5, 1, 6, 2, 4]
    return order, advance(some_symbols(hazard_panel, order, hazard_panel.symbols))


@every_own_feature
def test_relabelling_symbols_permutes_exactly(
    name: str,
    batch: MarketFeatures,
    permuted: tuple[list[int], MarketFeatures],
    same_bits: SameBits,
) -> None:
    order, other = permuted
    assert same_bits(other.column(name), batch.column(name)[:, order])


@pytest.mark.parametrize("name", CROSS + GROUPED)
def test_relabelling_symbols_permutes_what_comes_from_several(
    name: str, batch: MarketFeatures, permuted: tuple[list[int], MarketFeatures]
) -> None:
    order, other = permuted
    np.testing.assert_allclose(
        other.column(name), batch.column(name)[:, order], rtol=0.0, atol=1e-12
    )


def test_relabelling_symbols_permutes_correlations_exactly(
    batch: MarketFeatures, permuted: tuple[list[int], MarketFeatures], same_bits: SameBits
) -> None:
    order, other = permuted
    assert same_bits(other.correlation, batch.correlation[:, order][:, :, order])


@every_own_feature
def test_a_symbol_alone_equals_itself_among_others(
    name: str,
    hazard_panel: BarPanel,
    batch: MarketFeatures,
    advance: Advance,
    some_symbols: SomeSymbols,
    same_bits: SameBits,
) -> None:
    s = hazard_panel.symbols.index("SHORT_GAPS")
    alone = advance(some_symbols(hazard_panel, [s]))
    assert same_bits(alone.column(name)[:, 0], batch.column(name)[:, s])


@every_feature
def test_nan_before_listing_and_for_a_symbol_that_never_trades(
    name: str, batch: MarketFeatures, hazards: Hazards
) -> None:
    column = batch.column(name)
    assert np.isnan(column[:, batch.symbols.index("NEVER")]).all()
    assert np.isnan(column[hazards["LATE"], batch.symbols.index("LATE")]).all()


@every_feature
def test_nan_through_warm_up_then_never_again(name: str, batch: MarketFeatures) -> None:
    column = batch.column(name)[:, batch.symbols.index("FULL")]
    first = int(np.flatnonzero(np.isfinite(column))[0])
    assert 0 < first <= WARM_UP_HOURS
    assert np.isnan(column[:first]).all()
    assert np.isfinite(column[first:]).all()


@pytest.mark.parametrize("feature", MARKET_FEATURES, ids=lambda feature: feature.name)
@pytest.mark.parametrize("interval", INTERVAL_NAMES)
def test_warm_up_is_the_feature_s_own_window(
    feature: MarketFeature, interval: str, make_panel: MakePanel, advance: Advance
) -> None:
    per_hour = INTERVALS[interval].per_hour
    column = advance(make_panel(170 * per_hour, interval=interval)).column(feature.name)
    first = int(np.flatnonzero(np.isfinite(column[:, 0]))[0])
    bars = int(feature.settings[0] * per_hour)
    # Windows of bars are full with their last bar, windows of returns one bar later.
    assert first in (bars - 1, bars)


@every_feature
def test_late_listing_warms_up_like_an_early_one(
    name: str, batch: MarketFeatures, hazards: Hazards
) -> None:
    column = batch.column(name)[:, batch.symbols.index("LATE")]
    listed = hazards["LATE"].stop
    assert np.isfinite(column[listed + WARM_UP_HOURS :]).all()
    full = batch.column(name)[:, batch.symbols.index("FULL")]
    warm = [int(np.flatnonzero(np.isfinite(x))[0]) for x in (full, column)]
    assert warm[1] - warm[0] == listed


@every_feature
def test_never_infinite(name: str, batch: MarketFeatures) -> None:
    assert not np.isinf(batch.column(name)).any()


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15)
def test_never_infinite_on_wild_prices(seed: int, make_panel: MakePanel, advance: Advance) -> None:
    panel = make_panel(200, seed=seed)
    rng = np.random.default_rng(seed)
    panel.values[:, :, :4] *= np.exp(rng.normal(0.0, 4.0, (200, 3, 1)))
    panel.values[:, :, 4] *= rng.choice([0.0, 1e-9, 1.0, 1e9], (200, 3))
    panel.values[rng.random((200, 3)) < 0.2] = np.nan
    values = advance(panel).values
    assert not np.isinf(values).any()


@every_feature
def test_single_missing_bar_leaves_every_feature_standing(
    name: str, batch: MarketFeatures, hazards: Hazards
) -> None:
    column = batch.column(name)[:, batch.symbols.index("SHORT_GAPS")]
    (gap,) = hazards["SINGLE_GAP"]
    assert np.isfinite(column[gap - 2 : gap + 30]).all()


@pytest.mark.parametrize("name", [n for n in OWN if n.startswith(("ewma_", "volume_zscore"))])
def test_gap_repeats_the_last_value_where_no_window_moves(
    name: str, batch: MarketFeatures, hazards: Hazards
) -> None:
    column = batch.column(name)[:, batch.symbols.index("SHORT_GAPS")]
    gap = hazards["DAY_GAP"]
    assert (column[gap] == column[gap.start - 1]).all()
    assert column[gap.stop] != column[gap.start - 1]


def test_gap_repeats_correlations(batch: MarketFeatures, hazards: Hazards) -> None:
    s, full = batch.symbols.index("SHORT_GAPS"), batch.symbols.index("FULL")
    pair = batch.correlation[:, s, full]
    gap = hazards["DAY_GAP"]
    assert (pair[gap] == pair[gap.start - 1]).all()
    assert pair[gap.stop] != pair[gap.start - 1]


@every_feature
def test_gap_of_a_day_is_bridged(name: str, batch: MarketFeatures, hazards: Hazards) -> None:
    column = batch.column(name)[:, batch.symbols.index("SHORT_GAPS")]
    assert np.isfinite(column[hazards["DAY_GAP"].stop + 12 :]).all()


@every_feature
def test_gap_over_a_day_makes_a_symbol_absent(
    name: str, batch: MarketFeatures, hazards: Hazards
) -> None:
    column = batch.column(name)[:, batch.symbols.index("LONG_GAP")]
    gap = hazards["LONG_GAP"]
    # What rules compare with is not forgotten while the outage lasts.
    assert np.isnan(column[gap.start + MAX_GAP_HOURS]) == (name not in SURVIVORS)


@pytest.mark.parametrize("name", [name for name in OWN if name not in SURVIVORS])
def test_gap_over_a_day_resets_as_if_listed_anew(
    name: str,
    hazard_panel: BarPanel,
    batch: MarketFeatures,
    hazards: Hazards,
    advance: Advance,
    rows_of: RowsOf,
    same_bits: SameBits,
) -> None:
    s, again = batch.symbols.index("LONG_GAP"), hazards["LONG_GAP"].stop
    anew = advance(rows_of(hazard_panel, again, len(hazard_panel)))
    assert same_bits(anew.column(name)[:, s], batch.column(name)[again:, s])


def test_gap_over_a_day_resets_correlations_and_history(
    hazard_panel: BarPanel,
    batch: MarketFeatures,
    hazards: Hazards,
    advance: Advance,
    rows_of: RowsOf,
    same_bits: SameBits,
) -> None:
    s, again = batch.symbols.index("LONG_GAP"), hazards["LONG_GAP"].stop
    anew = advance(rows_of(hazard_panel, again, len(hazard_panel)))
    full = batch.symbols.index("FULL")
    assert same_bits(anew.correlation[:, s, full], batch.correlation[again:, s, full])
    assert same_bits(anew.history[:, s], batch.history[again:, s])


@every_feature
def test_dead_symbol_fades_after_a_day(name: str, batch: MarketFeatures, hazards: Hazards) -> None:
    column = batch.column(name)[:, batch.symbols.index("DEATH")]
    death = hazards["DEATH"].start
    assert (np.isnan(column[death + MAX_GAP_HOURS :]) == (name not in SURVIVORS)).all()
    assert np.isfinite(column[death])


@every_cross_feature
def test_dead_symbol_takes_no_part_in_the_others(
    name: str,
    hazard_panel: BarPanel,
    batch: MarketFeatures,
    hazards: Hazards,
    advance: Advance,
    some_symbols: SomeSymbols,
    same_bits: SameBits,
) -> None:
    others = [s for s, symbol in enumerate(hazard_panel.symbols) if symbol != "DEATH"]
    without = advance(some_symbols(hazard_panel, others)).column(name)
    gone = hazards["DEATH"].start + MAX_GAP_HOURS
    seen = batch.column(name)[:, others]
    if name in ITERATED:
        np.testing.assert_allclose(without[gone:], seen[gone:], rtol=1e-11)
    else:
        assert same_bits(without[gone:], seen[gone:])


def test_age_and_history_count_hours(batch: MarketFeatures, hazards: Hazards) -> None:
    s = batch.symbols.index("SHORT_GAPS")
    gap = hazards["DAY_GAP"]
    assert batch.age[gap.start - 1 : gap.stop + 1, s].tolist() == [*range(25), 0]
    assert batch.history[:, batch.symbols.index("FULL")].tolist() == list(range(1, 621))
    assert np.isnan(batch.age[:, batch.symbols.index("NEVER")]).all()
    listed = hazards["LATE"].stop
    late = batch.history[:, batch.symbols.index("LATE")]
    assert np.isnan(late[:listed]).all()
    assert late[listed] == 1.0


def test_bar_hours_survive_a_gap_that_resets_the_history(
    batch: MarketFeatures, hazards: Hazards
) -> None:
    s, gap = batch.symbols.index("LONG_GAP"), hazards["LONG_GAP"]
    assert batch.history[gap.stop, s] == 1.0
    assert batch.bar_hours[gap.stop - 1 : gap.stop + 1, s].tolist() == [gap.start, gap.start + 1]
    assert np.isnan(batch.bar_hours[:, batch.symbols.index("NEVER")]).all()


def test_correlations_are_symmetric_bounded_and_one_on_the_diagonal(
    batch: MarketFeatures, same_bits: SameBits
) -> None:
    assert same_bits(batch.correlation, batch.correlation.transpose(0, 2, 1).copy())
    assert (np.diagonal(batch.correlation, axis1=1, axis2=2) == 1.0).all()
    seen = batch.correlation[~np.isnan(batch.correlation)]
    assert np.abs(seen).max() <= 1.0


def test_panel_is_not_written_to(hazard_panel: BarPanel, advance: Advance) -> None:
    before = hazard_panel.values.copy()
    advance(hazard_panel)
    assert np.array_equal(before, hazard_panel.values, equal_nan=True)


@pytest.mark.realdata
def test_real_month_in_batch_equals_live(
    data_dir: Path, advance: Advance, rows_of: RowsOf, same_bits: SameBits
) -> None:
    history = load_history([BarFolder(data_dir / "ohlcv_1h_binance_spot")], INTERVALS["1h"])
    bars = history.bars
    halt = int(np.flatnonzero(np.isnan(bars.values[:, bars.symbols.index("BTCUSDT"), 0]))[0])
    month = rows_of(bars, halt - 480, halt + 240)
    whole = advance(month)
    assert np.isfinite(whole.values[-1]).any()
    assert _different(_in_pieces(month, list(range(1, 720)), rows_of), whole, same_bits) == []
