"""Auto-deleverage of a book: the rule's text written out, and what it may never do."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from margin.book.requirement import compute_requirement
from margin.liquidation.book_liquidation import close_at_mark
from margin.liquidation.deleverage import RANKINGS
from margin.liquidation.shortfall import (
    ClosedPosition,
    Contribution,
    closed_positions,
    share_loss,
)
from margin.rules.ruleset import RuleSet
from margin.valuation.view import MarketView
from market.accounts.book import Account, Book, Position

MARKS = {"BTCUSDT-PERP": 100_000.0, "ETHUSDT-PERP": 2_000.0}
BTC, ETH = MARKS
MARGIN_RATE = 0.02

LEG = st.tuples(
    st.sampled_from([BTC, ETH]),
    st.floats(-3.0, 3.0).filter(lambda x: abs(x) > 1e-3),
    st.floats(0.7, 1.4),
)
WINNERS = st.lists(
    st.tuples(
        st.floats(-20_000.0, 60_000.0).map(lambda cash: round(cash, 4)),
        st.lists(LEG, min_size=1, max_size=3),
    ),
    min_size=1,
    max_size=6,
)


def account(name: str, cash: float, legs: list[tuple[str, float, float]]) -> Account:
    """Legs as (instrument, quantity, entry price over mark)."""
    positions = tuple(
        Position(instrument, quantity, entry * MARKS[instrument])
        for instrument, quantity, entry in legs
    )
    return Account(name, cash, positions)


def expected(
    loss: float,
    closed: Mapping[str, float],
    accounts: list[Account],
    ranking: str,
) -> dict[tuple[str, str], tuple[float, float]]:
    """(account, instrument) -> (quantity closed, loss), straight from the text of the rule."""
    profit: dict[tuple[str, str], float] = defaultdict(float)
    quantity: dict[tuple[str, str], float] = defaultdict(float)
    equity, notional = {}, {}
    cash = {member.account_id: member.cash for member in accounts}
    for member in accounts:
        equity[member.account_id], notional[member.account_id] = member.cash, 0.0
        net: dict[str, float] = defaultdict(float)
        for leg in member.positions:
            assert leg.entry_price is not None
            gain = leg.quantity * (MARKS[leg.instrument] - leg.entry_price)
            profit[member.account_id, leg.instrument] += gain
            quantity[member.account_id, leg.instrument] += leg.quantity
            equity[member.account_id] += gain
            net[leg.instrument] += leg.quantity
        notional[member.account_id] = sum(abs(net[name]) * MARKS[name] for name in net)
    first_equity = dict(equity)
    total = sum(abs(size) * MARKS[name] for name, size in closed.items())
    result = {}
    for name in sorted(closed):
        size, mark = closed[name], MARKS[name]
        unit_loss = loss * abs(size) * mark / total / abs(size)
        queue = []
        for account_id, worth in first_equity.items():
            key = (account_id, name)
            if quantity[key] * size >= 0.0 or profit[key] <= 0.0 or worth <= 0.0:
                continue
            entry = mark - profit[key] / quantity[key]
            if entry <= 0.0:
                continue
            wallet = cash[account_id]
            value = abs(quantity[key]) * mark
            if ranking == "profit_leverage":
                score = profit[key] / (abs(quantity[key]) * entry) * value / worth
            elif ranking == "profit_margin_ratio":
                score = profit[key] / wallet if wallet > 0.0 else math.inf
                score *= MARGIN_RATE * notional[account_id] / worth
            elif ranking == "price_leverage":
                score = (mark / entry if quantity[key] > 0.0 else entry / mark) * value / worth
            else:
                score = 0.0
            queue.append((-score, account_id))
        left = abs(size)
        for _, account_id in sorted(queue):
            key = (account_id, name)
            taken = min(left, abs(quantity[key]))
            if taken == 0.0:
                break
            left -= taken
            gain = profit[key] * taken / abs(quantity[key])
            part = max(0.0, min(taken * unit_loss, gain, equity[account_id]))
            equity[account_id] -= part
            result[key] = (math.copysign(taken, quantity[key]), part)
    return result


def contributions_of(
    loss: float,
    closed: Mapping[str, float],
    accounts: list[Account],
    ranking: str,
    view: MarketView,
    ruleset: RuleSet,
) -> list[Contribution]:
    book = Book.of(accounts)
    return share_loss(
        loss,
        [ClosedPosition(name, closed[name], abs(closed[name]) * MARKS[name]) for name in closed],
        book,
        compute_requirement(book, view, ruleset),
        np.ones(len(accounts), dtype=np.bool_),
        ranking,
    )


@pytest.mark.parametrize("ranking", list(RANKINGS))
@settings(max_examples=60, deadline=None)
@given(
    st.floats(1.0, 100_000.0),
    st.dictionaries(st.sampled_from([BTC, ETH]), st.floats(0.1, 4.0), min_size=1),
    st.sampled_from([1.0, -1.0]),
    WINNERS,
)
def test_contributions_are_those_of_the_rule(
    view: MarketView,
    linear_tiers: RuleSet,
    ranking: str,
    loss: float,
    sizes: dict[str, float],
    side: float,
    rows: list[tuple[float, list[tuple[str, float, float]]]],
) -> None:
    accounts = [account(f"a{k}", cash, legs) for k, (cash, legs) in enumerate(rows)]
    closed = {name: side * sizes[name] for name in sorted(sizes)}
    found = contributions_of(loss, closed, accounts, ranking, view, linear_tiers)
    losses = expected(loss, closed, accounts, ranking)
    assert {(accounts[part.account].account_id, part.instrument) for part in found} == set(losses)
    for part in found:
        quantity, cost = losses[accounts[part.account].account_id, part.instrument]
        assert part.quantity == pytest.approx(quantity, rel=1e-6, abs=1e-9)
        assert part.loss == pytest.approx(cost, rel=1e-6, abs=1e-6)
    assert sum(part.loss for part in found) <= loss * (1.0 + 1e-12)
    # Nobody is closed past its position, or loses more than its equity; money only changes hands.
    book = Book.of(accounts)
    before = compute_requirement(book, view, linear_tiers).equity
    for i, member in enumerate(accounts):
        parts = [part for part in found if part.account == i]
        if not parts:
            continue
        shares = {part.instrument: part.share for part in parts}
        assert all(0.0 < share <= 1.0 for share in shares.values())
        cost = sum(part.loss for part in parts)
        assert cost <= before[i] * (1.0 + 1e-12)
        after = close_at_mark(
            member,
            view,
            linear_tiers,
            np.array([shares.get(leg.instrument, 0.0) for leg in member.positions]),
            cost,
        )
        equity = compute_requirement(Book.of([after]), view, linear_tiers).equity[0]
        assert equity == pytest.approx(before[i] - cost, abs=1e-6)
        assert equity >= -1e-6


def test_all_of_a_single_position_is_closed_at_the_bankruptcy_price(
    view: MarketView, linear_tiers: RuleSet
) -> None:
    """A long of 2 from 110,000 with 9,000 of cash is bankrupt at 105,500; its mark is 100,000."""
    bankrupt = account("b", 9_000.0, [(BTC, 2.0, 1.1)])
    book = Book.of([bankrupt])
    requirement = compute_requirement(book, view, linear_tiers)
    (closed,) = closed_positions(book, requirement, 0, [1.0])
    assert (closed.quantity, closed.notional) == (2.0, 200_000.0)
    shorts = [
        account("near", 50_000.0, [(BTC, -1.5, 1.03)]),
        account("far", 50_000.0, [(BTC, -1.5, 1.2)]),
    ]
    loss = -float(requirement.equity[0])
    found = contributions_of(loss, {BTC: 2.0}, shorts, "profit_leverage", view, linear_tiers)
    far, near = found
    assert (far.account, far.quantity, far.rank) == (1, -1.5, 1)
    assert far.price == pytest.approx(105_500.0)
    assert far.loss == pytest.approx(1.5 * 5_500.0)
    # The other one entered below the bankruptcy price: it gives up its profit and no more.
    assert (near.account, near.quantity, near.rank) == (0, -0.5, 2)
    assert near.price == pytest.approx(103_000.0)
    assert near.loss == pytest.approx(0.5 * 3_000.0)


def test_who_is_not_eligible_or_has_no_profit_is_left_alone(
    make_view: Callable[..., MarketView], linear_tiers: RuleSet
) -> None:
    accounts = [
        account("loses", 90_000.0, [(BTC, -1.0, 0.9)]),
        account("liquidating", 90_000.0, [(BTC, -1.0, 1.2)]),
        account("same side", 90_000.0, [(BTC, 1.0, 0.9)]),
        account("without entry price", 90_000.0, []),
        Account("unknown", 1.0, (Position(BTC, -1.0, 1.2e5), Position("SOLUSDT-PERP", 1.0))),
        account("flat over lines", 90_000.0, [(BTC, -1.0, 1.2), (BTC, 1.0, 0.9)]),
    ]
    accounts[3] = Account("without entry price", 90_000.0, (Position(BTC, -1.0),))
    book, view = Book.of(accounts), make_view()
    found = share_loss(
        1_000.0,
        [ClosedPosition(BTC, 1.0, 100_000.0)],
        book,
        compute_requirement(book, view, linear_tiers),
        np.array([True, False, True, True, True, True]),
        "profit_leverage",
    )
    assert found == []


def test_lines_of_one_instrument_are_closed_in_equal_shares(
    view: MarketView, linear_tiers: RuleSet
) -> None:
    lines = account("two lines", 90_000.0, [(BTC, -1.0, 1.1), (BTC, -3.0, 1.2)])
    (part,) = contributions_of(4_000.0, {BTC: 2.0}, [lines], "account", view, linear_tiers)
    assert (part.quantity, part.share, part.loss) == (-2.0, 0.5, 4_000.0)


def test_a_winner_loses_no_more_than_its_equity_over_all_instruments(
    view: MarketView, linear_tiers: RuleSet
) -> None:
    """Profits of 20,000 and 4,000 that were drawn: 900 of equity is all that there is to lose."""
    thin = account("thin", 900.0 - 24_000.0, [(BTC, -1.0, 1.2), (ETH, -10.0, 1.2)])
    closed = {BTC: 1.0, ETH: 10.0}
    first, second = contributions_of(6_000.0, closed, [thin], "account", view, linear_tiers)
    assert [first.instrument, second.instrument] == [BTC, ETH]
    assert [first.loss, second.loss] == pytest.approx([900.0, 0.0], abs=1e-9)
    (part,) = contributions_of(600.0, {BTC: 1.0}, [thin], "account", view, linear_tiers)
    assert part.loss == 600.0
