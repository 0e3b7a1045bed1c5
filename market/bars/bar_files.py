"""Bars of one symbol from one parquet file: read, cleaned by a stated policy, counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from market.bars.bar_versions import EARLY, Bars, Clock, count_versions, select_versions
from market.bars.panel import CLOSE, HIGH, LOW, OPEN, VOLUME
from market.bars.quality import FileQuality
from market.core.clock import (
    DAY,
    END_OF_TIME,
    FIRST_TIME,
    HOUR,
    INTERVALS,
    TIME_RANGE,
    Interval,
    format_time,
)
from market.core.errors import DataError
from market.core.instruments import is_symbol

BarKind = Literal["spot", "perp", "mark"]

_PRICES = ("open", "high", "low", "close")
MIN_PRICE, MAX_PRICE = 1e-15, 1e12
MIN_VOLUME, MAX_VOLUME = 1e-18, 1e21
"""Limits of a bar: USD a unit, and units of the underlying, where any were traded."""

_AT_CLOSE = int(np.iinfo(np.int64).min)  # knowledge time of a row that names none
_MAX_ROWS = 20_000_000  # ten years of minute bars are 5.3 million


@dataclass(frozen=True, slots=True)
class BarFolder:
    """A folder of ``<SYMBOL>.parquet`` and what kind of price it holds."""

    path: Path
    kind: BarKind = "spot"


@dataclass(frozen=True, slots=True)
class SymbolBars:
    """Clean bars of one symbol: sorted, unique opens (n,) and values (n, 5) as in `BarPanel`.

    Attributes
    ----------
    opens, values:
        The newest version of every bar: what came to be true.
    interval, quality:
        Interval of the file, and what was found wrong in it.
    at_close, settled:
        Opens and values of the versions known when each bar closed, and before the next one did;
        None where these are the newest ones.
    """

    opens: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    interval: Interval
    quality: FileQuality
    at_close: Bars | None = None
    settled: Bars | None = None

    @property
    def versioned(self) -> bool:
        """Whether some bar was late or corrected."""
        return self.at_close is not None or self.settled is not None

    def as_known(self, clock: Clock) -> Bars:
        """Opens and values by a clock of `market.bars.bar_versions`."""
        early = {"at_close": self.at_close, "settled": self.settled}.get(clock)
        return (self.opens, self.values) if early is None else early


def find_files(folder: BarFolder, symbols: Sequence[str]) -> dict[str, Path]:
    """Files of a folder by symbol, only those asked for (all when none is named).

    Raises
    ------
    DataError
        The folder does not exist, holds no parquet file, or one that is not named for a symbol.
    """
    if not folder.path.is_dir():
        raise DataError(f"bar folder {folder.path} does not exist; check [market] bars")
    found = {path.stem: path for path in sorted(folder.path.glob("*.parquet"))}
    if not found:
        raise DataError(f"bar folder {folder.path} holds no <SYMBOL>.parquet file")
    chosen = {name: path for name, path in found.items() if not symbols or name in symbols}
    for name, path in chosen.items():
        if not is_symbol(name):
            raise DataError(
                f"bar file {path} is not named for a symbol; expected one file a symbol, like "
                "BTCUSDT.parquet: split it, or name the symbols to read in [market] symbols"
            )
    return chosen


def read_bars(path: Path, kind: BarKind, interval: Interval) -> SymbolBars:
    """Read one file and bring it to `interval`.

    The interval of the file is the most frequent distance of its time stamps. Finer bars are
    aggregated (first open, highest high, lowest low, last close, summed volume). What is wrong is
    handled as `FileQuality` says. A column ``known_at`` says when a row became known; without it a
    bar is known at its close.

    Raises
    ------
    DataError
        The file cannot be read, lacks a column, has only closes, or is coarser than `interval`.
    """
    opens, values, known = _read(path, kind)
    quality = FileQuality(
        folder=str(path.parent), symbol=path.stem, kind=kind, interval="", rows=len(opens)
    )
    own = _interval_of(np.unique(opens), path)
    if known is not None:
        known = np.where(known == _AT_CLOSE, opens + own.nanoseconds, known)
        values[known < opens] = np.nan  # no bar is known before it began
    opens, values, known, quality = _sort_unique(opens, values, known, quality)
    if own.nanoseconds > interval.nanoseconds:
        raise DataError(
            f"{path} has {own.name} bars, coarser than the interval {interval.name} asked for; "
            f"set [market] interval to {own.name} or coarser, or leave the folder out"
        )
    quality = replace(quality, interval=own.name)

    def cleaned(clock: Clock) -> tuple[Bars, FileQuality]:
        known_then = select_versions(opens, known, interval, clock)
        return _clean((opens[known_then], values[known_then]), own, interval, kind, quality)

    newest, quality = cleaned("newest")
    early: dict[Clock, Bars] = {}
    for clock in EARLY if known is not None else ():
        bars, _ = cleaned(clock)
        if not all(map(np.array_equal, bars, newest)):
            early[clock] = bars
    if "at_close" in early:
        late, corrected = count_versions(early["at_close"], newest)
        quality = replace(quality, late=late, corrected=corrected)
    return SymbolBars(*newest, own, quality, early.get("at_close"), early.get("settled"))


def _clean(
    bars: Bars, own: Interval, interval: Interval, kind: BarKind, quality: FileQuality
) -> tuple[Bars, FileQuality]:
    opens, values, quality = _drop_faulty(*bars, own, kind, quality)
    stale, longest = _count_stale(opens, values, own)
    quality = replace(quality, stale=stale, longest_stale_hours=longest)
    if own.nanoseconds < interval.nanoseconds:
        opens, values, incomplete = aggregate(opens, values, own, interval)
        quality = replace(quality, incomplete=incomplete)
    return (opens, values), _count_gaps(opens, interval, quality)


def aggregate(
    opens: npt.NDArray[np.int64],
    values: npt.NDArray[np.float64],
    fine: Interval,
    coarse: Interval,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], int]:
    """Aggregate sorted bars; also returns how many coarse bars were incomplete.

    A coarse bar needs its last fine bar, because that one carries the close; without it the bar
    is dropped.
    """
    if not len(opens):
        return opens, values, 0
    group = opens // coarse.nanoseconds
    first = np.flatnonzero(np.r_[True, np.diff(group) > 0])
    last = np.r_[first[1:], len(group)] - 1
    bars = np.empty((len(first), 5))
    bars[:, OPEN] = values[first, OPEN]
    bars[:, HIGH] = np.maximum.reduceat(values[:, HIGH], first)
    bars[:, LOW] = np.minimum.reduceat(values[:, LOW], first)
    bars[:, CLOSE] = values[last, CLOSE]
    bars[:, VOLUME] = np.add.reduceat(values[:, VOLUME], first)
    starts = group[first] * coarse.nanoseconds
    closed = opens[last] + fine.nanoseconds == starts + coarse.nanoseconds
    complete = last - first + 1 == coarse.nanoseconds // fine.nanoseconds
    return starts[closed], bars[closed], int((~complete).sum())


def _read(
    path: Path, kind: BarKind
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.int64] | None]:
    needed = ("ts", *_PRICES) if kind == "mark" else ("ts", *_PRICES, "volume")
    try:
        file = pq.ParquetFile(path)
        present = set(file.schema_arrow.names)
        missing = [name for name in needed if name not in present]
        if missing:
            only = " (close-only files cannot be used)" if "close" in present else ""
            raise DataError(
                f"{path} lacks the column(s) {', '.join(missing)}{only}; "
                f"expected {', '.join(needed)}"
            )
        if file.metadata.num_rows > _MAX_ROWS:
            raise DataError(f"{path} has {file.metadata.num_rows} rows; the limit is {_MAX_ROWS}")
        versioned = "known_at" in present
        table = file.read(columns=[*needed, "known_at"] if versioned else list(needed))
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read as parquet: {error}") from error
    if table.num_rows == 0:
        raise DataError(f"{path} holds no rows; remove the file or fill it")
    opens = timestamps(table, "ts", path)
    values = np.zeros((table.num_rows, 5))
    for column, name in enumerate((*_PRICES, "volume")):
        if name in needed:
            values[:, column] = floats(table, name, path)
    return opens, values, _known_times(table, path) if versioned else None


def _known_times(table: pa.Table, path: Path) -> npt.NDArray[np.int64]:
    """Column ``known_at`` in nanoseconds, `_AT_CLOSE` where it is missing."""
    missing = np.asarray(table["known_at"].is_null().to_numpy(), dtype=np.bool_)
    filled = table["known_at"].combine_chunks()
    if missing.all():
        return np.full(len(missing), _AT_CLOSE)
    first = filled.drop_null()[0]
    filled = pa.chunked_array([filled.fill_null(first)])
    known = timestamps(pa.table({"known_at": filled}), "known_at", path)
    return np.where(missing, _AT_CLOSE, known)


def timestamps(table: pa.Table, name: str, path: Path) -> npt.NDArray[np.int64]:
    """A column of time stamps as nanoseconds; any unit, naive ones are UTC.

    Raises
    ------
    DataError
        The column is not a time stamp, has missing values, or holds a time beyond
        `market.core.clock.TIME_RANGE`.
    """
    column = table[name]
    if not pa.types.is_timestamp(column.type):
        raise DataError(f"{path}: column {name!r} is {column.type}, expected a timestamp in UTC")
    if column.null_count:
        raise DataError(f"{path}: column {name!r} has {column.null_count} missing values")
    try:
        nanoseconds = column.cast(pa.timestamp("ns", tz=column.type.tz)).cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise DataError(
            f"{path}: column {name!r} holds times that do not fit into nanoseconds; expected "
            f"{TIME_RANGE}: {error}"
        ) from error
    times = np.ascontiguousarray(nanoseconds.to_numpy(), dtype=np.int64)
    beyond = np.flatnonzero((times < FIRST_TIME) | (times >= END_OF_TIME))
    if len(beyond):
        raise DataError(
            f"{path}: column {name!r} holds {format_time(int(times[beyond[0]]))} in row "
            f"{beyond[0]}; expected {TIME_RANGE}"
        )
    return times


def floats(table: pa.Table, name: str, path: Path) -> npt.NDArray[np.float64]:
    """A column of numbers as float64, missing ones as NaN.

    Raises
    ------
    DataError
        The column holds no numbers.
    """
    column = table[name]
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        raise DataError(f"{path}: column {name!r} is {column.type}, expected numbers")
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)


def _sort_unique(
    opens: npt.NDArray[np.int64],
    values: npt.NDArray[np.float64],
    known: npt.NDArray[np.int64] | None,
    quality: FileQuality,
) -> tuple[
    npt.NDArray[np.int64],
    npt.NDArray[np.float64],
    npt.NDArray[np.int64] | None,
    FileQuality,
]:
    """By open, of one open the version known last first; rows of one version become one."""
    unsorted = int((np.diff(opens) < 0).sum())
    if known is None:
        order = np.argsort(opens, kind="stable")
    else:
        order = np.lexsort((-known, opens))
        known = known[order]
    opens, values = opens[order], values[order]
    repeated = np.r_[False, np.diff(opens) == 0]
    if known is not None:
        repeated[1:] &= np.diff(known) == 0
    if repeated.any():
        first = np.maximum.accumulate(np.where(repeated, 0, np.arange(len(opens))))
        equal = (values == values[first]).all(axis=1)
        quality = replace(
            quality,
            duplicates=int((repeated & equal).sum()),
            conflicts=int((repeated & ~equal).sum()),
        )
        opens, values = opens[~repeated], values[~repeated]
        known = None if known is None else known[~repeated]
    return opens, values, known, replace(quality, unsorted=unsorted)


def _interval_of(opens: npt.NDArray[np.int64], path: Path) -> Interval:
    if len(opens) < 2:
        raise DataError(f"{path} has {len(opens)} distinct time stamp(s); at least 2 are needed")
    steps, counts = np.unique(np.diff(opens), return_counts=True)
    step = int(steps[np.argmax(counts)])
    for interval in INTERVALS.values():
        if interval.nanoseconds == step:
            return interval
    known = ", ".join(INTERVALS)
    raise DataError(
        f"{path} has bars every {step / 6e10:g} minutes, which is none of {known}; "
        "coarser bars cannot be used"
    )


def _drop_faulty(
    opens: npt.NDArray[np.int64],
    values: npt.NDArray[np.float64],
    interval: Interval,
    kind: BarKind,
    quality: FileQuality,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], FileQuality]:
    aligned = opens % interval.nanoseconds == 0
    sound = possible(values)
    quality = replace(
        quality,
        misaligned=int((~aligned).sum()),
        impossible=int((aligned & ~sound).sum()),
    )
    keep = aligned & sound
    opens, values = opens[keep], values[keep]
    if kind == "mark" or not len(opens):
        return opens, values, quality
    traded = np.flatnonzero(values[:, VOLUME] > 0.0)
    last = int(traded[-1]) if len(traded) else -1
    if opens[-1] - (opens[last] if last >= 0 else opens[0]) >= DAY:
        quality = replace(quality, dead=len(opens) - last - 1)
        opens, values = opens[: last + 1], values[: last + 1]
    return opens, values, quality


def possible(values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which rows of shape (n, 5) are bars that can exist; NaN and infinities are not.

    Prices lie within `MIN_PRICE` and `MAX_PRICE` and volumes, but for 0, within `MIN_VOLUME` and
    `MAX_VOLUME`, far beyond any market and far within what products, squares and ratios of them
    leave finite.
    """
    high, low = values[:, HIGH], values[:, LOW]
    body = values[:, [OPEN, CLOSE]]
    sound: npt.NDArray[np.bool_] = (
        np.isfinite(values).all(axis=1)
        & (low >= MIN_PRICE)
        & (high <= MAX_PRICE)
        & (high >= body.max(axis=1))
        & (low <= body.min(axis=1))
        & ((values[:, VOLUME] == 0.0) | (values[:, VOLUME] >= MIN_VOLUME))
        & (values[:, VOLUME] <= MAX_VOLUME)
    )
    return sound


def _count_stale(
    opens: npt.NDArray[np.int64], values: npt.NDArray[np.float64], interval: Interval
) -> tuple[int, float]:
    """Bars that only repeat the last close without a trade, and hours of their longest run."""
    if len(opens) < 2:
        return 0, 0.0
    before = values[:-1, CLOSE]
    flat = (values[1:, HIGH] == before) & (values[1:, LOW] == before) & (values[1:, VOLUME] == 0.0)
    edges = np.diff(np.r_[0, flat.astype(np.int8), 0])
    runs = np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)
    longest = int(runs.max()) if len(runs) else 0
    return int(flat.sum()), longest * interval.nanoseconds / HOUR


def _count_gaps(
    opens: npt.NDArray[np.int64], interval: Interval, quality: FileQuality
) -> FileQuality:
    missing = np.diff(opens) - interval.nanoseconds
    holes = missing[missing > 0]
    longest = float(holes.max()) / HOUR if len(holes) else 0.0
    return replace(quality, gaps=len(holes), longest_gap_hours=longest)
