"""Folds and trials of a training as child runs, which MLflow shows under their training."""

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
class ChildRun:
    """One fold, or one trial of a search, as a child run.

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
        Written to `file`.
    evaluated:
        False where it could not be trained: the run is then FAILED.
    started, ended:
        When it was computed, in nanoseconds since 1970 UTC.
    file:
        Name of the artifact with the record.
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
    file: str = "fold.json"


def log_child(
    client: MlflowClient,
    experiment: str,
    parent: str,
    child: ChildRun,
    origin: Mapping[str, str],
) -> str:
    """Log a child as a run nested under `parent`; returns its id.

    `origin` has MLflow's own tags of user and source, which are those of the parent.

    References
    ----------
    MLflow documentation, "Parent and child runs".
    """
    from mlflow.entities import Metric, Param

    started, now = to_milliseconds(child.started), to_milliseconds(child.ended)
    tags = {**child.tags, **origin, _PARENT: parent, _NOTE: child.note}
    run = client.create_run(experiment, started, tags, run_name=child.name)
    run_id = str(run.info.run_id)
    ended = "FAILED"
    try:
        client.log_batch(
            run_id,
            params=[Param(name, str(value)) for name, value in child.params.items()],
            metrics=[Metric(name, value, now, 0) for name, value in child.metrics.items()],
        )
        client.log_text(run_id, canonical_json(child.record).decode(), child.file)
        ended = "FINISHED" if child.evaluated else "FAILED"
    finally:
        client.set_terminated(run_id, ended, now)
    return run_id
