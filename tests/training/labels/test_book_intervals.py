"""Books over time: sampled lives and recorded accounts are the same thing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from margin.book.requirement import compute_requirement
from margin.rules.ruleset import load_ruleset
from margin.valuation.view import MarketView
from market.accounts.account_files import CLOSED, Event, write_accounts
from market.accounts.book import Account, Balance, Book, Position
from market.core.clock import HOUR, MINUTE
from market.core.errors import DataError
from market.simulator.account_behaviour import AccountTrajectories
from market.simulator.population import Population, SampledAccounts, sample_population
from market.sources.base import AccountUpdates
from training.labels.book_intervals import BookIntervals, account_keys, from_history, from_lives

RULES = load_ruleset("linear-tiers")
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
ROWS = 2000
TIMES = 1_704_067_200_000_000_000 + np.arange(ROWS, dtype=np.int64) * HOUR
MARK = np.array([40_000.0, 2_000.0, 100.0]) * np.exp(
    np.cumsum(np.random.default_rng(2).normal(0.0, 0.01, (ROWS, 3)), axis=0)
)


def sampled() -> SampledAccounts:
    eligible = np.ones(MARK.shape, dtype=bool)
    return sample_population(Population.load("reference-v1"), 12, 9, TIMES, MARK, eligible)


def recorded(
    folder: Path, *snapshots: tuple[int, Account], events: tuple[Event, ...] = ()
) -> BookIntervals:
    books = [AccountUpdates(time, Book.of([account])) for time, account in snapshots]
    return from_history(write_accounts(folder, books, events), TIMES, SYMBOLS, MARK, RULES)


def test_lives_written_with_births_and_closings_are_read_as_they_were(tmp_path: Path) -> None:
    lives = sampled()
    births = AccountTrajectories.idle(lives).snapshots(SYMBOLS, TIMES)
    closings = [
        Event(int(TIMES[end]), lives.account_id(i), CLOSED)
        for i, end in enumerate(lives.end_row.tolist())
        if end < ROWS
    ]
    assert closings
    history = write_accounts(tmp_path, births, closings)
    read, own = from_history(history, TIMES, SYMBOLS, MARK, RULES), from_lives(lives)
    assert read.account_ids == own.account_ids
    for name in (
        "account",
        "account_key",
        "first_row",
        "last_row",
        "leg_start",
        "leg_symbol",
        "leg_value_quantity",
        "leg_margin_quantity",
    ):
        np.testing.assert_array_equal(getattr(read, name), getattr(own, name), err_msg=name)
    np.testing.assert_allclose(read.cash, own.cash, rtol=0.0, atol=1e-12)


def test_equity_of_a_life_is_its_cash_at_birth() -> None:
    lives = sampled()
    segments = from_lives(lives)
    for n in range(len(segments)):
        legs = slice(segments.leg_start[n], segments.leg_start[n + 1])
        marks = MARK[segments.first_row[n], segments.leg_symbol[legs]]
        equity = segments.cash[n] + segments.leg_value_quantity[legs] @ marks
        assert equity == pytest.approx(lives.cash[n], rel=1e-12)


def test_collateral_is_haircut_and_a_debt_counts_in_full(tmp_path: Path) -> None:
    account = Account(
        "a",
        50.0,
        (Position("ETHUSDT-PERP", 2.0, 1_900.0),),
        (Balance("BTC", 0.5), Balance("SOL", -3.0)),
    )
    found = recorded(tmp_path, (int(TIMES[4]), account))
    legs = dict(
        zip(
            found.leg_symbol.tolist(),
            zip(found.leg_value_quantity, found.leg_margin_quantity, strict=True),
            strict=True,
        )
    )
    assert legs == {1: (2.0, 2.0), 0: (0.5 * 0.95, 0.0), 2: (-3.0, 0.0)}
    assert found.cash.tolist() == [50.0 - 2.0 * 1_900.0]


def test_segments_value_an_account_as_the_rule_engine_does(tmp_path: Path) -> None:
    account = Account(
        "a",
        500.0,
        (Position("BTCUSDT-PERP", -0.2, 41_000.0), Position("ETHUSDT", 2.0)),
        (Balance("BTC", 0.5), Balance("ETH", -1.5), Balance("USDT", 70.0)),
    )
    found = recorded(tmp_path, (int(TIMES[4]), account))
    row = 900
    entered = Account(
        account.account_id,
        account.cash,
        (account.positions[0], Position("ETHUSDT", 2.0, float(MARK[4, 1]))),
        account.collateral,
    )
    unknown = np.full(3, np.nan)
    view = MarketView(
        as_of=int(TIMES[row]),
        symbols=SYMBOLS,
        mark=MARK[row],
        age_hours=np.zeros(3),
        volatility=unknown,
        adv=unknown,
        correlation=np.full((3, 3), np.nan),
        interval_hours=1.0,
    )
    requirement = compute_requirement(Book.of([entered]), view, RULES)
    marks = MARK[row, found.leg_symbol]
    assert found.cash[0] + found.leg_value_quantity @ marks == pytest.approx(requirement.equity[0])
    assert np.abs(found.leg_margin_quantity) @ marks == pytest.approx(
        requirement.maintenance_margin[0] / 0.02
    )


def test_snapshot_between_decisions_is_held_from_the_next_one(tmp_path: Path) -> None:
    first = Account("a", 100.0, (Position("BTCUSDT-PERP", 1.0),))
    second = Account("a", 100.0, (Position("BTCUSDT-PERP", 2.0),))
    third = Account("a", 100.0, (Position("BTCUSDT-PERP", 3.0),))
    found = recorded(
        tmp_path,
        (int(TIMES[3]), first),
        (int(TIMES[5]) + MINUTE, second),  # replaced before the next decision
        (int(TIMES[5]) + 2 * MINUTE, third),
        events=(Event(int(TIMES[9]), "a", CLOSED),),
    )
    assert found.first_row.tolist() == [3, 6]
    assert found.last_row.tolist() == [6, 9]
    assert found.leg_value_quantity.tolist() == [1.0, 3.0]
    assert found.cash.tolist() == [100.0 - MARK[3, 0], 100.0 - 3.0 * MARK[6, 0]]


def test_closed_account_that_comes_back_leaves_a_gap(tmp_path: Path) -> None:
    account = Account("a", 100.0, (Position("BTCUSDT-PERP", 1.0),))
    found = recorded(
        tmp_path,
        (int(TIMES[3]), account),
        (int(TIMES[20]), account),
        events=(Event(int(TIMES[9]), "a", CLOSED),),
    )
    assert found.first_row.tolist() == [3, 20]
    assert found.last_row.tolist() == [9, ROWS]


@pytest.mark.parametrize(
    ("account", "name"),
    [
        (Account("a", 1.0, (Position("DOGEUSDT-PERP", 1.0),)), "DOGEUSDT-PERP"),
        (Account("a", 1.0, (Position("BTC-27MAR26-60000-C", 1.0),)), "BTC-27MAR26-60000-C"),
        (Account("a", 1.0, (), (Balance("DOGE", 1.0),)), "DOGE"),
    ],
)
def test_what_has_no_bars_is_refused_by_name(tmp_path: Path, account: Account, name: str) -> None:
    with pytest.raises(DataError, match=name):
        recorded(tmp_path, (int(TIMES[3]), account))


def test_keys_depend_on_the_name_alone() -> None:
    assert account_keys(("a", "b")).tolist() == account_keys(("b", "a")).tolist()[::-1]
    assert len(set(account_keys(tuple(map(str, range(1000)))).tolist())) == 1000


@pytest.mark.parametrize("name", ["linear-tiers", "hyperliquid", "binance-usdm", "emir-tiers"])
def test_coins_of_account_files_are_cash_where_the_rule_set_says_so(
    tmp_path: Path, name: str
) -> None:
    rules = load_ruleset(name)
    balances = (Balance("USDT", 70.0), Balance("BTC", 0.5))
    balances += (Balance("USDC", 30.0),) if rules.collateral.is_cash("USDC") else ()
    account = Account("a", 100.0, (Position("BTCUSDT-PERP", 1.0, 40_000.0),), balances)
    history = write_accounts(tmp_path, [AccountUpdates(int(TIMES[4]), Book.of([account]))])
    found = from_history(history, TIMES, SYMBOLS, MARK, rules)
    row, unknown = 900, np.full(3, np.nan)
    view = MarketView(
        as_of=int(TIMES[row]),
        symbols=SYMBOLS,
        mark=MARK[row],
        age_hours=np.zeros(3),
        volatility=unknown,
        adv=unknown,
        correlation=np.full((3, 3), np.nan),
    )
    requirement = compute_requirement(Book.of([account]), view, rules)
    equity = found.cash[0] + found.leg_value_quantity @ MARK[row, found.leg_symbol]
    assert equity == pytest.approx(requirement.equity[0])
