"""Experiment, name and origin of a run: what all runs of Margincast have in common."""

from __future__ import annotations

import re
from itertools import count
from typing import TYPE_CHECKING

from market.core.clock import format_time
from models.mlflow.registry import BUNDLE_TAG
from models.mlflow.store import Tracking

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SHORT_SHA = 12
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_EXPERIMENT_TAGS = {
    # Lists the experiment as model training, not as a language model's traces.
    "mlflow.experimentKind": "custom_model_development",
    "mlflow.note.content": "Trainings and reports of Margincast. Each run is one `margincast "
    "retrain` (its description says the outcome, `review.html` among its artifacts shows "
    "everything, and its child runs are its folds and trials) or one page of `margincast drift`, "
    "`evaluate` or `backtest`, with the tag `job`. `margincast review` sets the newest training "
    "beside the champion.",
}


def experiment_id(client: MlflowClient, tracking: Tracking) -> str:
    """Id of the configured experiment, which is created where it does not exist."""
    experiment = client.get_experiment_by_name(tracking.experiment)
    if experiment is not None:
        return str(experiment.experiment_id)
    return str(
        client.create_experiment(
            tracking.experiment, artifact_location=tracking.artifact_location, tags=_EXPERIMENT_TAGS
        )
    )


def origin_tags(user: str, source: str, commit: str | None) -> dict[str, str]:
    """MLflow's own tags of who and what made a run."""
    tags = {"mlflow.user": user, "mlflow.source.name": source, "mlflow.source.type": "LOCAL"}
    # A commit with changes on top is none that another could check out.
    if commit is not None and _COMMIT.fullmatch(commit):
        tags["mlflow.source.git.commit"] = commit
    return tags


def unique_name(
    client: MlflowClient, experiment: str, subject: str, started: int, bundle: str
) -> str:
    """Subject, time and bundle; a number follows where a run has that name."""
    name = f"{subject} {format_time(started)[:19]} {bundle[:_SHORT_SHA]}"
    # Names of earlier runs that begin alike; the bundle and the second make these few.
    taken = {
        other.info.run_name
        for other in client.search_runs(
            [experiment], f"tags.{BUNDLE_TAG} = '{bundle}'", max_results=1000
        )
    }
    numbered = (name if k == 1 else f"{name} ({k})" for k in count(1))
    return next(each for each in numbered if each not in taken)
