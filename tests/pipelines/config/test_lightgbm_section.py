"""``[training.lightgbm]``: defaults that change no digest, and values refused by their key."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from market.core.errors import ConfigError
from pipelines.config.config import Config, load_config
from pipelines.config.lightgbm_section import LightGBMConfig
from training.fitting.hyperparameters import DEFAULTS, Hyperparameters

ROOT = Path(__file__).resolve().parents[3]


def config_of(folder: Path, text: str) -> Config:
    file = folder / "margincast.toml"
    file.write_text(f"[training.lightgbm]\n{text}\n")
    return load_config(file)


def test_defaults_are_those_of_the_fit_and_of_the_file_at_the_root() -> None:
    section = LightGBMConfig()
    assert Hyperparameters(**section.model_dump()) == DEFAULTS
    assert load_config(ROOT / "margincast.toml").training.lightgbm == section
    assert LightGBMConfig.model_fields.keys() == {f.name for f in dataclasses.fields(DEFAULTS)}


def test_default_written_out_keeps_the_digest_and_a_change_gives_another(tmp_path: Path) -> None:
    digest = config_of(tmp_path, "").sha256()
    assert config_of(tmp_path, "num_leaves = 7").sha256() == digest
    assert config_of(tmp_path, "num_leaves = 8").sha256() != digest
    assert config_of(tmp_path, 'num_iterations = { "1" = 81 }').sha256() != digest


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("num_leaves = 1", "num_leaves"),
        ("learning_rate = 0.0", "learning_rate"),
        ("learning_rate = nan", "learning_rate"),
        ("lambda_l2 = inf", "lambda_l2"),
        ("feature_fraction = 1.5", "feature_fraction"),
        ("bagging_freq = -1", "bagging_freq"),
        ("num_iterations = {}", "num_iterations"),
        ("num_iterations = { 0 = 5 }", "num_iterations"),
        ("seeds = [1, 1]", "seeds"),
        ("wide_share = 1.0", "wide_share"),
        ("prior_ridge = 0.0", "prior_ridge"),
        ("num_leafs = 7", "num_leafs"),
    ],
)
def test_impossible_value_is_refused_by_its_key(tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        config_of(tmp_path, text)
