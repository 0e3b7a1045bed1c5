"""``retrain`` with ``[training.search]``: trials as child runs, a bundle of the best values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from models.mlflow.store import Tracking, mlflow_client
from training.tuning.search import FACTOR

# Defined in conftest.py, which pytest does not let us import.
Workspace: TypeAlias = Any

TRIALS = 3
POOR = {"learning_rate": 0.5, "num_leaves": 63, "min_data_in_leaf": 5, "least_in_leaf": 5}
"""Configured values that overfit, so that any trial beats them."""
CONFIG = """
[training.lightgbm]
{poor}

[training.search]
enabled = true
trials = {trials}
folds = 2

[training.search.spaces]
learning_rate = {{ low = 0.02, high = 0.1 }}
num_leaves = [4, 7]
min_data_in_leaf = {{ low = 100, high = 300 }}
lambda_l2 = []
feature_fraction = []
bagging_fraction = []

[review]
folds = 0
ablation = false
backtest = false
"""


@pytest.mark.slow
def test_trials_are_child_runs_and_the_best_values_make_the_bundle(bare: Workspace) -> None:
    poor = "\n".join(f"{name} = {value}" for name, value in POOR.items())
    text = bare.config.read_text().replace("days = 45", "days = 90").replace("150", "400")
    bare.config.write_text(text + CONFIG.format(poor=poor, trials=TRIALS))
    report = bare.report("retrain", code=(0, 3))
    manifest = json.loads((bare.bundles / report["bundle"] / "manifest.json").read_bytes())
    training, search = manifest["training"], manifest["training"]["search"]
    assert search["used"], search["reason"]
    fitted, found = training["hyperparameters"], dict(search["values"])
    factor = found.pop(FACTOR)
    assert {name: fitted[name] for name in found} == found
    assert set(found) == {"learning_rate", "num_leaves", "min_data_in_leaf"}
    rounds = {"1": 80, "8": 60, "24": 45}
    assert fitted["num_iterations"] == {h: round(factor * n) for h, n in rounds.items()}
    assert fitted["least_in_leaf"] == POOR["least_in_leaf"], "it has no space"

    with mlflow_client(Tracking(f"sqlite:///{bare.folder}/var/mlflow.db", "m", "m")) as client:
        experiment = client.get_experiment_by_name("margincast")
        assert experiment is not None
        parent = client.get_run(report["mlflow_run"])
        children = client.search_runs(
            [experiment.experiment_id], f"tags.mlflow.parentRunId = '{parent.info.run_id}'"
        )
        (best,) = (run for run in children if run.data.tags["trial"] == str(search["best"]))
        record = client.download_artifacts(best.info.run_id, "trial.json")
    assert {run.info.run_name for run in children} == {
        f"trial {k}, {parent.info.run_name}" for k in range(TRIALS)
    }
    losses = [run.data.metrics["relative_log_loss"] for run in children]
    assert best.data.metrics["relative_log_loss"] == min(losses) == search["relative_loss"] < 1.0
    assert best.data.metrics["fold_1/24h/log_loss"] > 0.0
    assert json.loads(Path(record).read_bytes())["values"] == search["values"]
    assert all(parent.data.params[f"lightgbm/{name}"] == str(found[name]) for name in found)
    for name, value in search["values"].items():
        assert parent.data.params[f"search/values/{name}"] == best.data.params[name] == str(value)
    assert parent.data.params["search/used"] == "true"
    assert parent.data.params["search/reason"] == search["reason"]
    assert search["reason"] in parent.data.tags["mlflow.note.content"]
    assert all(
        parent.info.start_time <= run.info.start_time <= run.info.end_time <= parent.info.end_time
        for run in children
    )
