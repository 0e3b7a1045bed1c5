"""The engine's figures under brackets against the formula by symbol, written out here."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from margin.book.requirement import compute_requirement
from margin.engines.tier.tiers import bracket_table
from margin.rules.ruleset import RuleSet, load_ruleset
from margin.valuation.view import MarketView
from market.accounts.book import Account, Balance, Book, Position
from market.core.instruments import parse_instrument

NAMES = ("BTCUSDT", "BTCUSDT-PERP", "ETHUSDT-PERP", "XUSDT")


def accounts() -> list[Account]:
    rng = np.random.default_rng(42)
    made = []
    for i in range(300):
        chosen = rng.choice(len(NAMES), int(rng.integers(0, 5)), replace=False).tolist()
        legs = tuple(
            Position(NAMES[k], float(rng.normal()), float(rng.uniform(1.0, 9e4)) if i % 2 else None)
            for k in chosen
        )
        coins = tuple(
            Balance(asset, float(rng.normal()))
            for asset in ("BTC", "USD", "ETH")[: int(rng.integers(0, 4))]
        )
        made.append(Account(str(i), float(rng.normal(0.0, 1e4)), legs, coins))
    return made


def expected(account: Account, view: MarketView, rules: RuleSet) -> dict[str, float]:
    """``cash + sum(quantity (mark - entry)) + sum(amount * mark * (1 - haircut))``, and tier
    margins of each position on its own."""
    table, rows = bracket_table(rules, view.symbols), view.index()
    equity, initial, maintenance = [account.cash], [], []
    for leg in account.positions:
        row = rows[parse_instrument(leg.instrument).symbol]
        mark = float(view.mark[row])
        equity.append(leg.quantity * (mark - (leg.entry_price or mark)))
        notional = np.array([leg.quantity * mark])
        initial.append(float(table.initial(notional, np.array([row]))[0]))
        maintenance.append(float(table.maintenance(notional, np.array([row]))[0]))
    for balance in account.collateral:
        price = 1.0 if balance.asset == "USD" else float(view.mark[rows[f"{balance.asset}USDT"]])
        haircut = rules.collateral.haircut(balance.asset) if balance.amount > 0.0 else 0.0
        equity.append(balance.amount * price * (1.0 - haircut))
    return {
        "equity": math.fsum(equity),
        "initial_margin": math.fsum(initial),
        "maintenance_margin": math.fsum(maintenance),
        "headroom": math.fsum([*equity, *(-one for one in maintenance)]),
    }


@pytest.mark.parametrize("preset", ["linear-tiers", "emir-tiers"])
def test_figures_of_a_book_are_those_of_the_formula(view: MarketView, preset: str) -> None:
    rules, book = load_ruleset(preset), accounts()
    got = compute_requirement(Book.of(book), view, rules)
    assert got.problems == {}
    want = [expected(account, view, rules) for account in book]
    for key in ("equity", "initial_margin", "maintenance_margin", "headroom"):
        figures = [one[key] for one in want]
        np.testing.assert_allclose(getattr(got, key), figures, rtol=1e-12, atol=1e-9, err_msg=key)


def test_options_are_problems_of_their_accounts_alone(make_view: Callable[..., MarketView]) -> None:
    held = Account("a", 1.0, (Position("BTC-27MAR26-60000-C", 1.0), Position("BTCUSDT", 1.0)))
    plain = Account("b", 2.0, (Position("BTCUSDT", 1.0),))
    got = compute_requirement(Book.of([held, plain]), make_view(), load_ruleset("linear-tiers"))
    assert list(got.problems) == [0]
    assert "is an option" in str(got.problems[0])
    assert got.equity[1] == 2.0
