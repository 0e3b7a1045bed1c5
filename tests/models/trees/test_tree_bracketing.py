"""The guess of a level: near the graph's own answer on real trees, and never more than a guess."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt
import pytest

from features.account.aggregates import (
    FIRST_VOLATILITY,
    GROSS,
    HEADROOM,
    HERFINDAHL,
    MAINTENANCE,
    MARKET_CORRELATION,
    PRIOR_VOLATILITY,
)
from features.account.frame import AGGREGATES, compute_features, set_headroom
from features.identity import digests_of
from features.registry import (
    ACCOUNT_COLUMNS,
    ACCOUNT_FEATURES,
    HORIZONS,
    VOLATILITIES,
    prior_column,
)
from margin.add_on.bounds import ModelLevel
from margin.add_on.solver import RELATIVE_PRECISION, required_level
from models.bundle.bundle import Bundle, bundle_files, load_bundle, write_bundle
from models.bundle.manifest import TrainingRecord
from models.bundle.schema import ModelSchema
from models.forecaster import Forecaster
from models.onnx.export import export
from models.trees.lightgbm_trees import trees_from_booster
from models.trees.tree_bracketing import LevelGuesser
from models.trees.tree_table import TreeTable

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

P_STAR = {1: 0.002, 8: 0.01, 24: 0.02}
SCHEMA = ModelSchema.of_columns(
    ACCOUNT_COLUMNS,
    tuple(feature.monotone for feature in ACCOUNT_FEATURES),
    HORIZONS,
    tuple(prior_column(hours) for hours in HORIZONS),
    digests_of(ACCOUNT_COLUMNS),
)
CALIBRATION = {1: (0.9, 0.1), 8: (1.0, 0.0), 24: (1.1, -0.1)}
PARAMETERS: dict[str, Any] = {
    "objective": "binary",
    "num_leaves": 15,
    "learning_rate": 0.1,
    "boost_from_average": False,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbosity": -1,
    "monotone_constraints": list(SCHEMA.monotone),
}


def accounts(n: int, seed: int = 5) -> Floats:
    """Moments of plausible accounts with an hourly volatility of 1 to 3 per cent of notional."""
    rng = np.random.default_rng(seed)
    found = rng.uniform(0.01, 0.5, (n, AGGREGATES))
    found[:, GROSS] = rng.lognormal(9.0, 2.0, n)
    found[:, MAINTENANCE] = 0.02 * found[:, GROSS]
    volatilities = slice(PRIOR_VOLATILITY, FIRST_VOLATILITY + len(VOLATILITIES))
    width = found[:, volatilities].shape[1]
    found[:, volatilities] = found[:, [GROSS]] * rng.uniform(0.01, 0.03, (n, width))
    found[:, HEADROOM] = 0.1 * found[:, GROSS]
    return found


def grown(trees: int) -> dict[int, TreeTable]:
    """Monotone trees that correct the prior by every column."""
    rng = np.random.default_rng(3)
    aggregates = accounts(6_000, seed=4)
    sigma = aggregates[:, PRIOR_VOLATILITY]
    aggregates[:, HEADROOM] = sigma * np.exp(rng.uniform(-1.0, 3.5, len(sigma)))
    X = compute_features(aggregates, ACCOUNT_COLUMNS)
    tables = {}
    for hours, column in zip(HORIZONS, SCHEMA.prior_columns(), strict=True):
        score = 0.7 * X[:, column] + 4.0 * (aggregates[:, HERFINDAHL] - 0.25)
        y = (score + rng.logistic(size=len(X)) > 0.0).astype(np.float64)
        data = lightgbm.Dataset(X, y, init_score=X[:, column].copy())
        booster = lightgbm.train(PARAMETERS, data, trees)
        tables[hours] = trees_from_booster(booster, len(ACCOUNT_COLUMNS))
    return tables


def made(folder: Path, trees: Mapping[int, TreeTable]) -> Bundle:
    files = bundle_files(
        model=export(SCHEMA, trees, CALIBRATION),
        schema=SCHEMA,
        trees=trees,
        calibration=CALIBRATION,
        record=TrainingRecord("1" * 64, "2" * 64, {}),
    )
    return load_bundle(folder / write_bundle(folder, files))


@pytest.fixture(scope="module")
def trees() -> dict[int, TreeTable]:
    return grown(60)


@pytest.fixture(scope="module")
def forecaster(trees: dict[int, TreeTable], tmp_path_factory: pytest.TempPathFactory) -> Forecaster:
    return Forecaster(made(tmp_path_factory.mktemp("bundles"), trees))


def halved(
    forecaster: Forecaster, aggregates: Floats, upper: Floats, p_star: Mapping[int, float]
) -> ModelLevel:
    """The same search on the graph alone, by halving."""
    columns = forecaster.features(aggregates)

    def probability(level: Floats, rows: Ints) -> Floats:
        asked = columns[rows]
        set_headroom(aggregates[rows], asked, ACCOUNT_COLUMNS, level)
        return forecaster.probability(asked)

    return required_level(probability, upper, p_star, HORIZONS)


def assert_same(found: ModelLevel, other: ModelLevel, upper: Floats) -> None:
    one, two = found.by_horizon, other.by_horizon
    np.testing.assert_array_equal(np.isfinite(one), np.isfinite(two))
    finite = np.isfinite(one)
    apart = np.abs(np.where(finite, one, 0.0) - np.where(finite, two, 0.0))
    assert (apart <= RELATIVE_PRECISION * upper[:, None]).all()


def test_guided_search_finds_what_halving_finds_on_real_trees(forecaster: Forecaster) -> None:
    aggregates = accounts(300)
    upper = aggregates[:, GROSS] * np.random.default_rng(1).uniform(0.01, 0.4, 300)
    found = forecaster.required_level(aggregates, upper, P_STAR)
    assert 0.1 < np.isinf(found.level).mean() < 0.9
    assert_same(found, halved(forecaster, aggregates, upper, P_STAR), upper)


def test_two_questions_a_horizon_are_enough(
    forecaster: Forecaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    answer = Forecaster.probability

    def counting(self: Forecaster, features: Floats) -> Floats:
        nonlocal asked
        asked += len(features)
        return answer(self, features)

    monkeypatch.setattr(Forecaster, "probability", counting)
    aggregates = accounts(300)
    forecaster.required_level(aggregates, aggregates[:, GROSS], P_STAR)
    assert asked <= 6 * 300


def test_guess_of_an_account_alone_is_that_in_a_book(trees: dict[int, TreeTable]) -> None:
    guesser = LevelGuesser(SCHEMA, trees, CALIBRATION)
    aggregates = accounts(40)
    columns, upper = compute_features(aggregates, ACCOUNT_COLUMNS), 0.3 * aggregates[:, GROSS]
    whole = guesser.levels(aggregates, columns, upper, P_STAR)
    for i in range(40):
        one = slice(i, i + 1)
        alone = guesser.levels(aggregates[one], columns[one], upper[one], P_STAR)
        np.testing.assert_array_equal(alone[0], whole[i])


def test_level_of_an_account_does_not_depend_on_where_its_block_ends(
    forecaster: Forecaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    aggregates = accounts(50)
    upper = 0.2 * aggregates[:, GROSS]
    whole = forecaster.required_level(aggregates, upper, P_STAR)
    monkeypatch.setattr("models.forecaster._BLOCK", 7)
    parts = forecaster.required_level(aggregates, upper, P_STAR)
    np.testing.assert_array_equal(parts.by_horizon, whole.by_horizon)
    none = forecaster.required_level(aggregates[:0], upper[:0], P_STAR)
    assert none.by_horizon.shape == (0, 3)


def test_earlier_horizon_that_needs_more_sets_the_level(tmp_path: Path) -> None:
    alarm = TreeTable(
        len(ACCOUNT_COLUMNS),
        np.array([0, 1]),
        np.array([-1], np.int32),
        np.zeros(1),
        np.array([-1], np.int32),
        np.array([-1], np.int32),
        np.zeros(1, np.bool_),
        np.array([4.0]),
    )
    nothing = TreeTable.empty(len(ACCOUNT_COLUMNS))
    forecaster = Forecaster(made(tmp_path, {1: alarm, 8: nothing, 24: nothing}))
    aggregates = accounts(60)
    upper = 2.0 * aggregates[:, GROSS]
    for p_star in (P_STAR, {24: 0.02}, {8: 0.01, 24: 0.5}):
        found = forecaster.required_level(aggregates, upper, p_star)
        assert np.isfinite(found.level).all()
        assert_same(found, halved(forecaster, aggregates, upper, p_star), upper)
        columns = forecaster.features(aggregates)
        guess = LevelGuesser(SCHEMA, {1: alarm, 8: nothing, 24: nothing}, CALIBRATION).levels(
            aggregates, columns, upper, p_star
        )
        apart = np.abs(guess - found.by_horizon)
        assert (apart <= RELATIVE_PRECISION * upper[:, None]).all()


def test_missing_columns_are_followed_and_a_missing_prior_gives_no_guess(
    forecaster: Forecaster, trees: dict[int, TreeTable]
) -> None:
    aggregates = accounts(30)
    aggregates[::3, MARKET_CORRELATION] = np.nan
    aggregates[1::3, FIRST_VOLATILITY + 1] = np.nan
    upper = 0.3 * aggregates[:, GROSS]
    found = forecaster.required_level(aggregates, upper, P_STAR)
    assert not np.isnan(found.level).any()
    assert_same(found, halved(forecaster, aggregates, upper, P_STAR), upper)
    aggregates[4, PRIOR_VOLATILITY] = np.nan
    columns = compute_features(aggregates, ACCOUNT_COLUMNS)
    upper[5] = np.nan
    guess = LevelGuesser(SCHEMA, trees, CALIBRATION).levels(aggregates, columns, upper, P_STAR)
    assert np.flatnonzero(np.isnan(guess).all(axis=1)).tolist() == [4, 5]
    level = forecaster.required_level(aggregates, upper, P_STAR).level
    assert np.flatnonzero(np.isnan(level)).tolist() == [4, 5]


def test_certain_and_impossible_tolerances_end_at_the_ends(trees: dict[int, TreeTable]) -> None:
    guesser = LevelGuesser(SCHEMA, trees, CALIBRATION)
    aggregates = accounts(5)
    columns, upper = compute_features(aggregates, ACCOUNT_COLUMNS), 0.3 * aggregates[:, GROSS]
    assert (guesser.levels(aggregates, columns, upper, {8: 1.0}) == 0.0).all()
    np.testing.assert_array_equal(guesser.levels(aggregates, columns, upper, {8: 0.0})[:, 0], upper)


@pytest.mark.parametrize("wrong", [0.0, 0.5, 2.0, np.nan, np.inf])
def test_wrong_guess_changes_no_level_by_more_than_the_precision(
    forecaster: Forecaster, monkeypatch: pytest.MonkeyPatch, wrong: float
) -> None:
    aggregates = accounts(20)
    upper = 0.3 * aggregates[:, GROSS]
    right = forecaster.required_level(aggregates, upper, P_STAR)
    levels = LevelGuesser.levels
    monkeypatch.setattr(LevelGuesser, "levels", lambda *args: levels(*args) * wrong)
    found = forecaster.required_level(aggregates, upper, P_STAR)
    assert_same(found, right, upper)
    finite = np.isfinite(found.level)
    columns = forecaster.features(aggregates)
    set_headroom(aggregates, columns, ACCOUNT_COLUMNS, np.where(finite, found.level, 0.0))
    limits = np.array([P_STAR[hours] for hours in HORIZONS])
    assert (forecaster.probability(columns)[finite] <= limits).all()


# --- the same search, one tree and one column after the other -------------------------------------


class _Plain:
    """The search of one account and ensemble, a row at a time and a tree at a time."""

    def __init__(self, aggregates: Floats, columns: Floats, table: TreeTable, prior: int) -> None:
        self._account, self._table, self._prior = (aggregates, columns), table, prior
        self._open, self._settled = table.tree_start[:-1].tolist(), 0.0

    def row(self, level: float) -> Floats:
        aggregates, columns = (one[None].copy() for one in self._account)
        set_headroom(aggregates, columns, ACCOUNT_COLUMNS, np.array([level]))
        moved: Floats = columns[0]
        return moved

    def _next(self, at: int, row: Floats) -> int:
        table, x = self._table, row[self._table.feature[at]]
        left = bool(table.default_left[at]) if np.isnan(x) else bool(x <= table.threshold[at])
        return int(table.left[at] if left else table.right[at])

    def score(self, low: Floats, high: Floats, row: Floats) -> float:
        total, still = 0.0, []
        for at in self._open:
            while self._table.feature[at] >= 0 and self._next(at, low) == self._next(at, high):
                at = self._next(at, low)
            if self._table.feature[at] < 0:
                self._settled += float(self._table.value[at])
                continue
            still.append(at)
            while self._table.feature[at] >= 0:
                at = self._next(at, row)
            total += float(self._table.value[at])
        self._open = still
        return total + self._settled + float(row[self._prior])

    def root(self, limit: float, upper: float) -> float:
        low, high = self.row(0.0), self.row(upper)
        f1 = self.score(low, high, high) - limit
        f2 = self.score(low, high, low) - limit
        if f2 <= 0.0 or not f1 <= 0.0:
            return 0.0 if f2 <= 0.0 else upper
        guess, part = upper, 0.5
        x1, x2 = upper, 0.0
        for _ in range(128):
            x = x1 + part * (x2 - x1)
            row = self.row(x)
            f = self.score(low, high, row) - limit
            if (f > 0.0) == (f1 > 0.0):
                x3, f3 = x1, f1
            else:
                x3, f3, x2, f2 = x2, f2, x1, f1
            x1, f1 = x, f
            low, high, guess = (row, high, guess) if f > 0.0 else (low, row, x)
            least = 0.5 * 0.25 * RELATIVE_PRECISION * upper / abs(x2 - x1)
            if not least < 0.5:
                break
            xi, phi = (x1 - x2) / (x3 - x2), (f1 - f2) / (f3 - f2)
            share = 0.5
            if phi * phi < xi and (1.0 - phi) * (1.0 - phi) < 1.0 - xi:
                share = f1 / (f2 - f1) * f3 / (f2 - f3)
                share += (x3 - x1) / (x2 - x1) * f1 / (f3 - f1) * f2 / (f3 - f2)
            part = min(max(share, least), 1.0 - least)
        return guess


def test_guess_has_the_bits_of_the_search_tree_by_tree(trees: dict[int, TreeTable]) -> None:
    aggregates = accounts(25)
    aggregates[::4, MARKET_CORRELATION] = np.nan
    columns = compute_features(aggregates, ACCOUNT_COLUMNS)
    upper = aggregates[:, GROSS] * np.random.default_rng(2).uniform(0.01, 0.4, 25)
    found = LevelGuesser(SCHEMA, trees, CALIBRATION).levels(aggregates, columns, upper, P_STAR)
    assert 0.1 < (found == upper[:, None]).mean() < 0.9
    for i in range(25):
        for t, own in enumerate(HORIZONS):
            levels = []
            for hours in HORIZONS[: t + 1]:
                slope, intercept = CALIBRATION[hours]
                odds = float(np.log(P_STAR[own]) - np.log1p(-P_STAR[own]))
                prior = SCHEMA.prior_columns()[HORIZONS.index(hours)]
                search = _Plain(aggregates[i], columns[i], trees[hours], prior)
                levels.append(search.root((odds - intercept) / slope - 1e-11, float(upper[i])))
            # An earlier horizon is searched where it may need more; there it decides.
            assert found[i, t] in levels
            assert found[i, t] >= levels[-1]
