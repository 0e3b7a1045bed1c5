from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from market.core.errors import ModelError
from models.onnx.parity import threshold_adjacent_rows
from models.onnx.scorer import Scorer
from models.trees.contributions import (
    contribution_names,
    contributions,
    of_prior,
    score_contributions,
)
from models.trees.tree_table import TreeTable

if TYPE_CHECKING:
    from tests.models.conftest import SmallModel, SplineModel


def test_contributions_add_up_to_the_raw_score(small: SmallModel) -> None:
    X = threshold_adjacent_rows(small.schema, small.trees, 5_000, seed=0)
    for table in small.trees.values():
        parts = contributions(X, table)
        assert parts.shape == (5_000, 8)
        np.testing.assert_allclose(parts.sum(axis=1), table.raw_score(X), rtol=0, atol=1e-12)


def test_score_contributions_add_up_to_the_score_of_the_graph(small: SmallModel) -> None:
    X = threshold_adjacent_rows(small.schema, small.trees, 2_000, seed=1)
    parts = score_contributions(X, small.schema, small.trees)
    raw, _ = Scorer(small.onnx, small.schema).score(X)
    assert parts.shape == (2_000, 3, len(contribution_names(small.schema)))
    np.testing.assert_allclose(parts.sum(axis=2), raw, rtol=0, atol=1e-12)


def test_prior_is_named_apart_from_its_column(small: SmallModel) -> None:
    names = contribution_names(small.schema)
    trees = {h: TreeTable.empty(7) for h in small.schema.horizons}
    parts = score_contributions(small.X[:5], small.schema, trees)
    np.testing.assert_array_equal(parts[:, :, names.index("prior")], small.X[:5, :3])
    assert not parts[:, :, : names.index("prior")].any()


def test_distances_of_a_spline_prior_have_their_shares(spline: SplineModel) -> None:
    names = contribution_names(spline.schema)
    assert names[-4:] == tuple(
        f"prior.{name}" for name in ("forecast_1", "long_run", "forecast_8", "forecast_24")
    )
    assert [name for name in names if of_prior(name)] == list(names[-4:])
    X = threshold_adjacent_rows(spline.schema, spline.trees, 2_000, 1, spline.priors)
    parts = score_contributions(X, spline.schema, spline.trees, spline.priors)
    raw, _ = Scorer(spline.onnx, spline.schema).score(X)
    np.testing.assert_allclose(parts.sum(axis=2), raw, rtol=0, atol=1e-12)
    shares = spline.priors[8].shares(X[:, [1, 7]])
    np.testing.assert_array_equal(parts[:, 1, -4:], shares[:, [1, 1, 0, 0]] * [0, 1, 1, 0])


def test_without_prior_its_part_is_zero(small: SmallModel) -> None:
    schema = replace(small.schema, prior=())
    parts = score_contributions(small.X[:5], schema, small.trees)
    assert not parts[:, :, -1].any()


def test_only_features_on_the_path_contribute(small: SmallModel) -> None:
    table = small.trees[1]
    unused = sorted(set(range(7)) - set(table.feature[table.feature >= 0].tolist()))
    parts = contributions(small.X, table)
    assert not parts[:, unused].any()
    bias = table.value[table.tree_start[:-1]].sum()
    np.testing.assert_allclose(parts[:, -1], bias, rtol=0, atol=1e-15)


def test_the_feature_that_drives_the_label_leads(small: SmallModel) -> None:
    parts = np.abs(contributions(small.X, small.trees[1])[:, :-1]).mean(axis=0)
    assert parts[6] < parts[[3, 4, 5]].min()


def test_wrong_width_is_refused(small: SmallModel) -> None:
    with pytest.raises(ModelError, match="shape"):
        contributions(small.X[:, :6], small.trees[1])
