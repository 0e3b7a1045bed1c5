"""Folds of a training as child runs, so that MLflow shows them under their training."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from models.bundle.schema import canonical_json

if TYPE_CHECKING:
    from mlflow import MlflowClient

_PARENT = "mlflow.parentRunId"
_NOTE = "mlflow.note.content"


@dataclass(frozen=True, slots=True)
class FoldRun:
    """One fold as a child run.

    Attributes
    ----------
    name:
        Of the run.
    params, metrics:
        Flat.
    tags:
        For searches.
    note:
        Markdown shown with the run.
    record:
        Written to ``fold.json``.
    evaluated:
        False where the fold could not be trained: the run is then FAILED.
    """

    name: str
    params: Mapping[str, str | int | float]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    note: str
    record: Mapping[str, Any]
    evaluated: bool


def log_fold(client: MlflowClient, experiment: str, parent: str, fold: FoldRun) -> str:
    """Log a fold as a run nested under `parent`; returns its id.

    References
    ----------
    MLflow documentation, "Parent and child runs".
    """
    from mlflow.entities import Metric, Param

    now = time.time_ns() // 1_000_000
    tags = {**fold.tags, _PARENT: parent, _NOTE: fold.note}
    run_id = str(client.create_run(experiment, run_name=fold.name, tags=tags).info.run_id)
    ended = "FAILED"
    try:
        client.log_batch(
            run_id,
            params=[Param(name, str(value)) for name, value in fold.params.items()],
            metrics=[Metric(name, value, now, 0) for name, value in fold.metrics.items()],
        )
        client.log_text(run_id, canonical_json(fold.record).decode(), "fold.json")
        ended = "FINISHED" if fold.evaluated else "FAILED"
    finally:
        client.set_terminated(run_id, ended)
    return run_id
