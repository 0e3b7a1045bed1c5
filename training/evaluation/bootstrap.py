"""Paired block bootstrap over UTC days.

Rows of one day share one market, so whole days are drawn with replacement. A resample is a row
of multinomial counts over the days: sums over rows become products of counts and per-day sums,
and no row is ever copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from numba import njit

from market.core.clock import DAY
from market.core.errors import ModelError
from training.evaluation.metrics import BINS

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

RESAMPLES = 1000
LEVEL = 0.95
"""Coverage of the percentile intervals."""
CELLS_AT_ONCE = 4_000_000


def utc_day(t: npt.ArrayLike) -> IntArray:
    """Days since 1970-01-01 UTC of times in nanoseconds, same shape."""
    return np.asarray(t, dtype=np.int64) // np.int64(DAY)


def skill_interval(
    losses_model: npt.ArrayLike,
    losses_baseline: npt.ArrayLike,
    day_index: npt.ArrayLike,
    n: int = RESAMPLES,
    *,
    seed: int,
) -> tuple[float, float] | None:
    """95% interval of the skill ``1 − mean(model)/mean(baseline)``, paired by row.

    Parameters
    ----------
    losses_model, losses_baseline:
        Losses of the same rows, finite, shape (rows,).
    day_index:
        Day of each row, any integers, shape (rows,).
    n:
        Number of resamples.
    seed:
        Seed of the resamples.

    Returns
    -------
    tuple or None
        Lower and upper bound; None with fewer than two days, which have no spread.

    Raises
    ------
    ModelError
        Shapes disagree, a value is not finite, or the baseline's loss is not positive.

    References
    ----------
    Davison and Hinkley (1997), Bootstrap Methods and their Application, 2.4 and 3.8.
    """
    sums, _ = _day_sums((losses_model, losses_baseline), day_index)
    return skill_interval_of_days(sums[:, 0], sums[:, 1], n, seed=seed)


def skill_interval_of_days(
    model_sums: npt.ArrayLike, baseline_sums: npt.ArrayLike, n: int = RESAMPLES, *, seed: int
) -> tuple[float, float] | None:
    """`skill_interval` from the sums of losses of each day, finite, shape (days,).

    Raises
    ------
    ModelError
        The baseline's loss is not positive on some resample of days.
    """
    sums = np.column_stack([model_sums, baseline_sums]).astype(np.float64)
    if len(sums) < 2:
        return None
    model, baseline = resampled_sums(sums, n, seed).T
    if not (baseline > 0.0).all():
        raise ModelError(
            "the baseline's loss is not positive on some resample of days; expected positive sums: "
            "use a longer span"
        )
    return _skill_percentiles(model / baseline)


@dataclass(frozen=True, slots=True)
class GroupSkill:
    """Skill of one group under the bootstrap.

    Attributes
    ----------
    interval:
        Of the skill; None with fewer than two days.
    worse_p:
        One-sided p-value of "the model is not worse than the baseline", None likewise:
        ``(1 + #{resamples whose mean difference model − baseline is ≤ 0}) / (n + 1)``; small
        means that the model is worse.
    """

    interval: tuple[float, float] | None
    worse_p: float | None


def group_skills(
    losses_model: npt.ArrayLike,
    losses_baseline: npt.ArrayLike,
    day_index: npt.ArrayLike,
    groups: Mapping[str, npt.NDArray[np.bool_]],
    n: int = RESAMPLES,
    *,
    seed: int,
) -> dict[str, GroupSkill]:
    """`GroupSkill` of many groups of rows under the same resamples.

    Days are drawn from all days of the sample, so a group's own number of days varies between
    resamples, as that of a domain does. A resample without any row of a group has no
    skill, and counts as "not worse".

    Parameters
    ----------
    losses_model, losses_baseline:
        Losses of the same rows, finite, the baseline's positive, shape (rows,).
    day_index:
        Day of each row, any integers, shape (rows,).
    groups:
        By name the rows of the group, boolean, shape (rows,); each with at least one row.
    n, seed:
        Resamples and their seed.

    Raises
    ------
    ModelError
        Shapes disagree, a value is not finite, or a baseline's loss is not positive.

    References
    ----------
    Davison and Hinkley (1997), Bootstrap Methods and their Application, 3.8 and 4.2.
    """
    model, baseline = (np.asarray(a, dtype=np.float64) for a in (losses_model, losses_baseline))
    day = np.asarray(day_index)
    if not (baseline > 0.0).all():
        raise ModelError("skill of groups needs positive losses of the baseline on every row")
    whole, _ = _day_sums((model, baseline), day)
    if len(whole) < 2:
        return dict.fromkeys(groups, GroupSkill(None, None))
    _, code = np.unique(day, return_inverse=True)
    # Group by group, so that a million rows need no copy for each.
    sums: list[FloatArray] = [
        np.bincount(code[rows], weights=losses[rows], minlength=len(whole)).astype(np.float64)
        for rows in groups.values()
        for losses in (model, baseline)
    ]
    resampled = resampled_sums(np.column_stack(sums or [whole]), n, seed)
    skills: dict[str, GroupSkill] = {}
    for g, (name, rows) in enumerate(groups.items()):
        if len(np.unique(code[rows])) < 2:
            skills[name] = GroupSkill(None, None)
            continue
        top, bottom = resampled[:, 2 * g], resampled[:, 2 * g + 1]
        drawn = bottom > 0.0
        interval = _skill_percentiles(top[drawn] / bottom[drawn])
        not_worse = int(np.count_nonzero(top - bottom <= 0.0))
        skills[name] = GroupSkill(interval, (1 + not_worse) / (n + 1))
    return skills


def holm_adjusted(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's adjusted p-values: a hypothesis is rejected at a level that its own does not exceed.

    Sorted ascending, the k-th of m (k from 0) becomes ``max(previous, min(1, (m − k)·p))``; the
    order of the names is kept.

    References
    ----------
    Holm (1979), "A simple sequentially rejective multiple test procedure".
    """
    adjusted: dict[str, float] = {}
    running = 0.0
    for k, (name, p_value) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        running = max(running, min(1.0, (len(p_values) - k) * p_value))
        adjusted[name] = running
    return {name: adjusted[name] for name in p_values}


def ece_quantile(
    y: npt.ArrayLike,
    p: npt.ArrayLike,
    day_index: npt.ArrayLike,
    q: float = 0.05,
    n: int = RESAMPLES,
    *,
    seed: int,
) -> float | None:
    """Quantile of the day bootstrap of ``ece / base rate``.

    Exact: the bins of every resample are its own ten equal-count bins. Rows are sorted once; a
    day drawn c times counts its rows c times, and a row on the edge between two bins is shared
    out. (Only the order of equal probabilities differs from a sort of the copied rows.)

    Parameters
    ----------
    y:
        Outcomes, 0 or 1, shape (rows,).
    p:
        Probabilities, finite, shape (rows,).
    day_index:
        Day of each row, any integers, shape (rows,).
    q:
        Quantile in [0, 1].
    n:
        Number of resamples.
    seed:
        Seed of the resamples.

    Returns
    -------
    float or None
        None with fewer than two days, or without a positive. Resamples without a positive have
        no ratio and are left out.

    Raises
    ------
    ModelError
        Shapes disagree or a value is not finite.
    """
    sums, rows = _day_sums((y, p), day_index)
    if len(sums) < 2 or not sums[:, 0].any():
        return None
    probability = np.asarray(p, dtype=np.float64)
    order = np.argsort(probability, kind="stable")
    residual = (probability - np.asarray(y, dtype=np.float64))[order]
    _, code = np.unique(np.asarray(day_index), return_inverse=True)
    sorted_code = code[order].astype(np.int32)

    ratios = [
        _weighted_gap(residual, sorted_code, drawn, int(drawn @ rows)) / positives
        for counts in _day_counts(len(sums), n, seed)
        for drawn, positives in zip(counts, counts @ sums[:, 0], strict=True)
        if positives > 0.0
    ]
    return float(np.quantile(ratios, q)) if ratios else None


@njit(cache=True)
def _weighted_gap(
    residual: FloatArray, day: npt.NDArray[np.int32], count: IntArray, total: int
) -> float:
    """``Σ_bins |Σ (p − y)|`` of a resample: rows sorted by p, each repeated by its day's count."""
    gap = 0.0
    inside = 0.0
    bins = min(BINS, total)
    size, larger = total // bins, total % bins
    bin_index = 0
    space = size + (1 if larger > 0 else 0)
    for i in range(len(residual)):
        left = count[day[i]]
        while left > 0:
            take = min(left, space)
            inside += take * residual[i]
            left -= take
            space -= take
            if space == 0:
                gap += abs(inside)
                inside = 0.0
                bin_index += 1
                space = size + (1 if bin_index < larger else 0)
    return gap


def _day_sums(
    columns: tuple[npt.ArrayLike, ...], day_index: npt.ArrayLike
) -> tuple[FloatArray, IntArray]:
    """Sums of each column by day, shape (days, columns), and rows by day, shape (days,)."""
    day = np.asarray(day_index)
    arrays = [np.asarray(column, dtype=np.float64) for column in columns]
    if day.ndim != 1 or len(day) == 0 or any(a.shape != day.shape for a in arrays):
        raise ModelError(
            f"bootstrap was given days {day.shape} and columns {[a.shape for a in arrays]}; "
            "expected arrays of one shape (rows,) with rows > 0"
        )
    if not np.issubdtype(day.dtype, np.integer):
        raise ModelError(f"bootstrap was given days of type {day.dtype}; expected integers")
    if not all(np.isfinite(a).all() for a in arrays):
        raise ModelError("bootstrap needs finite values; drop or fix the rows with NaN first")
    _, code = np.unique(day, return_inverse=True)
    rows = np.bincount(code)
    sums = [np.bincount(code, weights=a) for a in arrays]
    return np.column_stack(sums) if sums else np.empty((len(rows), 0)), rows


def _day_counts(days: int, n: int, seed: int) -> Iterable[IntArray]:
    """Blocks of resamples: how often each day is drawn, shape (≤ n, days), n rows in all."""
    if n < 1:
        raise ModelError(f"bootstrap was asked for {n} resamples; expected at least 1")
    if days * n <= CELLS_AT_ONCE:
        return _kept_counts(days, n, seed)
    return _draw_counts(days, n, seed)


@lru_cache(maxsize=4)
def _kept_counts(days: int, n: int, seed: int) -> tuple[IntArray, ...]:
    """The same resamples serve every figure of a report."""
    return tuple(_draw_counts(days, n, seed))


def _draw_counts(days: int, n: int, seed: int) -> Iterator[IntArray]:
    rng = np.random.default_rng(seed)
    share = np.full(days, 1.0 / days)
    at_once = max(1, CELLS_AT_ONCE // days)
    for start in range(0, n, at_once):
        yield rng.multinomial(days, share, size=min(at_once, n - start))


def resampled_sums(sums: FloatArray, n: int, seed: int) -> FloatArray:
    """Sums over whole days drawn with replacement, the same days for every column.

    Parameters
    ----------
    sums:
        Sums of each day or block of days, finite, shape (days, columns).
    n, seed:
        Resamples and their seed.

    Returns
    -------
    Shape (n, columns).

    References
    ----------
    Davison and Hinkley (1997), Bootstrap Methods and their Application, 2.4 and 3.8.
    """
    return np.concatenate([counts @ sums for counts in _day_counts(len(sums), n, seed)])


def _skill_percentiles(ratio: FloatArray) -> tuple[float, float]:
    """95% interval of ``1 − ratio`` over the resamples."""
    low, high = np.quantile(ratio, [(1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0])
    return float(1.0 - high), float(1.0 - low)
