"""Outlier filter: bad ticks wait and never pass, crashes pass with what confirms them."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, strategies as st

from market.bars.bar_cleaning import is_possible
from market.bars.outlier_filter import (
    GOOD,
    LIMITED,
    MAX_GAP_HOURS,
    REJECTED,
    REJECTED_WAITING,
    SUSPECT,
    WAITING,
    FilteredBars,
    OutlierFilter,
    filter_bars,
    filter_closes,
    filter_history,
    is_dropped,
    is_rejected,
    new_state,
)
from market.bars.panel import CLOSE, HIGH, LOW, OPEN
from market.core.clock import INTERVALS

Floats = npt.NDArray[np.float64]

HOURLY, FIVE_MINUTES = INTERVALS["1h"], INTERVALS["5m"]
OUTLIER_FILTER = OutlierFilter(band=0.25, wick_band=0.5, agreement=0.1)
NAN = float("nan")


def bars_of(*closes: float) -> Floats:
    """Bars of one symbol, each one unit high around its close; NaN is a missing bar."""
    close = np.array(closes)
    columns = [close, close * 1.001, close * 0.999, close, np.full(len(close), 10.0)]
    bars = np.stack(columns, axis=1)[:, None]
    bars[np.isnan(close)] = NAN
    return bars


def filtered(bars: Floats, references: Floats | None = None) -> tuple[list[float], list[int]]:
    """Closes as they count, and the verdicts."""
    result = filter_history(bars, OUTLIER_FILTER, HOURLY, references)
    return result.bars[:, 0, CLOSE].tolist(), result.verdicts[:, 0].tolist()


def test_bad_tick_that_reverts_is_missing_and_leaves_no_trace() -> None:
    closes, verdicts = filtered(bars_of(100, 101, 150, 102, 103))
    np.testing.assert_array_equal(closes, [100, 101, NAN, 102, 103])
    assert verdicts == [GOOD, GOOD, SUSPECT, GOOD, GOOD]


@pytest.mark.parametrize("crash", [70.0, 140.0])
def test_move_that_stays_counts_from_the_bar_that_confirms_it(crash: float) -> None:
    closes, verdicts = filtered(bars_of(100, crash, crash * 1.02, crash))
    np.testing.assert_array_equal(closes, [100, NAN, crash * 1.02, crash])
    assert verdicts == [GOOD, SUSPECT, GOOD, GOOD]


def test_crash_that_goes_on_is_confirmed_however_far_it_went() -> None:
    """As FTT fell in November 2022: three hours of more than a third each."""
    closes, verdicts = filtered(bars_of(16.0, 10.1, 6.2, 4.1, 4.7))
    np.testing.assert_array_equal(closes, [16.0, NAN, 6.2, NAN, 4.7])
    assert verdicts == [GOOD, SUSPECT, GOOD, SUSPECT, GOOD]


def test_second_bad_tick_on_the_other_side_confirms_nothing() -> None:
    closes, verdicts = filtered(bars_of(100, 150, 60, 100))
    np.testing.assert_array_equal(closes, [100, NAN, NAN, 100])
    assert verdicts == [GOOD, SUSPECT, SUSPECT, GOOD]


def test_echo_of_a_stuck_feed_confirms_nothing_but_a_traded_bar_does() -> None:
    bars = bars_of(100, 300, 300, 300, 301)
    bars[2:4, 0, :4] = 300.0
    closes, verdicts = filtered(bars)
    np.testing.assert_array_equal(closes, [100, NAN, NAN, NAN, 301])
    assert verdicts == [GOOD, SUSPECT, SUSPECT, SUSPECT, GOOD]


@pytest.mark.parametrize(
    ("reference", "verdict"), [(69.0, GOOD), (76.0, GOOD), (100.0, SUSPECT), (NAN, SUSPECT)]
)
def test_second_source_confirms_only_where_it_agrees(reference: float, verdict: int) -> None:
    references = np.full((3, 1, 2), NAN)
    references[1, 0, 1] = reference
    assert filtered(bars_of(100, 70, 100), references)[1][1] == verdict


def test_majority_of_the_sources_decides_where_they_differ() -> None:
    """The close of 70 counts itself: two of three are enough, two of four are not."""
    for others, verdict in (
        ([70.0, 100.0, NAN], GOOD),
        ([100.0, 100.0, NAN], SUSPECT),
        ([70.0, 100.0, 100.0], SUSPECT),
        ([70.0, 72.0, 100.0], GOOD),
        ([100.0, 40.0, NAN], SUSPECT),
    ):
        references = np.full((2, 1, 3), NAN)
        references[1, 0] = others
        assert filtered(bars_of(100, 70), references)[1][1] == verdict, others


@pytest.mark.parametrize("factor", [5.01, 1 / 5.01, 1e9, 1e-15])
def test_price_beyond_the_hard_band_is_rejected_whatever_agrees_with_it(factor: float) -> None:
    references = np.full((4, 1, 2), 100.0 * factor)
    closes, verdicts = filtered(bars_of(100, 100 * factor, 100 * factor, 101), references)
    np.testing.assert_array_equal(closes, [100, NAN, NAN, 101])
    assert verdicts == [GOOD, REJECTED, REJECTED, GOOD]


@pytest.mark.parametrize("factor", [4.99, 1 / 4.99])
def test_price_within_the_hard_band_waits_and_is_confirmed(factor: float) -> None:
    closes, verdicts = filtered(bars_of(100, 100 * factor, 99 * factor))
    np.testing.assert_array_equal(closes, [100, NAN, 99 * factor])
    assert verdicts == [GOOD, SUSPECT, GOOD]


def test_crash_beyond_the_hard_band_in_two_bars_is_confirmed_from_the_one_that_waits() -> None:
    closes, verdicts = filtered(bars_of(100, 25, 6, 6.1))
    np.testing.assert_array_equal(closes, [100, NAN, 6, 6.1])
    assert verdicts == [GOOD, SUSPECT, GOOD, GOOD]


def test_rejected_bar_leaves_the_one_that_waits_alone() -> None:
    closes, verdicts = filtered(bars_of(100, 60, 1e-6, 61))
    np.testing.assert_array_equal(closes, [100, NAN, NAN, 61])
    assert verdicts == [GOOD, SUSPECT, REJECTED_WAITING, GOOD]
    result = filter_history(bars_of(100, 60, 1e-6, 61), OUTLIER_FILTER, HOURLY)
    assert result.waiting[:, 0].tolist() == [False, True, True, False]
    assert is_rejected(result.verdicts)[:, 0].tolist() == [False, False, True, False]


def test_price_that_stays_beyond_the_hard_band_counts_after_a_gap_of_a_day() -> None:
    """A contract that is divided by ten, or a coin that fell while nothing was told."""
    closes, _ = filtered(bars_of(100, *[10.0 + i / 100 for i in range(MAX_GAP_HOURS + 3)]))
    there = ~np.isnan(closes)
    assert there.tolist() == [True, *[False] * (MAX_GAP_HOURS + 1), True, True]


def test_missing_bars_keep_a_suspect_one_waiting_and_widen_the_band() -> None:
    closes, verdicts = filtered(bars_of(100, 150, NAN, NAN, 151))
    assert verdicts == [GOOD, SUSPECT, WAITING, WAITING, GOOD]
    assert closes[-1] == 151
    # Four hours after the last good close the band is twice as wide: log(1.6) is 0.47.
    assert filtered(bars_of(100, NAN, NAN, NAN, 160))[1][-1] == GOOD
    assert filtered(bars_of(100, NAN, NAN, 160))[1][-1] == SUSPECT


def test_band_holds_for_an_hour_whatever_the_interval() -> None:
    bars = bars_of(100, 124, 100)
    assert filter_history(bars, OUTLIER_FILTER, FIVE_MINUTES).verdicts[:, 0].tolist() == [GOOD] * 3
    closes = np.array([[100.0], [130.0], [100.0]])
    assert filter_closes(closes, OUTLIER_FILTER, FIVE_MINUTES)[:, 0].tolist() == [
        GOOD,
        SUSPECT,
        GOOD,
    ]


@pytest.mark.parametrize(("missing", "verdict"), [(MAX_GAP_HOURS, REJECTED), (25, GOOD)])
def test_first_bar_and_the_first_after_a_long_gap_are_good(missing: int, verdict: int) -> None:
    closes = [100.0, *[NAN] * missing, 1e4]
    assert filtered(bars_of(*closes))[1][-1] == verdict


def test_nothing_is_quarantined_for_longer_than_a_gap_may_be() -> None:
    """A feed that changes its unit and flaps: the features forget what was before, and so on."""
    flapping = [100.0, *(1e4 if i % 2 else 1.0 for i in range(60))]
    closes, _ = filtered(bars_of(*flapping))
    runs = np.isnan(closes[1 : MAX_GAP_HOURS + 3])
    assert runs[:MAX_GAP_HOURS].all()
    assert not runs.all()


def test_wick_is_limited_to_its_band_and_the_close_stays() -> None:
    bars = bars_of(100, 102, 101)
    bars[1, 0, HIGH], bars[1, 0, LOW] = 400.0, 20.0
    result = filter_history(bars, OUTLIER_FILTER, HOURLY)
    assert result.verdicts[:, 0].tolist() == [GOOD, LIMITED, GOOD]
    reach = math.exp(0.5)
    np.testing.assert_allclose(
        result.bars[1, 0, :4], [102, 102 * reach, 100 / reach, 102], rtol=1e-15
    )
    assert result.quarantine.values[0, [HIGH, LOW]].tolist() == [400.0, 20.0]
    assert result.quarantine.verdicts.tolist() == [LIMITED]


def test_open_of_a_first_bar_is_limited_by_its_own_close() -> None:
    """The first bar of the BTC spot file of 2017 opens at 16,199.91 and closes at 4,308.83."""
    bars = np.array([[[16199.91, 16199.91, 4261.32, 4308.83, 44.51]]])
    counted = filter_history(bars, OUTLIER_FILTER, HOURLY).bars
    limit = 4308.83 * math.exp(0.5)
    np.testing.assert_allclose(counted[0, 0], [limit, limit, 4261.32, 4308.83, 44.51], rtol=1e-15)


def test_sound_history_is_left_as_it_is() -> None:
    bars = bars_of(*np.exp(np.cumsum(np.random.default_rng(1).normal(0, 0.02, 500))))
    result = filter_history(bars, OUTLIER_FILTER, HOURLY)
    assert result.bars is bars
    assert not result.verdicts.any()
    assert len(result.quarantine.rows) == 0


def test_correction_before_the_next_row_is_what_later_rows_are_held_against() -> None:
    told, settled = bars_of(100, 150, 151, 150), bars_of(100, 100, 151, 100)
    result = filter_history(told, OUTLIER_FILTER, HOURLY, settled=(settled, None))
    # Row 1 is suspect as told and good as corrected; so row 2 is the first beyond the band.
    assert result.verdicts[:, 0].tolist() == [GOOD, SUSPECT, SUSPECT, GOOD]
    np.testing.assert_array_equal(settled[:, 0, CLOSE], [100, 100, NAN, 100])
    np.testing.assert_array_equal(result.bars[:, 0, CLOSE], [100, NAN, NAN, 150])


@st.composite
def wild_bars(draw: st.DrawFn) -> Floats:
    """Possible bars of three symbols with spikes, wicks, repeats and holes."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = draw(st.integers(2, 70))
    steps = rng.normal(0, 0.05, (rows, 3)) + rng.choice(
        [0.0, 0.5, -0.5], (rows, 3), p=[0.8, 0.1, 0.1]
    )
    close = 100.0 * np.exp(np.cumsum(steps, axis=0) * draw(st.sampled_from([0.2, 1.0])))
    close *= np.exp(rng.choice([0.0, 0.7, -0.7], close.shape, p=[0.9, 0.05, 0.05]))
    body = close * np.exp(rng.normal(0, 0.1, close.shape))
    reach = rng.exponential(0.1, (2, *close.shape))
    bars = np.stack(
        [
            body,
            np.maximum(body, close) * np.exp(reach[0]),
            np.minimum(body, close) * np.exp(-reach[1]),
            close,
            rng.exponential(10.0, close.shape),
        ],
        axis=2,
    )
    bars[rng.random(close.shape) < 0.1] = NAN
    return np.ascontiguousarray(bars)


def _filter(bars: Floats) -> tuple[Floats, FilteredBars]:
    result = filter_history(bars, OUTLIER_FILTER, HOURLY)
    return result.bars, result


@given(bars=wild_bars())
def test_what_passes_is_possible_and_within_the_band_or_confirmed(bars: Floats) -> None:
    counted, result = _filter(bars)
    there = ~np.isnan(counted[:, :, CLOSE])
    assert is_possible(counted[there]).all()
    assert (counted[there][:, CLOSE] == bars[there][:, CLOSE]).all()
    assert (counted[there][:, HIGH] <= bars[there][:, HIGH]).all()
    assert (counted[there][:, LOW] >= bars[there][:, LOW]).all()
    for s in range(3):
        rows = np.flatnonzero(there[:, s])
        for before, row in pairwise(rows.tolist()):
            distance = abs(math.log(bars[row, s, CLOSE] / bars[before, s, CLOSE]))
            suspects = is_dropped(result.verdicts[before + 1 : row, s]).any()
            long_ago = row - before - 1 > MAX_GAP_HOURS
            assert suspects or long_ago or distance <= 0.25 * math.sqrt(row - before) + 1e-12


@given(bars=wild_bars(), cut=st.integers(1, 69))
def test_what_comes_later_never_changes_a_verdict(bars: Floats, cut: int) -> None:
    whole, verdicts = _filter(bars)
    part, before = _filter(bars[:cut])
    assert part.tobytes() == whole[:cut].tobytes()
    assert before.verdicts.tobytes() == verdicts.verdicts[:cut].tobytes()


@given(bars=wild_bars())
def test_step_by_step_equals_the_history_to_the_bit(bars: Floats) -> None:
    whole, result = _filter(bars)
    state = new_state(3)
    for row, told in enumerate(bars):
        if row == len(bars) - 1:
            assert state.tobytes() == result.state.tobytes()
        counted, verdicts = filter_bars(told, state, OUTLIER_FILTER, HOURLY)
        assert counted.tobytes() == whole[row].tobytes()
        assert verdicts.tobytes() == result.verdicts[row].tobytes()


@given(bars=wild_bars(), order=st.permutations(range(3)))
def test_symbols_are_filtered_independently(bars: Floats, order: list[int]) -> None:
    whole, _ = _filter(bars)
    turned, _ = _filter(np.ascontiguousarray(bars[:, order]))
    assert turned.tobytes() == np.ascontiguousarray(whole[:, order]).tobytes()


@given(bars=wild_bars())
def test_what_was_changed_can_be_put_back(bars: Floats) -> None:
    before = bars.copy()
    counted, result = _filter(bars)
    assert bars.tobytes() == before.tobytes(), "what was told is left alone"
    found = result.quarantine
    changed = filter_history(before, OUTLIER_FILTER, HOURLY, in_place=True)
    assert before.tobytes() == changed.bars.tobytes() == counted.tobytes()
    counted = counted.copy()
    assert (
        is_dropped(found.verdicts).tolist()
        == np.isnan(counted[found.rows, found.columns, CLOSE]).tolist()
    )
    counted[found.rows, found.columns] = found.values
    assert counted.tobytes() == bars.tobytes()
    assert (counted[found.rows, found.columns, OPEN] == found.values[:, OPEN]).all()
