"""Log a training to MLflow: all that a reviewer needs, in one run with its folds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from models.bundle.bundle import Bundle
from models.mlflow.child_runs import ChildRun
from models.mlflow.run_figures import evaluation_metrics
from models.mlflow.store import Tracking
from models.mlflow.tracking import TrainingRun, log_training
from pipelines.config.config import Config
from pipelines.data.provenance import git_commit, library_versions, source_sha256, user_name
from training.evaluation.evaluate import model_columns
from training.labels.dataset import Dataset
from training.reports.backtest_tables import backtest_tables
from training.reports.charts import review_charts
from training.reports.model_card import model_card
from training.reports.review_note import fold_note, training_note
from training.reports.review_page import review_page
from training.reports.review_tables import csv_bytes, review_tables
from training.reports.run_record import RunRecord
from training.tuning.search import SearchResult, Trial

PAGE = "review.html"
INCUMBENT_TAG = "champion_before"
"""Tag of a run with the bundle that was champion before it, or ``none``."""
ACCEPTED_TAG = "accepted_gates"
"""Tag of a run with its gates that failed and were accepted: JSON, by whom and why by gate."""

_EXAMPLE_ROWS = 3
_OF_THE_RUN = ("backtest", "fold_times")
"""Parts of a review that are logged in other places than ``review.json``."""


_OF_THE_SEARCH = ("trials", "seed", "best", "used", "reason", "skill", "skill_ci95")
"""What the parameters of a run say of its search; the manifest has all."""


def tracking(config: Config) -> Tracking:
    """The configured store of experiments."""
    return Tracking(config.tracking.uri, config.tracking.experiment, config.tracking.model)


def log_run(
    config: Config,
    bundle: Bundle,
    report: Mapping[str, Any],
    review: Mapping[str, Any],
    test: Dataset,
    started: int,
    search: SearchResult | None = None,
) -> str:
    """Log a training with its page, tables, charts and folds; returns the run's id.

    `report` is the object of ``retrain --json`` so far, `review` the result of
    `pipelines.registry.training_review.examine`; the first rows of `test` are the model's example;
    `started` is when the training began, in nanoseconds; the trials of `search` are child runs.
    """
    code, commit = source_sha256(), git_commit()
    record = {name: part for name, part in review.items() if name not in _OF_THE_RUN} | {
        "provenance": {"code_sha256": code, "git_commit": commit, "libraries": library_versions()}
    }
    subject = RunRecord(
        bundle=bundle.sha256,
        verdict=report["verdict"],
        reasons=report["reasons"],
        evaluation=report["evaluation"],
        gates=report["gates"],
        manifest=bundle.manifest,
        review=record,
        backtest=review["backtest"],
        params=_params(config, bundle),
        incumbent=report["champion_before"],
    )
    backtest = subject.completed_backtest
    card = model_card(
        bundle.manifest,
        subject.evaluation,
        subject.gates,
        bundle_sha256=bundle.sha256,
        verdict=subject.verdict,
        reasons=subject.reasons,
        backtest=backtest,
        walk_forward=review["walk_forward"],
    )
    charts = review_charts(subject.evaluation, record, backtest)
    tables = review_tables(subject.evaluation, subject.gates, record) | backtest_tables(backtest)
    run = TrainingRun(
        bundle=bundle,
        data_sha256=report["data_sha256"],
        ruleset_sha256=report["ruleset_sha256"],
        params=subject.params,
        evaluation=subject.evaluation,
        gates=subject.gates,
        verdict=subject.verdict,
        reasons=subject.reasons,
        plots={f"{name}.svg": svg.encode() for name, svg in charts.items()},
        model_card=card,
        backtest=subject.backtest,
        review=record,
        note=training_note(subject),
        tags={
            "code_sha256": code,
            "git_commit": commit or "none",
            INCUMBENT_TAG: report["champion_before"] or "none",
            ACCEPTED_TAG: json.dumps(report["accepted"]),
        },
        files={
            PAGE: review_page(subject, charts=charts).encode(),
            **{f"tables/{name}.csv": csv_bytes(rows) for name, rows in tables.items()},
        },
        children=[
            _fold_run(fold, *times)
            for fold, times in zip(review["folds"], review["fold_times"], strict=True)
        ]
        + [_trial_run(trial) for trial in (() if search is None else search.trials)],
        curves=_curves(review["learning"]),
        example=test.features[:_EXAMPLE_ROWS, model_columns(bundle.schema, test)],
        started=started,
        user=user_name(),
        source="margincast retrain",
        commit=commit,
    )
    return log_training(tracking(config), run).run_id


def _params(config: Config, bundle: Bundle) -> dict[str, str | int | float]:
    """Settings by which runs can be filtered."""
    training, manifest = config.training, bundle.manifest["training"]
    search = manifest.get("search", {})
    return {
        **{f"rows_{name}": count for name, count in manifest["rows"].items()},
        **{f"rounds_{hours}h": trees["rounds"] for hours, trees in manifest["trees"].items()},
        **{
            f"lightgbm/{name}": _text(value)
            for name, value in manifest.get(
                "hyperparameters", training.lightgbm.model_dump(mode="json")
            ).items()
        },
        **{f"search/{name}": _text(search[name]) for name in _OF_THE_SEARCH if name in search},
        **{f"search/values/{name}": value for name, value in search.get("values", {}).items()},
        "features": len(bundle.schema.features),
        "horizons": ", ".join(str(hours) for hours in bundle.schema.horizons),
        "max_rows": training.max_rows,
        "extremes": training.extremes,
        "book": training.book,
        "interval": config.market.interval,
        "population": config.accounts.population if config.accounts.path is None else "none",
        "accounts_seed": config.accounts.seed,
        "ruleset": config.rules.ruleset,
        "folds": config.review.folds,
        "walk_forward_months": config.review.walk_forward_months,
        "walk_forward_rows": config.review.walk_forward_rows,
    }


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _curves(learning: Mapping[str, Any]) -> dict[str, list[tuple[int, float]]]:
    """Learning curves as metrics: ``24h/learning/train_log_loss`` by number of trees."""
    return {
        f"{hours}h/learning/{part}_log_loss": list(zip(curve["rounds"], curve[part], strict=True))
        for hours, curve in learning.items()
        for part in ("train", "validation")
    }


def _trial_run(trial: Trial) -> ChildRun:
    losses = {
        f"fold_{k}/{hours}h/log_loss": loss
        for k, fold in enumerate(trial.losses, start=1)
        for hours, loss in fold.items()
    }
    done = trial.relative is not None
    relative = {} if trial.relative is None else {"relative_log_loss": trial.relative}
    return ChildRun(
        name=f"trial {trial.number}",
        params=dict(trial.values),
        metrics=relative | losses,
        tags={"trial": str(trial.number), "state": "complete" if done else "failed"},
        note=trial.error
        or "One trial of the search for hyperparameters: its log loss by fold, "
        "and its mean relative to the configured values, which have 1.",
        record={"values": dict(trial.values), "relative_log_loss": trial.relative}
        | {"losses": [{str(h): loss for h, loss in fold.items()} for fold in trial.losses]},
        evaluated=done,
        started=trial.started,
        ended=trial.ended,
        file="trial.json",
    )


def _fold_run(fold: Mapping[str, Any], started: int, ended: int) -> ChildRun:
    evaluation = fold.get("evaluation")
    test_start, test_end = fold.get("held_out", ["", ""])
    fit_start, fit_end = fold.get("learnt_from", ["", ""])
    span = f" {test_start[:10]} to {test_end[:10]}" if test_start else ""
    return ChildRun(
        name=f"{fold['name']}{span}",
        params={
            **{f"rows_{name}": count for name, count in fold.get("rows", {}).items()},
            "learnt_from": fit_start,
            "learnt_to": fit_end,
            "held_out_from": test_start,
            "held_out_to": test_end,
        },
        metrics=evaluation_metrics(evaluation) if evaluation else {},
        tags={"fold": fold["name"], "fold_kind": fold["kind"]},
        note=fold_note(fold),
        record=fold,
        evaluated=evaluation is not None,
        started=started,
        ended=ended,
    )
