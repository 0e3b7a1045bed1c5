"""Bundles of models with a spline prior: round trip, and what a damaged manifest meets."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from market.core.errors import BundleError, ModelError
from models.bundle.bundle import load_bundle, write_bundle
from models.bundle.schema import ModelSchema, canonical_json

if TYPE_CHECKING:
    from tests.models.conftest import SmallModel, SplineModel

Change = Callable[[dict[str, Any]], object]


def test_bundle_gives_prior_schema_and_scores_back(spline: SplineModel, tmp_path: Path) -> None:
    bundle = load_bundle(tmp_path / write_bundle(tmp_path, spline.files()))
    assert bundle.priors == spline.priors
    assert bundle.schema == spline.schema
    assert bundle.schema.prior_inputs() == ((0, 7), (1, 7), (2, 7))
    assert bundle.schema.distance_names() == (
        "forecast_1",
        "long_run",
        "forecast_8",
        "forecast_24",
    )
    assert np.isfinite(bundle.scorer.probability(spline.X[:50])).all()


def test_earlier_form_has_no_new_keys(small: SmallModel, tmp_path: Path) -> None:
    manifest = json.loads(small.files()["manifest.json"])
    assert "priors" not in manifest
    assert "prior_distances" not in manifest["schema"]
    assert load_bundle(tmp_path / write_bundle(tmp_path, small.files())).priors == {}


def _weights(manifest: dict[str, Any], value: float) -> None:
    manifest["priors"]["8"]["weights"][1][3] = value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("priors"), "given for horizons \\[\\]"),
        (lambda m: m["priors"].pop("8"), "given for horizons \\[1, 24\\]"),
        (lambda m: _weights(m, 0.5), "unsound prior of 8 h: .*positive weight"),
        (lambda m: m["priors"]["24"].pop("intercept"), "unsound prior of 24 h: .*malformed"),
        (lambda m: m["priors"]["1"]["knots"][0].reverse(), "unsound prior of 1 h: spline knots"),
        (lambda m: _weights(m, -9.0), "differs from its prior and trees"),
    ],
)
def test_malformed_priors_are_refused_by_name(
    spline: SplineModel, tmp_path: Path, change: Change, message: str
) -> None:
    files = spline.files()
    manifest = json.loads(files["manifest.json"])
    change(manifest)
    files["manifest.json"] = canonical_json(manifest)
    with pytest.raises(BundleError, match=message):
        load_bundle(tmp_path / write_bundle(tmp_path, files))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prior_distances": (("forecast_1",),)}, "as many columns for each horizon"),
        ({"prior_distances": (("forecast_1",), ("a", "b"), ("c",))}, "as many columns"),
        ({"prior_distances": (("volatility",),) * 3}, "'volatility' must be one of the features"),
        ({"prior_distances": (("absent",),) * 3}, "'absent' must be one of the features"),
        ({"prior": ("volatility",) * 3}, "no prior columns of logits"),
    ],
)
def test_distances_that_do_not_fit_are_refused(
    spline: SplineModel, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        replace(spline.schema, **change)


def test_schema_survives_json(spline: SplineModel) -> None:
    text = json.dumps(spline.schema.to_dict())
    assert ModelSchema.from_dict(json.loads(text)) == spline.schema
