"""Plain LightGBM: rounds from the calibrate rows, trees from both blocks, weights."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import expit

from market.core.errors import ModelError
from models.trees.tree_table import trees_sha256
from training.fitting.binned_rows import BinnedRows
from training.fitting.learning_rows import LearningRows
from training.fitting.plain import ALL, CALIBRATE, FIT, PLAIN_PARAMETERS, fit_plain
from training.labels.dataset import Dataset
from training.labels.splits import Block

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int8]
ROWS = 4_000


def sample(seed: int = 0) -> tuple[Floats, Labels]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(ROWS, 3))
    return x, (rng.random(ROWS) < expit(2.0 * x[:, 0] + x[:, 1] ** 2 - 2.0)).astype(np.int8)


def fitted(x: Floats, y: Labels, weight: Floats | None = None, seed: int = 1) -> str:
    table = fit_plain(
        binned(x), y, np.ones(ROWS) if weight is None else weight, seed=seed, num_threads=1
    )
    return trees_sha256(table)


def binned(x: Floats) -> BinnedRows:
    data = cast(Dataset, SimpleNamespace(features=x))
    columns = {"a": 0, "b": 1, "c": 2}
    rows = BinnedRows(data, np.arange(ROWS), columns, PLAIN_PARAMETERS)
    for name, part in ((FIT, (0, 3000)), (CALIBRATE, (3000, ROWS)), (ALL, (0, ROWS))):
        rows.add_part(name, np.arange(*part))
    return rows


def test_it_learns_what_there_is() -> None:
    x, y = sample()
    unseen, outcome = sample(1)
    table = fit_plain(binned(x), y, np.ones(ROWS), seed=1, num_threads=1)
    p = expit(table.raw_score(unseen))
    loss = -np.where(outcome, np.log(p), np.log1p(-p)).mean()
    base = outcome.mean()
    assert loss < 0.85 * -(base * np.log(base) + (1 - base) * np.log(1 - base))
    assert p.mean() == pytest.approx(base, rel=0.1)


def test_same_rows_and_seed_give_the_same_trees() -> None:
    x, y = sample()
    assert fitted(x, y) == fitted(x, y) != fitted(x, y, seed=2)


def test_the_last_trees_see_the_calibrate_rows() -> None:
    x, y = sample()
    late = np.arange(ROWS) >= 3000
    assert fitted(x, np.where(late, 1 - y, y).astype(np.int8)) != fitted(x, y)


def test_weights_reach_the_trees() -> None:
    x, y = sample()
    assert fitted(x, y, np.random.default_rng(3).uniform(1.0, 9.0, ROWS)) != fitted(x, y)


def test_learning_rows_are_the_weighted_rows_of_both_blocks() -> None:
    block = np.repeat([Block.FIT, Block.PURGED, Block.CALIBRATE, Block.TEST], 5).astype(np.int8)
    weight = np.tile([1.0, 0.0, 2.0, 3.0, 1.0], 4)
    labels = np.tile([1, 1, 0, 0, 1], 4).astype(np.int8)[:, None]
    data = cast(Dataset, SimpleNamespace(weight=weight, labels=labels, horizons=(8,)))
    rows = LearningRows.of_block(data, block)
    np.testing.assert_array_equal(rows.rows, [0, 2, 3, 4, 10, 12, 13, 14])
    np.testing.assert_array_equal(rows.fit, [0, 1, 2, 3])
    np.testing.assert_array_equal(rows.calibrate, [4, 5, 6, 7])
    np.testing.assert_array_equal(rows.weight, [1, 2, 3, 1, 1, 2, 3, 1])
    np.testing.assert_array_equal(rows.labels(8), [1, 0, 0, 1, 1, 0, 0, 1])
    labels[10:15] = 0
    with pytest.raises(ModelError, match="the calibrate block has 0 breaches within 8 h"):
        rows.labels(8)
