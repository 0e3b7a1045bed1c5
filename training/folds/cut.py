"""How folds are cut: walk-forward blocks of the calendar, and stress windows held out in turn.

A walk-forward block trains on everything known at its start and is evaluated on the rows decided
in it. A stress fold trains on everything but one stress window and its embargo.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

from market.core.clock import DAY, HOUR, format_time
from market.core.errors import ModelError
from training.evaluation.stress import STRESS_WINDOWS
from training.labels.dataset import Dataset
from training.labels.splits import Block, held_out_window, time_ordered_tail

Ints = npt.NDArray[np.int64]

CALIBRATE_SHARE = 0.25
"""Share of the training time that calibrates, as 20 of 80 per cent in the default split."""

LONGEST_CALIBRATION = 92 * DAY
"""A calibration block of a walk-forward block is not longer than a quarter of a year."""

LEAST_TRAINING = 14 * DAY
"""A calendar block with less time than this before it is not evaluated."""

LEAST_BLOCKS = 2
"""Data with fewer calendar blocks are cut into shorter ones."""

_EQUAL_STRETCHES = 3
_SHORTER_MONTHS = (3, 1)


@dataclass(frozen=True, slots=True)
class Fold:
    """One fold.

    Attributes
    ----------
    name:
        ``walk_forward_2024-07-01``, by the first day of the block, or the stress window's name.
    kind:
        Which way it was cut.
    block:
        Code of `training.labels.splits.Block` of each row of the whole data set.
    """

    name: str
    kind: Literal["walk_forward", "stress"]
    block: npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class BlockCut:
    """Walk-forward blocks.

    Attributes
    ----------
    length:
        For the reader: ``6 calendar months``, or ``equal stretches of 11 days`` where the data
        are too short for calendar blocks.
    spans:
        Start (inclusive) and end (exclusive) of each block in nanoseconds, in time order, each
        block beginning where the one before ends.
    """

    length: str
    spans: tuple[tuple[int, int], ...]

    def folds(self, data: Dataset) -> Iterator[Fold]:
        """The fold of each block that has rows on both sides."""
        folds = (self.fold(data, k) for k in range(len(self.spans)))
        return (fold for fold in folds if fold is not None)

    def fold(self, data: Dataset, k: int) -> Fold | None:
        """The fold of block `k`; None where it lacks rows to train on or to evaluate on.

        Fit and calibrate: rows of the training sample (``weight > 0``) whose label ended by the
        block's start, ``t + h ≤ start`` with h the longest horizon; the last quarter of their
        time, at most `LONGEST_CALIBRATION`, calibrates. Test: rows of the uniform sample decided
        in the block whose label ends by the last block's end. All else is purged.

        References
        ----------
        López de Prado (2018), Advances in Financial Machine Learning, 7.4 and 12.2.
        """
        time, hours = data.time, data.horizons[-1]
        label_end = time + hours * HOUR
        start, end = self.spans[k]
        train = np.flatnonzero((label_end <= start) & (data.weight > 0.0))
        inside = (time >= start) & (time < end) & (label_end <= self.spans[-1][1])
        test = np.flatnonzero(inside & data.uniform)
        if not (len(train) and len(test)):
            return None
        name = f"walk_forward_{format_time(start)[:10]}"
        return Fold(name, "walk_forward", _blocks(time, train, test, hours))


def cut_blocks(first: int, end: int, months: int, most: int) -> BlockCut:
    """Cut a span into walk-forward blocks of calendar months.

    Blocks begin with each `months`-th month of the calendar (six: January and July) that comes at
    least `LEAST_TRAINING` after `first`; the last one ends at `end`. Where fewer than
    `LEAST_BLOCKS` fit, quarters are used, then months, then three equal stretches after a first
    one of the same length.

    Parameters
    ----------
    first, end:
        First decision time, and end of the labels that may be used, in ns.
    months:
        Length of a block: a divisor of 12.
    most:
        At most so many blocks, the newest, ≥ 1.

    Raises
    ------
    ModelError
        The span is empty, or a length or count is impossible.
    """
    if end <= first or months < 1 or 12 % months or most < 1:
        raise ModelError(
            f"walk-forward blocks of {months} months, at most {most}, from {format_time(first)} "
            f"to {format_time(end)} are impossible; give a span, a divisor of 12 and at least 1"
        )
    for length in (months, *(shorter for shorter in _SHORTER_MONTHS if shorter < months)):
        edges = [edge for edge in _month_starts(first, end, length) if edge < end]
        if len(edges) >= LEAST_BLOCKS:
            name = f"{length} calendar month{'s' if length > 1 else ''}"
            return BlockCut(name, tuple(pairwise((*edges, end)))[-most:])
    stretch = (end - first) // (_EQUAL_STRETCHES + 1)
    edges = [first + stretch * k for k in range(1, _EQUAL_STRETCHES + 1)]
    name = f"equal stretches of {stretch / DAY:.3g} days"
    return BlockCut(name, tuple(pairwise((*edges, end)))[-most:])


def stress_folds(data: Dataset, end: int) -> Iterator[Fold]:
    """Each stress window within the rows whose label ends by `end` (ns), held out in turn.

    Labels that reach into what is held out are purged. Rows of the training sample are trained
    on, those of the uniform sample held out.
    """
    time, hours = data.time, data.horizons[-1]
    before = np.flatnonzero(time + hours * HOUR <= end)
    for window in STRESS_WINDOWS if len(before) else ():
        if window.start < time[before[0]] or window.end > time[before[-1]]:
            continue
        split = held_out_window(time[before], window.start, window.end, hours)
        train, test = before[split.train], before[split.held]
        train, test = train[data.weight[train] > 0.0], test[data.uniform[test]]
        if len(test) and len(train):
            yield Fold(window.name, "stress", _blocks(time, train, test, hours))


def _month_starts(first: int, end: int, length: int) -> list[int]:
    """First moment of every `length`-th calendar month, `LEAST_TRAINING` after `first` or later."""
    earliest = first + LEAST_TRAINING
    month = int(np.datetime64(first, "ns").astype("datetime64[M]").astype(np.int64))
    last = int(np.datetime64(end, "ns").astype("datetime64[M]").astype(np.int64))
    starts = (
        int(np.datetime64(number, "M").astype("datetime64[ns]").astype(np.int64))
        for number in range(month, last + 1)
        if number % length == 0  # month 0 is January 1970
    )
    return [start for start in starts if start >= earliest]


def _blocks(
    time: Ints, train: npt.NDArray[np.intp], test: npt.NDArray[np.intp], horizon_hours: int
) -> npt.NDArray[np.int8]:
    """Codes of all rows, the latest part of the train rows calibrating."""
    span = int(time[train[-1]] - time[train[0]])
    share = min(CALIBRATE_SHARE, LONGEST_CALIBRATION / span) if span else CALIBRATE_SHARE
    fit, calibrate = time_ordered_tail(time[train], horizon_hours, share)
    block = np.full(len(time), Block.PURGED, dtype=np.int8)
    block[train[fit]] = Block.FIT
    block[train[calibrate]] = Block.CALIBRATE
    block[test] = Block.TEST
    return block
