"""Log of a report on a bundle as an MLflow run of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from models.mlflow.registry import BUNDLE_TAG
from models.mlflow.store import Tracking, mlflow_client

JOB_TAG = "job"


def log_report(tracking: Tracking, job: str, bundle: str, files: Mapping[str, bytes]) -> str:
    """Log the files of a report as one run of the configured experiment; returns its id.

    The run is named after the job and the bundle, and tagged with both.

    Raises
    ------
    ModelError
        MLflow or its store failed; the run, if there is one, ends as FAILED.
    """
    with mlflow_client(tracking) as client:
        found = client.get_experiment_by_name(tracking.experiment)
        experiment = (
            client.create_experiment(
                tracking.experiment, artifact_location=tracking.artifact_location
            )
            if found is None
            else found.experiment_id
        )
        tags = {JOB_TAG: job, BUNDLE_TAG: bundle}
        run_id = client.create_run(
            experiment, run_name=f"{job}/{bundle[:12]}", tags=tags
        ).info.run_id
        status = "FAILED"
        try:
            with tempfile.TemporaryDirectory() as folder:
                for name, content in files.items():
                    Path(folder, name).write_bytes(content)
                client.log_artifacts(run_id, folder)
            status = "FINISHED"
        finally:
            client.set_terminated(run_id, status)
    return str(run_id)
