"""Queue of auto-deleverage, insurance fund and limit of a closing order."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings, strategies as st

from margin.liquidation.deleverage import RANKINGS, Winner, deleverage, profit_margin_ratio
from margin.liquidation.insurance_fund import InsuranceFund
from margin.liquidation.price_impact import fillable_price
from margin.rules.liquidation import FundRules
from market.core.errors import CaseError


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.floats(0.0, 1e6)), max_size=8),
    st.floats(0.0, 1e6),
    st.floats(0.0, 1e6),
)
def test_a_fund_pays_what_it_has_up_to_its_limit(
    amounts: list[tuple[bool, float]], balance: float, limit: float
) -> None:
    rules = FundRules(balance=balance, max_draw=limit)
    fund = InsuranceFund.of_rules(rules)
    for is_fee, amount in amounts:
        before = fund.balance
        if is_fee:
            fund = fund.collect(amount)
            assert fund.balance == before + amount
        else:
            payment = fund.payment(amount, rules)
            assert payment == min(amount, before, limit)
            fund = fund.pay(payment)
        assert fund.balance >= 0.0
    assert fund.balance == pytest.approx(balance + fund.fees - fund.paid, abs=1e-6)
    with pytest.raises(CaseError, match="shortfall is -1"):
        fund.payment(-1.0, rules)
    with pytest.raises(CaseError, match="the fund holds"):
        fund.pay(fund.balance + 1.0)
    assert InsuranceFund.of_rules(FundRules()).balance == 0.0


WINNERS = st.lists(
    st.tuples(st.floats(0.01, 100.0), st.floats(10.0, 100.0), st.floats(-10.0, 1e4)),
    min_size=1,
    max_size=8,
)


@pytest.mark.parametrize("ranking", list(RANKINGS))
@settings(max_examples=40, deadline=None)
@given(WINNERS, st.floats(0.01, 500.0), st.sampled_from([1.0, -1.0]), st.randoms())
def test_deleverage_fills_exactly_the_deficit(
    ranking: str,
    rows: list[tuple[float, float, float]],
    quantity: float,
    side: float,
    random: Random,
) -> None:
    winners = [
        Winner(f"a{k}", side * size, entry, 50.0, equity, 0.01 * size * 50.0, equity - 1.0)
        for k, (size, entry, equity) in enumerate(rows)
    ]
    queue = deleverage(-side * quantity, winners, ranking)
    total = sum(size for size, _, _ in rows)
    closed = [abs(place.closed) for place in queue]
    assert sum(closed) == pytest.approx(min(quantity, total), rel=1e-12)
    for place in queue:
        assert abs(place.closed) <= abs(place.winner.quantity)
    # Whoever stands earlier is closed whole before the next is touched.
    partly = [k for k, place in enumerate(queue) if place.closed]
    for k in partly[:-1]:
        assert closed[k] == abs(queue[k].winner.quantity)
    scores = [place.score for place in queue]
    assert scores == sorted(scores, reverse=True)
    shuffled = list(winners)
    random.shuffle(shuffled)
    assert deleverage(-side * quantity, shuffled, ranking) == queue


def test_ties_stand_in_the_order_of_ids_and_more_profit_first() -> None:
    def winner(name: str, entry: float, equity: float) -> Winner:
        return Winner(name, -1.0, entry, 100.0, equity, 1.0, 50.0)

    even = deleverage(1.0, [winner("b", 120.0, 50.0), winner("a", 120.0, 50.0)], "profit_leverage")
    assert [place.winner.account_id for place in even] == ["a", "b"]
    for ranking in ("profit_leverage", "profit_margin_ratio", "price_leverage"):
        queue = deleverage(1.0, [winner("less", 110.0, 50.0), winner("more", 150.0, 50.0)], ranking)
        assert queue[0].winner.account_id == "more", ranking
        queue = deleverage(
            1.0, [winner("safe", 120.0, 500.0), winner("bold", 120.0, 10.0)], ranking
        )
        assert queue[0].winner.account_id == "bold", ranking


@pytest.mark.parametrize(
    ("quantity", "winners", "message"),
    [
        (0.0, [], "quantity to take off is 0"),
        (1.0, [Winner("a", 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)], "expected the other side"),
        (1.0, [Winner("a", -1.0, 1.0, 1.0, 1.0, 1.0, 1.0)] * 2, "listed twice"),
        (1.0, [Winner("a", -1.0, 0.0, 1.0, 1.0, 1.0, 1.0)], "expected prices above 0"),
    ],
)
def test_bad_queues_are_refused(quantity: float, winners: list[Winner], message: str) -> None:
    with pytest.raises(CaseError, match=message):
        deleverage(quantity, winners, "account")


def test_an_unknown_ranking_is_refused() -> None:
    with pytest.raises(CaseError, match="'luck' is not known"):
        deleverage(1.0, [], "luck")


def test_profit_counts_by_the_margin_ratio_of_the_account() -> None:
    """Profit 20 on a wallet of 100, margin 6 of an equity of 120: 0.2 * 0.05."""
    winner = Winner("a", 2.0, 50.0, 60.0, equity=120.0, maintenance=6.0, wallet=100.0)
    assert profit_margin_ratio(winner) == pytest.approx(0.01)


def test_a_bankruptcy_adjustment_widens_the_fillable_price_earlier() -> None:
    position = (2.0, 100.0, 5.0, 0.75)
    price = fillable_price(*position, FundRules(fill_spread=1.5))
    assert price == pytest.approx(100.0 - 0.25 * 1.5 * 5.0 / 2.0)
    wider = fillable_price(*position, FundRules(fill_spread=1.5, bankruptcy_adjustment=2.0))
    assert wider == pytest.approx(100.0 - 0.5 * 1.5 * 5.0 / 2.0)
