"""The report of ``evaluate --json``."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import expit

from features.registry import ACCOUNT_COLUMNS
from market.core.clock import HOUR, parse_time
from market.core.errors import ModelError
from models.bundle.schema import ModelSchema
from training.evaluation.evaluate import (
    MODEL,
    Forecasts,
    baseline_columns,
    evaluate,
    model_columns,
    plain_schema,
)
from training.evaluation.metrics import log_loss_rows
from training.evaluation.stress import STRESS_WINDOWS
from training.fitting.baselines import BASELINES, ORACLE
from training.labels.dataset import Dataset

HORIZONS = (1, 8)
FIGURES = {
    "auc",
    "average_precision",
    "brier",
    "brier_skill",
    "log_loss",
    "ece",
    "ece_over_base_rate",
    "calibration_slope",
    "calibration_intercept",
    "top_decile_ratio",
}
MODELS = {
    "margincast",
    "margin_ratio",
    "lagged_breaches",
    "first_passage",
    "first_passage_isotonic",
    "logistic_distance",
    "lightgbm_plain",
    "volatility_oracle",
}
START = parse_time("2025-03-01T00:00:00Z")
SPAN = 20 * 24
TRAINING = {
    "span_ns": [START - 500 * HOUR, START + 30 * HOUR],
    "base_rates": {"1": 0.1, "8": 0.2},
}
DESCRIPTION = {
    "prices": "real",
    "accounts": "sampled",
    "labels": "computed",
    "population": "reference-v1",
    "extremes": "close",
    "book": "static",
}


def made() -> tuple[Dataset, Forecasts]:
    """A forecast of known quality: noise added to the true log odds, less for better models."""
    rng = np.random.default_rng(4)
    n = SPAN * 10
    score = rng.normal(-2.0, 1.5, n)
    labels = np.column_stack([rng.random(n) < expit(score + shift) for shift in (0.0, 0.5)])
    noise = {MODEL: 0.1, ORACLE: 0.0, "logistic_distance": 0.6}
    by_horizon = {
        hours: {
            name: expit(score + 0.5 * h + rng.normal(0.0, noise.get(name, 1.5), n))
            for name in (MODEL, *BASELINES, ORACLE)
        }
        for h, hours in enumerate(HORIZONS)
    }
    del by_horizon[1][ORACLE]
    data = Dataset(
        time=np.repeat(START + np.arange(SPAN, dtype=np.int64) * HOUR, 10),
        account=np.tile(np.arange(10), SPAN),
        account_ids=tuple(f"a{i}" for i in range(10)),
        features=np.zeros((n, len(ACCOUNT_COLUMNS))),
        labels=labels.astype(np.int8),
        horizons=HORIZONS,
        columns={"margin_ratio": np.zeros(n)},
        dropped={"warm_up": 3, "already_called": 2, "horizon_past_end": 1},
        considered=n + 6,
        oracle_interval="1h",
        weight=np.ones(n),
        uniform=np.ones(n, dtype=np.bool_),
    )
    return data, Forecasts(by_horizon)


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return evaluate(*made(), TRAINING, DESCRIPTION, ("BTCUSDT", "ETHUSDT"))


def test_keys_are_those_of_the_interface(report: dict[str, Any]) -> None:
    assert {
        "span",
        "rows",
        "dropped",
        "symbols",
        "overlap_with_training_hours",
        "data",
        "horizons",
    } <= set(report)
    assert {"warm_up", "already_called", "horizon_past_end"} <= set(report["dropped"])
    assert set(report["data"]) == set(DESCRIPTION)
    assert set(report["horizons"]) == {"1", "8"}
    for own in report["horizons"].values():
        assert {
            "base_rate",
            "positives",
            "models",
            "best_baseline",
            "log_loss_skill",
            "log_loss_skill_ci95",
            "oracle_gap_closed",
        } <= set(own)
        assert set(own["models"]) == MODELS
        for name, figures in own["models"].items():
            assert figures is None or set(figures) == FIGURES, name


def test_report_is_json_without_nan(report: dict[str, Any]) -> None:
    assert json.loads(json.dumps(report, allow_nan=False))["rows"] == SPAN * 10


@pytest.mark.parametrize("hours", ["1", "8"])
def test_best_baseline_has_the_lowest_log_loss(report: dict[str, Any], hours: str) -> None:
    own = report["horizons"][hours]
    losses = {name: own["models"][name]["log_loss"] for name in BASELINES}
    assert own["best_baseline"] == min(losses, key=losses.__getitem__) == "logistic_distance"
    skill = 1.0 - own["models"][MODEL]["log_loss"] / losses[own["best_baseline"]]
    assert own["log_loss_skill"] == pytest.approx(skill, rel=1e-12)
    low, high = own["log_loss_skill_ci95"]
    assert low <= skill <= high


def test_oracle_is_a_limit_never_the_best_baseline(report: dict[str, Any]) -> None:
    own = report["horizons"]["8"]
    losses = {name: figures["log_loss"] for name, figures in own["models"].items()}
    assert losses[ORACLE] < losses[own["best_baseline"]]
    gap = (losses[own["best_baseline"]] - losses[MODEL]) / (
        losses[own["best_baseline"]] - losses[ORACLE]
    )
    assert own["oracle_gap_closed"] == pytest.approx(gap, rel=1e-12)


def test_oracle_that_cannot_be_computed_is_null(report: dict[str, Any]) -> None:
    own = report["horizons"]["1"]
    assert own["models"][ORACLE] is None
    assert own["oracle_gap_closed"] is None


def test_counts_span_and_overlap(report: dict[str, Any]) -> None:
    data, _ = made()
    assert report["rows"] == len(data)
    assert report["span"] == ["2025-03-01T00:00:00Z", "2025-03-20T23:00:00Z"]
    assert report["overlap_with_training_hours"] == 30.0
    for h, hours in enumerate(HORIZONS):
        own = report["horizons"][str(hours)]
        assert own["positives"] == data.labels[:, h].sum()
        assert own["base_rate"] == pytest.approx(data.labels[:, h].mean())


def test_brier_skill_is_against_the_training_base_rate(report: dict[str, Any]) -> None:
    data, forecasts = made()
    y, p = data.labels[:, 0].astype(np.float64), forecasts.by_horizon[1][MODEL]
    expected = 1.0 - ((p - y) ** 2).mean() / ((0.1 - y) ** 2).mean()
    assert report["horizons"]["1"]["models"][MODEL]["brier_skill"] == pytest.approx(expected)


def test_log_loss_clips_every_model_alike() -> None:
    data, forecasts = made()
    sure: npt.NDArray[np.float64] = np.zeros(len(data))
    by_horizon = {
        hours: {**models, MODEL: sure, "margin_ratio": sure}
        for hours, models in forecasts.by_horizon.items()
    }
    own = evaluate(data, Forecasts(by_horizon), TRAINING, DESCRIPTION, ())["horizons"]["1"]
    loss = -np.log(1e-6) * own["base_rate"]
    assert own["models"][MODEL]["log_loss"] == pytest.approx(loss, rel=1e-4)
    assert own["models"][MODEL]["log_loss"] == own["models"]["margin_ratio"]["log_loss"]


def test_baselines_read_the_distances_of_the_features() -> None:
    data, _ = made()
    names = set(baseline_columns(data))
    assert "margin_ratio" in names
    assert any(name.startswith("distance_") for name in names)


def test_unregistered_feature_is_refused_by_name() -> None:
    schema = ModelSchema(("moonphase",), (0,), (1,), (), "a" * 64)
    with pytest.raises(ModelError, match="moonphase"):
        model_columns(schema, made()[0])


def test_plain_model_has_no_prior_and_no_constraints() -> None:
    schema = ModelSchema(
        ("prior_logit_1h", "net_share"), (1, 1), (1,), ("prior_logit_1h",), "a" * 64
    )
    plain = plain_schema(schema, 1, {}, "lightgbm_plain")
    assert plain is not None
    assert (plain.features, plain.monotone, plain.prior) == (("net_share",), (0,), ())


def test_stress_windows_are_pooled_against_the_isotonic_first_passage() -> None:
    data, forecasts = made()
    shift = parse_time("2025-04-01T00:00:00Z") - START
    moved = replace(data, time=data.time + shift)
    report = evaluate(moved, forecasts, TRAINING, DESCRIPTION, ())
    (window,) = [w for w in STRESS_WINDOWS if w.name == "tariffs"]
    rows = (moved.time >= window.start) & (moved.time < window.end)
    for h, hours in enumerate(HORIZONS):
        pooled = report["stress_pooled"][str(hours)]
        assert (pooled["windows"], pooled["rows"]) == (["tariffs"], int(rows.sum()))
        y = moved.labels[rows, h]
        own, other = (
            log_loss_rows(y, forecasts.by_horizon[hours][name][rows]).mean()
            for name in (MODEL, "first_passage_isotonic")
        )
        assert pooled["observed"] == y.sum()
        assert pooled["log_loss_skill"] == pytest.approx(1.0 - own / other, rel=1e-6)
        low, high = pooled["log_loss_skill_ci95"]
        assert low < pooled["log_loss_skill"] < high
        assert set(report["stress"]["tariffs"][str(hours)]["lead_time"]["found"]) == {"0-1", "1-8"}


def test_a_simulated_market_has_no_stress_windows() -> None:
    report = evaluate(*made(), TRAINING, DESCRIPTION | {"prices": "simulated"}, ())
    assert (report["stress"], report["stress_pooled"]) == ({}, {})


def test_span_without_a_stress_window_has_nothing_to_pool(report: dict[str, Any]) -> None:
    assert report["stress_pooled"]["8"] == {"windows": [], "rows": 0}
