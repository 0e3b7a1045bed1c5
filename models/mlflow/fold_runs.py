"""Folds of a training as child runs, so that MLflow shows them under their training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from models.bundle.schema import canonical_json

if TYPE_CHECKING:
    from mlflow import MlflowClient

_PARENT = "mlflow.parentRunId"
_NOTE = "mlflow.note.content"


def to_milliseconds(nanoseconds: int) -> int:
    """A time as MLflow counts it."""
    return nanoseconds // 1_000_000


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
    started, ended:
        When it was computed, in nanoseconds since 1970 UTC.
    """

    name: str
    params: Mapping[str, str | int | float]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    note: str
    record: Mapping[str, Any]
    evaluated: bool
    started: int
    ended: int


def log_fold(
    client: MlflowClient,
    experiment: str,
    parent: str,
    fold: FoldRun,
    origin: Mapping[str, str],
) -> str:
    """Log a fold as a run nested under `parent`; returns its id.

    `origin` has MLflow's own tags of user and source, which are those of the parent.

    References
    ----------
    MLflow documentation, "Parent and child runs".
    """
    from mlflow.entities import Metric, Param

    started, now = to_milliseconds(fold.started), to_milliseconds(fold.ended)
    tags = {**fold.tags, **origin, _PARENT: parent, _NOTE: fold.note}
    run = client.create_run(experiment, started, tags, run_name=fold.name)
    run_id = str(run.info.run_id)
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
        client.set_terminated(run_id, ended, now)
    return run_id
