"""A population whose owners act, from sampling to the rows that a model is trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from market.accounts.account_files import read_accounts
from pipelines.config.config import Config, load_config
from pipelines.data.accounts import read_dataset, read_intervals
from pipelines.data.loaders import Market, read_market, read_rules
from pipelines.jobs.simulate import simulate

TOML = """
[simulate]
days = 40
symbols = 3
[accounts]
population = "{population}"
count = 60
[training]
book = "{book}"
"""


def configured(folder: Path, population: str, book: str, more: str = "") -> Config:
    path = folder / f"{population}-{book}.toml"
    path.write_text(TOML.format(population=population, book=book) + more)
    return load_config(path)


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Market:
    return read_market(configured(tmp_path_factory.mktemp("market"), "behaving-v1", "as_traded"))


def test_written_accounts_give_the_intervals_that_training_sees(
    market: Market, tmp_path: Path
) -> None:
    config = configured(tmp_path, "behaving-v1", "as_traded")
    report = simulate(config, tmp_path / "out")
    assert report["actions"] > 100
    rules = read_rules(config, market)
    sampled = read_intervals(config, market, rules)
    (tmp_path / "files.toml").write_text(
        (tmp_path / "behaving-v1-as_traded.toml")
        .read_text()
        .replace('population = "behaving-v1"\ncount = 60', 'source = "out/accounts"')
    )
    read = read_intervals(load_config(tmp_path / "files.toml"), market, rules)
    assert read.account_ids == sampled.account_ids
    for name in ("account", "first_row", "last_row", "symbol_start", "symbol"):
        np.testing.assert_array_equal(getattr(read, name), getattr(sampled, name))
    for name in ("cash", "leg_quantity", "leg_entry_price"):
        np.testing.assert_array_equal(getattr(read.book, name), getattr(sampled.book, name))


def test_owners_act_in_as_traded_books_only(market: Market, tmp_path: Path) -> None:
    """As traded an account that closes is censored; static books are followed beyond."""
    rows = {}
    for book in ("static", "as_traded"):
        config = configured(tmp_path, "behaving-v1", book)
        rules = read_rules(config, market)
        data = read_dataset(config, market, read_intervals(config, market, rules), rules)
        rows[book] = len(data.labels)
        assert set(np.unique(data.labels)) == {0.0, 1.0}
    assert 0 < rows["as_traded"] < rows["static"]


def test_the_reference_population_does_not_act(market: Market, tmp_path: Path) -> None:
    config = configured(tmp_path, "reference-v1", "static")
    assert simulate(config, tmp_path / "out")["actions"] == 0
    history = read_accounts(tmp_path / "out" / "accounts")
    assert history.events.kinds in {("closed",), ()}
    intervals = read_intervals(config, market, read_rules(config, market))
    assert len(intervals) == len(intervals.account_ids)


def test_simulate_writes_what_the_market_shows(tmp_path: Path) -> None:
    simulate(configured(tmp_path, "reference-v1", "static"), tmp_path / "out")
    for folder in ("bars", "funding", "quotes"):
        assert len(list((tmp_path / "out" / folder).iterdir())) == 3
    assert [p.stem for p in sorted((tmp_path / "out" / "implied_vol").iterdir())] == ["BTC", "ETH"]
