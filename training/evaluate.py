"""The report on a bundle: its figures beside those of the baselines it was trained with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from features.registry import ACCOUNT_COLUMNS
from market.clock import HOUR, format_time
from market.errors import ModelError
from models.bundle import Bundle
from models.schema import ModelSchema
from models.scorer import Scorer
from training.baselines import BASELINES, ORACLE, predict_baselines
from training.bootstrap import skill_interval, utc_day
from training.dataset import Dataset
from training.metrics import (
    clip_probability,
    evaluate_probability,
    log_loss_rows,
    log_loss_skill,
    oracle_gap_closed,
    predicted_over_observed,
    reliability_bins,
)
from training.stress import STRESS_WINDOWS

Floats = npt.NDArray[np.float64]

MODEL = "margincast"
PLAIN_FILE = "baseline_plain_{hours}h.onnx"
"""File of a bundle that holds the plain LightGBM of one horizon."""

BOOTSTRAP_SEED = 20_240_101


@dataclass(frozen=True, slots=True)
class Forecasts:
    """Probabilities of every model for every row, by horizon and model name."""

    by_horizon: dict[int, dict[str, Floats]]


def model_columns(schema: ModelSchema) -> npt.NDArray[np.intp]:
    """Positions of a model's columns among the account features.

    Raises
    ------
    ModelError
        The model was trained on a feature that is not registered any more.
    """
    missing = [name for name in schema.features if name not in ACCOUNT_COLUMNS]
    if missing:
        raise ModelError(
            f"the model needs the feature(s) {', '.join(missing)}, which are not registered; "
            "retrain, or use the version that made the bundle"
        )
    return np.array([ACCOUNT_COLUMNS.index(name) for name in schema.features])


def plain_schema(schema: ModelSchema, horizon: int) -> ModelSchema:
    """Schema of the plain LightGBM: the same columns without priors or constraints."""
    features = tuple(name for name in schema.features if name not in schema.prior)
    return ModelSchema(features, (0,) * len(features), (horizon,), (), schema.features_sha256)


def forecast(bundle: Bundle, data: Dataset) -> Forecasts:
    """Probabilities of the model, of every baseline and of the volatility oracle.

    Raises
    ------
    ModelError
        The bundle lacks a horizon of the data, or its baselines do not fit.
    """
    schema = bundle.schema
    absent = [hours for hours in data.horizons if hours not in schema.horizons]
    if absent:
        raise ModelError(
            f"bundle {bundle.sha256} forecasts {schema.horizons} h, not {absent}; set [training] "
            "horizons accordingly"
        )
    X = np.ascontiguousarray(data.features[:, model_columns(schema)])
    probability = bundle.scorer.probability(X)
    columns = baseline_columns(data)
    by_horizon: dict[int, dict[str, Floats]] = {}
    for hours in data.horizons:
        models = {MODEL: probability[:, schema.horizons.index(hours)]}
        models.update(predict_baselines(bundle.manifest["baselines"][str(hours)], columns))
        plain = plain_schema(schema, hours)
        scorer = Scorer(bundle.read(PLAIN_FILE.format(hours=hours)), plain)
        X_plain = np.ascontiguousarray(data.features[:, model_columns(plain)])
        models["lightgbm_plain"] = scorer.probability(X_plain)[:, 0]
        by_horizon[hours] = models
    return Forecasts(by_horizon)


def baseline_columns(data: Dataset) -> dict[str, Floats]:
    """Inputs of the baselines: the data set's own and the distances among its features."""
    distances = {
        name: data.features[:, i]
        for i, name in enumerate(ACCOUNT_COLUMNS)
        if name.startswith("distance_")
    }
    return {**data.columns, **distances}


def evaluate(
    data: Dataset,
    forecasts: Forecasts,
    training: Mapping[str, Any],
    description: Mapping[str, str],
    symbols: tuple[str, ...],
) -> dict[str, Any]:
    """The object that ``evaluate --json`` writes, all but the bundle's own hash.

    Parameters
    ----------
    data, forecasts:
        Rows and probabilities.
    training:
        ``span`` and ``base_rates`` of the training, from the bundle's manifest.
    description:
        What is real and what is sampled.
    symbols:
        Symbols of the market.
    """
    start, end = int(data.time[0]), int(data.time[-1])
    trained_from, trained_to = training["span_ns"]
    overlap = max(0, min(end, trained_to) - max(start, trained_from))
    return {
        "span": [format_time(start), format_time(end)],
        "rows": len(data),
        "considered": data.considered,
        "dropped": dict(data.dropped),
        "symbols": list(symbols),
        "overlap_with_training_hours": overlap / HOUR,
        "data": dict(description),
        "oracle_interval": data.oracle_interval,
        "horizons": {
            str(hours): _horizon(data, hours, forecasts, float(training["base_rates"][str(hours)]))
            for hours in data.horizons
        },
        # The windows are of the calendar of real markets.
        "stress": _stress(data, forecasts) if description["prices"] == "real" else {},
    }


def _horizon(
    data: Dataset, hours: int, forecasts: Forecasts, training_base_rate: float
) -> dict[str, Any]:
    y = data.labels[:, data.horizons.index(hours)]
    models = forecasts.by_horizon[hours]
    figures: dict[str, Any] = {
        name: dict(evaluate_probability(y, p, training_base_rate)) for name, p in models.items()
    }
    figures.setdefault(ORACLE, None)
    best = min(BASELINES, key=lambda name: float(figures[name]["log_loss"]))
    losses = {name: log_loss_rows(y, clip_probability(models[name])) for name in (MODEL, best)}
    oracle = figures[ORACLE]["log_loss"] if figures[ORACLE] else None
    bins = reliability_bins(y, models[MODEL])
    return {
        "base_rate": float(y.mean()),
        "positives": int(y.sum()),
        "models": figures,
        "best_baseline": best,
        "log_loss_skill": log_loss_skill(figures[MODEL]["log_loss"], figures[best]["log_loss"]),
        "log_loss_skill_ci95": skill_interval(
            losses[MODEL], losses[best], utc_day(data.time), seed=BOOTSTRAP_SEED
        ),
        "oracle_gap_closed": oracle_gap_closed(
            figures[best]["log_loss"], figures[MODEL]["log_loss"], oracle
        ),
        "predicted_over_observed": predicted_over_observed(y, models[MODEL]),
        "reliability": {
            "predicted": bins.predicted.tolist(),
            "observed": bins.observed.tolist(),
            "count": bins.count.tolist(),
        },
    }


def _stress(data: Dataset, forecasts: Forecasts) -> dict[str, Any]:
    """Counts and ratios within each stress window that the data touch."""
    report: dict[str, Any] = {}
    for window in STRESS_WINDOWS:
        inside = (data.time >= window.start) & (data.time < window.end)
        if not inside.any():
            continue
        report[window.name] = {
            str(hours): {
                "rows": int(inside.sum()),
                "observed": int(data.labels[inside, h].sum()),
                "predicted_over_observed": {
                    name: predicted_over_observed(
                        data.labels[inside, h], forecasts.by_horizon[hours][name][inside]
                    )
                    for name in (MODEL, "first_passage_isotonic")
                },
            }
            for h, hours in enumerate(data.horizons)
        }
    return report
