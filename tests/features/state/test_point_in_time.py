"""Late corrections: no feature row ever changes because of what became known after it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings, strategies as st

from features.state.market_state import MarketFeatures, MarketState
from features.state.point_in_time import advance_through
from market.bars.history import MarketHistory, load_history
from market.bars.outlier_filter import OutlierFilter
from market.bars.panel import CLOSE, BarPanel
from market.core.clock import HOUR, INTERVALS, MINUTE
from market.simulator.simulated_market import simulate_bars
from market.sources.parquet import BarFolder

HOURLY = INTERVALS["1h"]
ROWS = 200
PANEL = simulate_bars(4, 9, 3, HOURLY).rows(0, ROWS)

Late = list[tuple[int, int, int, float]]
"""Row, symbol, nanoseconds after its close, factor of its prices."""


def write(folder: Path, panel: BarPanel, late: Late, missing: set[tuple[int, int]]) -> BarFolder:
    """Bar files of a panel with further versions; bars in `missing` have no version in time."""
    for s, symbol in enumerate(panel.symbols):
        kept = [row for row in range(len(panel)) if (row, s) not in missing]
        rows, values = list(kept), [panel.values[row, s] for row in kept]
        known = [int(panel.closes[row]) for row in kept]
        for row, of, after, factor in late:
            if of == s:
                rows.append(row)
                values.append(panel.values[row, s] * [factor, factor, factor, factor, 1.0])
                known.append(int(panel.closes[row]) + after)
        table = np.array(values)
        columns = dict(zip(("open", "high", "low", "close", "volume"), table.T, strict=True))
        stamp = pa.timestamp("ns", tz="UTC")
        pq.write_table(
            pa.table(
                {
                    "ts": pa.array(panel.opens[rows], stamp),
                    "known_at": pa.array(known, stamp),
                    **columns,
                }
            ),
            folder / f"{symbol}.parquet",
        )
    return BarFolder(folder)


def features_of(history: MarketHistory) -> MarketFeatures:
    state = MarketState(history.bars.symbols, history.bars.interval)
    return advance_through(state, history.bars, history.corrections)


def assert_same(a: MarketFeatures, b: MarketFeatures, rows: slice) -> None:
    for name in ("values", "correlation", "age", "history"):
        assert getattr(a, name)[rows].tobytes() == getattr(b, name)[rows].tobytes(), name


def scaled_late(draw: st.DrawFn) -> Late:
    rows = st.integers(1, ROWS - 2)
    factors = st.sampled_from([0.5, 0.9, 1.001, 1.2, 2.0])
    delays = st.integers(31, 10 * 3600).map(lambda seconds: seconds * HOUR // 3600)
    return draw(st.lists(st.tuples(rows, st.integers(0, 2), delays, factors), max_size=6))


@st.composite
def late_versions(draw: st.DrawFn) -> tuple[Late, set[tuple[int, int]]]:
    """Corrections, and bars of which no version came in time at all."""
    late = [(row, s, after, factor) for row, s, after, factor in scaled_late(draw)]
    missing = {(row, s) for row, s, _, _ in late if draw(st.booleans())}
    return late, missing


@settings(max_examples=25)
@given(versions=late_versions(), guarded=st.booleans())
def test_late_correction_changes_no_feature_row_up_to_the_time_it_was_known(
    versions: tuple[Late, set[tuple[int, int]]],
    guarded: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    late, missing = versions
    folder = tmp_path_factory.mktemp("late")
    outlier_filter = OutlierFilter() if guarded else None
    whole = features_of(
        load_history([write(folder, PANEL, late, missing)], HOURLY, outlier_filter=outlier_filter)
    )
    for row, _, after, _ in late:
        known = int(PANEL.closes[row]) + after
        # The same market in which nothing was heard that was not known by then.
        heard = [version for version in late if int(PANEL.closes[version[0]]) + version[2] < known]
        without = write(tmp_path_factory.mktemp("heard"), PANEL, heard, missing)
        before = features_of(load_history([without], HOURLY, outlier_filter=outlier_filter))
        upto = int(np.searchsorted(PANEL.closes, known, side="left"))
        assert_same(whole, before, slice(0, upto))


@settings(max_examples=25)
@given(versions=late_versions())
def test_correction_after_the_next_close_changes_no_feature_row_at_all(
    versions: tuple[Late, set[tuple[int, int]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    late, missing = versions
    after = [(row, s, delay + HOUR, factor) for row, s, delay, factor in late]
    with_late = write(tmp_path_factory.mktemp("late"), PANEL, after, missing)
    without = write(tmp_path_factory.mktemp("none"), PANEL, [], missing)
    assert_same(
        features_of(load_history([with_late], HOURLY)),
        features_of(load_history([without], HOURLY)),
        slice(None),
    )


def test_correction_before_the_next_close_reaches_every_later_row_and_not_its_own(
    tmp_path: Path,
) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "late").mkdir()
    (tmp_path / "true").mkdir()
    plain = features_of(load_history([write(tmp_path / "plain", PANEL, [], set())], HOURLY))
    late = [(180, 0, 10 * MINUTE, 1.05)]
    history = load_history([write(tmp_path / "late", PANEL, late, set())], HOURLY)
    corrected = features_of(history)
    assert_same(corrected, plain, slice(0, 181))
    values = PANEL.values.copy()
    values[180, 0, :4] *= 1.05
    true = BarPanel(HOURLY, PANEL.symbols, PANEL.opens, values)
    truth = features_of(load_history([write(tmp_path / "true", true, [], set())], HOURLY))
    assert_same(corrected, truth, slice(181, None))
    assert corrected.values[181].tobytes() != plain.values[181].tobytes()
    assert history.mark[180, 0] == values[180, 0, CLOSE]


def test_pieces_of_a_corrected_history_equal_the_whole(tmp_path: Path) -> None:
    late = [(100, 0, 10 * MINUTE, 1.05), (101, 1, 10 * MINUTE, 0.97), (199, 2, MINUTE, 1.02)]
    history = load_history([write(tmp_path, PANEL, late, set())], HOURLY)
    whole = features_of(history)
    for cut in (1, 100, 101, 102, 198, 199):
        state = MarketState(history.bars.symbols, HOURLY)
        first = advance_through(state, history.bars.rows(0, cut), history.corrections)
        rest = advance_through(state, history.bars.rows(cut, None), history.corrections)
        assert_same(first.append(rest), whole, slice(None))


def test_history_without_corrections_is_advanced_as_ever() -> None:
    state, other = MarketState(PANEL.symbols, HOURLY), MarketState(PANEL.symbols, HOURLY)
    assert_same(advance_through(state, PANEL, None), other.advance(PANEL), slice(None))
