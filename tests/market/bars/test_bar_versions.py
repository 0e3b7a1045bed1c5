"""Two clocks: no row is read before it was known, and what came to be true is not lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from market.bars.bar_cleaning import SymbolBars, load_bars
from market.bars.bar_versions import EARLY, GRACE, Clock
from market.bars.panel import CLOSE
from market.core.clock import HOUR, INTERVALS, MINUTE, SECOND
from market.core.errors import DataError
from market.sources.parquet import BarFolder

HOURLY = INTERVALS["1h"]

Table = Callable[..., pa.Table]
Write = Callable[[Path, str, pa.Table], Path]
Read = Callable[[pa.Table], SymbolBars]


@pytest.fixture
def read(tmp_path: Path, write_bars: Write) -> Read:
    """Write a table as a spot file and read it at one hour."""
    return lambda table: load_bars(
        BarFolder(write_bars(tmp_path, "XUSDT", table).parent), "XUSDT", HOURLY
    )


@pytest.fixture
def versions(bars_table: Table) -> Callable[..., pa.Table]:
    """Six hourly bars, closes 100 to 105, each known at its close, and other versions of some.

    A version is (row, seconds after the bar's close, what is added to its prices).
    """

    def make(*others: tuple[int, float, float], without: tuple[int, ...] = ()) -> pa.Table:
        table = bars_table(6)
        parts, known = [table], (np.array(table["ts"].cast(pa.int64())) + HOUR).tolist()
        for row, seconds, change in others:
            known.append(known[row] + int(seconds * SECOND))
            part = table.slice(row, 1)
            for name in ("open", "high", "low", "close"):
                at = part.schema.get_field_index(name)
                part = part.set_column(at, name, pa.array([part[name][0].as_py() + change]))
            parts.append(part)
        whole = pa.concat_tables(parts)
        whole = whole.append_column("known_at", pa.array(known, pa.timestamp("ns", tz="UTC")))
        return whole.filter(np.array([i not in without for i in range(len(whole))]))

    return make


def closes(bars: SymbolBars, clock: Clock) -> list[float]:
    return list(bars.as_known(clock)[1][:, CLOSE].tolist())


def test_file_whose_rows_are_all_known_at_their_close_has_one_version(
    read: Read, versions: Callable[..., pa.Table], bars_table: Table
) -> None:
    bars = read(versions())
    assert not bars.versioned
    assert (bars.quality.late, bars.quality.corrected) == (0, 0)
    assert bars.values.tobytes() == read(bars_table(6)).values.tobytes()


@pytest.mark.parametrize(
    ("seconds", "at_close", "settled"),
    [
        (0.0, 102.0, 102.0),  # the first row of the file is kept, as without the column
        (GRACE / SECOND, 112.0, 112.0),
        (GRACE / SECOND + 1, 102.0, 112.0),
        (3599.0, 102.0, 112.0),
        (3600.0, 102.0, 102.0),
        (1e6, 102.0, 102.0),
    ],
)
def test_correction_counts_from_when_it_was_known(
    read: Read,
    versions: Callable[..., pa.Table],
    seconds: float,
    at_close: float,
    settled: float,
) -> None:
    bars = read(versions((2, seconds, 10.0)))
    assert closes(bars, "at_close")[2] == at_close
    assert closes(bars, "settled")[2] == settled
    newest = 102.0 if seconds == 0.0 else 112.0
    assert closes(bars, "newest")[2] == newest
    assert bars.quality.corrected == int(at_close != newest)
    assert bars.quality.conflicts == int(seconds == 0.0)


def test_bar_known_late_is_missing_until_then(
    read: Read, versions: Callable[..., pa.Table]
) -> None:
    bars = read(versions((3, 120.0, 0.0), (4, 7200.0, 0.0), without=(3, 4)))
    assert closes(bars, "at_close") == [100, 101, 102, 105]
    assert closes(bars, "settled") == [100, 101, 102, 103, 105]
    assert closes(bars, "newest") == [100, 101, 102, 103, 104, 105]
    assert (bars.quality.late, bars.quality.gaps) == (2, 0)


def test_newest_version_wins_whatever_the_order_of_the_file(
    read: Read, versions: Callable[..., pa.Table]
) -> None:
    table = versions((1, 5.0, 1.0), (1, 10.0, 2.0), (1, 900.0, 3.0))
    rng = np.random.default_rng(5)
    for order in (np.arange(len(table)), rng.permutation(len(table)), rng.permutation(len(table))):
        bars = read(table.take(order))
        assert [closes(bars, c)[1] for c in ("at_close", "settled", "newest")] == [103, 104, 104]
        assert (bars.quality.duplicates, bars.quality.conflicts) == (0, 0)


def test_row_without_a_knowledge_time_is_known_at_its_close(
    read: Read, versions: Callable[..., pa.Table]
) -> None:
    table = versions((2, 600.0, 10.0))
    known = table["known_at"].to_pylist()
    for row in range(6):
        known[row] = None
    table = table.set_column(6, "known_at", pa.array(known, table.schema.field("known_at").type))
    assert closes(read(table), "at_close")[2] == 102.0
    assert closes(read(table), "settled")[2] == 112.0
    nothing = table.slice(0, 6).set_column(6, "known_at", pa.nulls(6, pa.timestamp("us")))
    assert not read(nothing).versioned


def test_row_known_before_it_began_is_impossible(
    read: Read, versions: Callable[..., pa.Table]
) -> None:
    bars = read(versions((2, -3601.0, 10.0), without=(2,)))
    assert bars.quality.impossible == 1
    assert closes(bars, "newest") == [100, 101, 103, 104, 105]


def test_fine_bars_are_known_by_the_close_of_the_coarse_one(
    tmp_path: Path, write_bars: Write, bars_table: Table
) -> None:
    table = bars_table(24, 5 * MINUTE)
    known = np.array(table["ts"].cast(pa.int64())) + 5 * MINUTE
    known[3] += 30 * MINUTE  # still before the hour closes
    known[5] += 40 * MINUTE  # ten minutes after it
    table = table.append_column("known_at", pa.array(known, pa.timestamp("ns", tz="UTC")))
    path = write_bars(tmp_path, "XUSDT", table)
    bars = load_bars(BarFolder(path.parent, "spot"), path.stem, HOURLY)
    volumes = {c: bars.as_known(c)[1][:, 4].tolist() for c in EARLY}
    assert volumes == {"at_close": [110.0, 120.0], "settled": [120.0, 120.0]}
    assert bars.quality.corrected == 1


def test_knowledge_time_of_another_type_is_refused(
    read: Read, versions: Callable[..., pa.Table]
) -> None:
    table = versions().set_column(6, "known_at", pa.array(range(6)))
    with pytest.raises(DataError, match="'known_at' is int64, expected a timestamp"):
        read(table)
