"""The evaluation of a bundle beside the baselines that it was trained with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from features.registry import ACCOUNT_COLUMNS
from market.core.clock import HOUR, format_time
from market.core.errors import ModelError
from models.bundle.bundle import Bundle
from models.bundle.schema import ModelSchema
from models.onnx.scorer import CHUNK_ROWS, Scorer
from training.evaluation.bootstrap import skill_interval, utc_day
from training.evaluation.breakdown import Groups, breakdown, months, segments, stress_windows
from training.evaluation.curves import precision_recall, recall_at_budgets, reliability
from training.evaluation.lead_time import lead_times
from training.evaluation.metrics import (
    clip_probability,
    evaluate_probability,
    log_loss_rows,
    log_loss_skill,
    oracle_gap_closed,
    predicted_over_observed,
)
from training.fitting.baselines import BASELINES, ORACLE, predict_baselines
from training.labels.dataset import Dataset

Floats = npt.NDArray[np.float64]

MODEL = "margincast"
FLOOR_BASELINE = "first_passage_isotonic"
"""The baseline that even a first champion must not fall behind."""

PLAIN = "lightgbm_plain"
PLAIN_FORECAST = "lightgbm_plain_forecast"
"""Plain LightGBM that reads the forecast distances too: reported, but no baseline."""

PLAIN_MODELS = {
    PLAIN: "baseline_plain_{hours}h.onnx",
    PLAIN_FORECAST: "baseline_plain_forecast_{hours}h.onnx",
}
"""File of a bundle that holds the model of one horizon, by name of the model."""

BOOTSTRAP_SEED = 20_240_101


@dataclass(frozen=True, slots=True)
class Forecasts:
    """Probabilities of every model for every row, by horizon and model name."""

    by_horizon: dict[int, dict[str, Floats]]


def model_columns(schema: ModelSchema, data: Dataset) -> npt.NDArray[np.intp]:
    """Positions of a model's columns among the features of a data set.

    Raises
    ------
    ModelError
        The model was trained on a feature that is not registered any more.
    """
    place = {name: i for i, name in enumerate(data.feature_names)}
    missing = [name for name in schema.features if name not in place]
    if missing:
        raise ModelError(
            f"the model needs the feature(s) {', '.join(missing)}, which are not registered; "
            "retrain, or use the version that made the bundle"
        )
    return np.array([place[name] for name in schema.features])


def plain_schema(
    schema: ModelSchema, horizon: int, baselines: Mapping[str, Any], name: str
) -> ModelSchema | None:
    """Schema of one of `PLAIN_MODELS`, without priors or constraints.

    Parameters
    ----------
    schema, horizon:
        Of the model.
    baselines:
        Parameters of the baselines of that horizon. They name the columns; in bundles of earlier
        versions they do not, and `PLAIN` reads the model's columns without its prior's.
    name:
        Of the model.

    Returns
    -------
    ModelSchema or None
        None where the bundle has no such model.
    """
    if name in baselines:
        features = tuple(baselines[name]["features"])
    elif name == PLAIN:
        features = tuple(column for column in schema.features if column not in schema.prior)
    else:
        return None
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
    return forecasts_of(schema, bundle.scorer, bundle.manifest["baselines"], bundle.read, data)


def forecasts_of(
    schema: ModelSchema,
    scorer: Scorer,
    baselines: Mapping[str, Any],
    read: Callable[[str], bytes],
    data: Dataset,
) -> Forecasts:
    """Like `forecast`, from the parts of a bundle; `read` gives a file of it by name."""
    probability = _probability(scorer, schema, data)
    columns = baseline_columns(data)
    by_horizon: dict[int, dict[str, Floats]] = {}
    for hours in data.horizons:
        models = {MODEL: probability[:, schema.horizons.index(hours)]}
        fitted = baselines[str(hours)]
        models.update(predict_baselines(fitted, columns))
        for name, file in PLAIN_MODELS.items():
            plain = plain_schema(schema, hours, fitted, name)
            if plain is not None:
                plain_scorer = Scorer(read(file.format(hours=hours)), plain)
                models[name] = _probability(plain_scorer, plain, data)[:, 0]
        by_horizon[hours] = models
    return Forecasts(by_horizon)


def _probability(scorer: Scorer, schema: ModelSchema, data: Dataset) -> Floats:
    """Probabilities of all rows, shape (N, H); a model's columns are copied a part at a time."""
    places = model_columns(schema, data)
    probability = np.empty((len(data), len(schema.horizons)))
    for begin in range(0, len(data), CHUNK_ROWS):
        part = slice(begin, begin + CHUNK_ROWS)
        X = np.ascontiguousarray(data.features[part, places])
        probability[part] = scorer.probability(X)
    return probability


def baseline_columns(data: Dataset) -> dict[str, Floats]:
    """Inputs of the baselines: the columns of the data set and the distances among its features."""
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
    # The windows are of the calendar of real markets.
    real = description["prices"] == "real"
    horizons = {
        str(hours): _horizon(
            data,
            hours,
            forecasts.by_horizon[hours],
            float(training["base_rates"][str(hours)]),
        )
        for hours in data.horizons
    }
    return {
        "span": [format_time(start), format_time(end)],
        "rows": len(data),
        "considered": data.considered,
        "dropped": dict(data.dropped),
        "symbols": list(symbols),
        "overlap_with_training_hours": overlap / HOUR,
        "data": dict(description),
        "oracle_interval": data.oracle_interval,
        "horizons": horizons,
        "stress": _stress(data, forecasts, horizons) if real else {},
        "stress_pooled": {
            str(hours): _pooled_stress(data, hours, forecasts.by_horizon[hours])
            for hours in (data.horizons if real else ())
        },
    }


def _stress(
    data: Dataset, forecasts: Forecasts, horizons: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Figures within each stress window that the data touch, by window and horizon."""
    windows = stress_windows(data)
    by_horizon = {
        str(hours): _by_group(
            data,
            hours,
            forecasts.by_horizon[hours],
            windows,
            horizons[str(hours)]["best_baseline"],
        )
        for hours in data.horizons
    }
    leads = {
        str(hours): lead_times(
            data.labels, data.horizons, forecasts.by_horizon[hours][MODEL], windows
        )
        for hours in data.horizons
    }
    return {
        name: {
            hours: {**groups[name], "lead_time": leads[hours][name]}
            for hours, groups in by_horizon.items()
        }
        for name in windows
    }


def _pooled_stress(data: Dataset, hours: int, models: Mapping[str, Floats]) -> dict[str, Any]:
    """The rows of all stress windows together, against the isotonic first passage."""
    windows = stress_windows(data)
    if not windows:
        return {"windows": [], "rows": 0}
    rows = np.logical_or.reduce(list(windows.values()))
    y = data.labels[rows, data.horizons.index(hours)]
    losses = {
        name: log_loss_rows(y, clip_probability(models[name][rows]))
        for name in (MODEL, FLOOR_BASELINE)
    }
    loss = {name: float(values.mean()) for name, values in losses.items()}
    return {
        "windows": list(windows),
        "rows": len(y),
        "observed": int(y.sum()),
        "log_loss": loss,
        "log_loss_skill": log_loss_skill(loss[MODEL], loss[FLOOR_BASELINE]),
        "log_loss_skill_ci95": skill_interval(
            losses[MODEL], losses[FLOOR_BASELINE], utc_day(data.time[rows]), seed=BOOTSTRAP_SEED
        ),
    }


def _by_group(
    data: Dataset, hours: int, models: Mapping[str, Floats], groups: Groups, baseline: str
) -> dict[str, Any]:
    return breakdown(
        data,
        hours,
        models,
        groups,
        model=MODEL,
        baseline=baseline,
        counted=(MODEL, FLOOR_BASELINE),
        seed=BOOTSTRAP_SEED,
    )


def _horizon(
    data: Dataset,
    hours: int,
    models: Mapping[str, Floats],
    training_base_rate: float,
) -> dict[str, Any]:
    y = data.labels[:, data.horizons.index(hours)]
    figures: dict[str, Any] = {
        name: dict(evaluate_probability(y, p, training_base_rate)) for name, p in models.items()
    }
    figures.setdefault(ORACLE, None)
    best = min(BASELINES, key=lambda name: float(figures[name]["log_loss"]))
    losses = {name: log_loss_rows(y, clip_probability(models[name])) for name in (MODEL, best)}
    oracle = figures[ORACLE]["log_loss"] if figures[ORACLE] else None
    days = utc_day(data.time)
    return {
        "base_rate": float(y.mean()),
        "positives": int(y.sum()),
        "models": figures,
        "best_baseline": best,
        "log_loss_skill": log_loss_skill(figures[MODEL]["log_loss"], figures[best]["log_loss"]),
        "log_loss_skill_ci95": skill_interval(
            losses[MODEL], losses[best], days, seed=BOOTSTRAP_SEED
        ),
        "oracle_gap_closed": oracle_gap_closed(
            figures[best]["log_loss"], figures[MODEL]["log_loss"], oracle
        ),
        "predicted_over_observed": predicted_over_observed(y, models[MODEL]),
        "reliability": reliability(y, models[MODEL], days),
        "precision_recall": {
            name: precision_recall(y, models[name]) for name in dict.fromkeys((MODEL, best))
        },
        "recall_at_alert_budget": {
            name: recall_at_budgets(y, p) for name, p in models.items() if name != ORACLE
        },
        "months": _by_group(data, hours, models, months(data), best),
        "segments": {
            name: _by_group(data, hours, models, groups, best)
            for name, groups in segments(data).items()
        },
    }
