"""What-ifs of one portfolio: worked figures under flat rates, and promises on any portfolio."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from margin.book.case_portfolio import Holding, Portfolio, portfolio_from
from margin.cases.what_if_cases import explain_against, explain_case, what_if_case
from margin.engines.margins import total
from margin.rules.ruleset import load_ruleset
from margin.what_if.difference import difference
from margin.what_if.outcome import marginal_requirements, outcome, outcomes
from margin.what_if.remedies import find_remedies
from margin.what_if.sizing import largest_size
from margin.what_if.trades import Change
from market.core.errors import CaseError

RULES = load_ruleset("linear-tiers")
BTC = Holding(kind="perp", underlying="BTC", quantity=1.0)


def book(**changes: Any) -> Portfolio:
    content: dict[str, Any] = {
        "cash": 5_000.0,
        "stable_price": 1.0,
        "underlyings": {
            "BTC": {"spot": 100_000.0, "perp_price": 100_000.0},
            "ETH": {"spot": 2_000.0, "perp_price": 2_000.0},
        },
        "positions": [
            {"kind": "perp", "underlying": "BTC", "quantity": 1.0, "entry_price": 99_000.0},
            {"kind": "perp", "underlying": "ETH", "quantity": -100.0, "entry_price": 2_010.0},
        ],
        "collateral": [],
    }
    return portfolio_from(content | changes)


def test_a_trade_at_the_mark_leaves_equity_and_realises_what_it_closes() -> None:
    before, halved, closed, turned, more = outcomes(
        book(),
        [
            Change(),
            Change(trades=(msgspec.structs.replace(BTC, quantity=-0.5),)),
            Change(trades=(msgspec.structs.replace(BTC, quantity=-1.0),)),
            Change(trades=(msgspec.structs.replace(BTC, quantity=-3.0),)),
            Change(trades=(BTC,)),
        ],
        RULES,
    )
    # Equity 5 000 + 1 000 + 1 000; maintenance 2% of 100 000 and of 200 000.
    assert before.mark_to_market == pytest.approx(7_000.0)
    assert before.maintenance_requirement == pytest.approx(6_000.0)
    for after, cash, requirement in (
        (halved, 5_500.0, 5_000.0),
        (closed, 6_000.0, 4_000.0),
        (turned, 6_000.0, 8_000.0),
        (more, 5_000.0, 8_000.0),
    ):
        assert after.mark_to_market == pytest.approx(7_000.0)
        assert after.portfolio.cash == pytest.approx(cash)
        assert after.maintenance_requirement == pytest.approx(requirement)
        again = outcome(after.portfolio, RULES)
        assert again.maintenance_net_margin == pytest.approx(after.maintenance_net_margin)
    assert [held.underlying for held in closed.portfolio.positions] == ["ETH"]


def test_nothing_is_mutated_and_lines_of_one_instrument_count_as_one() -> None:
    split = book(
        positions=[
            {"kind": "perp", "underlying": "BTC", "quantity": 0.5, "unrealised_pnl": 400.0},
            {"kind": "perp", "underlying": "BTC", "quantity": 0.5, "unrealised_pnl": 600.0},
        ]
    )
    encoded = msgspec.json.encode(split)
    (after,) = outcomes(
        split, [Change(trades=(msgspec.structs.replace(BTC, quantity=-0.25),))], RULES
    )
    assert msgspec.json.encode(split) == encoded
    (position,) = after.portfolio.positions
    assert position.quantity == 0.75
    assert position.unrealised_pnl == pytest.approx(750.0)
    assert after.portfolio.cash == pytest.approx(5_250.0)


def test_marginal_requirement_is_that_of_the_position_where_nothing_offsets() -> None:
    found = {one.instrument: one for one in marginal_requirements(book(), RULES)}
    assert found["BTC-PERP"].maintenance == pytest.approx(2_000.0)
    assert found["BTC-PERP"].initial == pytest.approx(4_000.0)
    assert found["ETH-PERP"].maintenance == pytest.approx(4_000.0)


def test_largest_size_is_what_the_margin_left_allows() -> None:
    # Net initial margin is 7 000 - 12 000 < 0: nothing fits, but selling BTC frees 4 000 only.
    assert largest_size(book(), BTC, RULES) == 0.0
    rich = book(cash=15_000.0)
    # 17 000 - 12 000 leaves 5 000 at 4% of 100 000 a coin.
    size = largest_size(rich, BTC, RULES)
    assert size == pytest.approx(1.25, rel=1e-8)
    (there, beyond) = outcomes(
        rich,
        [Change(trades=(msgspec.structs.replace(BTC, quantity=q),)) for q in (size, size * 1.001)],
        RULES,
    )
    assert there.initial_net_margin >= 0.0 > beyond.initial_net_margin
    sold = largest_size(rich, msgspec.structs.replace(BTC, quantity=-1.0), RULES)
    assert sold == pytest.approx(-3.25, rel=1e-8)  # one coin to close first


def test_a_hedge_is_found_though_nothing_fits_without_it() -> None:
    poor = book(cash=3_500.0)  # 5 500 against 12 000: selling 1 coin frees 4 000, not enough
    sell = msgspec.structs.replace(BTC, quantity=-1.0)
    assert largest_size(poor, sell, RULES) == 0.0
    # At the level of maintenance 5 500 - 6 000: a coin frees 2 000, then takes 2 000 again.
    size = largest_size(poor, sell, RULES, "maintenance")
    assert size == pytest.approx(-1.75, rel=1e-8)


def test_where_only_nothing_fits_the_search_ends_at_nothing() -> None:
    full = book(cash=10_000.0)  # 12 000 against an initial margin of 12 000
    assert outcome(full, RULES).initial_net_margin == 0.0
    assert largest_size(full, BTC, RULES) == 0.0


def test_unlimited_size_and_a_size_without_direction() -> None:
    free = book(positions=[])
    flat = load_ruleset("linear-tiers")
    assert largest_size(free, BTC, flat, target=-math.inf) == math.inf
    with pytest.raises(CaseError, match="only its sign counts"):
        largest_size(free, msgspec.structs.replace(BTC, quantity=0.0), RULES)


def test_remedies_name_the_cheapest_cut_first_and_each_suffices() -> None:
    poor = book(cash=3_500.0)  # net maintenance -500
    found = find_remedies(poor, RULES, costs={"ETH-PERP": 0.0001}, default_cost=0.001)
    assert found.headroom == pytest.approx(-500.0)
    assert found.deposit == 500.0
    assert [cut.instrument for cut in found.single] == ["ETH-PERP", "BTC-PERP"]
    assert found.plan == found.single[:1]
    assert found.deposit_after_plan == 0.0
    eth, btc = found.single
    # Each unit of notional closed frees 2% and pays its cost.
    assert eth.quantity == pytest.approx(500.0 / (0.02 - 0.0001) / 2_000.0)
    assert btc.quantity == pytest.approx(-500.0 / (0.02 - 0.001) / 100_000.0)
    for cut in found.single:
        held = next(p for p in poor.positions if p.name == cut.instrument)
        (after, less) = outcomes(
            poor,
            [
                Change(-cut.cost, (msgspec.structs.replace(held, quantity=cut.quantity),)),
                Change(
                    -cut.cost * 0.999,
                    (msgspec.structs.replace(held, quantity=0.999 * cut.quantity),),
                ),
            ],
            RULES,
        )
        assert after.maintenance_net_margin == pytest.approx(cut.headroom)
        assert after.maintenance_net_margin >= 0.0 > less.maintenance_net_margin


def test_plan_of_several_cuts_and_a_deposit_where_cuts_do_not_suffice() -> None:
    found = find_remedies(book(cash=-1_000.0), RULES, default_cost=0.0)  # -5 000 net
    assert found.single == ()
    assert len(found.plan) == 2
    assert found.plan[-1].headroom >= 0.0
    hopeless = find_remedies(book(cash=-10_000.0), RULES, default_cost=0.0)
    assert hopeless.deposit_after_plan == pytest.approx(8_000.0)
    assert hopeless.plan[-1].headroom == pytest.approx(-8_000.0)
    fine = find_remedies(book(), RULES)
    assert (fine.deposit, fine.plan, fine.single) == (0.0, (), ())


def test_a_hedge_is_cut_together_where_closing_either_leg_would_ask_for_more() -> None:
    content = {
        "cash": 3_000.0,
        "stable_price": 1.0,
        "underlyings": {
            "BTC": {
                "spot": 100_000.0,
                "perp_price": 100_000.0,
                "expiries": [
                    {"seconds_to_expiry": 7_776_000.0, "forward": 101_000.0, "rate": 0.04}
                ],
            }
        },
        "positions": [
            {"kind": "perp", "underlying": "BTC", "quantity": 0.35},
            {
                "kind": "option",
                "underlying": "BTC",
                "seconds_to_expiry": 7_776_000.0,
                "strike": 115_000.0,
                "type": "call",
                "quantity": -1.0,
                "vol": 0.4,
            },
        ],
        "collateral": [],
    }
    rules = load_ruleset("derive-pmrm2")
    hedged = portfolio_from(content)
    assert all(one.maintenance < 0.0 for one in marginal_requirements(hedged, rules))
    target = outcome(hedged, rules).maintenance_net_margin + 1_000.0
    found = find_remedies(hedged, rules, target)
    assert len(found.plan) == 2
    assert found.plan[-1].headroom >= target
    assert found.deposit_after_plan == 0.0
    trades = tuple(
        msgspec.structs.replace(held, quantity=cut.quantity)
        for held, cut in zip(hedged.positions, found.plan, strict=True)
    )
    paid = sum(cut.cost for cut in found.plan)
    (after,) = outcomes(hedged, [Change(-paid, trades)], rules)
    assert after.maintenance_net_margin == pytest.approx(found.plan[-1].headroom)


def test_difference_separates_positions_prices_and_parameters() -> None:
    before = book()
    after = book(
        cash=6_000.0,
        underlyings={
            "BTC": {"spot": 101_000.0, "perp_price": 101_000.0},
            "ETH": {"spot": 2_000.0, "perp_price": 2_000.0},
        },
        positions=[
            {"kind": "perp", "underlying": "BTC", "quantity": 2.0, "unrealised_pnl": 3_000.0}
        ],
    )
    emptier = load_ruleset("linear-tiers").content()
    emptier["tier"]["brackets"][0]["maintenance_rate"] = 0.03
    from margin.rules.ruleset import ruleset_from_content

    steps = {s.name: s for s in difference(before, RULES, after, ruleset_from_content(emptier))}
    # Positions: cash +1 000, ETH's 1 000 gone, BTC at the earlier price gained 1 000, as before.
    assert steps["positions"].mark_to_market == pytest.approx(0.0)
    assert steps["positions"].maintenance_net_margin == pytest.approx(2_000.0)
    assert steps["prices"].mark_to_market == pytest.approx(2_000.0)
    assert steps["prices"].maintenance_net_margin == pytest.approx(2_000.0 - 40.0)
    assert steps["parameters"].maintenance_net_margin == pytest.approx(-0.01 * 202_000.0)
    with pytest.raises(CaseError, match="elapsed_seconds"):
        difference(before, RULES, after, RULES, -1.0)


@given(
    cash=st.floats(-20_000, 20_000),
    btc=st.floats(-2, 2),
    eth=st.floats(-100, 100),
    target=st.floats(-1_000, 1_000),
)
def test_remedies_reach_the_target_or_say_what_is_missing(
    cash: float, btc: float, eth: float, target: float
) -> None:
    portfolio = book(
        cash=cash,
        positions=[
            {"kind": "perp", "underlying": "BTC", "quantity": btc},
            {"kind": "perp", "underlying": "ETH", "quantity": eth},
        ],
    )
    found = find_remedies(portfolio, RULES, target)
    assert found.headroom + found.deposit >= target
    reached = found.plan[-1].headroom if found.plan else found.headroom
    assert reached + found.deposit_after_plan >= target
    assert [cut.cost for cut in found.single] == sorted(cut.cost for cut in found.single)


def line(portfolio: Portfolio, **keys: object) -> bytes:
    plain = msgspec.to_builtins(portfolio)
    return json.dumps({"id": "one", "portfolio": plain, "ruleset": "linear-tiers"} | keys).encode()


def test_explain_case_adds_up_and_compares(tmp_path: Path) -> None:
    got = explain_case(line(book()))
    assert total(part["maintenance"] for part in got["parts"]) == pytest.approx(1_000.0)
    assert total(part["initial"] for part in got["parts"]) == pytest.approx(-5_000.0)
    earlier = tmp_path / "earlier.jsonl"
    earlier.write_bytes(line(book(cash=4_000.0)) + b"\n")
    run = explain_against(earlier)
    changed = run(line(book()), 1)["changed"]
    assert [step["maintenance_net_margin"] for step in changed] == pytest.approx([1_000.0, 0, 0])
    missing = run(line(book(), id="two"), 1)
    assert "no earlier case 'two'" in missing["error"]
    earlier.write_bytes(line(book()) + b"\n" + line(book()))
    with pytest.raises(CaseError, match="again"):
        explain_against(earlier)


def test_what_if_case_answers_all_it_is_asked() -> None:
    asked = {"deposit": 10.0, "largest": [msgspec.to_builtins(BTC)], "target_headroom": 1_500.0}
    got = what_if_case(line(book(), what_if=asked))
    assert got["after"]["mark_to_market"] - got["before"]["mark_to_market"] == pytest.approx(10.0)
    assert got["largest"] == [{"instrument": "BTC-PERP", "quantity": 0.0, "unlimited": False}]
    assert got["remedies"]["deposit"] == 500.0
    refused = what_if_case(line(book(), what_if={"default_cost": -1.0}))
    assert "default_cost" in refused["error"]


def test_no_size_fits_where_the_smallest_trade_makes_a_feed_count() -> None:
    # With any perp at all, however small, the option is trusted as little as the perp's price.
    option = {
        "kind": "option",
        "underlying": "ETH",
        "quantity": 1.0,
        "seconds_to_expiry": 86_400.0,
        "strike": 2_000.0,
        "type": "call",
        "vol": 0.5,
    }
    expiry = {"seconds_to_expiry": 86_400.0, "forward": 2_000.0, "rate": 0.0}
    prices = {"spot": 2_000.0, "perp_price": 2_000.0, "perp_confidence": 0.1, "expiries": [expiry]}
    held = book(positions=[option], underlyings={"ETH": prices})
    rules = load_ruleset("derive-pmrm2")
    target = outcome(held, rules).initial_net_margin - 1.0
    perp = Holding(kind="perp", underlying="ETH", quantity=1.0)
    assert largest_size(held, perp, rules, target=target) == 0.0
