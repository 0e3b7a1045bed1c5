"""What-ifs of an account that settles in coin: profits, costs and sizes are in coin too."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from margin.book.case_portfolio import Holding, Portfolio, portfolio_from
from margin.cases.case_rules import case_rules
from margin.what_if.difference import difference
from margin.what_if.outcome import outcome, outcomes
from margin.what_if.remedies import find_remedies
from margin.what_if.sizing import largest_size
from margin.what_if.trades import Change

RULES = case_rules(
    {
        "engine": "standard",
        "name": "deribit-standard",
        "parameters": {"settlement": "coin", "max_loss_offset": False},
    }
)
PERP = Holding(kind="perp", underlying="BTC", quantity=1.0)


def account(mark: float = 50_000.0, quantity: float = 1.0, **keys: Any) -> Portfolio:
    position = {"kind": "perp", "underlying": "BTC", "quantity": quantity, **keys}
    return portfolio_from(
        {
            "cash": 1.0,
            "stable_price": 1.0,
            "underlyings": {"BTC": {"spot": mark, "perp_price": mark}},
            "positions": [position] if quantity else [],
            "collateral": [],
        }
    )


def test_a_reduced_position_realises_its_profit_in_coin() -> None:
    # 50 000 USD from 40 000 to 50 000: 50 000 * (1 / 40 000 - 1 / 50 000) = 0.25 coins.
    half = Change(trades=(msgspec.structs.replace(PERP, quantity=-0.5),))
    (after,) = outcomes(account(entry_price=40_000.0), [half], RULES)
    (held,) = after.portfolio.positions
    assert held.unrealised_pnl == pytest.approx(0.125)
    assert after.portfolio.cash == pytest.approx(1.125)
    assert after.mark_to_market == pytest.approx(1.25)
    again = outcome(after.portfolio, RULES)
    assert again.maintenance_net_margin == pytest.approx(after.maintenance_net_margin)


def test_a_cut_costs_coin() -> None:
    poor = msgspec.structs.replace(account(quantity=100.0), cash=0.5)
    found = find_remedies(poor, RULES, default_cost=0.001)
    (cut,) = found.single
    assert cut.cost == pytest.approx(0.001 * cut.share * 100.0)
    assert cut.headroom >= 0.0


def test_the_largest_size_is_found_and_does_not_depend_on_the_price() -> None:
    sizes = [largest_size(account(mark, 0.0), PERP, RULES) for mark in (5.0, 50_000.0)]
    assert 1.0 < sizes[0] < 100.0
    assert sizes[1] == pytest.approx(sizes[0], rel=1e-8)


@pytest.mark.parametrize("key", ["entry_price", "unrealised_pnl"])
def test_a_move_of_the_price_is_a_change_of_price_alone(key: str) -> None:
    # The same 50 000 USD at two marks; nothing was traded.
    values = {"entry_price": (40_000.0, 40_000.0), "unrealised_pnl": (0.25, 50_000 * 1.5e-5)}[key]
    before = account(50_000.0, 1.0, **{key: values[0]})
    after = account(100_000.0, 0.5, **{key: values[1]})
    steps = {step.name: step for step in difference(before, RULES, after, RULES)}
    assert steps["positions"].mark_to_market == pytest.approx(0.0, abs=1e-12)
    assert steps["positions"].initial_net_margin == pytest.approx(0.0, abs=1e-12)
    assert steps["prices"].mark_to_market == pytest.approx(0.5)
