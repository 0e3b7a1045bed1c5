"""The search for hyperparameters: which rows it reads, when its best trial is used, repetition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest

from market.core.clock import HOUR, parse_time
from market.core.errors import ModelError
from training.fitting.hyperparameters import Hyperparameters
from training.labels.dataset import Dataset
from training.labels.splits import Block, purged_split
from training.tuning.fold_losses import cut_search_folds
from training.tuning.search import SearchPlan, SearchResult, Space, search_hyperparameters

FEW = {1: 12, 8: 12}
POOR = Hyperparameters(learning_rate=0.002, num_iterations=FEW)
GOOD = Hyperparameters(learning_rate=0.2, num_iterations=FEW)
SPACES = {"learning_rate": Space(0.001, 0.25, log=True), "num_leaves": Space(0, 0, choices=(3, 7))}
PLAN = SearchPlan(SPACES, trials=4, timeout_seconds=0.0, seed=2, folds=2)


def split(data: Dataset) -> npt.NDArray[np.int8]:
    first, last = int(data.time[0]), int(data.time[-1])
    fit_end, calibrate_end = (first + (last - first) * k // 10 for k in (6, 8))
    return purged_split(data.time, 8, fit_end, calibrate_end, last + 10**15)


@pytest.fixture(scope="module")
def market(make_dataset: Callable[..., Dataset]) -> Dataset:
    return make_dataset(days=40, per_hour=4)


@pytest.fixture(scope="module")
def found(market: Dataset) -> SearchResult:
    return search_hyperparameters(market, split(market), POOR, PLAN, 1)


def outcome(result: SearchResult) -> object:
    return result.settings, result.record, [(t.values, t.losses) for t in result.trials]


def test_best_trial_is_used_where_it_beats_poor_settings(found: SearchResult) -> None:
    assert found.used is found.record["used"] is True
    assert found.record["skill_ci95"][0] > 0.0
    best = found.trials[found.record["best"]]
    assert best.relative == min(trial.relative or 9.0 for trial in found.trials)
    assert found.settings == replace(POOR, **best.values)
    assert found.settings.learning_rate > POOR.learning_rate


def test_same_search_finds_the_same_and_rows_of_the_test_block_are_never_read(
    market: Dataset, found: SearchResult
) -> None:
    block = split(market)
    test = (block != Block.FIT) & (block != Block.CALIBRATE)
    assert test.sum() > 500
    spoiled = market.take(np.arange(len(market)))
    spoiled.features[test] = np.nan
    spoiled.labels[test] = 1 - spoiled.labels[test]
    spoiled.weight[test] = np.nan
    again = search_hyperparameters(spoiled, block, POOR, PLAN, 2)
    assert outcome(again) == outcome(found)


def test_defaults_stay_where_no_trial_beats_them_on_the_last_fold(market: Dataset) -> None:
    worse = {"learning_rate": Space(0.001, 0.002)}
    result = search_hyperparameters(market, split(market), GOOD, replace(PLAN, spaces=worse), 1)
    assert not result.used
    assert result.settings == GOOD
    assert "the configured values, which stay" in result.record["reason"]
    near = {"lambda_l2": Space(9.99, 10.01)}
    result = search_hyperparameters(market, split(market), GOOD, replace(PLAN, spaces=near), 1)
    assert not result.used
    assert result.settings == GOOD


def test_folds_are_purged_and_in_order(market: Dataset) -> None:
    folds = cut_search_folds(market, split(market), 3, POOR)
    hours = market.horizons[-1]
    ends = []
    for fold in folds:
        time = fold.rows.data.time[fold.rows.rows]
        assert time[fold.rows.fit].max() + hours * HOUR <= fold.span[0]
        assert fold.span == (time[fold.rows.calibrate].min(), time[fold.rows.calibrate].max())
        ends.append(fold.span)
    assert all(one[1] + hours * HOUR <= two[0] for one, two in pairwise(ends))


def test_trial_that_cannot_be_fitted_is_kept_as_failed(
    market: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.tuning.fold_losses import SearchFold

    losses = SearchFold.losses

    def fails_for_small(self: SearchFold, settings: Hyperparameters, threads: int) -> object:
        if settings.num_leaves == 3:
            raise ModelError("too small")
        return losses(self, settings, threads)

    monkeypatch.setattr(SearchFold, "losses", fails_for_small)
    spaces = {"num_leaves": Space(0, 0, choices=(3,))}
    result = search_hyperparameters(
        market, split(market), GOOD, replace(PLAN, spaces=spaces, trials=2), 1
    )
    assert [trial.error for trial in result.trials] == ["too small", "too small"]
    assert result.record["failed"] == 2
    assert result.settings == GOOD


def test_too_few_rows_for_the_folds_say_so(market: Dataset) -> None:
    block = split(market)
    block[market.time > parse_time("2022-10-17T00:00:00Z")] = Block.PURGED
    with pytest.raises(ModelError, match=r"fold 1 of 10 of \[training\.search\]"):
        cut_search_folds(market, block, 10, POOR)
    block[:] = Block.TEST
    with pytest.raises(ModelError, match="no rows to fit to"):
        cut_search_folds(market, block, 2, POOR)
