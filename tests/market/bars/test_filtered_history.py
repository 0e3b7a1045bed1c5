"""A load past the guard and by both clocks: what features see, what marks, what is reported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from market.bars.history import MarketHistory, load_history
from market.bars.outlier_filter import OutlierFilter
from market.bars.panel import CLOSE, BarPanel
from market.bars.quality import FileQuality
from market.core.clock import HOUR, INTERVALS, MINUTE, format_time, parse_time
from market.sources.base import BarKind
from market.sources.parquet import BarFolder

HOURLY = INTERVALS["1h"]
OUTLIER_FILTER = OutlierFilter()
NAN = float("nan")

Floats = npt.NDArray[np.float64]
Table = Callable[..., pa.Table]
Write = Callable[[Path, str, pa.Table], Path]
Folder = Callable[..., BarFolder]


@pytest.fixture
def folder(tmp_path: Path, write_bars: Write) -> Folder:
    """Make a folder of bars from tables by symbol."""

    def make(name: str, kind: BarKind = "spot", **tables: pa.Table) -> BarFolder:
        for symbol, table in tables.items():
            write_bars(tmp_path / name, symbol, table)
        return BarFolder(tmp_path / name, kind)

    return make


def scaled(table: pa.Table, rows: dict[int, float]) -> pa.Table:
    """The prices of some rows times a factor."""
    factor = np.ones(len(table))
    for row, by in rows.items():
        factor[row] = by
    for name in ("open", "high", "low", "close"):
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, pa.array(table[name].to_numpy() * factor))
    return table


def quality(history: MarketHistory, name: str) -> FileQuality:
    (entry,) = (file for file in history.report.files if Path(file.folder).name == name)
    return entry


def closes(history: MarketHistory) -> list[float]:
    return list(history.bars.values[:, 0, CLOSE].tolist())


def test_bad_tick_neither_marks_nor_is_seen_and_is_reported_with_its_time(
    folder: Folder, bars_table: Table, start: int
) -> None:
    spot = folder("spot", X=scaled(bars_table(8), {3: 1.5, 7: 0.5}))
    history = load_history([spot], HOURLY, outlier_filter=OUTLIER_FILTER)
    np.testing.assert_array_equal(closes(history), [100, 101, 102, NAN, 104, 105, 106, NAN])
    held = [100, 101, 102, 102, 104, 105, 106, NAN]
    for marks in (history.mark, history.fine_mark):
        np.testing.assert_array_equal(marks[:, 0], held)
    assert (history.mark_high[3, 0], history.mark_low[3, 0]) == (102, 102)
    assert history.last_mark(3).tolist() == [102]
    assert history.last_mark(-1).tolist() == [106]
    file = quality(history, "spot")
    assert (file.used, file.suspect, file.limited) == (8, 2, 0)
    assert file.suspect_times == tuple(format_time(start + row * HOUR) for row in (3, 7))
    assert [bool(history.suspect_at(row)[0]) for row in range(8)] == [
        row in (3, 7) for row in range(8)
    ]
    assert history.report.held_hours == {"X": 1.0}
    unguarded = load_history([spot], HOURLY)
    assert unguarded.mark[3, 0] == 103 * 1.5
    assert quality(unguarded, "spot").suspect == 0


def test_bar_beyond_the_hard_band_is_missing_and_counted_on_its_own(
    folder: Folder, bars_table: Table
) -> None:
    spot = folder("spot", X=scaled(bars_table(8), {3: 6.0, 5: 1.5}))
    history = load_history([spot], HOURLY, outlier_filter=OUTLIER_FILTER)
    np.testing.assert_array_equal(closes(history), [100, 101, 102, NAN, 104, NAN, 106, 107])
    assert history.mark[:, 0].tolist() == [100, 101, 102, 102, 104, 104, 106, 107]
    file = quality(history, "spot")
    assert (file.used, file.suspect, file.rejected, file.limited) == (8, 1, 1, 0)
    assert [bool(history.suspect_at(row)[0]) for row in range(8)] == [row == 5 for row in range(8)]
    assert history.suspect_bars_at(3) is None
    found = history.suspect_bars_at(5)
    assert found is not None
    assert (found[0].tolist(), found[1].tolist()) == ([157.5], [int(history.bars.closes[5])])
    # Two kinds that agree do not open it.
    perp = folder("perp", "perp", X=scaled(bars_table(8, level=100.2), {3: 6.0}))
    both = load_history([spot, perp], HOURLY, outlier_filter=OUTLIER_FILTER)
    assert np.isnan(closes(both)[3])
    assert (quality(both, "spot").rejected, quality(both, "perp").rejected) == (1, 1)


def test_fine_path_of_a_rejected_hour_is_left_out_with_it(
    folder: Folder, bars_table: Table
) -> None:
    fine = scaled(bars_table(48, 5 * MINUTE), dict.fromkeys(range(20, 24), 8.0))
    path = load_history([folder("spot", X=fine)], HOURLY, outlier_filter=OUTLIER_FILTER).fine_mark[
        :, 0
    ]
    assert path[11:24].tolist() == [111] * 13
    assert path[24] == 124


def test_symbol_stays_suspect_through_missing_bars_until_the_next_one(
    folder: Folder, bars_table: Table
) -> None:
    table = scaled(bars_table(8), {3: 1.5}).take([0, 1, 2, 3, 6, 7])
    history = load_history([folder("spot", X=table)], HOURLY, outlier_filter=OUTLIER_FILTER)
    assert [bool(history.suspect_at(row)[0]) for row in range(8)] == [
        row in (3, 4, 5) for row in range(8)
    ]


def test_crash_in_both_sources_counts_at_once_and_in_one_only_waits(
    folder: Folder, bars_table: Table
) -> None:
    crash = {4: 0.6, 5: 0.6}
    spot = folder("spot", X=scaled(bars_table(8), crash))
    perp = folder("perp", "perp", X=scaled(bars_table(8, level=100.2), crash))
    calm = folder("calm", "perp", X=bars_table(8, level=100.2))
    alone = load_history([spot], HOURLY, outlier_filter=OUTLIER_FILTER)
    assert np.isnan(closes(alone)[4])
    both = load_history([spot, perp], HOURLY, outlier_filter=OUTLIER_FILTER)
    assert closes(both)[4] == 104 * 0.6
    assert both.mark[4, 0] == 104.2 * 0.6
    assert sum(file.suspect for file in both.report.files) == 0
    torn = load_history([spot, calm], HOURLY, outlier_filter=OUTLIER_FILTER)
    assert np.isnan(closes(torn)[4])
    assert torn.mark[4, 0] == 104.2, "the perpetual marks, and it is calm"
    assert (quality(torn, "spot").suspect, quality(torn, "calm").suspect) == (1, 0)


def test_bad_mark_waits_while_the_bars_go_on(folder: Folder, bars_table: Table) -> None:
    spot = folder("spot", X=bars_table(8))
    mark = folder("mark", "mark", X=scaled(bars_table(8), {4: 2.0}))
    history = load_history([spot, mark], HOURLY, outlier_filter=OUTLIER_FILTER)
    assert closes(history) == [100.0 + row for row in range(8)]
    assert history.mark[:, 0].tolist() == [100, 101, 102, 103, 103, 105, 106, 107]
    assert quality(history, "mark").suspect == 1
    assert history.suspect_at(4).tolist() == [True]


def test_bad_tick_within_an_hour_is_not_in_its_fine_path(folder: Folder, bars_table: Table) -> None:
    fine = scaled(bars_table(48, 5 * MINUTE), {15: 1.6, 31: 0.4})
    history = load_history([folder("spot", X=fine)], HOURLY, outlier_filter=OUTLIER_FILTER)
    path = history.fine_mark[:, 0]
    assert path[[14, 15, 16]].tolist() == [114, 114, 116]
    assert path[[30, 31, 32]].tolist() == [130, 130, 132]
    assert history.mark[:, 0].tolist() == [111, 123, 135, 147]


def test_fine_path_of_a_suspect_hour_is_quarantined_with_it(
    folder: Folder, bars_table: Table
) -> None:
    """Three steps of a tenth each stay under the fine band, and together they pass the hour's."""
    fall = {row: 0.85 ** min(row - 20, 3) for row in range(21, 48)}
    history = load_history(
        [folder("spot", X=scaled(bars_table(48, 5 * MINUTE), fall))],
        HOURLY,
        outlier_filter=OUTLIER_FILTER,
    )
    assert np.isnan(closes(history)[1])
    assert history.fine_mark[11:24, 0].tolist() == [111] * 13
    assert history.fine_mark[35, 0] == history.mark[2, 0] == closes(history)[2]


def test_filtering_a_simulated_market_leaves_its_panel_unchanged(start: int) -> None:
    values = np.full((6, 1, 5), 100.0)
    values[3, 0, :4] = 300.0
    opens = start + HOUR * np.arange(6, dtype=np.int64)
    panel = BarPanel(HOURLY, ("X",), opens, values)
    history = MarketHistory.from_panel(panel, OUTLIER_FILTER)
    assert np.isnan(history.bars.values[3]).all()
    assert panel.values[3, 0, CLOSE] == 300.0
    assert history.mark[:, 0].tolist() == [100.0] * 6
    assert history.end is not None
    assert history.end.recent_bars[3, 0, CLOSE] == 300.0


def _versions(table: pa.Table, *others: tuple[int, int, float]) -> pa.Table:
    """Add versions of rows: (row, nanoseconds after its close, factor of its prices)."""
    known = (np.array(table["ts"].cast(pa.int64())) + HOUR).tolist()
    parts = [table]
    for row, after, factor in others:
        parts.append(scaled(table.slice(row, 1), {0: factor}))
        known.append(known[row] + after)
    stamps = pa.array(known, pa.timestamp("ns", tz="UTC"))
    return pa.concat_tables(parts).append_column("known_at", stamps)


def test_correction_moves_outcomes_and_no_feature_row(folder: Folder, bars_table: Table) -> None:
    plain = load_history([folder("plain", X=bars_table(8))], HOURLY)
    table = _versions(bars_table(8), (2, 5 * HOUR, 1.1), (5, 10 * MINUTE, 1.2))
    history = load_history([folder("spot", X=table)], HOURLY)
    assert history.bars.values.tobytes() == plain.bars.values.tobytes()
    np.testing.assert_allclose(
        history.mark[:, 0], [100, 101, 102 * 1.1, 103, 104, 105 * 1.2, 106, 107], rtol=1e-15
    )
    assert [history.last_mark(row)[0] for row in range(8)] == [100.0 + row for row in range(8)]
    assert history.decidable()[:, 0].tolist() == [row not in (2, 5) for row in range(8)]
    # Only the second came before the next close, so only that one is what later rows build on.
    assert history.corrections is not None
    assert history.corrections.opens.tolist() == [history.bars.opens[5]]
    assert history.corrections.values[0, 0, CLOSE] == history.mark[5, 0]
    assert quality(history, "spot").corrected == 2


def test_last_mark_of_a_row_without_a_bar_is_the_corrected_one_of_the_row_before(
    folder: Folder, bars_table: Table
) -> None:
    table = _versions(bars_table(6), (2, 10 * MINUTE, 1.1)).take([0, 1, 2, 4, 5, 6])
    history = load_history([folder("spot", X=table)], HOURLY)
    assert history.last_mark(2).tolist() == [102]
    assert history.last_mark(3).tolist() == [102 * 1.1]
    assert history.decidable()[:, 0].tolist() == [True, True, False, True, True, True]


def test_bar_known_only_later_is_missing_to_features_and_marks_outcomes(
    folder: Folder, bars_table: Table
) -> None:
    table = _versions(bars_table(6), (3, 3 * HOUR, 1.0)).take([0, 1, 2, 4, 5, 6])
    history = load_history([folder("spot", X=table)], HOURLY)
    np.testing.assert_array_equal(closes(history), [100, 101, 102, NAN, 104, 105])
    assert history.mark[:, 0].tolist() == [100, 101, 102, 103, 104, 105]
    assert history.last_mark(3).tolist() == [102]
    assert not history.decidable()[3, 0]
    assert history.corrections is None, "the next row had closed by then"
    assert quality(history, "spot").late == 1


def test_filter_treats_known_and_newest_versions_separately(
    folder: Folder, bars_table: Table
) -> None:
    table = _versions(scaled(bars_table(6), {3: 2.0}), (3, 3 * HOUR, 0.5))
    history = load_history([folder("spot", X=table)], HOURLY, outlier_filter=OUTLIER_FILTER)
    np.testing.assert_array_equal(closes(history), [100, 101, 102, NAN, 104, 105])
    assert history.mark[:, 0].tolist() == [100.0 + row for row in range(6)]


def test_spot_folder_that_holds_perpetual_prices_is_named(
    folder: Folder, bars_table: Table
) -> None:
    spot = folder("spot", X=bars_table(40), Y=bars_table(40))
    perp = folder("perp", "perp", X=bars_table(40, level=100.1))
    copy = folder("copy", X=bars_table(40, level=100.1))
    pairs = load_history([spot, perp, copy], HOURLY).report.agreements
    found = {(Path(a.first[0]).name, Path(a.second[0]).name): a for a in pairs}
    assert {names: pair.verdict for names, pair in found.items()} == {
        ("spot", "perp"): "",
        ("spot", "copy"): "differ",
        ("perp", "copy"): "mix-up",
    }
    assert found["perp", "copy"].equal == 1.0
    assert found["perp", "copy"].bars == 40
    assert load_history([spot], HOURLY).report.agreements == ()


def test_less_than_a_day_in_common_says_nothing(folder: Folder, bars_table: Table) -> None:
    folders = [folder("spot", X=bars_table(24)), folder("perp", "perp", X=bars_table(24))]
    assert load_history(folders, HOURLY).report.agreements == ()


def test_stale_bars_are_runs_without_a_trade_or_for_marks_without_a_move(
    folder: Folder, bars_table: Table
) -> None:
    table = bars_table(12)
    for name in ("open", "high", "low", "close"):
        values = table[name].to_numpy().copy()
        values[3:6] = 102.0
        values[8] = 107.0
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(values))
    traded = folder("traded", X=table)
    volume = np.where(np.isin(np.arange(12), (3, 4, 5, 8)), 0.0, 10.0)
    silent = folder("silent", X=table.set_column(5, "volume", pa.array(volume)))
    mark = folder("mark", "mark", X=table.drop_columns("volume"))
    history = load_history([traded, silent, mark], HOURLY)
    found = {
        name: (quality(history, name).stale, quality(history, name).longest_stale_hours)
        for name in ("traded", "silent", "mark")
    }
    assert found == {"traded": (0, 0.0), "silent": (4, 3.0), "mark": (4, 3.0)}


@pytest.mark.realdata
def test_real_crashes_wait_for_one_bar_and_pass(data_dir: Path) -> None:
    folder = BarFolder(data_dir / "ohlcv_1h_binance_perp", "perp")
    guarded = load_history(
        [folder], HOURLY, ["ATOMUSDT", "FTTUSDT", "1000SHIBUSDT"], OUTLIER_FILTER
    )
    plain = load_history([folder], HOURLY, ["ATOMUSDT", "FTTUSDT", "1000SHIBUSDT"])
    times = {file.symbol: file.suspect_times for file in guarded.report.files}
    assert times == {
        "ATOMUSDT": ("2020-03-12T10:00:00Z", "2021-05-19T12:00:00Z"),
        "FTTUSDT": ("2022-11-08T17:00:00Z", "2022-11-08T19:00:00Z", "2022-11-11T14:00:00Z"),
        "1000SHIBUSDT": ("2021-05-12T17:00:00Z", "2021-05-19T12:00:00Z", "2021-09-07T14:00:00Z"),
    }
    there, before = guarded.bars.values[:, :, CLOSE], plain.bars.values[:, :, CLOSE]
    rows, columns = np.nonzero(np.isnan(there) & ~np.isnan(before))
    assert len(rows) == sum(map(len, times.values()))
    assert not np.isnan(there[rows + 1, columns]).any(), "the bar after each counts"
    same = ~np.isnan(there)
    assert (there[same] == before[same]).all()


@pytest.mark.realdata
def test_real_second_source_lets_a_jump_pass_at_once(data_dir: Path) -> None:
    """ADA rose by a third within the hour of 2025-03-02 15:00, spot and perpetual alike."""
    spot = BarFolder(data_dir / "ohlcv_1h_binance_spot")
    perp = BarFolder(data_dir / "ohlcv_30m_binance_perp", "perp")
    row = parse_time("2025-03-02T15:00:00Z")
    for folders, suspect in (([spot], True), ([spot, perp], False)):
        history = load_history(folders, HOURLY, ["ADAUSDT"], OUTLIER_FILTER)
        at = int(np.searchsorted(history.bars.opens, row))
        assert bool(np.isnan(history.bars.values[at, 0, CLOSE])) is suspect
        assert bool(history.suspect_at(at)[0]) is suspect


@pytest.mark.realdata
def test_real_spot_bars_that_their_source_calls_futures_are_found_out(data_dir: Path) -> None:
    """The source of these files calls them futures; their closes are those of spot."""
    claimed = BarFolder(data_dir / "ohlcv_1h_binance_spot", "perp")
    spot = BarFolder(data_dir / "ohlcv_5m_binance_spot_2025")
    perp = BarFolder(data_dir / "ohlcv_30m_binance_perp", "perp")
    history = load_history([claimed, spot, perp], HOURLY, ["BTCUSDT", "ETHUSDT", "SOLUSDT"])
    verdicts = {
        (Path(a.first[0]).name, Path(a.second[0]).name): (a.verdict, round(a.equal, 2))
        for a in history.report.agreements
        if a.symbol == "BTCUSDT"
    }
    assert verdicts == {
        ("ohlcv_1h_binance_spot", "ohlcv_5m_binance_spot_2025"): ("mix-up", 1.0),
        ("ohlcv_1h_binance_spot", "ohlcv_30m_binance_perp"): ("differ", 0.0),
        ("ohlcv_5m_binance_spot_2025", "ohlcv_30m_binance_perp"): ("", 0.0),
    }
    assert sum(a.verdict == "mix-up" for a in history.report.agreements) == 3


@pytest.mark.realdata
def test_real_faults_that_the_sources_name_are_counted(data_dir: Path) -> None:
    """Gaps, the impossible first open and the bars without volume of 2017 and 2018."""
    folder = BarFolder(data_dir / "ohlcv_1h_binance_spot_2017_2021")
    history = load_history([folder], HOURLY, ["BTCUSDT", "ETHUSDT"], OUTLIER_FILTER)
    counts = {
        file.symbol: (file.gaps, file.longest_gap_hours, file.stale, file.suspect, file.limited)
        for file in history.report.files
    }
    assert counts == {"BTCUSDT": (8, 4.0, 117, 0, 1), "ETHUSDT": (8, 4.0, 119, 0, 2)}
    first = history.bars.values[0, 0]
    assert first[CLOSE] == 4308.83
    assert first[0] < 7_200 < 16_199.91, "the open of 16,199.91 is limited"
