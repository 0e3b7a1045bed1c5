"""The history of a market: which file fills what, which price marks, and how long it is held."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, strategies as st

from market.bars.history import MarketHistory, load_history
from market.bars.outlier_filter import MAX_GAP_HOURS, OutlierFilter
from market.bars.panel import CLOSE, HIGH, LOW, VOLUME, BarPanel
from market.bars.quality import FileQuality
from market.bars.recorded_rows import RecordedRows
from market.core.clock import DAY, HOUR, INTERVALS, MINUTE
from market.core.errors import DataError
from market.sources.base import BarKind
from market.sources.parquet import BarFolder

HOURLY = INTERVALS["1h"]
NAN = float("nan")

Floats = npt.NDArray[np.float64]
Table = Callable[..., pa.Table]
Write = Callable[[Path, str, pa.Table], Path]
Change = Callable[[pa.Table, str, dict[int, float]], pa.Table]
Folder = Callable[..., BarFolder]


@pytest.fixture
def folder(tmp_path: Path, write_bars: Write) -> Folder:
    """Make a folder of bars from tables by symbol."""

    def make(name: str, kind: BarKind = "spot", **tables: pa.Table) -> BarFolder:
        for symbol, table in tables.items():
            write_bars(tmp_path / name, symbol, table)
        return BarFolder(tmp_path / name, kind)

    return make


def _quality(history: MarketHistory, name: str, symbol: str) -> FileQuality:
    (entry,) = (
        entry
        for entry in history.report.files
        if Path(entry.folder).name == name and entry.symbol == symbol
    )
    return entry


def _closes(history: MarketHistory, symbol: str) -> Floats:
    return history.bars.values[:, history.bars.symbols.index(symbol), CLOSE]


def test_symbols_are_sorted_on_one_regular_grid(
    folder: Folder, bars_table: Table, start: int
) -> None:
    late = bars_table(4, start=start + 3 * HOUR)
    history = load_history([folder("spot", B=bars_table(5), A=late)], HOURLY)
    assert history.bars.symbols == ("A", "B")
    assert history.bars.opens.tolist() == [start + i * HOUR for i in range(7)]
    assert history.bars.closes.tolist() == [start + i * HOUR for i in range(1, 8)]
    np.testing.assert_array_equal(_closes(history, "A"), [NAN] * 3 + [100, 101, 102, 103])
    np.testing.assert_array_equal(_closes(history, "B"), [100, 101, 102, 103, 104, NAN, NAN])
    absent = np.isnan(history.bars.values)
    assert np.array_equal(absent.all(axis=2), absent.any(axis=2))
    assert history.bars.values.flags.c_contiguous


def test_later_folder_fills_only_rows_that_the_earlier_lacks(
    folder: Folder, bars_table: Table
) -> None:
    first = folder("first", X=bars_table(8).take([0, 1, 4, 5]))
    second = folder("second", X=bars_table(10, level=500.0), Y=bars_table(10, level=700.0))
    history = load_history([first, second], HOURLY)
    expected = [100, 101, 502, 503, 104, 105, 506, 507, 508, 509]
    assert _closes(history, "X").tolist() == expected
    assert history.bars.values[2, 0].tolist() == [501.5, 503, 501, 502, 10]
    assert [_quality(history, name, "X").used for name in ("first", "second")] == [4, 6]
    assert _quality(history, "second", "Y").used == 10
    assert history.mark[:, 0].tolist() == expected
    turned = load_history([second, first], HOURLY)
    assert _closes(turned, "X").tolist() == [500.0 + i for i in range(10)]
    assert _quality(turned, "first", "X").used == 0


def test_marks_prefer_mark_then_perp_then_spot_whatever_the_folder_order(
    folder: Folder, bars_table: Table
) -> None:
    spot = folder("spot", X=bars_table(6, level=100.0))
    perp = folder("perp", "perp", X=bars_table(6, level=200.0).take([0, 1, 2, 4]))
    mark = folder("mark", "mark", X=bars_table(6, level=300.0).take([0, 1]).drop_columns("volume"))
    for order in ([spot, perp, mark], [mark, perp, spot]):
        history = load_history(order, HOURLY)
        assert history.mark[:, 0].tolist() == [300, 301, 202, 103, 204, 105]
        assert history.mark_high[:, 0].tolist() == [301, 302, 203, 104, 205, 106]
        assert history.mark_low[:, 0].tolist() == [299, 300, 201, 102, 203, 104]
        assert history.report.marks == {"X": {"mark": 2, "perp": 2, "spot": 2}}
    assert _closes(load_history([spot, perp, mark], HOURLY), "X").tolist() == [
        100.0 + i for i in range(6)
    ]


def test_marks_alone_give_no_bars(folder: Folder, bars_table: Table) -> None:
    mark = folder("mark", "mark", X=bars_table(6))
    with pytest.raises(DataError, match=r"no spot or perp bars found; \[market\] bars needs"):
        load_history([mark], HOURLY)
    with pytest.raises(DataError, match=r"no spot or perp bars for symbol\(s\) X in .*mark"):
        load_history([mark], HOURLY, ["X"])


def test_file_that_gives_nothing_is_still_reported(folder: Folder, bars_table: Table) -> None:
    silent = bars_table(30).set_column(5, "volume", pa.array(np.zeros(30)))
    spot = folder("spot", X=bars_table(6), DEAD=silent)
    mark = folder("mark", "mark", OTHER=bars_table(6))
    history = load_history([spot, mark], HOURLY)
    assert _quality(history, "spot", "DEAD").dead == 30
    assert _quality(history, "mark", "OTHER").used == 0
    assert np.isnan(_closes(history, "DEAD")).all()
    assert sum(entry.rows for entry in history.report.files) == 42
    assert len(history.report.to_dict()["files"]) == 3  # type: ignore[arg-type]


def test_nothing_but_dead_files_is_refused(folder: Folder, bars_table: Table) -> None:
    silent = bars_table(30).set_column(5, "volume", pa.array(np.zeros(30)))
    with pytest.raises(DataError, match="is empty once faulty bars are dropped"):
        load_history([folder("spot", X=silent)], HOURLY)


def test_only_named_symbols_are_loaded_and_missing_ones_named(
    folder: Folder, bars_table: Table
) -> None:
    spot = folder("spot", A=bars_table(3), B=bars_table(3), C=bars_table(3))
    assert load_history([spot], HOURLY, ["C", "A"]).bars.symbols == ("A", "C")
    with pytest.raises(DataError, match=r"symbol\(s\) D, E in .*spot"):
        load_history([spot], HOURLY, ["A", "E", "D"])


def _with_gap(missing: int) -> BarPanel:
    rows = missing + 3
    values = np.full((rows, 2, 5), 50.0)
    values[2:-1, 0] = NAN
    values[-1, 0] = 60.0
    return BarPanel(HOURLY, ("A", "B"), np.arange(rows, dtype=np.int64) * HOUR, values)


@pytest.mark.parametrize(("missing", "held"), [(1, True), (24, True), (25, False)])
def test_mark_is_held_through_a_gap_of_at_most_a_day(missing: int, held: bool) -> None:
    history = MarketHistory.from_panel(_with_gap(missing))
    gap = [50.0 if held else NAN] * missing
    np.testing.assert_array_equal(history.mark[:, 0], [50.0, 50.0, *gap, 60.0])
    np.testing.assert_array_equal(history.mark_high[:, 0], history.mark[:, 0])
    np.testing.assert_array_equal(history.mark_low[:, 0], history.mark[:, 0])
    assert history.fine_mark is history.mark
    assert history.fine_interval == HOURLY
    assert MAX_GAP_HOURS == 24


@pytest.mark.parametrize("missing", [1, 24, 25, 400])
def test_last_mark_at_a_row_never_depends_on_how_long_the_gap_will_be(missing: int) -> None:
    history = MarketHistory.from_panel(_with_gap(missing))
    for row in range(1, missing + 2):
        assert history.last_mark(row).tolist() == [50.0, 50.0]
    assert history.last_mark(-1).tolist() == [60.0, 50.0]
    unlisted = _with_gap(missing)
    unlisted.values[:2, 0] = NAN
    np.testing.assert_array_equal(MarketHistory.from_panel(unlisted).last_mark(1), [NAN, 50.0])


def test_mark_is_absent_before_listing_and_after_death(
    folder: Folder, bars_table: Table, change: Change, start: int
) -> None:
    dying = change(bars_table(60), "volume", dict.fromkeys(range(20, 60), 0.0))
    listed = bars_table(50, start=start + 10 * HOUR)
    history = load_history([folder("spot", DIES=dying, LATE=listed)], HOURLY)
    dies, late = history.mark[:, 0], history.mark[:, 1]
    assert np.isnan(dies[20:]).all()
    assert not np.isnan(dies[:20]).any()
    assert np.isnan(late[:10]).all()
    assert not np.isnan(late[10:]).any()


def test_marks_outside_the_bars_widen_the_grid(
    folder: Folder, bars_table: Table, start: int
) -> None:
    mark = folder("mark", "mark", X=bars_table(8, start=start - 2 * HOUR, level=300.0))
    history = load_history([folder("spot", X=bars_table(4)), mark], HOURLY)
    assert history.bars.opens[0] == start - 2 * HOUR
    np.testing.assert_array_equal(_closes(history, "X"), [NAN, NAN, 100, 101, 102, 103, NAN, NAN])
    assert history.mark[:, 0].tolist() == [300.0 + i for i in range(8)]


def test_fine_marks_end_with_their_own_bar_not_at_its_open(
    folder: Folder, bars_table: Table, start: int
) -> None:
    fine = folder("fine", X=bars_table(36, 5 * MINUTE))
    coarse = folder("coarse", Y=bars_table(3, level=900.0))
    history = load_history([fine, coarse], HOURLY)
    assert history.fine_interval == INTERVALS["5m"]
    assert history.fine_mark.shape == (36, 2)
    # Row j of the fine marks is the close of the fine bar that ends j + 1 steps after the start.
    assert history.fine_mark[:, 0].tolist() == [100.0 + i for i in range(36)]
    assert history.mark[:, 0].tolist() == [111, 123, 135]
    # A symbol without fine bars steps at the close of its hour.
    expected = [NAN] * 11 + [900] * 12 + [901] * 12 + [902]
    np.testing.assert_array_equal(history.fine_mark[:, 1], expected)


def test_half_hours_within_five_minutes_are_aligned_by_their_close(
    folder: Folder, bars_table: Table
) -> None:
    fine = folder("fine", X=bars_table(24, 5 * MINUTE))
    half = folder("half", Y=bars_table(4, 30 * MINUTE, level=900.0))
    fine_mark = load_history([fine, half], HOURLY).fine_mark[:, 1]
    expected = [NAN] * 5 + [900] * 6 + [901] * 6 + [902] * 6 + [903]
    np.testing.assert_array_equal(fine_mark, expected)


def test_fine_path_passes_through_the_mark_at_each_close(folder: Folder, bars_table: Table) -> None:
    perp = folder("perp", "perp", X=bars_table(36, 5 * MINUTE))
    mark = folder("mark", "mark", X=bars_table(3, level=500.0))
    history = load_history([perp, mark], HOURLY)
    assert history.mark[:, 0].tolist() == [500, 501, 502]
    assert history.fine_mark[11::12, 0].tolist() == [500, 501, 502]
    assert history.fine_mark[:11, 0].tolist() == [100.0 + i for i in range(11)]


def test_fine_marks_are_held_through_short_gaps_only_and_end_with_death(
    folder: Folder, bars_table: Table, change: Change
) -> None:
    hours = 110
    table = bars_table(12 * hours, 5 * MINUTE)
    short, long = range(12 * 5, 12 * 10), range(12 * 20, 12 * 46)
    dead = range(12 * 70, 12 * hours)
    table = change(table, "volume", dict.fromkeys(dead, 0.0))
    keep = sorted(set(range(12 * hours)) - set(short) - set(long))
    alive = bars_table(hours, level=900.0)
    spot = folder("spot", X=table.take(keep), Y=alive)
    fine = load_history([spot], HOURLY).fine_mark[:, 0]
    assert (fine[short] == 100.0 + short[0] - 1).all()
    assert np.isnan(fine[long]).all()
    assert np.isnan(fine[dead]).all()
    traded = [i for i in keep if i not in dead]
    assert fine[traded].tolist() == [100.0 + i for i in traded]


def test_fine_marks_are_absent_where_the_bar_has_no_mark(folder: Folder, bars_table: Table) -> None:
    # The last hour of X lacks its end, so it has no close: X ends with the hour before.
    spot = folder("spot", X=bars_table(30, 5 * MINUTE), Y=bars_table(36, 5 * MINUTE))
    history = load_history([spot], HOURLY)
    np.testing.assert_array_equal(history.mark[:, 0], [111, 123, NAN])
    np.testing.assert_array_equal(
        history.fine_mark[:, 0], [100.0 + i for i in range(24)] + [NAN] * 12
    )


def test_panel_of_five_minutes_has_no_finer_marks(folder: Folder, bars_table: Table) -> None:
    history = load_history([folder("fine", X=bars_table(24, 5 * MINUTE))], INTERVALS["5m"])
    assert len(history.bars) == 24
    assert history.fine_mark is history.mark


@given(order=st.permutations(range(40)))
def test_shuffled_rows_give_the_same_history(
    order: list[int],
    tmp_path_factory: pytest.TempPathFactory,
    write_bars: Write,
    bars_table: Table,
) -> None:
    table = bars_table(48).take([*range(20), *range(28, 48)])
    histories = []
    for rows in (table, table.take(order)):
        path = tmp_path_factory.mktemp("shuffled")
        write_bars(path, "X", rows)
        histories.append(load_history([BarFolder(path)], HOURLY))
    plain, mixed = histories
    assert np.array_equal(plain.bars.opens, mixed.bars.opens)
    assert np.array_equal(plain.bars.values, mixed.bars.values, equal_nan=True)
    assert np.array_equal(plain.mark, mixed.mark, equal_nan=True)


@pytest.mark.realdata
def test_real_dead_contract_is_cut_at_its_last_trade(data_dir: Path) -> None:
    folder = BarFolder(data_dir / "ohlcv_1h_binance_perp", "perp")
    history = load_history([folder], HOURLY, ["FTTUSDT"])
    (quality,) = history.report.files
    assert (quality.rows, quality.used, quality.dead) == (29_637, 5_114, 24_523)
    assert len(history.bars) == 5_114
    assert history.bars.values[-1, 0, VOLUME] > 0.0


@pytest.mark.realdata
def test_real_exchange_halt_is_reported_and_bridged(data_dir: Path) -> None:
    folder = BarFolder(data_dir / "ohlcv_1h_binance_spot")
    history = load_history([folder], HOURLY, ["BTCUSDT"])
    (quality,) = history.report.files
    assert (quality.gaps, quality.longest_gap_hours) == (1, 1.0)
    (row,) = np.flatnonzero(np.isnan(_closes(history, "BTCUSDT")))
    assert np.datetime64(int(history.bars.opens[row]) // DAY, "D") == np.datetime64("2023-03-24")
    assert history.mark[row, 0] == history.bars.values[row - 1, 0, CLOSE]
    assert (history.bars.values[:, 0, HIGH] < history.bars.values[:, 0, LOW]).sum() == 0


def _recorded(opens: list[int], closes: list[float], references: list[float]) -> RecordedRows:
    n = len(opens)
    bars = np.repeat(np.array(closes)[:, None, None], 5, axis=2)
    marks = np.full((n, 1, 2), NAN)
    marks[:, 0, 1] = references
    corrected = np.zeros((n, 1), dtype=np.bool_)
    return RecordedRows(np.array(opens), bars, corrected, np.full((n, 1, 7), NAN), marks)


@pytest.mark.parametrize("kinds", [("spot",), ("spot", "mark")])
def test_recorded_rows_go_on_from_the_files_as_bar_and_as_mark(
    folder: Folder, bars_table: Table, start: int, kinds: tuple[BarKind, ...]
) -> None:
    folders = [folder(kind, kind, BTCUSDT=bars_table(5)) for kind in kinds]
    plain = load_history(folders, HOURLY)
    last = float(plain.bars.values[-1, 0, CLOSE])
    rows = _recorded([start + 5 * HOUR, start + 7 * HOUR], [0.6 * last, 0.61 * last], [NAN, NAN])
    history = load_history(
        folders, HOURLY, outlier_filter=OutlierFilter(), recorded=lambda *_: rows
    )
    assert len(history.bars) == 8
    assert np.isnan(_closes(history, "BTCUSDT")[5:7]).all(), "unconfirmed, and a gap"
    assert history.last_mark(6)[0] == last
    assert history.last_mark(7)[0] == 0.61 * last
    rows = _recorded(rows.opens.tolist(), [0.6 * last, 0.61 * last], [0.6 * last, NAN])
    history = load_history(
        folders, HOURLY, outlier_filter=OutlierFilter(), recorded=lambda *_: rows
    )
    assert history.last_mark(5)[0] == 0.6 * last, "a quoted mark confirmed it"
    assert history.recorded is not None
    assert history.recorded.filled == 2
