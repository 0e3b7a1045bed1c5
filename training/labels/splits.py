"""Splits in time, purged by the end of the label.

A row decided at t with horizon h is labelled by what happens in (t, t + h]. Two blocks are apart
only if no label window of one reaches into the other; rows that would are purged. A boundary
belongs to the later block: at t = boundary the label window opens just after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from market.core.clock import HOUR, format_time
from market.core.errors import ModelError

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

EMBARGO_HOURS = 168
"""After a held-out window, slow features still contain its shock for a week."""


class Block(IntEnum):
    """Code of a row's block."""

    PURGED = -1
    FIT = 0
    CALIBRATE = 1
    TEST = 2


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Rows to train on and rows held out, disjoint masks of shape (n,); the rest is embargoed."""

    train: BoolArray
    held: BoolArray


def default_boundaries(start: int, end: int) -> tuple[int, int, int]:
    """Ends of the fit, calibrate and test blocks at 60%, 80% and 100% of [start, end], in ns.

    Raises
    ------
    ModelError
        The span is empty.
    """
    if end <= start:
        raise ModelError(f"the span to split ends at {end}, not after its start {start}")
    span = int(end) - int(start)
    return int(start) + span * 6 // 10, int(start) + span * 8 // 10, int(end)


def purged_split(
    t: npt.ArrayLike,
    horizon_hours_max: int,
    fit_end: int,
    calibrate_end: int,
    test_end: int,
) -> npt.NDArray[np.int8]:
    """Block of each row: fit, then calibrate, then test, without shared label windows.

    Fit: ``t + h ≤ fit_end``. Calibrate: ``t ≥ fit_end`` and ``t + h ≤ calibrate_end``. Test:
    ``t ≥ calibrate_end`` and ``t + h ≤ test_end``. Everything else is purged.

    Parameters
    ----------
    t:
        Decision times in ns, shape (n,), in any order.
    horizon_hours_max:
        The longest horizon h, so that one split serves all horizons.
    fit_end, calibrate_end, test_end:
        Rising boundaries in ns.

    Returns
    -------
    array
        Codes of `Block`, int8, shape (n,).

    Raises
    ------
    ModelError
        The boundaries do not rise, the horizon is not positive, or times are not integers.

    References
    ----------
    López de Prado (2018), Advances in Financial Machine Learning, 7.4.
    """
    times = _checked_times(t)
    label_end = times + _horizon(horizon_hours_max)
    if not fit_end < calibrate_end < test_end:
        raise ModelError(
            f"split boundaries {format_time(fit_end)}, {format_time(calibrate_end)}, "
            f"{format_time(test_end)} do not rise; check [training] fit_end, calibrate_end, "
            "test_end"
        )
    block = np.full(len(times), Block.PURGED, dtype=np.int8)
    block[label_end <= fit_end] = Block.FIT
    block[(times >= fit_end) & (label_end <= calibrate_end)] = Block.CALIBRATE
    block[(times >= calibrate_end) & (label_end <= test_end)] = Block.TEST
    return block


def time_ordered_tail(
    t: npt.ArrayLike, horizon_hours: int, share: float
) -> tuple[IntArray, IntArray]:
    """Rows before and in the last `share` of the time span, without shared label windows.

    Returns
    -------
    tuple
        Row numbers, int64, rising: rows whose label ended by the cut, and rows decided from it on.
    """
    times = _checked_times(t)
    first, last = int(times.min()), int(times.max())
    cut = last - int((last - first) * share)
    return np.flatnonzero(times + _horizon(horizon_hours) <= cut), np.flatnonzero(times >= cut)


def held_out_window(
    t: npt.ArrayLike,
    start: int,
    end: int,
    horizon_hours: int,
    embargo_hours: int = EMBARGO_HOURS,
) -> HeldOut:
    """Hold out the rows decided in [start, end) and embargo their neighbours.

    Train rows have ``t + h ≤ start``, or come at least the embargo after the window's end: slow
    features of rows before that still contain the held-out shock. The embargo is at least the
    horizon, because labels of the held-out rows reach that far.

    Parameters
    ----------
    t:
        Decision times in ns, shape (n,), in any order.
    start, end:
        The window in ns; `training.evaluation.stress.STRESS_WINDOWS` has the market's own.
    horizon_hours:
        Label horizon h.
    embargo_hours:
        Hours after the window that are not trained on.

    Raises
    ------
    ModelError
        The window is empty, the horizon is not positive, the embargo is negative, or times are
        not integers.

    References
    ----------
    López de Prado (2018), Advances in Financial Machine Learning, 7.4.2.
    """
    times = _checked_times(t)
    horizon = _horizon(horizon_hours)
    if end <= start or embargo_hours < 0:
        raise ModelError(
            f"held-out window {format_time(start)} to {format_time(end)} with an embargo of "
            f"{embargo_hours} h is impossible; the end must follow the start, the embargo be ≥ 0"
        )
    embargo = max(embargo_hours * HOUR, horizon)
    return HeldOut(
        train=(times + horizon <= start) | (times >= end + embargo),
        held=(times >= start) & (times < end),
    )


def _checked_times(t: npt.ArrayLike) -> IntArray:
    times = np.asarray(t)
    if times.ndim != 1 or not np.issubdtype(times.dtype, np.integer):
        raise ModelError(
            f"decision times of type {times.dtype} and shape {times.shape} cannot be split; "
            "expected int64 nanoseconds of shape (n,)"
        )
    return times.astype(np.int64, copy=False)


def _horizon(hours: int) -> int:
    if hours <= 0:
        raise ModelError(f"a label horizon of {hours} h is impossible; expected at least 1 h")
    return hours * HOUR
