"""Bars of one symbol from one source: cleaned by a stated policy, faults counted."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from market.bars.bar_versions import EARLY, Bars, Clock, count_versions, select_versions
from market.bars.panel import CLOSE, HIGH, LOW, OPEN, VOLUME
from market.bars.quality import FileQuality
from market.core.arrays import Bools, Floats, Ints
from market.core.clock import DAY, HOUR, INTERVALS, Interval
from market.core.errors import DataError
from market.sources.base import AT_CLOSE, BarKind, BarSource

MIN_PRICE, MAX_PRICE = 1e-15, 1e12
MIN_VOLUME, MAX_VOLUME = 1e-18, 1e21
"""Limits of a bar: USD a unit, and units of the underlying, where any were traded."""


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
        Ints and values of the versions known when each bar closed, and before the next one did;
        None where these are the newest ones.
    """

    opens: Ints
    values: Floats
    interval: Interval
    quality: FileQuality
    at_close: Bars | None = None
    settled: Bars | None = None

    @property
    def versioned(self) -> bool:
        """Whether some bar was late or corrected."""
        return self.at_close is not None or self.settled is not None

    def as_known(self, clock: Clock) -> Bars:
        """Ints and values by a clock of `market.bars.bar_versions`."""
        early = {"at_close": self.at_close, "settled": self.settled}.get(clock)
        return (self.opens, self.values) if early is None else early


def load_bars(source: BarSource, symbol: str, interval: Interval) -> SymbolBars:
    """Read the bars of one symbol and bring them to `interval`.

    The interval of a source is the most frequent distance of its time stamps. Finer bars are
    aggregated (first open, highest high, lowest low, last close, summed volume). What is wrong is
    handled as `FileQuality` says.

    Raises
    ------
    DataError
        They cannot be read, or are coarser than `interval`.
    """
    updates, kind = source.read(symbol), source.kind
    origin = f"{symbol} in {source.name}"
    opens, values, known = updates.ts, updates.values, updates.known_at
    quality = FileQuality(source.name, symbol, kind, interval="", rows=len(opens))
    own = _interval_of(np.unique(opens), origin)
    if known is not None:
        known = np.where(known == AT_CLOSE, opens + own.nanoseconds, known)
        # No bar is known before it began.
        values = np.where((known < opens)[:, None], np.nan, values)
    opens, values, known, quality = _sort_unique(opens, values, known, quality)
    if own.nanoseconds > interval.nanoseconds:
        raise DataError(
            f"{origin} has {own.name} bars, coarser than the interval {interval.name} asked for; "
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
    opens: Ints,
    values: Floats,
    fine: Interval,
    coarse: Interval,
) -> tuple[Ints, Floats, int]:
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


def _sort_unique(
    opens: Ints,
    values: Floats,
    known: Ints | None,
    quality: FileQuality,
) -> tuple[
    Ints,
    Floats,
    Ints | None,
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


def _interval_of(opens: Ints, origin: str) -> Interval:
    if len(opens) < 2:
        raise DataError(f"{origin} has {len(opens)} distinct time stamp(s); at least 2 are needed")
    steps, counts = np.unique(np.diff(opens), return_counts=True)
    step = int(steps[np.argmax(counts)])
    for interval in INTERVALS.values():
        if interval.nanoseconds == step:
            return interval
    known = ", ".join(INTERVALS)
    raise DataError(
        f"{origin} has bars every {step / 6e10:g} minutes, which is none of {known}; "
        "coarser bars cannot be used"
    )


def _drop_faulty(
    opens: Ints,
    values: Floats,
    interval: Interval,
    kind: BarKind,
    quality: FileQuality,
) -> tuple[Ints, Floats, FileQuality]:
    aligned = opens % interval.nanoseconds == 0
    sound = is_possible(values)
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


def is_possible(values: Floats) -> Bools:
    """Which rows of shape (n, 5) are bars that can exist; NaN and infinities are not.

    Prices lie within `MIN_PRICE` and `MAX_PRICE` and volumes, but for 0, within `MIN_VOLUME` and
    `MAX_VOLUME`, far beyond any market and far within what products, squares and ratios of them
    leave finite.
    """
    high, low = values[:, HIGH], values[:, LOW]
    body = values[:, [OPEN, CLOSE]]
    sound: Bools = (
        np.isfinite(values).all(axis=1)
        & (low >= MIN_PRICE)
        & (high <= MAX_PRICE)
        & (high >= body.max(axis=1))
        & (low <= body.min(axis=1))
        & ((values[:, VOLUME] == 0.0) | (values[:, VOLUME] >= MIN_VOLUME))
        & (values[:, VOLUME] <= MAX_VOLUME)
    )
    return sound


def _count_stale(opens: Ints, values: Floats, interval: Interval) -> tuple[int, float]:
    """Bars that only repeat the last close without a trade, and hours of their longest run."""
    if len(opens) < 2:
        return 0, 0.0
    before = values[:-1, CLOSE]
    flat = (values[1:, HIGH] == before) & (values[1:, LOW] == before) & (values[1:, VOLUME] == 0.0)
    edges = np.diff(np.r_[0, flat.astype(np.int8), 0])
    runs = np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)
    longest = int(runs.max()) if len(runs) else 0
    return int(flat.sum()), longest * interval.nanoseconds / HOUR


def _count_gaps(opens: Ints, interval: Interval, quality: FileQuality) -> FileQuality:
    missing = np.diff(opens) - interval.nanoseconds
    holes = missing[missing > 0]
    longest = float(holes.max()) / HOUR if len(holes) else 0.0
    return replace(quality, gaps=len(holes), longest_gap_hours=longest)
