"""What a challenger would change on one book."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest

from margin.rules.ruleset import RuleSet
from models.bundle.bundle import Bundle, bundle_files, load_bundle, write_bundle
from models.bundle.manifest import TrainingRecord
from models.forecaster import Forecaster
from models.onnx.export import export
from pipelines.config.config import Config, load_config
from pipelines.data.loaders import Market, read_market, read_rules
from pipelines.jobs.drift import compare_with_champion, margin_change
from training.labels.dataset import Dataset

# Fixtures live in conftest.py, which no test can import: their classes are Any here.
TrainedMarket: TypeAlias = Any


@dataclass(frozen=True)
class Setting:
    """A trained model and the market it was trained on."""

    config: Config
    market: Market
    rules: RuleSet
    champion: Bundle


@pytest.fixture(scope="module")
def setting(trained: TrainedMarket) -> Setting:
    config = load_config(trained.workspace.config)
    champion = load_bundle(trained.workspace.bundles / trained.champion)
    market = read_market(config)
    return Setting(config, market, read_rules(config, market), champion)


def shifted(champion: Bundle, root: Path, log_odds: float, features: str | None = None) -> Bundle:
    """The same model with its log odds moved, or of other features."""
    schema = champion.schema
    if features is not None:
        schema = replace(schema, features_sha256=features, feature_digests=())
    calibration = {h: (a, b + log_odds) for h, (a, b) in champion.calibration.items()}
    files = bundle_files(
        model=export(schema, champion.trees, calibration, champion.priors),
        schema=schema,
        trees=champion.trees,
        calibration=calibration,
        record=TrainingRecord("1" * 64, "2" * 64, {}),
        priors=champion.priors,
    )
    return load_bundle(root / write_bundle(root, files))


def change(setting: Setting, challenger: Bundle) -> dict[str, Any]:
    return margin_change(
        setting.config,
        setting.market,
        setting.rules,
        Forecaster(setting.champion),
        Forecaster(challenger),
    )


def test_model_that_replaces_itself_changes_nothing(setting: Setting) -> None:
    found = change(setting, setting.champion)
    assert found["accounts"] > 100
    assert found["total_requirement"]["change"] == 0.0
    assert found["add_on_over_initial_margin"] == {"median": 0.0, "q95_absolute": 0.0}
    assert found["material"] is False


def test_model_that_sees_far_more_risk_is_a_material_change(
    setting: Setting, tmp_path: Path
) -> None:
    found = change(setting, shifted(setting.champion, tmp_path, 3.0))
    total = found["total_requirement"]
    assert total["challenger"] > total["champion"] > 0.0
    assert total["change"] == pytest.approx(total["challenger"] / total["champion"] - 1.0)
    assert found["add_on_over_initial_margin"]["median"] > 0.0
    for moved in found["probability"].values():
        assert moved["challenger_mean"] > moved["champion_mean"]
    assert found["material"] is True


def test_champion_of_other_features_gives_a_reason_and_fails_nothing(
    setting: Setting, tmp_path: Path
) -> None:
    older = shifted(setting.champion, tmp_path, 0.0, features="f" * 64)
    serving = setting.config.serving.model_copy(update={"bundles": tmp_path})
    config = setting.config.model_copy(update={"serving": serving})
    own = shifted(setting.champion, tmp_path, 0.5)
    data = Dataset(
        time=np.zeros(1, dtype=np.int64),
        account=np.zeros(1, dtype=np.int64),
        account_ids=("a",),
        features=np.zeros((1, 1)),
        labels=np.zeros((1, 3), dtype=np.int8),
        horizons=(1, 8, 24),
        columns={},
        dropped={},
        considered=1,
        oracle_interval="1h",
        weight=np.ones(1),
        uniform=np.ones(1, dtype=np.bool_),
    )
    found = compare_with_champion(
        config, setting.market, setting.rules, data, older.sha256, own.sha256
    )
    assert found["change"]["material"] is None
    assert "trained on other features" in found["change"]["reason"]
    assert found["drift"]["verdict"] == "unavailable"


def test_without_a_champion_there_is_no_comparison(setting: Setting) -> None:
    nothing: Any = None
    found = compare_with_champion(setting.config, setting.market, setting.rules, nothing, None, "x")
    assert found == {"drift": None, "change": None}
