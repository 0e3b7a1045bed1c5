"""An alias that is moved in MLflow's own interface is reviewed, then refused or adopted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from models.bundle.bundle import write_bundle
from models.bundle.schema import canonical_json
from models.mlflow.registry import BUNDLE_TAG, list_versions
from models.mlflow.store import Tracking, mlflow_client
from pipelines.config.config import load_config
from pipelines.jobs.retrain import align_aliases

# Defined in conftest.py, which pytest does not let us import.
Workspace: TypeAlias = Any
TrainedMarket: TypeAlias = Any


def tracking(workspace: Workspace) -> Tracking:
    return Tracking(f"sqlite:///{workspace.folder}/var/mlflow.db", "margincast", "margincast")


def write_twin(bundles: Path, sha: str) -> str:
    """Another sound bundle: the same model with a remark in its manifest."""
    files = {path.name: path.read_bytes() for path in (bundles / sha).iterdir()}
    del files["checksums.json"]
    manifest = json.loads(files["manifest.json"])
    manifest["training"]["remark"] = "moved alias"
    return write_bundle(bundles, files | {"manifest.json": canonical_json(manifest)})


def move_alias(workspace: Workspace, run_id: str, bundle: str | None) -> int:
    """Register a version of a bundle and point the alias champion to it, as a person does."""
    with mlflow_client(tracking(workspace)) as client:
        version = client.create_model_version(
            "margincast",
            source=f"runs:/{run_id}/model",
            run_id=run_id,
            tags={} if bundle is None else {BUNDLE_TAG: bundle},
        )
        client.set_registered_model_alias("margincast", "champion", str(version.version))
        return int(version.version)


def aliases(workspace: Workspace) -> dict[str, str | None]:
    """Bundle by alias."""
    versions = list_versions(tracking(workspace))
    return {alias: v.bundle_sha256 for v in versions for alias in v.aliases}


@pytest.fixture
def moved(workspace: Workspace, trained: TrainedMarket) -> str:
    """The bundle of a version to which the alias champion was moved by hand."""
    twin = write_twin(workspace.bundles, trained.champion)
    move_alias(workspace, trained.retrained["mlflow_run"], twin)
    return twin


def test_review_says_what_serves_and_that_the_alias_differs(
    workspace: Workspace, trained: TrainedMarket, moved: str
) -> None:
    out = workspace.folder / "review.json"
    shown = workspace.run("review", "--json", out).stdout
    report = json.loads(out.read_text())
    assert report["champion"]["bundle"] == trained.champion
    assert report["serving"]["champion"] == trained.champion
    assert report["serving"]["alias_champion"] == moved
    assert trained.champion in report["serving"]["warning"]
    assert "--from-alias" in report["serving"]["warning"]
    assert "ALIAS AND SERVING DIFFER" in shown
    assert "nothing that serves" in " ".join(shown.replace("│", " ").split())


def test_review_does_not_warn_while_alias_and_pointer_agree(
    trained: TrainedMarket, tmp_path: Path
) -> None:
    out = tmp_path / "review.json"
    shown = trained.workspace.run("review", "--json", out).stdout
    serving = json.loads(out.read_text())["serving"]
    assert serving["champion"] == serving["alias_champion"] == trained.champion
    assert "warning" not in serving
    assert "DIFFER" not in shown


def test_moved_alias_is_adopted_through_the_gates_and_recorded(
    workspace: Workspace, trained: TrainedMarket, moved: str
) -> None:
    failed = sorted(
        name
        for name, gate in trained.retrained["gates"].items()
        if gate["kind"] == "safety" and not gate["passed"]
    )
    assert failed, "so small a sample passes every gate: make it smaller"
    line = workspace.refusal("promote", "--from-alias")
    assert all(name in line for name in failed)
    assert workspace.champion == trained.champion
    adopted = workspace.report("promote", "--from-alias", "--override", "drill")
    assert adopted == {"champion": moved, "previous": trained.champion}
    assert workspace.champion == moved
    ((content,),) = workspace.sql(
        "SELECT unpacked(payload) FROM records WHERE chain = 'registry' ORDER BY seq DESC LIMIT 1"
    )
    payload = json.loads(content)
    assert payload["bundle"] == moved
    assert payload["adopted_from"] == "MLflow alias champion"
    assert payload["failed_gates"] == failed
    assert aliases(workspace) == {"champion": moved, "previous": trained.champion}
    assert "warning" not in workspace.report("review")["serving"]


def test_promotion_of_the_serving_bundle_moves_the_alias_back(
    workspace: Workspace, trained: TrainedMarket, moved: str
) -> None:
    workspace.run("promote", trained.champion, "--override", "keep it")
    assert workspace.champion == trained.champion
    assert aliases(workspace)["champion"] == trained.champion


def test_alias_that_names_no_bundle_cannot_be_adopted(
    workspace: Workspace, trained: TrainedMarket
) -> None:
    version = move_alias(workspace, trained.retrained["mlflow_run"], None)
    line = workspace.refusal("promote", "--from-alias")
    assert f"version {version}" in line
    assert BUNDLE_TAG in line
    assert workspace.champion == trained.champion
    assert "cannot serve" in workspace.report("review")["serving"]["warning"]


def test_bundle_and_alias_at_once_are_refused(workspace: Workspace, trained: TrainedMarket) -> None:
    assert "both bundle" in workspace.refusal("promote", trained.champion, "--from-alias")


def test_alias_taken_away_is_named_and_cannot_be_adopted(
    workspace: Workspace, trained: TrainedMarket
) -> None:
    with mlflow_client(tracking(workspace)) as client:
        client.delete_registered_model_alias("margincast", "champion")
    assert "has the alias champion" in workspace.refusal("promote", "--from-alias")
    assert "taken away" in workspace.report("review")["serving"]["warning"]


@pytest.mark.parametrize(
    ("verdict", "kept"), [("kept", True), ("refused", True), ("promoted", False)]
)
def test_retraining_does_not_undo_a_moved_alias_silently(
    workspace: Workspace, trained: TrainedMarket, moved: str, verdict: str, kept: bool
) -> None:
    config = load_config(workspace.config)
    (note,) = align_aliases(config, verdict, trained.champion, trained.champion)
    assert moved in note
    assert ("--from-alias" in note) is kept
    assert aliases(workspace)["champion"] == (moved if kept else trained.champion)
