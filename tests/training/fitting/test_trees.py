"""Trees on top of a score, on small made-up markets: constraints, blends, weights, tables."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import lightgbm
import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import expit

from training.fitting.binned_rows import BinnedRows
from training.fitting.hyperparameters import DEFAULTS
from training.fitting.trees import (
    CURVE_STEPS,
    ColumnSet,
    Ensemble,
    LearningCurve,
    TrainingRows,
    TreePart,
    learning_curve,
    tree_parameters,
)
from training.labels.dataset import Dataset

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int8]

COLUMNS = ("distance_fast", "distance_slow", "net_share", "noise")
MONOTONE = (-1, -1, 0, 0)
ROWS = 12_000


def sample(skill: float = 4.0, seed: int = 0) -> tuple[Floats, Floats, Labels]:
    """Features, the score to correct, and outcomes that distances explain beyond it."""
    rng = np.random.default_rng(seed)
    start = rng.normal(-1.5, 1.0, ROWS)
    distance = rng.exponential(2.0, (ROWS, 2))
    share, noise = rng.uniform(-1.0, 1.0, ROWS), rng.normal(size=ROWS)
    effect = skill * (np.exp(-distance[:, 0]) - 0.33 + 0.3 * share)
    labels = (rng.random(ROWS) < expit(start + effect)).astype(np.int8)
    return np.column_stack([distance, share, noise]), start, labels


def binned(features: Floats, names: tuple[str, ...] = COLUMNS) -> BinnedRows:
    data = cast(Dataset, SimpleNamespace(features=features))
    rows = BinnedRows(
        data, np.arange(len(features)), {n: COLUMNS.index(n) for n in names}, DEFAULTS.lightgbm()
    )
    rows.add_part("all", np.arange(len(features)))
    rows.add_part("early", np.arange(len(features) * 3 // 4))
    return rows


def column_set(features: Floats, columns: tuple[int, ...], seeds: tuple[int, ...]) -> ColumnSet:
    names = tuple(COLUMNS[i] for i in columns)
    return ColumnSet(binned(features, names), columns, tuple(MONOTONE[i] for i in columns), seeds)


def fit(
    *, seeds: tuple[int, ...] = (1,), part: str = "all", threads: int = 1, weight: Any = None
) -> TreePart:
    features, start, labels = sample()
    ones = np.ones(ROWS) if weight is None else weight
    one = column_set(features, (0, 1, 2, 3), seeds)
    boosters = one.fit(TrainingRows(part, labels, ones, start), 20, threads)
    return TreePart(boosters, one.columns, 1.0)


def ensemble(*parts: TreePart) -> Ensemble:
    return Ensemble(parts, 20, 1.0, 0.9, LearningCurve((0,), (1.0,), (1.0,)))


def test_skill_is_found() -> None:
    features, start, labels = sample()
    corrected = expit(start + fit().raw_score(features))
    before, after = (
        -np.where(labels, np.log(p), np.log1p(-p)).mean() for p in (expit(start), corrected)
    )
    assert after < 0.97 * before


def test_same_rows_and_seed_give_the_same_trees_with_any_number_of_threads() -> None:
    texts = [fit(threads=n).boosters[0].model_to_string() for n in (1, 1, 2)]
    trees = [text.split("\nparameters:")[0] for text in texts]
    assert trees[0] == trees[1] == trees[2]
    assert fit(seeds=(2,)).boosters[0].model_to_string().split("\nparameters:")[0] != trees[0]


def test_labels_outside_the_part_do_not_matter() -> None:
    features, start, labels = sample()
    late = np.arange(ROWS) >= ROWS * 3 // 4
    one = column_set(features, (0, 1, 2, 3), (1,))
    texts = [
        one.fit(TrainingRows("early", y, np.ones(ROWS), start), 10, 1)[0].model_to_string()
        for y in (labels, np.where(late, 1 - labels, labels).astype(np.int8))
    ]
    assert texts[0] == texts[1]


def test_weights_move_the_trees_to_the_rows_that_have_them() -> None:
    features, start, labels = sample()
    rng = np.random.default_rng(5)
    flipped = rng.random(ROWS) < 0.5
    noisy = np.where(flipped, 1 - labels, labels).astype(np.int8)
    one = column_set(features, (0, 1, 2, 3), (1,))
    light = np.where(flipped, 1e-3, 1.0)
    boosters = one.fit(TrainingRows("all", noisy, light, start), 20, 1)
    clean = fit().raw_score(features)
    weighted = TreePart(boosters, one.columns, 1.0).raw_score(features)
    assert np.corrcoef(clean, weighted)[0, 1] > 0.9


def test_more_distance_never_raises_the_score() -> None:
    part = fit(seeds=(1, 2))
    table = ensemble(part).table(len(COLUMNS))
    base = sample()[0][::211]
    for column, sign in enumerate(MONOTONE):
        sweep = np.linspace(base[:, column].min() - 1.0, base[:, column].max() + 1.0, 120)
        X = np.repeat(base, len(sweep), axis=0)
        X[:, column] = np.tile(sweep, len(base))
        score = table.raw_score(X).reshape(len(base), -1)
        if sign:
            assert (sign * np.diff(score, axis=1) >= 0.0).all(), COLUMNS[column]
    assert part.boosters[0].feature_importance()[0] > 0


def test_table_of_a_blend_scores_as_the_boosters_do() -> None:
    """Also one ulp beside every threshold, and with missing values."""
    features, start, labels = sample()
    rows = TrainingRows("all", labels, np.ones(ROWS), start)
    small, wide = column_set(features, (2, 0), (1, 2)), column_set(features, (0, 1, 2, 3), (1,))
    blend = ensemble(
        TreePart(small.fit(rows, 15, 1), small.columns, 2.0 / 3.0),
        TreePart(wide.fit(rows, 15, 1), wide.columns, 1.0 / 3.0),
    )
    table = blend.table(len(COLUMNS))
    assert table.n_trees == 45
    rng = np.random.default_rng(9)
    X = features[:3_000].copy()
    for column in range(len(COLUMNS)):
        thresholds = table.threshold[table.feature == column]
        if len(thresholds):
            at = rng.choice(thresholds, len(X))
            X[:, column] = np.nextafter(at, rng.choice([-np.inf, np.inf], len(X)))
    X[::7, 3] = np.nan
    np.testing.assert_allclose(table.raw_score(X), blend.raw_score(X), rtol=0.0, atol=1e-12)


def test_no_parts_are_an_empty_table_of_the_models_width() -> None:
    table = ensemble().table(5)
    assert table.n_trees == 0
    assert table.n_features == 5
    np.testing.assert_array_equal(ensemble().raw_score(np.ones((3, 5))), np.zeros(3))


def test_search_stops_where_the_loss_on_the_other_part_is_least() -> None:
    features, start, labels = sample(skill=0.0)
    rows = binned(features)
    rows.add_part("late", np.arange(ROWS * 3 // 4, ROWS))
    parameters = tree_parameters(ROWS, MONOTONE, 1, 1)
    booster = rows.train(
        "early", labels, np.ones(ROWS), parameters, 200, start=start, stop_on=("late", 5)
    )
    assert booster.best_iteration < 60
    late = slice(ROWS * 3 // 4, ROWS)
    x = features[late]
    raw = np.asarray(booster.predict(x, raw_score=True, num_iteration=booster.best_iteration))
    p = expit(start[late] + raw)
    loss = -np.where(labels[late], np.log(p), np.log1p(-p)).mean()
    assert booster.best_score["valid_0"]["binary_logloss"] == pytest.approx(loss, rel=1e-6)


@pytest.mark.parametrize(("hours", "rounds"), [(1, 80), (8, 60), (24, 45), (96, 45), (3, 69)])
def test_rounds_fall_with_the_horizon(hours: int, rounds: int) -> None:
    assert DEFAULTS.rounds(hours) == rounds


@pytest.mark.parametrize(("rows", "least"), [(3_000_000, 2000), (40_000, 400), (900, 50)])
def test_leaves_shrink_with_the_rows(rows: int, least: int) -> None:
    assert tree_parameters(rows, MONOTONE, 1, 1)["min_data_in_leaf"] == least


def test_learning_curve_starts_at_lightgbms_loss_and_follows_shorter_trainings() -> None:
    features, start, labels = sample()
    weight = np.random.default_rng(5).uniform(0.5, 2.0, ROWS)
    fit, held = np.arange(ROWS * 3 // 4), np.arange(ROWS * 3 // 4, ROWS)
    one = column_set(features, (0, 1, 2, 3), (1,))
    rows = TrainingRows("early", labels, weight, start)
    boosters = one.fit(rows, 60, 1)
    curve = learning_curve([one], boosters, (1.0,), rows, (fit, held), 60)

    reported: dict[str, Any] = {}
    parts = [
        lightgbm.Dataset(features[part], labels[part], weight=weight[part], init_score=start[part])
        for part in (fit, held)
    ]
    lightgbm.train(
        tree_parameters(len(fit), MONOTONE, 1, 1) | {"learning_rate": 1e-9},
        parts[0],
        1,
        valid_sets=parts,
        valid_names=["fit", "held"],
        callbacks=[lightgbm.record_evaluation(reported)],
    )
    for name, losses in (("fit", curve.train), ("held", curve.validation)):
        assert losses[0] == pytest.approx(reported[name]["binary_logloss"][0], rel=1e-6)
    assert curve.rounds[0] == 0
    assert curve.rounds[-1] == 60
    assert len(curve.rounds) == CURVE_STEPS + 1
    for place in (7, 40):  # shorter training gives the same first trees
        shorter = one.fit(rows, curve.rounds[place], 1)
        score = start + one.binned.raw_score(shorter, np.arange(ROWS))
        loss = -np.log(np.where(labels == 1, expit(score), expit(-score)))
        for part, losses in ((fit, curve.train), (held, curve.validation)):
            expected = np.average(loss[part], weights=weight[part])
            assert losses[place] == pytest.approx(expected, rel=1e-12)
    assert curve.train[-1] < curve.train[0]
    assert curve.validation[-1] < curve.validation[0]
