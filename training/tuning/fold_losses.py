"""Losses of hyperparameters on folds in time of the rows that a training learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from market.core.arrays import Floats
from market.core.clock import HOUR, format_time
from market.core.errors import ModelError
from models.bundle.schema import ModelSchema
from training.evaluation.bootstrap import utc_day
from training.fitting.candidate import column_sets, shape_losses, trained_schema, trial_fit
from training.fitting.hyperparameters import Hyperparameters
from training.fitting.learning_rows import LearningRows
from training.fitting.trees import ColumnSet
from training.labels.dataset import Dataset
from training.labels.splits import Block


@dataclass(frozen=True, slots=True)
class FoldLosses:
    """Weighted losses of the rows held out of one fold.

    Attributes
    ----------
    mean:
        Log loss by horizon in hours, after the Platt line of these rows.
    by_day:
        Sum of the losses of each UTC day, by horizon, shape (days,).
    """

    mean: dict[int, float]
    by_day: dict[int, Floats]


@dataclass(frozen=True, slots=True)
class SearchFold:
    """Rows before a time to fit to, and rows after it to compare settings on.

    Attributes
    ----------
    rows:
        Of the data set; ``fit`` and ``calibrate`` are those before and those held out.
    schema:
        Columns.
    sets:
        The rows binned: the small columns and all of them.
    span:
        First and last time held out, in nanoseconds.
    labels:
        Outcomes by horizon in hours, shape (N,).
    """

    rows: LearningRows
    schema: ModelSchema
    sets: tuple[ColumnSet, ColumnSet]
    span: tuple[int, int]
    labels: dict[int, npt.NDArray[np.int8]]

    def losses(self, settings: Hyperparameters, threads: int) -> FoldLosses:
        """Fit prior and the trees of one seed to the rows before, and evaluate those held out."""
        held = self.rows.calibrate
        _, code = np.unique(utc_day(self.rows.data.time[self.rows.rows[held]]), return_inverse=True)
        weight = self.rows.weight[held]
        mean: dict[int, float] = {}
        by_day: dict[int, Floats] = {}
        for hours in self.schema.horizons:
            labels = self.labels[hours]
            small, wide = (
                replace(one, settings=settings, seeds=settings.seeds[:1]) for one in self.sets
            )
            sets = (small, wide) if hours >= settings.blend_from_hours else (small,)
            score = trial_fit(self.rows, labels, self.schema, hours, sets, threads).corrected
            loss = weight * shape_losses(score[held], labels[held], weight)
            mean[hours] = float(loss.sum() / weight.sum())
            by_day[hours] = np.bincount(code, weights=loss).astype(np.float64)
        return FoldLosses(mean, by_day)


def cut_search_folds(
    data: Dataset, block: npt.NDArray[np.int8], count: int, settings: Hyperparameters
) -> list[SearchFold]:
    """Cut the fit and calibrate rows into a first stretch of time and so many folds after it.

    The stretches are equally long. Fold k is fitted to the rows whose label ends by its start,
    ``t + h <= start`` with h the longest horizon, and holds out the rows decided within it whose
    label ends by its end. All other rows of `data` are dropped first: no test row is read.

    Raises
    ------
    ModelError
        A fold has too few rows, or no breach at one of the horizons.

    References
    ----------
    López de Prado (2018), Advances in Financial Machine Learning, 7.4.
    """
    kept = (block == Block.FIT) | (block == Block.CALIBRATE)
    learnt = data.take(np.flatnonzero(kept & (data.weight > 0.0)))
    if not len(learnt):
        raise ModelError("the search has no rows to fit to; widen the span of the data")
    time = learnt.time
    label_end = time + learnt.horizons[-1] * HOUR
    first, last = int(time[0]), int(label_end.max())
    edges = [first + (last - first) * k // (count + 1) for k in range(count + 2)]
    return [
        _fold(learnt, label_end, edges[k : k + 2], f"{k} of {count}", settings)
        for k in range(1, count + 1)
    ]


def _fold(
    learnt: Dataset,
    label_end: npt.NDArray[np.int64],
    span: Sequence[int],
    name: str,
    settings: Hyperparameters,
) -> SearchFold:
    start, end = span
    block = np.full(len(learnt), Block.PURGED, dtype=np.int8)
    block[label_end <= start] = Block.FIT
    block[(learnt.time >= start) & (label_end <= end)] = Block.CALIBRATE
    rows = LearningRows.of_block(learnt, block)
    try:
        labels = {hours: rows.labels(hours) for hours in learnt.horizons}
        schema = trained_schema(learnt, rows.rows[rows.fit])
    except ModelError as error:
        raise ModelError(
            f"fold {name} of [training.search], held out from {format_time(start)}, cannot be "
            f"used: {error}; or give fewer folds"
        ) from error
    held = learnt.time[rows.rows[rows.calibrate]]
    sets = column_sets(rows, schema, settings)
    return SearchFold(rows, schema, sets, (int(held[0]), int(held[-1])), labels)
