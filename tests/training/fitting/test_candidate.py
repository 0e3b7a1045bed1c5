"""Everything that one training makes, on a synthetic data set whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings, strategies as st

from features.registry import ACCOUNT_COLUMNS, ACCOUNT_FEATURES
from models.onnx.export import export
from models.onnx.parity import check_parity, threshold_adjacent_rows
from models.onnx.scorer import Scorer
from training.evaluation.evaluate import PLAIN, PLAIN_FORECAST, model_columns, plain_schema
from training.fitting.candidate import Candidate, fit_candidate
from training.fitting.column_sets import PLAIN_COLUMNS, SMALL_COLUMNS, forecast_distances
from training.fitting.hyperparameters import Hyperparameters
from training.labels.dataset import Dataset
from training.labels.splits import Block, purged_split

Blocks = npt.NDArray[np.int8]


def split(dataset: Dataset) -> Blocks:
    first, last = int(dataset.time[0]), int(dataset.time[-1])
    fit_end, calibrate_end = (first + (last - first) * k // 10 for k in (6, 8))
    return purged_split(dataset.time, 8, fit_end, calibrate_end, last + 10**15)


@pytest.fixture(scope="module")
def candidate(dataset: Dataset) -> Candidate:
    return fit_candidate(dataset, split(dataset), with_plain_forecast=True)


def graph(candidate: Candidate) -> bytes:
    return export(candidate.schema, candidate.trees, candidate.calibration, candidate.priors)


def test_trees_are_kept_where_they_find_what_the_prior_cannot(candidate: Candidate) -> None:
    for hours, boosters in ((1, 2), (8, 3)):
        ensemble = candidate.ensembles[hours]
        assert ensemble.tree_loss < ensemble.prior_loss
        assert sum(len(part.boosters) for part in ensemble.parts) == boosters
        assert candidate.trees[hours].n_trees == boosters * ensemble.rounds


def test_graph_equals_the_boosters_beside_every_threshold(candidate: Candidate) -> None:
    rows = threshold_adjacent_rows(
        candidate.schema, candidate.trees, 4_000, seed=1, priors=candidate.priors
    )
    report = check_parity(
        Scorer(graph(candidate), candidate.schema),
        candidate.trees,
        candidate.calibration,
        rows,
        priors=candidate.priors,
        boosters={hours: one.raw_score for hours, one in candidate.ensembles.items()},
    )
    assert report.passed, report.max_difference


def test_same_learning_rows_give_the_same_bytes(candidate: Candidate, dataset: Dataset) -> None:
    """Rows without weight beside them, and other outcomes in the test block, change nothing."""
    block = split(dataset)
    more = replace(
        dataset.take(np.concatenate([np.arange(len(dataset)), np.arange(0, len(dataset), 3)])),
        weight=np.concatenate([dataset.weight, np.zeros(-(-len(dataset) // 3))]),
    )
    order = np.argsort(more.time, kind="stable")
    blocks = np.concatenate([block, block[::3]])[order]
    more = more.take(order)
    more.labels[blocks == Block.TEST] ^= 1
    again = fit_candidate(more, blocks, with_plain_forecast=True)
    assert graph(again) == graph(candidate)
    assert again.plain == candidate.plain
    assert again.baselines == candidate.baselines


@given(row=st.integers(0, 7_000), more=st.floats(0.0, 5.0))
@settings(max_examples=40)
def test_more_headroom_never_raises_the_probability(
    candidate: Candidate, dataset: Dataset, row: int, more: float
) -> None:
    """All columns that equity moves, moved in their direction at once."""
    scorer = Scorer(graph(candidate), candidate.schema)
    x = dataset.features[row % len(dataset), model_columns(candidate.schema, dataset)]
    features = {feature.name: feature for feature in ACCOUNT_FEATURES}
    moved = np.array([features[name].uses_equity for name in candidate.schema.features])
    sign = np.array(candidate.schema.monotone)
    deposit = np.where(moved, x - sign * more, x)
    before, after = scorer.probability(np.stack([x, deposit]))
    assert (after <= before).all()


def test_model_reads_small_columns_and_the_plain_one_the_frozen_ones(
    candidate: Candidate,
) -> None:
    small = candidate.ensembles[8].parts[0]
    names = {candidate.schema.features[column] for column in small.columns}
    assert names == set(SMALL_COLUMNS)
    for hours in candidate.schema.horizons:
        fitted = candidate.baselines[str(hours)]
        plain, informed = (
            plain_schema(candidate.schema, hours, fitted, name) for name in (PLAIN, PLAIN_FORECAST)
        )
        assert plain is not None
        assert informed is not None
        assert set(plain.features) <= set(PLAIN_COLUMNS)
        added = set(forecast_distances(candidate.schema.horizons))
        assert set(informed.features) == {*plain.features, *added}


def test_frozen_columns_are_registered_and_hold_no_forecast() -> None:
    assert set(PLAIN_COLUMNS) | set(SMALL_COLUMNS) <= set(ACCOUNT_COLUMNS)
    assert not [name for name in PLAIN_COLUMNS if "forecast" in name or "long_run" in name]


def test_bundle_without_a_record_of_its_plain_columns_reads_its_own(
    candidate: Candidate,
) -> None:
    old = replace(candidate.schema, prior_distances=())
    plain = plain_schema(old, 8, {}, PLAIN)
    assert plain is not None
    assert plain.features == old.features
    assert plain_schema(old, 8, {}, PLAIN_FORECAST) is None


def test_few_rows_give_the_prior_alone(dataset: Dataset) -> None:
    """Three hundred rows cannot show that trees beat the prior."""
    few = dataset.take(np.arange(0, len(dataset), 24))
    fitted = fit_candidate(few, split(few))
    assert [one.rounds for one in fitted.ensembles.values()] == [0, 0]
    assert all(table.n_trees == 0 for table in fitted.trees.values())
    forecasts = fitted.forecast(few)
    assert np.isfinite(forecasts.by_horizon[8]["margincast"]).all()


def test_changed_settings_make_another_model_and_are_kept(dataset: Dataset) -> None:
    settings = Hyperparameters(num_leaves=3, num_iterations={1: 10}, seeds=(5,), prior_ridge=100.0)
    changed = fit_candidate(dataset, split(dataset), settings=settings)
    usual = fit_candidate(dataset, split(dataset))
    assert changed.settings == settings
    assert {ensemble.rounds for ensemble in changed.ensembles.values()} <= {0, 10}
    leaves = changed.trees[1].value[changed.trees[1].left < 0]
    assert len(leaves) <= 3 * changed.trees[1].n_trees
    assert changed.priors[1] != usual.priors[1]
    assert changed.baselines == usual.baselines, "the baselines keep settings of their own"
