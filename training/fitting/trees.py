"""Small trees that correct the fitted prior, and their blend with trees on every column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from market.core.arrays import Floats
from models.trees.lightgbm_trees import trees_from_booster
from models.trees.tree_table import TreeTable
from training.fitting.hyperparameters import DEFAULTS, Hyperparameters

if TYPE_CHECKING:
    import lightgbm

    from training.fitting.binned_rows import BinnedRows

CURVE_STEPS = 40
"""Most points of a learning curve beside the prior."""


def tree_parameters(
    rows: int,
    monotone: Sequence[int],
    seed: int,
    num_threads: int,
    settings: Hyperparameters = DEFAULTS,
) -> dict[str, Any]:
    """LightGBM's parameters for trees fitted to so many rows."""
    return {
        **settings.lightgbm(),
        "min_data_in_leaf": settings.leaf_size(rows),
        "monotone_constraints": list(monotone),
        "seed": seed,
        "num_threads": num_threads,
    }


@dataclass(frozen=True, slots=True)
class TreePart:
    """Boosters that read the same columns; their scores are averaged.

    Attributes
    ----------
    boosters:
        One of each seed.
    columns:
        Positions of their columns among the columns of the model.
    share:
        Weight of the mean score in the model's.
    """

    boosters: tuple[lightgbm.Booster, ...]
    columns: tuple[int, ...]
    share: float

    def raw_score(self, X: Floats) -> Floats:
        """Weighted mean score by LightGBM itself of rows with all columns, shape (N, F)."""
        x = np.ascontiguousarray(X[:, self.columns])
        score = np.zeros(len(x))
        for booster in self.boosters:
            score += np.asarray(booster.predict(x, raw_score=True))
        return self.share / len(self.boosters) * score


@dataclass(frozen=True, slots=True)
class LearningCurve:
    """Loss of prior and trees fitted on the fit block after some numbers of trees.

    Weighted mean of the log loss that the trees minimise, ``log(1 + exp(s)) - y s`` of the score s
    before calibration. One booster of each part takes part.

    Attributes
    ----------
    rounds:
        Numbers of trees, rising from 0, which is the prior alone; at most `CURVE_STEPS` + 1.
    train, validation:
        Loss on the rows of the fit and of the calibrate block.
    """

    rounds: tuple[int, ...]
    train: tuple[float, ...]
    validation: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Trees of one horizon.

    Attributes
    ----------
    parts:
        The small trees and, at long horizons, those on every column; empty where the prior alone
        is the model.
    rounds:
        Trees of one seed in each part; 0 without trees.
    prior_loss, tree_loss:
        Weighted log loss on the calibrate block without and with the trees fitted on the fit
        block, each after its own Platt line.
    curve:
        Of the trees fitted on the fit block.
    """

    parts: tuple[TreePart, ...]
    rounds: int
    prior_loss: float
    tree_loss: float
    curve: LearningCurve

    def raw_score(self, X: Floats) -> Floats:
        """Score of all parts by LightGBM itself, prior excluded, shape (N,)."""
        score = np.zeros(len(X))
        for part in self.parts:
            score += part.raw_score(X)
        return score

    def table(self, n_features: int) -> TreeTable:
        """All trees with scaled leaves, which add up to `raw_score` (1e-12)."""
        tables = [
            _scaled(trees_from_booster(b, len(p.columns)), p.columns, p.share / len(p.boosters))
            for p in self.parts
            for b in p.boosters
        ]
        return _joined(tables, n_features)


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """What the trees of one horizon are fitted to; shapes (N,) over the binned rows.

    Attributes
    ----------
    part:
        Name of the part of `BinnedRows` to fit to.
    labels, weight:
        Outcomes and weights.
    start:
        Scores that the trees correct.
    """

    part: str
    labels: npt.NDArray[np.int8]
    weight: Floats
    start: Floats


@dataclass(frozen=True, slots=True)
class ColumnSet:
    """The binned rows of one set of columns.

    Attributes
    ----------
    binned:
        The rows.
    columns:
        Positions among the columns of the model.
    monotone:
        Constraint of each column.
    seeds:
        One booster is trained for each.
    settings:
        Of the fit.
    """

    binned: BinnedRows
    columns: tuple[int, ...]
    monotone: tuple[int, ...]
    seeds: tuple[int, ...]
    settings: Hyperparameters = DEFAULTS

    def fit(
        self, rows: TrainingRows, rounds: int, num_threads: int, seeds: int | None = None
    ) -> tuple[lightgbm.Booster, ...]:
        """Fit the boosters of all seeds, or of the first few.

        References
        ----------
        Ke et al., LightGBM, NeurIPS 30 (2017); Friedman, Annals of Statistics 29 (2001) 1189-1232.
        """
        size = self.binned.size(rows.part)
        return tuple(
            self.binned.train(
                rows.part,
                rows.labels,
                rows.weight,
                tree_parameters(size, self.monotone, seed, num_threads, self.settings),
                rounds,
                start=rows.start,
            )
            for seed in self.seeds[:seeds]
        )


def learning_curve(
    sets: Sequence[ColumnSet],
    boosters: Sequence[lightgbm.Booster],
    shares: Sequence[float],
    rows: TrainingRows,
    parts: tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]],
    rounds: int,
) -> LearningCurve:
    """Loss of boosters of so many rounds by the number of their trees.

    Parameters
    ----------
    sets, boosters, shares:
        Columns, booster and share in the score of each part of the model.
    rows:
        What the boosters were fitted to.
    parts:
        Places of the rows of the fit and of the calibrate block.
    """
    steps = np.unique(np.linspace(0, rounds, min(rounds, CURVE_STEPS) + 1).round().astype(int))
    trees = [int(step) for step in steps[1:]]

    def losses(part: npt.NDArray[np.intp]) -> tuple[float, ...]:
        total, begin = np.zeros(len(steps)), 0
        staged = (
            one.binned.staged_scores(booster, part, trees)
            for one, booster in zip(sets, boosters, strict=True)
        )
        for batch in zip(*staged, strict=True):
            places = part[begin : begin + len(batch[0])]
            begin += len(places)
            score = np.repeat(rows.start[places, None], len(steps), axis=1)
            for share, scores in zip(shares, batch, strict=True):
                score[:, 1:] += share * scores
            loss = np.logaddexp(0.0, score) - rows.labels[places, None] * score
            total += rows.weight[places] @ loss
        return tuple(float(value) for value in total / rows.weight[part].sum())

    fit, calibrate = parts
    return LearningCurve((0, *trees), losses(fit), losses(calibrate))


def _scaled(table: TreeTable, columns: Sequence[int], share: float) -> TreeTable:
    """The table with its leaves times `share` on the model's columns, its width not yet set."""
    place = np.array([*columns, -1], dtype=np.int32)
    return TreeTable(
        n_features=max(columns) + 1,
        tree_start=table.tree_start,
        feature=place[table.feature],  # −1, a leaf, is the last entry
        threshold=table.threshold,
        left=table.left,
        right=table.right,
        default_left=table.default_left,
        value=share * table.value,
    )


def _joined(tables: Sequence[TreeTable], n_features: int) -> TreeTable:
    if not tables:
        return TreeTable.empty(n_features)
    first = np.cumsum([0, *(len(table.feature) for table in tables)])

    def links(name: str) -> npt.NDArray[np.int32]:
        moved = [
            np.where(getattr(table, name) < 0, -1, getattr(table, name) + begin)
            for table, begin in zip(tables, first, strict=False)
        ]
        return np.concatenate(moved).astype(np.int32)

    starts = [table.tree_start[:-1] + begin for table, begin in zip(tables, first, strict=False)]
    return TreeTable(
        n_features=n_features,
        tree_start=np.concatenate([*starts, first[-1:]]).astype(np.int64),
        feature=np.concatenate([table.feature for table in tables]),
        threshold=np.concatenate([table.threshold for table in tables]),
        left=links("left"),
        right=links("right"),
        default_left=np.concatenate([table.default_left for table in tables]),
        value=np.concatenate([table.value for table in tables]),
    )
