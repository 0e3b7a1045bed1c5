"""A synthetic data set whose truth is known."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from features.registry import ACCOUNT_COLUMNS
from market.core.clock import HOUR, parse_time
from training.evaluation.evaluate import MODEL, Forecasts, evaluate
from training.fitting.baselines import BASELINES
from training.labels.dataset import Dataset
from training.reports.charts import review_charts
from training.reports.run_record import RunRecord

START = "2022-10-15T00:00:00Z"


def made_dataset(
    *, days: int = 60, per_hour: int = 5, effect: float = 1.5, start: str = START, seed: int = 3
) -> Dataset:
    """Account-times whose outcome the forecast distances explain, and ``net_share`` beyond them by
    `effect`; the prior logits are the log odds without it.

    All other columns are noise. Horizons 1 and 8 h.
    """
    rng = np.random.default_rng(seed)
    hours = days * 24
    n = hours * per_hour
    features = np.abs(rng.normal(1.0, 0.3, (n, len(ACCOUNT_COLUMNS))))
    prior = rng.normal(-2.5, 1.2, n)
    share = rng.uniform(-1.0, 1.0, n)
    features[:, ACCOUNT_COLUMNS.index("net_share")] = share
    for h, horizon in enumerate((1, 8, 24)):
        features[:, ACCOUNT_COLUMNS.index(f"prior_logit_{horizon}h")] = prior + 0.7 * h
        distance = 1.5 - 0.5 * h - (prior + 2.5) / 2.0
        features[:, ACCOUNT_COLUMNS.index(f"forecast_distance_{horizon}h")] = distance
    long_run = 3.0 - (prior + 2.5) / 2.0 + rng.normal(0.0, 0.2, n)
    features[:, ACCOUNT_COLUMNS.index("long_run_distance")] = long_run
    uniform = rng.random(n)
    score = prior + effect * share
    labels = np.column_stack([uniform < expit(score), uniform < expit(score + 0.7)])
    passage = {f"first_passage_{h}": expit(prior + 0.7 * i) for i, h in enumerate((1, 8))}
    return Dataset(
        time=np.repeat(parse_time(start) + np.arange(hours, dtype=np.int64) * HOUR, per_hour),
        account=np.tile(np.arange(per_hour), hours),
        account_ids=tuple(f"a{i}" for i in range(per_hour)),
        features=features,
        labels=labels.astype(np.int8),
        horizons=(1, 8),
        columns={
            "margin_ratio": rng.uniform(0.1, 0.9, n),
            "lagged_breach_rate": rng.uniform(0.0, 0.1, n),
            **passage,
        },
        dropped={"warm_up": 0, "already_called": 0, "horizon_past_end": 0},
        considered=n,
        oracle_interval="1h",
        weight=np.ones(n),
        uniform=np.ones(n, dtype=np.bool_),
    )


@pytest.fixture(scope="session")
def make_dataset() -> Callable[..., Dataset]:
    return made_dataset


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    """One data set for all tests that only read it."""
    return made_dataset()


DESCRIPTION = {
    "prices": "real",
    "accounts": "sampled",
    "labels": "computed",
    "population": "reference-v1",
    "extremes": "close",
    "book": "static",
}


@pytest.fixture(scope="session")
def evaluation(dataset: Dataset) -> dict[str, Any]:
    """A report whose model knows the truth and whose baselines know the prior, with noise."""
    rng = np.random.default_rng(8)
    share = dataset.features[:, ACCOUNT_COLUMNS.index("net_share")]
    by_horizon = {}
    for h, hours in enumerate(dataset.horizons):
        prior = dataset.features[:, ACCOUNT_COLUMNS.index("prior_logit_1h")] + 0.7 * h
        by_horizon[hours] = {
            name: expit(
                prior + (1.5 * share if name == MODEL else rng.normal(0.0, 0.3, len(dataset)))
            )
            for name in (MODEL, *BASELINES)
        }
    training = {"span_ns": [0, 1], "base_rates": {"1": 0.1, "8": 0.2}}
    return evaluate(dataset, Forecasts(by_horizon), training, DESCRIPTION, ("BTCUSDT", "ETHUSDT"))


@pytest.fixture(scope="session")
def charts(evaluation: dict[str, Any]) -> dict[str, str]:
    """The charts of `record`, for tests of what stands around them: they take seconds to draw."""
    return review_charts(evaluation, _review(evaluation), _backtest())


@pytest.fixture
def record(evaluation: dict[str, Any]) -> RunRecord:
    """A training with everything that a review can have; a copy of its own for each test."""
    return RunRecord(
        bundle="f" * 64,
        verdict="kept",
        reasons=["log-loss skill against champion is -0.01, limit 0"],
        evaluation=copy.deepcopy(evaluation),
        gates={
            "parity": _gate("safety", True, 1e-16, 1e-12, "largest difference"),
            "calibration_slope_8h": _gate("safety", True, 1.01, [0.9, 1.1], "slope at 8 h"),
            "not_worse_than_champion_8h": _gate("promotion", False, -0.01, 0.0, "upper -0.002"),
            "stress_8h": _gate("stress", False, -0.03, 0.0, "upper -0.01")
            | {"accepted": {"by": "an operator", "reason": "one window, <reviewed>"}},
        },
        manifest=_manifest(),
        review=_review(evaluation),
        backtest=_backtest(),
        params={"ruleset": "linear-tiers", "max_rows": 1000},
        incumbent="f" * 64,
        version=2,
        created="2026-01-01T00:00:00.000000Z",
        aliases=("challenger",),
        run_id="0" * 32,
    )


def _gate(kind: str, passed: bool, value: float, limit: Any, detail: str) -> dict[str, Any]:
    return {"kind": kind, "passed": passed, "value": value, "limit": limit, "detail": detail}


def _manifest() -> dict[str, Any]:
    return {
        "training_data_sha256": "a" * 64,
        "ruleset_sha256": "b" * 64,
        "schema": {
            "features": ["prior_logit_1h", "prior_logit_8h", "net_share"],
            "monotone": [1, 1, 0],
            "features_sha256": "c" * 64,
        },
        "training": {
            "span_ns": [0, 10**18],
            "rows": {"fit": 10_000, "calibrate": 2_000, "test": 3_000},
            "trees": {"1": {"rounds": 0}, "8": {"rounds": 84}},
            "config_sha256": "d" * 64,
        },
        "versions": {"numpy": "2.4.6"},
    }


def _skill(evaluation: dict[str, Any]) -> dict[str, Any]:
    """A table of the form of `skill_table`, with the figures of the evaluation."""
    tables = {}
    for hours, horizon in evaluation["horizons"].items():
        own = {
            "log_loss_skill": horizon["log_loss_skill"],
            "log_loss_skill_ci95": horizon["log_loss_skill_ci95"],
            "predicted_over_observed": horizon["predicted_over_observed"],
        }
        tables[hours] = {
            "rows": evaluation["rows"],
            "days": 60,
            "positives": horizon["positives"],
            "base_rate": horizon["base_rate"],
            "best_baseline": horizon["best_baseline"],
            **own,
            "models": {
                name: {**own, "log_loss": figures["log_loss"]}
                for name, figures in horizon["models"].items()
                if figures
            },
        }
    return tables


def _review(evaluation: dict[str, Any]) -> dict[str, Any]:
    fold = {
        "name": "walk_forward_2022-11-16",
        "kind": "walk_forward",
        "rows": {"fit": 300, "calibrate": 100, "test": 200},
        "learnt_from": ["2022-10-15T00:00:00Z", "2022-11-15T00:00:00Z"],
        "held_out": ["2022-11-16T00:00:00Z", "2022-11-30T00:00:00Z"],
    }
    without = {
        "columns": 1,
        "log_loss": 0.42,
        "loss_increase": 0.05,
        "loss_increase_ci95": [0.01, 0.09],
    }
    return {
        "contributions": {
            "1": {"features": {"prior": 4.1}, "families": {"prior": 4.1}},
            "8": {
                "features": {"prior": 4.5, "net_share": 0.4},
                "families": {"prior": 4.5, "account": 0.4},
            },
        },
        "ablation": {"8": {"log_loss": 0.4, "without": {"account": without}}},
        "walk_forward": {
            "block_length": "1 calendar month",
            "most_rows": 100_000,
            "pooled": _skill(evaluation),
        },
        "folds": [
            {**fold, "evaluation": evaluation, "skill": _skill(evaluation)},
            {**fold, "name": "walk_forward_2022-12-01", "not_evaluated": "no account was called"},
            {**fold, "name": "ftx", "kind": "stress", "evaluation": evaluation},
        ],
        "provenance": {
            "code_sha256": "e" * 64,
            "git_commit": None,
            "libraries": {"numpy": "2.4.6"},
        },
    }


def _p_star() -> dict[str, Any]:
    """A frontier of p* whose last point has no breach to prevent, and no intervals."""
    figures = {"average_add_on": 0.08, "uncovered": 0.001, "prevented_share": 0.9}
    points = []
    for factor, scale in ((0.5, 1.2), (1.0, 1.0), (2.0, 0.7)):
        point: dict[str, Any] = {"factor": factor, "oracle_uncovered": 0.0005 / scale}
        for name, value in figures.items():
            point[name] = scale * value if name == "average_add_on" else value / scale**0.5
            point[f"{name}_ci95"] = [0.9 * point[name], 1.1 * point[name]]
        points.append(point)
    points[-1] |= {"prevented_share": None, "prevented_share_ci95": None, "uncovered_ci95": None}
    return {"p_star": {"1": 0.002, "24": 0.02}, "account_hours": 12_345, "points": points}


def _backtest() -> dict[str, Any]:
    figures = {
        "uncovered": 0.0012,
        "breach_rate": 0.05,
        "average_add_on": 0.042,
        "matched": True,
        "scalar": 1.5,
        "ratio_to_flat": 0.72,
        "ratio_to_flat_ci95": [0.65, 0.8],
        "ratio_to_best_simple": 0.93,
        "ratio_to_best_simple_ci95": [0.87, 0.99],
    }
    best = {**figures, "ratio_to_best_simple": 1.0, "ratio_to_best_simple_ci95": None}
    policies = {
        "margincast": figures,
        "flat": {**figures, "uncovered": 0.0},
        "sigma_ewma_volatility_72h": best,
        "volatility_oracle": {**figures, "matched": False},
    }
    calls = {
        "calls": 1200,
        "needed": 40,
        "in_vain": 1160,
        "prevented_breaches": 30,
        "missed_breaches": 5,
        "collected": 88.5,
        "median_lead_hours": 14.0,
        "flips_per_account_day": 0.4,
    }
    moves = {
        "peak_to_trough": 1.7,
        "n_day_max_increase": {"1": 0.2, "5": 0.4, "20": None},
        "response_to_one_extreme_return": 0.1,
    }
    covered = {
        "coverage": 0.99,
        "kupiec_p": 0.4,
        "christoffersen_p": None,
        "christoffersen_independence_p": None,
        "share_not_rejected": None,
    }
    return {
        "span": ["2022-12-01T00:00:00Z", "2022-12-10T00:00:00Z"],
        "account_hours": 250_321,
        "uncovered": {
            "horizon_hours": 24,
            "best_simple": "sigma_ewma_volatility_72h",
            "budgets": [
                {"flat_coverage": coverage, "average_add_on": level, "policies": policies}
                for coverage, level in ((0.9, 0.035), (0.95, 0.05))
            ],
        },
        "calls": {
            "account_hours": 60_112,
            "average_add_on": 0.05,
            "policies": {
                "margincast": calls,
                "none": {**calls, "calls": 0, "median_lead_hours": None},
            },
        },
        "p_star": _p_star(),
        "procyclicality": {"portfolios": 200, "policies": dict.fromkeys(policies, moves)},
        "coverage": {"policies": dict.fromkeys(policies, covered)},
        "frontier": {
            "margincast": [[0.03, 0.002], [0.05, 0.001], [0.08, 0.0]],
            "sigma_ewma_volatility_72h": [[0.03, 0.003], [0.05, 0.0015]],
            "emir_buffer": [],
        },
    }
