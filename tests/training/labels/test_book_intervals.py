"""Books over time: sampled and recorded accounts become the same intervals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from margin.book.requirement import Requirement, compute_requirement
from margin.engines.equity_paths import MarketStep, RowSpans
from margin.engines.tier.paths import TierPaths
from margin.rules.ruleset import RuleSet, load_ruleset
from margin.valuation.view import MarketView
from market.accounts.account_files import CLOSED, Event, write_accounts
from market.accounts.book import Account, Balance, Book, Position
from market.bars.history import MarketHistory
from market.bars.panel import BarPanel
from market.core.clock import HOUR, INTERVALS, MINUTE
from market.core.errors import DataError
from market.simulator.account_behaviour import AccountTrajectories
from market.simulator.population import Population, SampledAccounts, sample_population
from market.sources.base import AccountUpdates
from training.labels.book_intervals import (
    BookIntervals,
    account_keys,
    from_history,
    from_sampled_accounts,
)

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


def test_sampled_accounts_written_to_files_are_read_as_they_were(tmp_path: Path) -> None:
    lives = sampled()
    openings = AccountTrajectories.idle(lives).snapshots(SYMBOLS, TIMES)
    closings = [
        Event(int(TIMES[end]), lives.account_id(i), CLOSED)
        for i, end in enumerate(lives.end_row.tolist())
        if end < ROWS
    ]
    assert closings
    history = write_accounts(tmp_path, openings, closings)
    read, own = (
        from_history(history, TIMES, SYMBOLS, MARK, RULES),
        from_sampled_accounts(lives, SYMBOLS),
    )
    assert read.account_ids == own.account_ids
    for name in ("account", "account_key", "first_row", "last_row", "symbol_start", "symbol"):
        np.testing.assert_array_equal(getattr(read, name), getattr(own, name), err_msg=name)
    assert read.book.leg_instrument == own.book.leg_instrument
    np.testing.assert_array_equal(read.book.leg_quantity, own.book.leg_quantity)
    np.testing.assert_array_equal(read.book.leg_entry_price, own.book.leg_entry_price)
    np.testing.assert_allclose(read.book.cash, own.book.cash, rtol=0.0, atol=1e-12)


@dataclass(frozen=True)
class Marks:
    """A market of which only marks are known."""

    history: MarketHistory
    age_hours: npt.NDArray[np.float64]

    def steps(self, rows: npt.NDArray[np.int64], *, fine: bool = False) -> Iterator[MarketStep]:
        raise AssertionError("brackets of notional are followed by marks alone")


def market() -> Marks:
    values = np.repeat(MARK[:, :, None], 5, axis=2)
    panel = BarPanel(INTERVALS["1h"], SYMBOLS, TIMES - HOUR, values)
    return Marks(MarketHistory.from_panel(panel), np.zeros(MARK.shape))


def test_equity_of_a_sampled_account_is_its_cash_at_birth() -> None:
    lives = sampled()
    intervals = from_sampled_accounts(lives, SYMBOLS)
    paths = TierPaths(intervals.book, market(), RULES)
    figures = paths.figures(np.arange(len(intervals)), intervals.first_row)
    np.testing.assert_allclose(figures.equity, lives.cash, rtol=1e-12)


def mixed_account() -> Account:
    return Account(
        "a",
        500.0,
        (Position("BTCUSDT-PERP", -0.2, 41_000.0), Position("ETHUSDT", 2.0, float(MARK[4, 1]))),
        (
            Balance("BTC", 0.5),
            Balance("ETH", -1.5),
            Balance("SOL", -3.0),
            Balance("USDT", 70.0),
        ),
    )


def requirement_at(row: int, account: Account, ruleset: RuleSet = RULES) -> Requirement:
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
    return compute_requirement(Book.of([account]), view, ruleset)


def test_paths_value_an_account_as_the_rule_engine_does(tmp_path: Path) -> None:
    account = mixed_account()
    without_entry = replace(account, positions=(account.positions[0], Position("ETHUSDT", 2.0)))
    intervals = recorded(tmp_path, (int(TIMES[4]), without_entry))
    paths = TierPaths(intervals.book, market(), RULES)
    rows = np.array([900, 7, 1500])
    figures = paths.figures(np.zeros(3, dtype=np.int64), rows)
    spans = RowSpans(np.array([0]), np.array([4]), np.array([1600]), ROWS)
    along = paths.equity_paths(spans, "close")
    for i, row in enumerate(rows.tolist()):
        expected = requirement_at(row, account)
        for name in ("equity", "headroom", "maintenance_margin", "initial_margin"):
            assert getattr(figures, name)[i] == pytest.approx(getattr(expected, name)[0], rel=1e-9)
        at = figures.take(np.array([i]))
        np.testing.assert_array_equal(at.leg_notional, expected.leg_notional)
        np.testing.assert_array_equal(at.collateral.symbol, expected.collateral.symbol)
        np.testing.assert_array_equal(at.collateral.counted(), expected.collateral.counted())
        assert along.headroom[row - 4] == pytest.approx(expected.headroom[0], rel=1e-9)


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
    assert found.book.leg_quantity.tolist() == [1.0, 3.0]
    assert found.book.leg_entry_price.tolist() == [MARK[3, 0], MARK[6, 0]]


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
    balances: tuple[Balance, ...] = (Balance("USDT", 70.0), Balance("BTC", 0.5))
    balances += (Balance("USDC", 30.0),) if rules.collateral.is_cash("USDC") else ()
    account = Account("a", 100.0, (Position("BTCUSDT-PERP", 1.0, 40_000.0),), balances)
    history = write_accounts(tmp_path, [AccountUpdates(int(TIMES[4]), Book.of([account]))])
    found = from_history(history, TIMES, SYMBOLS, MARK, rules)
    figures = TierPaths(found.book, market(), rules).figures(np.array([0]), np.array([900]))
    assert figures.equity == pytest.approx(requirement_at(900, account, rules).equity)
