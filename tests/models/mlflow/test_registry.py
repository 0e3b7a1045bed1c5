"""Trainings in MLflow: logged whole or FAILED, one version a bundle, errors without passwords.

One SQLite store serves the file, for MLflow takes seconds to lay out each; tests that count
versions have a registered model of their own.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from market.core.clock import parse_time
from market.core.errors import ModelError
from models.bundle.bundle import Bundle, bundle_files, load_bundle, write_bundle
from models.bundle.manifest import TrainingRecord
from models.bundle.schema import ModelSchema
from models.mlflow.child_runs import ChildRun
from models.mlflow.registry import list_versions, set_aliases
from models.mlflow.run_figures import training_metrics
from models.mlflow.run_reader import load_run
from models.mlflow.store import Tracking, mlflow_client
from models.mlflow.tracking import LoggedTraining, TrainingRun, log_training
from models.onnx.export import export
from models.trees.tree_table import TreeTable

PRIOR = ("prior_1", "prior_8")
SCHEMA = ModelSchema((*PRIOR, "mix"), (1, 1, 0), (1, 8), ("prior_1", "prior_8"), "a" * 64)
TREES = {h: TreeTable.empty(3) for h in SCHEMA.horizons}
SHA = "a" * 64
FOLDER = Path(tempfile.mkdtemp(prefix="margincast-bundles-"))
EVALUATION: dict[str, Any] = {
    "rows": 1234,
    "data": {"prices": "real", "accounts": "sampled", "labels": "computed"},
    "horizons": {
        hours: {
            "base_rate": 0.01,
            "positives": 12,
            "models": {
                "margincast": {"auc": 0.97, "log_loss": 0.034, "brier_skill": None},
                "first_passage": {"auc": 0.95, "log_loss": 0.036},
                "volatility_oracle": None,
            },
            "best_baseline": "first_passage",
            "log_loss_skill": 0.05,
            "log_loss_skill_ci95": [0.01, 0.09],
            "oracle_gap_closed": None,
            "predicted_over_observed": 1.1,
            "reliability": {"predicted": [0.01], "observed": [0.02], "count": [1234]},
        }
        for hours in ("1", "8")
    },
}
BUDGET = {
    "flat_coverage": 0.95,
    "policies": {"flat": {"uncovered": 0.7, "ratio_to_flat": 1.0, "ratio_to_best_simple": None}},
}
GATES = {"parity": {"passed": True, "value": 2e-16, "limit": 1e-9}}
STARTED, SECOND = parse_time("2026-01-01T03:00:00Z"), 1_000_000_000
PNG = b"\x89PNG\r\n\x1a\n and so on"


def fold_run(name: str, *, evaluated: bool = True) -> ChildRun:
    return ChildRun(
        name=name,
        params={"rows_test": 10},
        metrics={"8h/log_loss": 0.03} if evaluated else {},
        tags={"fold": name},
        note=f"note of {name}",
        record={"name": name},
        evaluated=evaluated,
        started=STARTED + 60 * SECOND,
        ended=STARTED + 90 * SECOND,
    )


def bundle_of(slope: float) -> Bundle:
    """A bundle in the folder of this module; each slope gives another."""
    calibration = {1: (slope, 0.1), 8: (1.05, -0.2)}
    files = bundle_files(
        model=export(SCHEMA, TREES, calibration),
        schema=SCHEMA,
        trees=TREES,
        calibration=calibration,
        record=TrainingRecord(SHA, SHA, {}),
    )
    return load_bundle(FOLDER / write_bundle(FOLDER, files))


BUNDLES = {bundle.sha256: bundle for bundle in map(bundle_of, (0.9, 0.8, 0.7))}
A, B, C = BUNDLES


def training_run(sha: str = A, **changes: Any) -> TrainingRun:
    run = TrainingRun(
        bundle=BUNDLES[sha],
        data_sha256="1" * 64,
        ruleset_sha256="2" * 64,
        params={"seed": 7, "learning_rate": 0.05, "book": "static"},
        evaluation=EVALUATION,
        gates=GATES,
        verdict="kept",
        reasons=["skill 0.05 is below the champion's"],
        plots={"reliability": PNG, "log_loss.png": PNG, "months_8h.svg": b"<svg/>"},
        model_card="# Card\n",
        example=np.array([[-0.4, -0.1, 0.3], [0.2, 0.4, np.nan]]),
        started=STARTED,
        user="desk",
        source="margincast retrain",
        commit="c" * 40,
        backtest={"uncovered": {"budgets": [BUDGET]}},
        review={"folds": [], "horizons_in_order": {"8": 1, "24": 2, "1": 3}},
        note="**Kept**: a note",
        tags={"code_sha256": "4" * 64},
        files={"review.html": b"<p>", "tables/months.csv": b"month\n"},
        children=[fold_run("walk_forward_1"), fold_run("walk_forward_2", evaluated=False)],
    )
    return dataclasses.replace(run, **changes)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("mlflow")
    # A folder that is not there yet, as on a fresh machine.
    return f"sqlite:///{folder}/var/mlflow.db"


@pytest.fixture(scope="session")
def tracking(store: str) -> Tracking:
    return Tracking(store, "margincast", "margincast")


@pytest.fixture(scope="session")
def logged(tracking: Tracking) -> LoggedTraining:
    return log_training(tracking, training_run())


@pytest.fixture
def own_model(store: str, request: pytest.FixtureRequest) -> Tracking:
    """The shared store with an experiment and a model of this test alone."""
    name = re.sub(r"\W", "_", request.node.name)
    return Tracking(store, name, name)


def runs(tracking: Tracking) -> list[Any]:
    """Trainings of the experiment, without their folds."""
    with mlflow_client(tracking) as client:
        experiment = client.get_experiment_by_name(tracking.experiment)
        found = client.search_runs([experiment.experiment_id]) if experiment else []
    return [run for run in found if "mlflow.parentRunId" not in run.data.tags]


def test_run_reads_back_as_it_was_logged(tracking: Tracking, logged: LoggedTraining) -> None:
    summary = load_run(tracking, logged.run_id)
    assert summary.status == "FINISHED"
    assert summary.name == f"margincast kept 2026-01-01T03:00:00 {A[:12]}"
    assert summary.params == {"seed": "7", "learning_rate": "0.05", "book": "static"}
    assert summary.metrics == training_metrics(EVALUATION, GATES, training_run().backtest)
    assert summary.evaluation == EVALUATION
    assert summary.gates == GATES
    assert summary.review == training_run().review
    assert summary.review is not None
    assert list(summary.review["horizons_in_order"]) == ["8", "24", "1"], "the order given is kept"
    assert summary.backtest == training_run().backtest
    assert summary.model_card == "# Card\n"
    assert summary.manifest == BUNDLES[A].manifest
    assert summary.tags == {
        "code_sha256": "4" * 64,
        "bundle_sha256": A,
        "data_sha256": "1" * 64,
        "ruleset_sha256": "2" * 64,
        "features_sha256": SCHEMA.features_sha256,
        "margincast_version": summary.tags["margincast_version"],
        "verdict": "kept",
        "reasons": '["skill 0.05 is below the champion\'s"]',
        "data_prices": "real",
        "data_accounts": "sampled",
        "data_labels": "computed",
        "registered_version": "1",
    }


def test_run_of_earlier_code_with_other_names_of_metrics_reads_back(own_model: Tracking) -> None:
    metrics = {"margincast_log_loss_8h": 0.034, "log_loss_skill_8h": 0.05, "rows": 1234.0}
    with mlflow_client(own_model) as client:
        run_id = client.create_run(
            client.create_experiment(
                own_model.experiment, artifact_location=own_model.artifact_location
            ),
            tags={"bundle_sha256": A},
        ).info.run_id
        for name, value in metrics.items():
            client.log_metric(run_id, name, value)
        files = {
            "evaluation.json": EVALUATION,
            "gates.json": GATES,
            "manifest.json": BUNDLES[A].manifest,
        }
        for name, content in files.items():
            client.log_text(run_id, json.dumps(content), name)
        client.set_terminated(run_id)
    summary = load_run(own_model, run_id)
    assert summary.metrics == metrics
    assert summary.evaluation == EVALUATION
    assert summary.review is None


def test_learning_curves_are_logged_at_their_steps(own_model: Tracking) -> None:
    curve = [(0, 0.7), (40, 0.5), (80, 0.4)]
    run = log_training(own_model, training_run(curves={"8h/learning/train_log_loss": curve}))
    with mlflow_client(own_model) as client:
        history = client.get_metric_history(run.run_id, "8h/learning/train_log_loss")
    assert sorted((metric.step, metric.value) for metric in history) == curve


def test_metrics_are_grouped_and_leave_out_what_is_undefined() -> None:
    metrics = training_metrics(EVALUATION, GATES)
    assert metrics["8h/auc"] == 0.97
    assert next(iter(metrics)) == "1h/log_loss_skill", "the headline comes first"
    assert metrics["1h/baselines/first_passage/log_loss"] == 0.036
    assert metrics["1h/log_loss_skill_low"] == 0.01
    assert metrics["1h/log_loss_skill_high"] == 0.09
    assert metrics["8h/predicted_over_observed"] == 1.1
    assert metrics["gates/parity/value"] == 2e-16
    assert metrics["rows"] == 1234
    assert metrics["gates/failed/safety"] == 0.0
    with_backtest = training_metrics(EVALUATION, GATES, training_run().backtest)
    assert with_backtest.keys() - metrics.keys() == {
        "backtest/flat/loss_at_95pct",
        "backtest/flat/ratio_to_flat_at_95pct",
    }
    for absent in ("1h/brier_skill", "1h/oracle_gap_closed"):
        assert absent not in metrics
    assert not [name for name in metrics if "volatility_oracle" in name]


def children(tracking: Tracking, run_id: str) -> list[Any]:
    with mlflow_client(tracking) as client:
        experiment = client.get_experiment_by_name(tracking.experiment)
        assert experiment is not None
        filter_ = f"tags.`mlflow.parentRunId` = '{run_id}'"
        return sorted(
            client.search_runs([experiment.experiment_id], filter_), key=lambda r: r.info.run_name
        )


def test_folds_are_runs_nested_under_their_training(
    tracking: Tracking, logged: LoggedTraining
) -> None:
    first, second = children(tracking, logged.run_id)
    with mlflow_client(tracking) as client:
        parent = client.get_run(logged.run_id).info.run_name
    assert (first.info.run_name, first.info.status) == (f"walk_forward_1, {parent}", "FINISHED")
    assert first.data.metrics == {"8h/log_loss": 0.03}
    assert first.data.params == {"rows_test": "10"}
    assert first.data.tags["mlflow.note.content"] == "note of walk_forward_1"
    assert (second.info.run_name, second.info.status) == (f"walk_forward_2, {parent}", "FAILED")
    with mlflow_client(tracking) as client:
        assert [a.path for a in client.list_artifacts(first.info.run_id)] == ["fold.json"]


def test_runs_have_the_times_of_the_work_and_say_who_did_it(
    tracking: Tracking, logged: LoggedTraining
) -> None:
    with mlflow_client(tracking) as client:
        run = client.get_run(logged.run_id)
    assert run.info.start_time == STARTED // 1_000_000
    assert run.info.end_time > run.info.start_time
    origin = {
        "mlflow.user": "desk",
        "mlflow.source.name": "margincast retrain",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": "c" * 40,
    }
    assert origin.items() <= run.data.tags.items()
    for fold in children(tracking, logged.run_id):
        assert fold.info.end_time - fold.info.start_time == 30_000
        assert origin.items() <= fold.data.tags.items()


def test_commit_with_changes_on_top_is_no_commit_of_mlflow(own_model: Tracking) -> None:
    logged = log_training(own_model, training_run(commit="c" * 40 + "+changes"))
    with mlflow_client(own_model) as client:
        assert "mlflow.source.git.commit" not in client.get_run(logged.run_id).data.tags


def test_run_version_and_model_explain_themselves(
    tracking: Tracking, logged: LoggedTraining
) -> None:
    with mlflow_client(tracking) as client:
        run = client.get_run(logged.run_id)
        version = client.get_model_version(tracking.model, str(logged.version))
        model = client.get_registered_model(tracking.model)
    assert run.data.tags["mlflow.note.content"] == version.description == "**Kept**: a note"
    assert "rollback" in model.description
    assert run.inputs is not None
    (rows,) = run.inputs.dataset_inputs
    assert rows.dataset.digest == ("1" * 64)[:36]
    assert json.loads(rows.dataset.source) == {"data_sha256": "1" * 64}


def test_run_without_a_review_reads_back_without_one(own_model: Tracking) -> None:
    bare = training_run(review=None, backtest=None, files={}, children=(), note="")
    summary = load_run(own_model, log_training(own_model, bare).run_id)
    assert (summary.review, summary.backtest) == (None, None)


def test_artifacts_lie_beside_the_sqlite_file(tracking: Tracking, logged: LoggedTraining) -> None:
    folder = Path(tracking.uri.removeprefix("sqlite:///")).parent / "mlartifacts"
    artifacts = folder / logged.run_id / "artifacts"
    found = {str(p.relative_to(artifacts)) for p in artifacts.rglob("*") if p.is_file()}
    assert found == {
        "evaluation.json",
        "gates.json",
        "backtest.json",
        "manifest.json",
        "model_card.md",
        "plots/reliability.png",
        "plots/log_loss.png",
        "plots/months_8h.svg",
        "review.json",
        "review.html",
        "tables/months.csv",
    }
    assert (artifacts / "manifest.json").read_bytes() == BUNDLES[A].read("manifest.json")
    assert (artifacts / "plots/log_loss.png").read_bytes() == PNG


def test_same_bundle_twice_gives_two_runs_and_one_version(own_model: Tracking) -> None:
    first = log_training(own_model, training_run())
    second = log_training(own_model, training_run())
    assert second.run_id != first.run_id
    assert second.version == first.version == 1
    assert [v.run_id for v in list_versions(own_model)] == [first.run_id]
    again = load_run(own_model, second.run_id)
    assert again.tags["registered_version"] == "1"
    assert again.name == f"{load_run(own_model, first.run_id).name} (2)"


def test_versions_are_listed_oldest_first_with_their_bundles(own_model: Tracking) -> None:
    for bundle in (B, A, C):
        log_training(own_model, training_run(bundle))
    versions = list_versions(own_model)
    assert [(v.version, v.bundle_sha256) for v in versions] == [(1, B), (2, A), (3, C)]
    assert all(parse_time(v.created) > parse_time("2026-01-01") for v in versions)


def test_no_registered_model_means_no_versions(own_model: Tracking) -> None:
    assert list_versions(own_model) == []


def test_aliases_move_and_are_cleared(own_model: Tracking) -> None:
    for bundle in (A, B):
        log_training(own_model, training_run(bundle))

    def aliases() -> list[tuple[str, ...]]:
        return [version.aliases for version in list_versions(own_model)]

    set_aliases(own_model, champion=A, challenger=B, previous=None)
    assert aliases() == [("champion",), ("challenger",)]
    set_aliases(own_model, champion=B, challenger=None, previous=A)
    assert aliases() == [("previous",), ("champion",)]
    set_aliases(own_model, champion=B, challenger=None, previous=B)
    assert aliases() == [(), ("champion", "previous")]
    set_aliases(own_model, champion=None, challenger=None, previous=None)
    assert aliases() == [(), ()]


def test_alias_of_an_unknown_bundle_moves_nothing(own_model: Tracking) -> None:
    log_training(own_model, training_run(A))
    with pytest.raises(ModelError, match=rf"{C}; registered are 1: {A}"):
        set_aliases(own_model, champion=A, challenger=C, previous=None)
    assert list_versions(own_model)[0].aliases == ()


def test_clearing_aliases_where_nothing_is_registered_does_nothing(own_model: Tracking) -> None:
    set_aliases(own_model, champion=None, challenger=None, previous=None)
    with pytest.raises(ModelError, match="registered are none"):
        set_aliases(own_model, champion=A, challenger=None, previous=None)


def test_failure_half_way_leaves_a_failed_run_and_no_version(
    own_model: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disk_full(*_: Any, **__: Any) -> None:
        raise OSError("no space left on device")

    with mlflow_client(own_model) as client:
        monkeypatch.setattr(type(client), "log_artifacts", disk_full)
    with pytest.raises(ModelError, match="no space left on device"):
        log_training(own_model, training_run())
    assert [run.info.status for run in runs(own_model)] == ["FAILED"]
    assert list_versions(own_model) == []

    monkeypatch.undo()
    again = log_training(own_model, training_run())
    assert again.version == 1
    assert sorted(run.info.status for run in runs(own_model)) == ["FAILED", "FINISHED"]


def test_interrupt_half_way_leaves_a_failed_run(
    own_model: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with mlflow_client(own_model) as client:
        monkeypatch.setattr(type(client), "log_artifacts", interrupted)
    with pytest.raises(KeyboardInterrupt):
        log_training(own_model, training_run())
    assert [run.info.status for run in runs(own_model)] == ["FAILED"]


def not_a_number(value: float) -> dict[str, Any]:
    return {**EVALUATION, "rows": value}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data_sha256": "beef"}, "data_sha256 is 'beef'"),
        ({"bundle": dataclasses.replace(BUNDLES[A], checksums={})}, "has no file 'manifest.json'"),
        ({"plots": {"../../escape": PNG}}, "plot is named"),
        ({"files": {"../escape.csv": b""}}, "artifact is named"),
        ({"files": {"gates.json": b""}}, "artifact is named"),
        ({"evaluation": not_a_number(float("nan"))}, "cannot be written as JSON"),
        ({"gates": {"parity": {"passed": False, "value": float("inf")}}}, "as JSON"),
    ],
)
def test_malformed_training_is_refused_before_anything_is_logged(
    own_model: Tracking, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        log_training(own_model, training_run(**changes))
    assert runs(own_model) == []


def test_many_params_and_metrics_pass_the_limits_of_one_request(own_model: Tracking) -> None:
    params = {f"p{i}": i for i in range(250)}
    figures = {f"m{i}": float(i) for i in range(1100)}
    horizon = {**EVALUATION["horizons"]["1"], "models": {"margincast": figures}}
    run = training_run(params=params, evaluation={**EVALUATION, "horizons": {"1": horizon}})
    summary = load_run(own_model, log_training(own_model, run).run_id)
    assert summary.params == {name: str(value) for name, value in params.items()}
    assert summary.metrics["1h/m1099"] == 1099.0


def test_unknown_run_is_named(tracking: Tracking, logged: LoggedTraining) -> None:
    missing = "0" * 32
    with pytest.raises(ModelError, match=f"run '{missing}' is not at sqlite"):
        load_run(tracking, missing)


def test_run_of_something_else_has_no_evaluation(own_model: Tracking) -> None:
    with mlflow_client(own_model) as client:
        experiment = client.create_experiment(
            own_model.experiment, artifact_location=own_model.artifact_location
        )
        run_id = client.create_run(experiment).info.run_id
    with pytest.raises(ModelError, match=r"no readable evaluation\.json"):
        load_run(own_model, run_id)


@pytest.mark.parametrize(
    "call",
    [
        lambda tracking: log_training(tracking, training_run()),
        list_versions,
        lambda tracking: load_run(tracking, "0" * 32),
    ],
)
def test_store_that_is_no_database_fails_at_once(
    call: Callable[[Tracking], object], tmp_path: Path
) -> None:
    path = tmp_path / "mlflow.db"
    path.write_bytes(b"certainly no SQLite file " * 100)
    with pytest.raises(ModelError, match="cannot be opened"):
        call(Tracking(f"sqlite:///{path}", "e", "m"))


@pytest.mark.parametrize(
    "uri",
    [
        "postgresql+psycopg://mary:tea%40noon@127.0.0.1:1/mlflow",
        "postgresql+psycopg://mary@127.0.0.1:1/mlflow?password=tea%40noon",
        "nosuchdialect://mary:tea%40noon@127.0.0.1:1/mlflow",
    ],
)
def test_errors_and_repr_never_show_the_password(uri: str) -> None:
    tracking = Tracking(uri, "e", "m")
    with pytest.raises(ModelError, match="cannot be opened") as caught:
        list_versions(tracking)
    for text in (str(caught.value), repr(tracking), tracking.address, tracking.redact(uri)):
        assert "noon" not in text
    assert "127.0.0.1" in tracking.address


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("no address", "cannot be read"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
    ],
)
def test_impossible_addresses_are_refused(uri: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Tracking(uri, "e", "m")


def test_server_keeps_its_own_artifact_location() -> None:
    assert Tracking("https://mlflow.example", "e", "m").artifact_location is None


def test_logging_is_silent(
    own_model: Tracking, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        log_training(own_model, training_run())
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
    assert not [record for record in caplog.records if record.name.startswith("mlflow")]


def test_fresh_process_is_silent_with_telemetry_off_and_imports_mlflow_only_when_used(
    tracking: Tracking, logged: LoggedTraining
) -> None:
    program = """
import json, os, sys
from models.mlflow.registry import list_versions
from models.mlflow.store import Tracking
before = "mlflow" in sys.modules
versions = list_versions(Tracking(sys.argv[1], "margincast", "margincast"))
print(json.dumps([before, len(versions), os.environ["MLFLOW_DISABLE_TELEMETRY"]]))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, tracking.uri],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert json.loads(done.stdout) == [False, 1, "true"]
