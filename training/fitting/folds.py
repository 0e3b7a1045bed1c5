"""Folds: trainings on earlier or other parts of the data, evaluated on rows they did not see.

Walk-forward folds train on everything known before a stretch of time; stress folds on everything
but one stress window and its embargo. The rows of the test block take part in no fold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from market.core.clock import HOUR, format_time
from market.core.errors import ModelError
from training.evaluation.evaluate import evaluate
from training.evaluation.stress import STRESS_WINDOWS
from training.fitting.candidate import fit_candidate
from training.labels.dataset import Dataset
from training.labels.splits import Block, held_out_window, time_ordered_tail, walk_forward

FOLD_ROWS = 40_000
"""Largest number of training rows and of test rows of a fold; a seeded draw takes them."""

CALIBRATE_SHARE = 0.25
"""Share of the training time that calibrates, as 20 of 80 per cent in the default split."""

FOLD_SEED = 20_240_102


@dataclass(frozen=True, slots=True)
class Fold:
    """One fold.

    Attributes
    ----------
    name:
        ``walk_forward_1`` or the stress window's name.
    kind:
        Which way it was cut.
    block:
        Code of `training.labels.splits.Block` of each row of the whole data set.
    """

    name: str
    kind: Literal["walk_forward", "stress"]
    block: npt.NDArray[np.int8]


def cut_folds(
    time: npt.NDArray[np.int64], horizon_hours: int, end: int, walk: int, *, stress: bool
) -> Iterator[Fold]:
    """The folds of the rows whose label ends by `end`.

    Parameters
    ----------
    time:
        Decision times in ns, rising, shape (n,).
    horizon_hours:
        The longest label horizon; labels that reach into what is held out are purged.
    end:
        Where the test block begins, in ns.
    walk:
        Number of walk-forward folds, ≥ 0. The span is cut into one stretch more; each but the
        first is held out once.
    stress:
        Whether each stress window within the span is held out too, with the embargo of
        `held_out_window`.

    Raises
    ------
    ModelError
        A walk-forward fold has no training rows or no test rows.

    References
    ----------
    López de Prado (2018), Advances in Financial Machine Learning, 7.4 and 12.2.
    """
    before = np.flatnonzero(time + horizon_hours * HOUR <= end)
    if walk:
        stretches = walk_forward(time[before], walk, horizon_hours)
        for k, (train, test) in enumerate(stretches, 1):
            block = _blocks(time, before[train], before[test], horizon_hours)
            yield Fold(f"walk_forward_{k}", "walk_forward", block)
    for window in STRESS_WINDOWS if stress and len(before) else ():
        if window.start < time[before[0]] or window.end > time[before[-1]]:
            continue
        split = held_out_window(time[before], window.start, window.end, horizon_hours)
        train, test = before[split.train], before[split.held]
        if len(test) and len(train):
            yield Fold(window.name, "stress", _blocks(time, train, test, horizon_hours))


def evaluate_fold(
    data: Dataset, fold: Fold, description: Mapping[str, str], symbols: tuple[str, ...]
) -> dict[str, Any]:
    """Train on a fold and evaluate it on the rows held out.

    Of each block at most `FOLD_ROWS` rows are drawn (fit and calibrate together), so that a fold
    costs a bounded time whatever the size of the data: its figures compare models within the
    fold, and are not those of a model trained on all rows.

    Returns
    -------
    dict
        ``name``, ``kind``, ``rows`` by block and ``evaluation`` (the object of
        ``evaluate --json``); where the fold is too small to train on, ``not_evaluated`` with the
        reason takes the place of the evaluation.
    """
    learning = data.learning_block(fold.block)
    chosen = _sample_rows(learning)
    part = data.take(chosen)
    block = learning[chosen]
    report: dict[str, Any] = {
        "name": fold.name,
        "kind": fold.kind,
        "rows": {
            each.name.lower(): int((block == each).sum())
            for each in (Block.FIT, Block.CALIBRATE, Block.TEST)
        },
        "held_out": _span(part.time[block == Block.TEST]),
        "learnt_from": _span(part.time[(block == Block.FIT) | (block == Block.CALIBRATE)]),
    }
    if not (report["rows"]["fit"] and report["rows"]["calibrate"]):
        return {
            **report,
            "not_evaluated": "too short a time is left to learn from; use fewer folds",
        }
    fit = block == Block.FIT
    test = part.take(np.flatnonzero(block == Block.TEST))
    training_time = part.time[fit | (block == Block.CALIBRATE)]
    training = {
        "span_ns": [int(training_time[0]), int(training_time[-1])],
        "base_rates": {
            str(hours): part.base_rate(np.flatnonzero(fit), hours) for hours in data.horizons
        },
    }
    try:
        forecasts = fit_candidate(part, block).forecast(test)
        evaluation = evaluate(test, forecasts, training, description, symbols)
    except ModelError as error:
        return {**report, "not_evaluated": str(error)}
    # Training rows may lie on both sides of the test rows; no label window is shared.
    return {**report, "evaluation": evaluation | {"overlap_with_training_hours": 0.0}}


def _blocks(
    time: npt.NDArray[np.int64],
    train: npt.NDArray[np.intp],
    test: npt.NDArray[np.intp],
    horizon_hours: int,
) -> npt.NDArray[np.int8]:
    """Codes of all rows, the latest part of the train rows calibrating."""
    fit, calibrate = time_ordered_tail(time[train], horizon_hours, CALIBRATE_SHARE)
    block = np.full(len(time), Block.PURGED, dtype=np.int8)
    block[train[fit]] = Block.FIT
    block[train[calibrate]] = Block.CALIBRATE
    block[test] = Block.TEST
    return block


def _sample_rows(block: npt.NDArray[np.int8]) -> npt.NDArray[np.intp]:
    """Rows of the fold, thinned evenly by a seeded draw, in their order."""
    rng = np.random.default_rng(FOLD_SEED)
    test = np.flatnonzero(block == Block.TEST)
    train = np.flatnonzero((block == Block.FIT) | (block == Block.CALIBRATE))
    parts = [
        part if len(part) <= FOLD_ROWS else rng.choice(part, FOLD_ROWS, replace=False)
        for part in (train, test)
    ]
    return np.sort(np.concatenate(parts))


def _span(time: npt.NDArray[np.int64]) -> list[str]:
    return [format_time(int(time[0])), format_time(int(time[-1]))]
