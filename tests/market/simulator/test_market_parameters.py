from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from market.core.errors import ConfigError
from market.simulator.market_parameters import DEFAULT_MARKET, MarketParameters

STORED = Path(__file__).parents[3] / "market" / "simulator" / "parameters"


def edited(tmp_path: Path, old: str, new: str) -> Path:
    """The stored file with one text replaced."""
    text = (STORED / f"{DEFAULT_MARKET}.toml").read_text("utf-8")
    assert old in text
    path = tmp_path / f"{DEFAULT_MARKET}.toml"
    path.write_text(text.replace(old, new, 1), "utf-8")
    return path


@pytest.mark.parametrize("path", sorted(STORED.glob("*.toml")), ids=lambda path: path.stem)
def test_every_stored_market_loads_and_says_where_it_comes_from(path: Path) -> None:
    parameters = MarketParameters.load(path.stem)
    assert parameters.provenance.source
    assert parameters == MarketParameters.read(path)


def test_default_market_names_its_data_and_the_command_that_fitted_it() -> None:
    provenance = MarketParameters.load().provenance
    assert len(provenance.sha256) == 64
    assert provenance.command.startswith("margincast fit-market")
    assert provenance.span.startswith("2022-06-08")


def test_unknown_market_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="'nowhere' is not known; choose one of assumed, binance"):
        MarketParameters.load("nowhere")
    with pytest.raises(ConfigError, match="is not known"):
        MarketParameters.load("../populations/reference-v1")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("leverage = ", "lever = ", "required field `leverage`|unknown field `lever`"),
        ("[regimes]\n", "[regimes]\nmood = 1.0\n", "unknown field `mood`"),
        ("stress_share = 0.1", "stress_share = 1.0", "stress_share"),
        ("stress_volatility = 1", "stress_volatility = 0", "stress_volatility"),
        ("sub_steps = 6", "sub_steps = 0", "sub_steps"),
        ("own_per_year = ", "own_per_year = 90000.0 # ", "of all variance; expected less than 1"),
        ('symbols = ["BTCUSDT", ', 'symbols = ["XYZUSDT", ', "names XYZUSDT"),
        ('symbol = "ETHUSDT"', 'symbol = "BTCUSDT"', "coin BTCUSDT is given twice"),
        ("name = ", "name == ", "cannot be used"),
        ('name = "binance', 'name = "bitmex', "both must agree"),
        ("season = [", "season = [1.0, ", "season"),
    ],
)
def test_impossible_figures_are_refused_by_name(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        MarketParameters.read(edited(tmp_path, old, new))


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be used"):
        MarketParameters.read(tmp_path / "none.toml")


def test_digest_changes_with_a_figure_and_not_with_the_layout(tmp_path: Path) -> None:
    whole = MarketParameters.load()
    spaced = MarketParameters.read(edited(tmp_path, "[jumps]\n", "# a comment\n\n[jumps]\n"))
    assert spaced.sha256 == whole.sha256
    jumps = msgspec.structs.replace(whole.jumps, size=whole.jumps.size + 0.01)
    assert msgspec.structs.replace(whole, jumps=jumps).sha256 != whole.sha256


def test_regimes_keep_the_average_variance() -> None:
    parameters = MarketParameters.load()
    calm, stress = parameters.regime_levels
    share = parameters.regimes.stress_share
    np.testing.assert_allclose((1.0 - share) * calm**2 + share * stress**2, 1.0)
    np.testing.assert_allclose(stress / calm, parameters.regimes.stress_volatility)
