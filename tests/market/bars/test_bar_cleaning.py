"""One file of bars: every fault is counted and handled by the stated policy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, strategies as st

from market.bars.bar_cleaning import SymbolBars, aggregate, is_possible, load_bars
from market.bars.panel import CLOSE, VOLUME
from market.core.clock import DAY, HOUR, INTERVALS, MINUTE
from market.core.errors import DataError
from market.sources.parquet import BarFolder

HOURLY, FIVE_MINUTES = INTERVALS["1h"], INTERVALS["5m"]

Table = Callable[..., pa.Table]
Write = Callable[[Path, str, pa.Table], Path]
Change = Callable[[pa.Table, str, dict[int, float]], pa.Table]
Read = Callable[[pa.Table], SymbolBars]


@pytest.fixture
def read(tmp_path: Path, write_bars: Write) -> Read:
    """Write a table as a spot file and read it at one hour."""
    return lambda table: load_bars(
        BarFolder(write_bars(tmp_path, "XUSDT", table).parent), "XUSDT", HOURLY
    )


def _faults(bars: SymbolBars) -> dict[str, float]:
    names = ("unsorted", "duplicates", "conflicts", "misaligned", "impossible", "dead")
    counts = {name: getattr(bars.quality, name) for name in (*names, "incomplete", "gaps")}
    return {name: count for name, count in counts.items() if count}


def test_sound_file_is_read_as_it_is(read: Read, bars_table: Table, start: int) -> None:
    bars = read(bars_table(5))
    assert bars.opens.tolist() == [start + i * HOUR for i in range(5)]
    assert bars.values.tolist() == [[c - 0.5, c + 1, c - 1, c, 10.0] for c in range(100, 105)]
    assert (bars.interval, bars.quality.rows, bars.quality.interval) == (HOURLY, 5, "1h")
    assert _faults(bars) == {}


def test_duplicates_leave_one_row(read: Read, bars_table: Table) -> None:
    table = bars_table(5)
    bars = read(table.take([0, 1, 1, 1, 2, 3, 4, 4]))
    assert _faults(bars) == {"duplicates": 3}
    assert bars.values[:, CLOSE].tolist() == [100, 101, 102, 103, 104]


def test_conflicts_keep_the_first_row_of_the_file(
    read: Read, bars_table: Table, change: Change
) -> None:
    table = bars_table(5)
    other = change(table, "volume", {2: 77.0})
    bars = read(pa.concat_tables([table, other.slice(2, 1), table.slice(2, 1)]))
    assert _faults(bars) == {"duplicates": 1, "conflicts": 1, "unsorted": 1}
    assert bars.values[2, VOLUME] == 10.0
    bars = read(pa.concat_tables([other.slice(2, 1), table]))
    assert _faults(bars) == {"conflicts": 1, "unsorted": 1}
    assert bars.values[2, VOLUME] == 77.0


def test_unsorted_rows_are_sorted(read: Read, bars_table: Table) -> None:
    bars = read(bars_table(5).take([0, 3, 1, 4, 2]))
    assert _faults(bars) == {"unsorted": 2}
    assert bars.values[:, CLOSE].tolist() == [100, 101, 102, 103, 104]


def test_misaligned_rows_are_dropped(read: Read, bars_table: Table, start: int) -> None:
    odd = bars_table(1, start=start + 90 * MINUTE)
    bars = read(pa.concat_tables([bars_table(6), odd]))
    assert _faults(bars) == {"misaligned": 1, "unsorted": 1}
    assert len(bars.opens) == 6


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("close", None),
        ("open", float("nan")),
        ("low", 0.0),
        ("low", -1.0),
        ("high", 101.0),  # under open and close
        ("low", 102.5),  # over open and close
        ("high", float("inf")),
        ("volume", -1.0),
        ("volume", None),
    ],
)
def test_impossible_rows_are_dropped(
    read: Read, bars_table: Table, change: Change, column: str, value: float
) -> None:
    bars = read(change(bars_table(6), column, {2: value}))
    assert _faults(bars) == {"impossible": 1, "gaps": 1}
    assert bars.quality.longest_gap_hours == 1.0
    assert bars.values[:, CLOSE].tolist() == [100, 101, 103, 104, 105]


def test_bar_without_range_and_volume_is_possible() -> None:
    assert is_possible(np.array([[5.0, 5.0, 5.0, 5.0, 0.0]])).tolist() == [True]


def test_dead_contract_is_cut_after_its_last_trade(
    read: Read, bars_table: Table, change: Change
) -> None:
    bars = read(change(bars_table(40), "volume", dict.fromkeys(range(10, 40), 0.0)))
    assert _faults(bars) == {"dead": 30}
    assert bars.values[:, CLOSE].tolist() == list(range(100, 110))


def test_dead_needs_a_whole_day_without_trade(
    read: Read, bars_table: Table, change: Change
) -> None:
    quiet = change(bars_table(33), "volume", dict.fromkeys(range(10, 33), 0.0))
    assert _faults(read(quiet)) == {}
    day = change(bars_table(34), "volume", dict.fromkeys(range(10, 34), 0.0))
    assert _faults(read(day)) == {"dead": 24}


def test_dead_from_the_beginning_leaves_nothing(read: Read, bars_table: Table) -> None:
    table = bars_table(30)
    silent = table.set_column(5, "volume", pa.array(np.zeros(30)))
    bars = read(silent)
    assert _faults(bars) == {"dead": 30}
    assert len(bars.opens) == 0


def test_dead_fine_file_aggregates_to_nothing(read: Read, bars_table: Table) -> None:
    table = bars_table(300, 5 * MINUTE)
    bars = read(table.set_column(5, "volume", pa.array(np.zeros(300))))
    assert bars.quality.dead == 300
    assert bars.values.shape == (0, 5)


def test_marks_have_no_volume_and_never_die(
    tmp_path: Path, write_bars: Write, bars_table: Table
) -> None:
    path = write_bars(tmp_path, "XUSDT", bars_table(40).drop_columns(["volume"]))
    bars = load_bars(BarFolder(path.parent, "mark"), path.stem, HOURLY)
    assert _faults(bars) == {}
    assert bars.values[:, VOLUME].tolist() == [0.0] * 40


def test_gaps_stay_gaps(read: Read, bars_table: Table) -> None:
    keep = [*range(4), *range(5, 10), *range(13, 20)]
    bars = read(bars_table(20).take(keep))
    assert _faults(bars) == {"gaps": 2}
    assert bars.quality.longest_gap_hours == 3.0
    assert bars.values[:, CLOSE].tolist() == [100 + i for i in keep]


def test_aggregation_takes_first_high_low_last_sum(read: Read, bars_table: Table) -> None:
    bars = read(bars_table(24, 5 * MINUTE))
    assert bars.values.tolist() == [
        [99.5, 112.0, 99.0, 111.0, 120.0],
        [111.5, 124.0, 111.0, 123.0, 120.0],
    ]
    assert (bars.quality.interval, bars.interval) == ("5m", FIVE_MINUTES)
    assert _faults(bars) == {}


def test_incomplete_bar_is_kept_only_with_its_last_part(
    read: Read, bars_table: Table, start: int
) -> None:
    table = bars_table(48, 5 * MINUTE)
    keep = [i for i in range(48) if i not in {0, 1, 18, 35}]  # hour 0: head, 1: middle, 2: tail
    bars = read(table.take(keep))
    assert _faults(bars) == {"incomplete": 3, "gaps": 1}
    assert ((bars.opens - start) // HOUR).tolist() == [0, 1, 3]
    assert bars.values[0].tolist() == [101.5, 112.0, 101.0, 111.0, 100.0]


def test_aggregate_equals_plain_python() -> None:
    rng = np.random.default_rng(3)
    opens = np.sort(rng.choice(96, 60, replace=False)) * np.int64(5 * MINUTE)
    values = rng.uniform(1.0, 2.0, (60, 5))
    starts, bars, incomplete = aggregate(opens, values, FIVE_MINUTES, HOURLY)
    groups: dict[int, list[int]] = {}
    for i, moment in enumerate(opens.tolist()):
        groups.setdefault(moment // HOUR * HOUR, []).append(i)
    expected = {
        hour: [
            values[rows[0], 0],
            values[rows, 1].max(),
            values[rows, 2].min(),
            values[rows[-1], 3],
            values[rows, 4].sum(),
        ]
        for hour, rows in groups.items()
        if opens[rows[-1]] == hour + 55 * MINUTE
    }
    assert starts.tolist() == list(expected)
    np.testing.assert_allclose(bars, list(expected.values()), rtol=1e-15)
    assert incomplete == sum(len(rows) < 12 for rows in groups.values())


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "+05:30", "America/New_York"])
def test_times_of_any_unit_and_zone_are_the_same_instants(
    read: Read, bars_table: Table, unit: str, zone: str | None, start: int
) -> None:
    table = bars_table(5)
    ts = table["ts"].cast(pa.timestamp(unit, tz="UTC")).cast(pa.int64())
    bars = read(table.set_column(0, "ts", ts.cast(pa.timestamp(unit, tz=zone))))
    assert bars.opens.tolist() == [start + i * HOUR for i in range(5)]


def test_whole_numbers_beyond_float_precision_are_read(read: Read, bars_table: Table) -> None:
    table = bars_table(5)
    huge = pa.array([2**60 + 1] * 5, pa.int64())
    assert read(table.set_column(5, "volume", huge)).values[0, VOLUME] == 2.0**60


@given(seed=st.integers(0, 2**32 - 1))
def test_shuffled_rows_give_the_same_bars(
    seed: int,
    tmp_path_factory: pytest.TempPathFactory,
    write_bars: Write,
    bars_table: Table,
    change: Change,
) -> None:
    table = change(bars_table(60), "low", {7: -1.0}).take([*range(30), *range(33, 60), 5])
    folder = tmp_path_factory.mktemp("shuffled")
    order = np.random.default_rng(seed).permutation(len(table))
    plain = load_bars(BarFolder(write_bars(folder, "A", table).parent), "A", HOURLY)
    mixed = load_bars(BarFolder(write_bars(folder, "B", table.take(order)).parent), "B", HOURLY)
    assert np.array_equal(plain.opens, mixed.opens)
    assert np.array_equal(plain.values, mixed.values)
    assert _faults(plain) | {"unsorted": 0} == _faults(mixed) | {"unsorted": 0}


def test_close_only_file_is_refused_with_path_and_columns(read: Read, bars_table: Table) -> None:
    table = bars_table(5).select(["ts", "close"])
    with pytest.raises(DataError, match=r"XUSDT\.parquet lacks .*open, high, low, volume.*close-"):
        read(table)


def test_coarser_file_is_refused_with_both_intervals(
    tmp_path: Path, write_bars: Write, bars_table: Table
) -> None:
    path = write_bars(tmp_path, "XUSDT", bars_table(5))
    with pytest.raises(DataError, match=r"XUSDT in .* has 1h bars, coarser than .* 5m"):
        load_bars(BarFolder(path.parent, "spot"), path.stem, FIVE_MINUTES)


@pytest.mark.parametrize(("step", "minutes"), [(4 * HOUR, "240"), (DAY, "1440"), (3 * MINUTE, "3")])
def test_interval_of_no_kind_is_refused(
    read: Read, bars_table: Table, step: int, minutes: str
) -> None:
    with pytest.raises(DataError, match=rf"XUSDT in .* has bars every {minutes} minutes"):
        read(bars_table(5, step))


@pytest.mark.parametrize("content", [b"", b"not parquet", b"PAR1" + b"\0" * 40 + b"PAR1"])
def test_unreadable_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "XUSDT.parquet"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"XUSDT\.parquet cannot be read as parquet"):
        load_bars(BarFolder(path.parent, "spot"), path.stem, HOURLY)


def test_truncated_file_and_missing_file_are_refused(
    tmp_path: Path, write_bars: Write, bars_table: Table
) -> None:
    path = write_bars(tmp_path, "XUSDT", bars_table(50))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="cannot be read"):
        load_bars(BarFolder(path.parent, "spot"), path.stem, HOURLY)
    with pytest.raises(DataError, match="cannot be read"):
        load_bars(BarFolder(tmp_path), "NONE", HOURLY)


@pytest.mark.parametrize(("rows", "message"), [(0, "holds no rows"), (1, "at least 2 are needed")])
def test_too_few_rows_are_refused(read: Read, bars_table: Table, rows: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(bars_table(rows))


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("ts", pa.array([1, 2, 3]), "'ts' is int64, expected a timestamp"),
        ("ts", pa.array([None, 1, 2], pa.timestamp("ns")), "'ts' has 1 missing values"),
        ("ts", pa.array([0, 1, 2**40], pa.timestamp("s")), "'ts' holds times that do not fit"),
        ("close", pa.array(["1", "2", "3"]), "'close' is string, expected numbers"),
    ],
)
def test_columns_of_another_type_are_refused(
    read: Read, bars_table: Table, column: str, values: pa.Array, message: str
) -> None:
    table = bars_table(3)
    at = table.schema.get_field_index(column)
    with pytest.raises(DataError, match=message):
        read(table.set_column(at, column, values))


def test_folder_is_listed_by_symbol(tmp_path: Path, write_bars: Write, bars_table: Table) -> None:
    for symbol in ("BUSDT", "AUSDT"):
        write_bars(tmp_path, symbol, bars_table(2))
    (tmp_path / "README.md").write_text("not bars")
    folder = BarFolder(tmp_path)
    assert list(folder.symbols(())) == ["AUSDT", "BUSDT"]
    assert list(folder.symbols(("BUSDT", "CUSDT"))) == ["BUSDT"]


def test_missing_and_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"does not exist; check \[market\] bars"):
        BarFolder(tmp_path / "none").symbols(())
    with pytest.raises(DataError, match=r"holds no <SYMBOL>\.parquet file"):
        BarFolder(tmp_path).symbols(())


@pytest.mark.parametrize("year", ["1950", "2262"])
def test_times_out_of_range_are_refused_with_file_column_row_and_range(
    read: Read, bars_table: Table, year: str
) -> None:
    table = bars_table(5)
    moment = np.datetime64(f"{year}-03-01T00:00:00", "ns").astype(np.int64)
    opens = np.array([*table["ts"].cast(pa.int64()).to_pylist()[:4], moment])
    changed = table.set_column(0, "ts", pa.array(opens).cast(table["ts"].type))
    with pytest.raises(DataError, match=rf"XUSDT.*'ts' holds {year}-.* in row 4; expected a time"):
        read(changed)
