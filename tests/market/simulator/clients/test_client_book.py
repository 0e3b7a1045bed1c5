from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from market.accounts.account_files import read_accounts, write_accounts
from market.accounts.book import Account
from market.bars.panel import CLOSE, VOLUME
from market.core.clock import Interval
from market.core.errors import ConfigError, DataError
from market.simulator.clients.client_book import ClientBook, PastMarket, draw_client_book
from market.simulator.clients.client_kinds import ClientKinds
from market.simulator.simulated_market import simulate_bars

CLIENTS = ClientKinds.load("venue-v1")


@pytest.fixture(scope="module")
def past() -> PastMarket:
    panel = simulate_bars(1, 60, 8, Interval.parse("1h"))
    mark = panel.values[:, :, CLOSE]
    turnover = (mark * panel.values[:, :, VOLUME]).mean(axis=0) * 24.0
    return PastMarket(panel.symbols, panel.closes, mark, np.isfinite(mark), turnover)


@pytest.fixture(scope="module")
def book(past: PastMarket) -> ClientBook:
    return draw_client_book(CLIENTS, 400, 7, past)


def price(past: PastMarket, row: int, instrument: str) -> float:
    return float(past.mark[row, past.symbols.index(instrument.removesuffix("-PERP"))])


def leverage(past: PastMarket, row: int, account: Account) -> float:
    """Gross notional over equity, collateral at its full price."""
    equity, gross = account.cash, 0.0
    for leg in account.positions:
        now = price(past, row, leg.instrument)
        equity += leg.quantity * (now - (leg.entry_price or 0.0))
        gross += abs(leg.quantity) * now
    for balance in account.collateral:
        equity += balance.amount * price(past, row, f"{balance.asset}USDT")
    return gross / equity if equity > 0.0 else np.inf


def test_the_same_seed_draws_the_same_book_and_another_one_does_not(
    past: PastMarket, book: ClientBook
) -> None:
    assert draw_client_book(CLIENTS, 400, 7, past) == book
    assert draw_client_book(CLIENTS, 400, 8, past) != book


def test_ids_name_the_kind_and_count_within_it(book: ClientBook) -> None:
    ids = {found.account.account_id for found in book.opened}
    assert len(ids) == len(book) == 400
    assert {"maker-001", "maker-008", "retail-280"} <= ids
    assert "maker-009" not in ids


def test_positions_were_opened_at_the_mark_with_the_leverage_of_their_kind(
    past: PastMarket, book: ClientBook
) -> None:
    kinds = {kind.name: kind for kind in CLIENTS.kinds}
    for row, account, equity in book.opened:
        kind = kinds[account.account_id.partition("-")[0]]
        assert kind.equity.least <= equity <= kind.equity.most
        for leg in account.positions:
            assert leg.entry_price == pytest.approx(price(past, row, leg.instrument), rel=1e-5)
        opening = leverage(past, row, account)
        assert kind.leverage.least * 0.99 <= opening <= kind.leverage.most * 1.01


def test_hedged_kinds_hold_spot_against_their_perpetuals(book: ClientBook) -> None:
    carries = [f.account for f in book.opened if f.account.account_id.startswith("carry-")]
    assert carries
    for account in carries:
        held = {leg.instrument: leg.quantity for leg in account.positions}
        for instrument, quantity in held.items():
            other = f"{instrument}-PERP" if not instrument.endswith("-PERP") else instrument[:-5]
            assert held[other] == -quantity


def test_whales_hold_the_coins_of_least_turnover(past: PastMarket, book: ClientBook) -> None:
    thin = {past.symbols[column] for column in np.argsort(past.turnover)[:3].tolist()}
    held = {
        leg.instrument.removesuffix("-PERP")
        for found in book.opened
        if found.account.account_id.startswith("whale-")
        for leg in found.account.positions
    }
    assert held
    assert held <= thin


def test_no_account_is_there_that_the_venue_would_have_closed(
    past: PastMarket, book: ClientBook
) -> None:
    limits = CLIENTS.limits
    last = len(past.mark) - 1
    for row, account, _ in book.opened:
        path = [leverage(past, at, account) for at in range(row, last + 1)]
        assert max(path) < limits.close_out_leverage
        longest = current = 0
        for value in path:
            current = current + 1 if value >= limits.call_leverage else 0
            longest = max(longest, current)
        assert longest <= limits.hours_to_cure


def test_a_fall_of_prices_leaves_accounts_below_their_margin(past: PastMarket) -> None:
    """Nothing but prices makes them so: in the market before the fall there are fewer."""
    fall = past.mark.copy()
    fall[-3:] *= np.array([0.985, 0.97, 0.955])[:, np.newaxis]
    last = len(fall) - 1

    def called(market: PastMarket) -> int:
        drawn = draw_client_book(CLIENTS, 1_000, 7, market)
        return sum(
            leverage(market, last, found.account) >= CLIENTS.limits.call_leverage
            for found in drawn.opened
        )

    assert called(replace(past, mark=fall)) > called(past)


def test_a_coin_that_is_not_eligible_at_the_end_is_still_held(past: PastMarket) -> None:
    halted = past.mark.copy()
    column = past.symbols.index("AVAXUSDT")
    halted[-6:, column] = np.nan
    market = replace(past, mark=halted, eligible=np.isfinite(halted))
    drawn = draw_client_book(CLIENTS, 400, 7, market)
    holders = [
        found.row
        for found in drawn.opened
        if any(leg.instrument.startswith("AVAXUSDT") for leg in found.account.positions)
    ]
    assert holders
    assert max(holders) < len(halted) - 6


def test_account_files_hold_the_book(past: PastMarket, book: ClientBook, tmp_path: Path) -> None:
    write_accounts(tmp_path, book.snapshots(past.closes), book.events(past.closes))
    read = read_accounts(tmp_path).book_at(int(past.closes[-1]))
    drawn = {found.account.account_id: found.account for found in book.opened}
    assert {a.account_id: a.cash for a in read.accounts()} == {
        name: account.cash for name, account in drawn.items()
    }
    for account in read.accounts():
        assert set(account.positions) == set(drawn[account.account_id].positions)
        assert set(account.collateral) == set(drawn[account.account_id].collateral)


def test_what_cannot_be_drawn_is_refused(past: PastMarket) -> None:
    with pytest.raises(ConfigError, match="0 accounts"):
        draw_client_book(CLIENTS, 0, 7, past)
    with pytest.raises(ConfigError, match="seed -1"):
        draw_client_book(CLIENTS, 5, -1, past)
    with pytest.raises(DataError, match="longer market"):
        draw_client_book(CLIENTS, 5, 7, replace(past, eligible=np.zeros_like(past.eligible)))
