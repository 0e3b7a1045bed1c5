"""Log of a training as an MLflow run: parameters, figures, artifacts and the model itself."""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from market.core.arrays import Floats
from market.core.errors import ModelError
from models.bundle.bundle import MANIFEST_FILE, Bundle
from models.bundle.schema import canonical_json, is_sha256
from models.mlflow.child_runs import ChildRun, log_child, to_milliseconds
from models.mlflow.logged_model import log_model
from models.mlflow.origin import experiment_id, origin_tags, unique_name
from models.mlflow.registry import BUNDLE_TAG, find_version, register_version
from models.mlflow.run_figures import training_metrics
from models.mlflow.store import Tracking, mlflow_client

if TYPE_CHECKING:
    from mlflow import MlflowClient

EVALUATION_FILE = "evaluation.json"
GATES_FILE = "gates.json"
BACKTEST_FILE = "backtest.json"
MODEL_CARD_FILE = "model_card.md"
REVIEW_FILE = "review.json"
PLOTS_FOLDER = "plots"
VERSION_TAG = "registered_version"

_SYSTEM_TAGS = "mlflow."
_DIGEST_LENGTH = 36
# MLflow's own limits for one request.
_METRICS_PER_BATCH = 1000
_PARAMS_PER_BATCH = 100
_PLOT_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}(\.png|\.svg)?")
_FILE_NAME = re.compile(r"([a-z0-9_]{1,32}/)?[a-z0-9_]{1,64}\.(csv|html|json|md)")
_NOTE = "mlflow.note.content"


@dataclass(frozen=True, slots=True, eq=False)
class TrainingRun:
    """A training when it ends, with everything that is logged of it.

    Attributes
    ----------
    bundle:
        What the training made.
    data_sha256, ruleset_sha256:
        Hashes of the training data and the rule set.
    params:
        Settings of the training, flat.
    evaluation:
        The object of ``evaluate --json``, with ``predicted_over_observed`` and ``reliability`` in
        each horizon.
    gates:
        By name ``{"passed", "value", "limit", …}``.
    verdict:
        ``promoted``, ``kept``, ``refused`` or ``failed``.
    reasons:
        Why, one sentence each.
    plots:
        PNG bytes by name, with or without ``.png``, or SVG bytes by name with ``.svg``.
    model_card:
        Markdown.
    example:
        A few rows of the model's features, float64, shape (N, F).
    started:
        When the training began, in nanoseconds since 1970 UTC; the run ends when it is logged.
    user, source, commit:
        Who ran it, by what command, and the commit of the code where there is one.
    backtest:
        The object of ``backtest --json``, or None.
    review:
        Further figures for a reviewer, or None: contributions, ablation, folds, provenance.
    note:
        Markdown that MLflow shows as the description of the run and of the registered version.
    tags:
        Further tags of the run, such as the hash of the code.
    files:
        Further artifacts by path: ``tables/months.csv``, ``review.html``.
    children:
        Child runs: folds and trials.
    curves:
        Further metrics by name with a value at each step: learning curves.
    """

    bundle: Bundle
    data_sha256: str
    ruleset_sha256: str
    params: Mapping[str, str | int | float]
    evaluation: Mapping[str, Any]
    gates: Mapping[str, Mapping[str, Any]]
    verdict: str
    reasons: Sequence[str]
    plots: Mapping[str, bytes]
    model_card: str
    example: Floats
    started: int
    user: str
    source: str
    commit: str | None
    backtest: Mapping[str, Any] | None = None
    review: Mapping[str, Any] | None = None
    note: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    children: Sequence[ChildRun] = ()
    curves: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LoggedTraining:
    """A training in MLflow: its run and the registered version of its bundle."""

    run_id: str
    version: int


def log_training(tracking: Tracking, run: TrainingRun) -> LoggedTraining:
    """Log a training as one run and register its bundle once per bundle.

    Everything is checked and written as text before MLflow is touched. The version is registered
    last, so that an unfinished run has none; a bundle that is registered already
    keeps its version, which the new run names in the tag ``registered_version``.

    Parameters
    ----------
    tracking:
        The store; experiment and registered model are created where they do not exist.
    run:
        The training.

    Returns
    -------
    Run and version.

    Raises
    ------
    ModelError
        A hash, a file of the bundle, a plot's name or a figure (NaN or infinite) is malformed:
        nothing is logged. MLflow or its store failed: the run, if there is one, ends as FAILED.

    References
    ----------
    MLflow documentation, "Tracking" and ``mlflow.pyfunc``.
    """
    files = _files(run)
    origin = origin_tags(run.user, run.source, run.commit)
    tags = _tags(run) | origin
    walk_forward = (run.review or {}).get("walk_forward")
    metrics = training_metrics(run.evaluation, run.gates, run.backtest, walk_forward)

    with mlflow_client(tracking) as client:
        experiment = experiment_id(client, tracking)
        started = to_milliseconds(run.started)
        subject = f"{tracking.experiment} {run.verdict}"
        name = unique_name(client, experiment, subject, run.started, run.bundle.sha256)
        run_id = client.create_run(experiment, started, tags, run_name=name).info.run_id
        with _active_run(tracking, run_id):
            # Before the metrics, each of which MLflow would read back to copy it to the model.
            model_id = log_model(run.bundle, run.example)
            _log_figures(client, run_id, run.params, metrics, run.curves)
            _log_dataset(client, run_id, run)
            _log_files(client, run_id, files)
            for child in run.children:
                own_name = replace(child, name=f"{child.name}, {name}")
                log_child(client, experiment, run_id, own_name, origin)
            version = find_version(client, tracking, run.bundle.sha256)
            if version is None:
                version = register_version(
                    client,
                    tracking,
                    run.bundle.sha256,
                    run_id=run_id,
                    model_id=model_id,
                    description=run.note,
                )
            client.set_tag(run_id, VERSION_TAG, str(version))
    return LoggedTraining(run_id, version)


def _files(run: TrainingRun) -> dict[str, bytes]:
    """Artifacts of a run by path."""
    files = {
        EVALUATION_FILE: _readable_json(run.evaluation),
        GATES_FILE: _readable_json(run.gates),
        MANIFEST_FILE: run.bundle.read(MANIFEST_FILE),
        MODEL_CARD_FILE: run.model_card.encode(),
    }
    if run.backtest is not None:
        files[BACKTEST_FILE] = _readable_json(run.backtest)
    if run.review is not None:
        files[REVIEW_FILE] = _readable_json(run.review)
    for name, content in run.files.items():
        if not _FILE_NAME.fullmatch(name) or name in files:
            raise ModelError(
                f"artifact is named {name!r}; use a name of its own in lower-case letters, digits "
                "and '_', as in tables/months.csv"
            )
        files[name] = content
    for name, picture in run.plots.items():
        if not _PLOT_NAME.fullmatch(name):
            raise ModelError(
                f"plot is named {name!r}; use letters, digits, '_' and '-', as in reliability.png"
            )
        suffix = "" if name.endswith((".png", ".svg")) else ".png"
        files[f"{PLOTS_FOLDER}/{name}{suffix}"] = picture
    return files


def _readable_json(value: Mapping[str, Any]) -> bytes:
    """JSON for people: keys keep their order, which is that of horizons and bands."""
    canonical_json(value)  # refuses what JSON cannot say
    return json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n"


def _tags(run: TrainingRun) -> dict[str, str]:
    hashes = {
        BUNDLE_TAG: run.bundle.sha256,
        "data_sha256": run.data_sha256,
        "ruleset_sha256": run.ruleset_sha256,
        "features_sha256": run.bundle.schema.features_sha256,
    }
    for name, sha in hashes.items():
        if not is_sha256(sha):
            raise ModelError(f"{name} is {sha!r}; expected 64 lower-case hex digits")
    note = {_NOTE: run.note} if run.note else {}
    provenance = {f"data_{key}": str(value) for key, value in run.evaluation["data"].items()}
    return {
        **run.tags,
        **note,
        **provenance,
        **hashes,
        "margincast_version": installed_version("margincast"),
        "verdict": run.verdict,
        "reasons": canonical_json(list(run.reasons)).decode(),
    }


@contextmanager
def _active_run(tracking: Tracking, run_id: str) -> Iterator[None]:
    """Run of the block: it ends with it, as FAILED if the block fails.

    ``log_model`` takes no client: it logs to the process-wide address and active run.
    """
    import mlflow

    mlflow.set_tracking_uri(tracking.uri)
    with mlflow.start_run(run_id=run_id, log_system_metrics=False):
        yield


def _log_figures(
    client: MlflowClient,
    run_id: str,
    params: Mapping[str, str | int | float],
    metrics: Mapping[str, float],
    curves: Mapping[str, Sequence[tuple[int, float]]],
) -> None:
    from mlflow.entities import Metric, Param

    now = time.time_ns() // 1_000_000
    settings = [Param(name, str(value)) for name, value in params.items()]
    figures = [Metric(name, value, now, 0) for name, value in metrics.items()]
    figures += [Metric(name, y, now, step) for name, curve in curves.items() for step, y in curve]
    for start in range(0, len(settings), _PARAMS_PER_BATCH):
        client.log_batch(run_id, params=settings[start : start + _PARAMS_PER_BATCH])
    for start in range(0, len(figures), _METRICS_PER_BATCH):
        client.log_batch(run_id, metrics=figures[start : start + _METRICS_PER_BATCH])


def _log_dataset(client: MlflowClient, run_id: str, run: TrainingRun) -> None:
    """Name the training rows; MLflow takes 36 of the 64 digits of their hash."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source = json.dumps({"data_sha256": run.data_sha256})
    rows = Dataset("training rows", run.data_sha256[:_DIGEST_LENGTH], "code", source)
    client.log_inputs(run_id, [DatasetInput(rows, [InputTag("mlflow.data.context", "training")])])


def _log_files(client: MlflowClient, run_id: str, files: Mapping[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            path = Path(folder, name)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        client.log_artifacts(run_id, folder)
