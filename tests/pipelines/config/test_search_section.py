"""``[training.search]``: what it changes in a digest, and spaces refused by their key."""

from __future__ import annotations

from pathlib import Path

import pytest

from market.core.errors import ConfigError
from pipelines.config.config import Config, load_config
from pipelines.config.search_section import SearchConfig, SpacesConfig
from training.fitting.hyperparameters import DEFAULTS
from training.tuning.search import FACTOR, settings_of

ROOT = Path(__file__).resolve().parents[3]


def config_of(folder: Path, text: str) -> Config:
    file = folder / "margincast.toml"
    file.write_text(text)
    return load_config(file)


def test_defaults_are_those_of_the_file_at_the_root_and_hold_the_defaults_of_the_fit() -> None:
    section = SearchConfig()
    assert load_config(ROOT / "margincast.toml").training.search == section
    for name in SpacesConfig.model_fields:
        ends = getattr(section.spaces, name).ends
        default = 1.0 if name == FACTOR else getattr(DEFAULTS, name)
        assert min(ends) <= default <= max(ends)
        assert settings_of(DEFAULTS, {name: default}) == DEFAULTS


def test_search_counts_for_the_digest_only_where_it_is_enabled(tmp_path: Path) -> None:
    digest = config_of(tmp_path, "").sha256()
    assert config_of(tmp_path, "[training.search]\ntrials = 5").sha256() == digest
    enabled = config_of(tmp_path, "[training.search]\nenabled = true").sha256()
    assert enabled != digest
    more = config_of(tmp_path, "[training.search]\nenabled = true\ntrials = 5").sha256()
    assert more not in (digest, enabled)


def test_space_is_a_range_or_choices_and_an_empty_list_leaves_it_out(tmp_path: Path) -> None:
    text = "num_leaves = [3, 7]\nlambda_l2 = []\nlearning_rate = { low = 0.1, high = 0.2 }"
    spaces = config_of(tmp_path, f"[training.search.spaces]\n{text}").training.search.spaces
    assert spaces.num_leaves.ends == (3.0, 7.0)
    assert spaces.lambda_l2.ends == ()
    assert spaces.learning_rate.ends == (0.1, 0.2)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("learning_rate = { low = 0.2, high = 0.1 }", "learning_rate"),
        ("learning_rate = { low = 0.0, high = 0.1, log = true }", "learning_rate"),
        ("learning_rate = { low = 0.1, high = 1.5 }", "learning_rate"),
        ("num_leaves = [1, 7]", "num_leaves"),
        ("num_leaves = [7, 7]", "num_leaves"),
        ("num_leaves = [7.5]", "num_leaves"),
        ("min_data_in_leaf = { low = 0.5, high = 90.0 }", "min_data_in_leaf"),
        ("num_iterations_factor = { low = 0.0, high = 2.0 }", "num_iterations_factor"),
        ("feature_fraction = { low = 0.5, high = 0.9, step = 0.1 }", "feature_fraction.step"),
        ("lambda_l2 = { low = nan, high = 1.0 }", "lambda_l2.low"),
        ("max_bin = [63]", "max_bin"),
    ],
)
def test_impossible_space_is_refused_by_its_key(tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"training\.search\.spaces\.{key}"):
        config_of(tmp_path, f"[training.search.spaces]\n{text}")


@pytest.mark.parametrize("text", ["folds = 1", "trials = 0", "timeout_seconds = -1.0", "seed = -1"])
def test_impossible_search_is_refused_by_its_key(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=rf"training\.search\.{text.split()[0]}"):
        config_of(tmp_path, f"[training.search]\n{text}")
