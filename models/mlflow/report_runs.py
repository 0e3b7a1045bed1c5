"""Log of a report on a bundle as an MLflow run of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from models.mlflow.child_runs import to_milliseconds
from models.mlflow.origin import experiment_id, origin_tags, unique_name
from models.mlflow.registry import BUNDLE_TAG
from models.mlflow.store import Tracking, mlflow_client

JOB_TAG = "job"


@dataclass(frozen=True, slots=True)
class ReportRun:
    """A report when it is written.

    Attributes
    ----------
    job:
        The verb that made it.
    bundle:
        SHA-256 of the bundle that it is on.
    files:
        Artifacts by name.
    started:
        When the job began, in nanoseconds since 1970 UTC; the run ends when it is logged.
    user, source, commit:
        As in `models.mlflow.tracking.TrainingRun`.
    tags:
        Further tags, such as hashes of data and rule set.
    """

    job: str
    bundle: str
    files: Mapping[str, bytes]
    started: int
    user: str
    source: str
    commit: str | None
    tags: Mapping[str, str] = field(default_factory=dict)


def log_report(tracking: Tracking, run: ReportRun) -> str:
    """Log a report as one run of the configured experiment; returns its id.

    Raises
    ------
    ModelError
        MLflow or its store failed; the run, if there is one, ends as FAILED.
    """
    own = {JOB_TAG: run.job, BUNDLE_TAG: run.bundle}
    tags = {**run.tags, **own, **origin_tags(run.user, run.source, run.commit)}
    with mlflow_client(tracking) as client:
        experiment = experiment_id(client, tracking)
        subject = f"{tracking.experiment} {run.job}"
        name = unique_name(client, experiment, subject, run.started, run.bundle)
        started = to_milliseconds(run.started)
        run_id = str(client.create_run(experiment, started, tags, run_name=name).info.run_id)
        status = "FAILED"
        try:
            with tempfile.TemporaryDirectory() as folder:
                for file, content in run.files.items():
                    Path(folder, file).write_bytes(content)
                client.log_artifacts(run_id, folder)
            status = "FINISHED"
        finally:
            client.set_terminated(run_id, status)
    return run_id
