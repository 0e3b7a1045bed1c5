"""Logged trainings, read back for review and promotion."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from market.core.errors import ModelError
from models.bundle.bundle import MANIFEST_FILE
from models.mlflow.store import Tracking, is_missing, mlflow_client
from models.mlflow.tracking import (
    BACKTEST_FILE,
    EVALUATION_FILE,
    GATES_FILE,
    MODEL_CARD_FILE,
    REVIEW_FILE,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SYSTEM_TAGS = "mlflow."


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A logged training as `load_run` reads it back; MLflow's own tags are left out.

    ``review``, ``backtest`` and ``model_card`` are None where the run has none.
    """

    run_id: str
    name: str
    status: str
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]
    evaluation: dict[str, Any]
    gates: dict[str, Any]
    manifest: dict[str, Any]
    review: dict[str, Any] | None
    backtest: dict[str, Any] | None
    model_card: str | None


def load_run(tracking: Tracking, run_id: str) -> RunSummary:
    """Read a logged training back, for review.

    Raises
    ------
    ModelError
        There is no such run, it has no evaluation or gates, or MLflow or its store fails.
    """
    with mlflow_client(tracking) as client:
        from mlflow.exceptions import MlflowException

        try:
            run = client.get_run(run_id)
        except MlflowException as error:
            if not is_missing(error):
                raise
            raise ModelError(
                f"run {run_id!r} is not at {tracking.address}; list the runs of experiment "
                f"{tracking.experiment!r}"
            ) from error
        with tempfile.TemporaryDirectory() as folder:

            def read(name: str) -> dict[str, Any]:
                return _read_json(client, run_id, name, Path(folder))

            there = {artifact.path for artifact in client.list_artifacts(run_id)}
            evaluation, gates, manifest = map(read, (EVALUATION_FILE, GATES_FILE, MANIFEST_FILE))
            review, backtest = (
                read(name) if name in there else None for name in (REVIEW_FILE, BACKTEST_FILE)
            )
            card = None
            if MODEL_CARD_FILE in there:
                path = client.download_artifacts(run_id, MODEL_CARD_FILE, folder)
                card = Path(path).read_text(encoding="utf-8")
    return RunSummary(
        run_id=run_id,
        name=run.info.run_name,
        status=run.info.status,
        params=dict(run.data.params),
        metrics=dict(run.data.metrics),
        tags={k: v for k, v in run.data.tags.items() if not k.startswith(_SYSTEM_TAGS)},
        evaluation=evaluation,
        gates=gates,
        manifest=manifest,
        review=review,
        backtest=backtest,
        model_card=card,
    )


def _read_json(client: MlflowClient, run_id: str, name: str, folder: Path) -> dict[str, Any]:
    from mlflow.exceptions import MlflowException

    try:
        path = Path(client.download_artifacts(run_id, name, str(folder)))
        content = json.loads(path.read_bytes())
    except (MlflowException, OSError, ValueError) as error:
        raise ModelError(
            f"run {run_id} has no readable {name} ({type(error).__name__}); it was not logged by "
            "a finished training: choose another run"
        ) from error
    if not isinstance(content, dict):
        raise ModelError(f"{name} of run {run_id} is not a JSON object; choose another run")
    return content
