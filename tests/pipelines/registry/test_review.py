"""``margincast review`` and the run it reads: whole, nested, and on one page that stands alone."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, TypeAlias

import pytest

from models.mlflow.store import Tracking, mlflow_client
from pipelines.config.config import load_config
from pipelines.data.provenance import source_sha256

# Defined in conftest.py, which pytest does not let us import.
Workspace: TypeAlias = Any
TrainedMarket: TypeAlias = Any


@pytest.fixture(scope="module")
def tracking(trained: TrainedMarket) -> Tracking:
    folder = trained.workspace.folder
    return Tracking(f"sqlite:///{folder}/var/mlflow.db", "margincast", "margincast")


@dataclass(frozen=True)
class Review:
    """One run of the verb: what it wrote and what it showed."""

    report: dict[str, Any]
    html: str
    shown: str


@pytest.fixture(scope="module")
def review(trained: TrainedMarket, tmp_path_factory: pytest.TempPathFactory) -> Review:
    folder = tmp_path_factory.mktemp("review")
    page, out = folder / "pages" / "review.html", folder / "review.json"
    shown = trained.workspace.run("review", "--out", page, "--json", out).stdout
    report = json.loads(out.read_text())
    assert report.pop("page") == {"path": str(page)}
    return Review(report, page.read_text(encoding="utf-8"), shown)


def test_review_compares_champion_and_newest(review: Review, trained: TrainedMarket) -> None:
    newest, champion = review.report["newest"], review.report["champion"]
    assert newest["bundle"] == trained.retrained["bundle"]
    assert newest["verdict"] == trained.retrained["verdict"]
    assert newest["reasons"] == trained.retrained["reasons"]
    assert champion["bundle"] == trained.champion
    assert "champion" in champion["aliases"]
    for hours, horizon in trained.retrained["evaluation"]["horizons"].items():
        assert newest["log_loss_skill"][hours] == horizon["log_loss_skill"]
    assert "comparison" not in review.report, "champion and newest are one"


def test_terminal_shows_verdict_and_horizons_in_order(
    review: Review, trained: TrainedMarket
) -> None:
    assert trained.retrained["verdict"].upper() in review.shown
    assert re.findall(r"│\s+(\d+) │ newest", review.shown) == ["1", "8", "24"]


def test_page_is_self_contained_and_has_the_figures_of_the_training(
    review: Review, trained: TrainedMarket
) -> None:
    html = review.html
    assert not re.findall(r"\w+://[^\s\"'<)]+", html)
    assert "<script" not in html
    assert html.count("data:image/svg+xml;base64,") >= 9
    for horizon in trained.retrained["evaluation"]["horizons"].values():
        assert f"{horizon['models']['margincast']['log_loss']:.4g}" in html
    for name in trained.retrained["gates"]:
        assert name.replace("_", " ") in html
    assert trained.champion in html
    assert source_sha256() in html
    folders = {str(trained.workspace.folder), str(trained.workspace.folder.parent)}
    assert not any(folder in html for folder in folders), "a folder of this machine"


def test_review_without_a_model_is_one_line(bare: Workspace) -> None:
    assert "run margincast retrain first" in bare.refusal("review")


def test_training_run_has_a_note_and_its_folds(trained: TrainedMarket, tracking: Tracking) -> None:
    parent = trained.retrained["mlflow_run"]
    with mlflow_client(tracking) as client:
        run = client.get_run(parent)
        experiment = client.get_experiment_by_name("margincast")
        assert experiment is not None
        folds = client.search_runs(
            [experiment.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'"
        )
        artifacts = {a.path for a in client.list_artifacts(parent)}
        tables = {a.path for a in client.list_artifacts(parent, "tables")}
    assert run.data.tags["code_sha256"] == source_sha256()
    assert {
        "data_sha256",
        "ruleset_sha256",
        "features_sha256",
        "git_commit",
    } <= run.data.tags.keys()
    note = run.data.tags["mlflow.note.content"]
    assert trained.retrained["verdict"].capitalize() in note
    assert "| 24 h |" in note
    assert {"review.html", "review.json", "model_card.md", "evaluation.json"} <= artifacts
    assert {f"tables/{name}.csv" for name in ("months", "segments", "gates")} <= tables
    assert len(folds) == 3
    assert {fold.data.tags["fold_kind"] for fold in folds} == {"walk_forward"}
    assert run.info.end_time - run.info.start_time > 1_000, "as long as the training took"
    assert run.data.tags["mlflow.source.name"] == "margincast retrain"
    for fold in folds:
        assert run.info.start_time < fold.info.start_time < fold.info.end_time < run.info.end_time
        finished = fold.info.status == "FINISHED"
        assert finished == ("24h/log_loss" in fold.data.metrics)
        assert finished or "Not evaluated:" in fold.data.tags["mlflow.note.content"]
    assert run.data.metrics["8h/log_loss"] == pytest.approx(
        trained.retrained["evaluation"]["horizons"]["8"]["models"]["margincast"]["log_loss"]
    )


def test_months_and_segments_are_in_the_evaluation(trained: TrainedMarket) -> None:
    evaluation = trained.retrained["evaluation"]
    for horizon in evaluation["horizons"].values():
        assert sum(m["rows"] for m in horizon["months"].values()) == evaluation["rows"]
        assert {"leverage", "concentration", "direction"} <= horizon["segments"].keys()
        assert len(horizon["reliability"]["low"]) == len(horizon["reliability"]["predicted"])
    assert evaluation["stress"] == {}, "a simulated market has no calendar"
    assert trained.retrained["gates"]["no_weak_segment"]["kind"] == "report"


def test_learning_curves_are_metrics_by_number_of_trees(
    trained: TrainedMarket, tracking: Tracking, review: Review
) -> None:
    run_id = trained.retrained["mlflow_run"]
    with mlflow_client(tracking) as client:
        for hours, trees in (("1", 80), ("24", 45)):
            for part in ("train", "validation"):
                name = f"{hours}h/learning/{part}_log_loss"
                curve = {m.step: m.value for m in client.get_metric_history(run_id, name)}
                assert min(curve) == 0
                assert max(curve) == trees
                assert len(curve) <= 41
                assert all(0.0 < loss < 1.0 for loss in curve.values())
                if part == "train":
                    assert curve[trees] < curve[0]
    assert "Log loss by number of trees at 24 h" in review.html


def test_params_of_a_run_are_the_configured_hyperparameters(
    trained: TrainedMarket, tracking: Tracking
) -> None:
    configured = load_config(trained.workspace.config).training.lightgbm.model_dump(mode="json")
    with mlflow_client(tracking) as client:
        params = client.get_run(trained.retrained["mlflow_run"]).data.params
    logged = {
        name.removeprefix("lightgbm/"): json.loads(value)
        for name, value in params.items()
        if name.startswith("lightgbm/")
    }
    assert logged == json.loads(json.dumps(configured))
    assert logged["num_leaves"] == 7


def test_training_started_elsewhere_keeps_everything_beside_its_configuration(
    trained: TrainedMarket,
) -> None:
    folder = trained.workspace.folder
    assert not list((folder / "elsewhere").iterdir())
    # Copies of this folder keep its database, and so the absolute folder of its artifacts.
    runs = {path.parts[-3] for path in (folder / "var" / "mlartifacts").rglob("review.html")}
    assert trained.retrained["mlflow_run"] in runs
    assert list((folder / "var" / "mlartifacts").rglob("MLmodel"))
    assert not (folder / "mlruns").exists()
