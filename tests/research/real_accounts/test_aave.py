"""Borrowers rebuilt from liquidations and from holdings."""

from __future__ import annotations

from pathlib import Path

import pytest

from margin.rules.ruleset import load_ruleset
from market.core.clock import HOUR
from market.core.errors import DataError
from research.real_accounts import aave
from research.real_accounts.aave import (
    CLOSE_FACTOR,
    HELD_HOURS,
    SYMBOLS,
    THRESHOLDS,
    Episode,
    borrower,
    btc_episodes,
    choose,
    health_factor,
    implied_borrowers,
    recorded_borrowers,
    v2_episodes,
)
from research.real_accounts.hyperliquid import LIQUIDATION

T = 1_620_000_000_000_000_000


def test_implied_borrower_is_at_its_threshold_when_it_is_liquidated(tmp_path: Path) -> None:
    history = implied_borrowers([Episode(T, "x", "WETH", 2000.0, 1000.0)], tmp_path)
    (account,) = history.book_at(T - HOUR).accounts()
    (position,) = account.positions
    assert account.account_id == "x/1"
    assert position.instrument == "ETHUSDT"
    value = position.quantity * 2000.0
    equity = account.cash + position.quantity * (2000.0 - (position.entry_price or 0.0))
    assert equity == pytest.approx(value - 1000.0)
    assert equity == pytest.approx((1.0 - THRESHOLDS["WETH"]) * value)
    assert len(history.book_at(T)) == 0
    assert len(history.book_at(T - HELD_HOURS * HOUR - 1)) == 0
    assert LIQUIDATION in history.events.kinds


def test_episodes_of_one_borrower_are_accounts_of_their_own(tmp_path: Path) -> None:
    later = T + 1000 * HOUR
    episodes = [Episode(t, "x", "WBTC", 5e4, 100.0) for t in (T, later)]
    assert implied_borrowers(episodes, tmp_path).account_ids == ("x/1", "x/2")


def test_episodes_are_chosen_by_a_hash_and_stay_in_order() -> None:
    episodes = [Episode(T + i, f"u{i}", "WETH", 1.0, 1.0) for i in range(50)]
    chosen = choose(episodes, 10)
    assert len(chosen) == 10
    assert chosen == sorted(chosen) == choose(reversed(episodes), 10)
    assert set(chosen) < set(choose(episodes, 20))
    assert choose(episodes, 99) == episodes


def test_stable_collateral_counts_at_its_threshold() -> None:
    held = [
        ("WETH", "collateral", 2.0, 1000.0),
        ("USDC", "collateral", 100.0, 1.0),
        ("DAI", "debt", 1500.0, 1.0),
    ]
    account, reason = borrower("x", held)
    assert reason == "followed"
    assert account is not None
    assert account.cash == pytest.approx(2000.0 - 1500.0 + 85.0)
    assert health_factor(held) == pytest.approx((2000.0 * 0.825 + 85.0) / 1500.0)


@pytest.mark.parametrize(
    ("held", "reason"),
    [
        ([("WETH", "collateral", 1.0, 1000.0)], "no debt"),
        (
            [("WETH", "collateral", 1.0, 1000.0), ("BAT", "debt", 500.0, 1.0)],
            "debt not a stablecoin",
        ),
        (
            [("MKR", "collateral", 1.0, 1000.0), ("DAI", "debt", 500.0, 1.0)],
            "collateral not followed",
        ),
    ],
)
def test_borrower_that_cannot_be_followed(
    held: list[tuple[str, str, float, float]], reason: str
) -> None:
    assert borrower("x", held) == (None, reason)


def test_rule_set_has_the_thresholds() -> None:
    ruleset = load_ruleset(Path(aave.__file__).with_name("aave-v2.toml"))
    tables = ruleset.content()["tier"]["symbols"]
    for token, threshold in THRESHOLDS.items():
        (bracket,) = tables[SYMBOLS[token]]["brackets"]
        assert bracket["maintenance_rate"] == pytest.approx(1.0 - threshold)


def test_missing_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"liquidations.parquet cannot be read with columns ts"):
        btc_episodes(tmp_path)
    with pytest.raises(DataError, match="no borrower can be followed"):
        implied_borrowers([], tmp_path)


@pytest.mark.realdata
def test_health_factors_are_reproduced(data_dir: Path, tmp_path: Path) -> None:
    report = recorded_borrowers(data_dir, tmp_path).report
    assert report["borrowers"] == 7
    assert report["snapshots"]["followed"] == 541
    assert report["health_factor_error"]["median"] < 0.01


@pytest.mark.realdata
def test_liquidations_of_the_tables_are_accounted_for(data_dir: Path) -> None:
    """Each row is counted once; what a liquidator gets is worth what it repaid and its bonus."""
    episodes, counts = v2_episodes(data_dir)
    assert sum(counts.values()) == 7847
    assert len(episodes) == counts["followed"] > 4000
    assert all(episode.price > 0.0 and episode.debt >= 0.0 for episode in episodes)
    found, counts = btc_episodes(data_dir)
    assert sum(counts.values()) == 3112
    assert min(episode.price for episode in found) > 1e3
    assert CLOSE_FACTOR == 0.5
