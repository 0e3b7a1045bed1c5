"""What the parameters of rule sets make: one function from a rule set to its figures by table, and
the rule sets that use every parameter of a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from margin.add_on.bounds import add_on_cap, bound_add_on, in_stress
from margin.add_on.solver import required_level
from margin.book.case_batch import flatten
from margin.book.case_portfolio import Portfolio, portfolio_from
from margin.book.requirement import Requirement, compute_requirement
from margin.engines.registry import compute_margins
from margin.floors.registry import active_floors, floor_terms
from margin.floors.term import FloorTerm
from margin.life_cycle.advance import advance, outstanding
from margin.life_cycle.call_rules import CallRules, enforcement_of
from margin.life_cycle.states import MarginStatus, States
from margin.liquidation.auction import auction_fee, auction_steps, insolvent_offer, price_factor
from margin.liquidation.insurance_fund import InsuranceFund
from margin.liquidation.partial import allowed_shortage, liquidation_step
from margin.liquidation.price_impact import fillable_price
from margin.rules.ruleset import RuleSet, load_ruleset
from margin.valuation.view import MarketView
from market.accounts.book import Account, Balance, Book, Position
from market.bars.daily_closes import DailyCloses
from market.bars.outlier_filter import filter_history
from market.core.clock import DAY, HOUR, Interval
from market.quotes.quote_filter import FilterInputs, TimedPrice, filter_quote
from models.gates import requirement_change_gate

Floats = npt.NDArray[np.float64]
Probe = Callable[[RuleSet], Floats]
Content = Callable[[], dict[str, Any]]

DAYS = 86_400.0


# --- the figures that parameters make -----------------------------------------------------------


def options_book(cash: float, long: bool = False) -> Portfolio:
    """One underlying with settled, settling, short and long expiries, at and away from the
    forward, long and short, a perp, collateral, and prices that are not trusted."""
    times = (0.0, 1.0, 900.0, 5 * DAYS, 30 * DAYS, 200 * DAYS)
    sign = 1.0 if long else -1.0
    options = [
        {"kind": "option", "underlying": "BTC", "seconds_to_expiry": seconds, "strike": strike}
        | {"type": side, "quantity": sign * size, "vol": vol}
        for seconds in times
        for strike, side, size, vol in (
            (100.0, "call", 2.0, 0.6),
            (100.0, "put", 1.0, 0.6),
            (80.0, "put", 3.0, 0.8),
            (130.0, "call", -1.5, 0.7),
            (90.0, "call", 0.5, 0.0),
        )
    ]
    expiry = {"forward": 100.0, "rate": 0.05, "confidence": 0.9}
    return portfolio_from(
        {
            "cash": cash,
            "stable_price": 0.97,
            "underlyings": {
                "BTC": {
                    "spot": 100.0,
                    "spot_confidence": 0.45,
                    "perp_price": 100.5,
                    "perp_confidence": 0.4,
                    "expiries": [{"seconds_to_expiry": seconds, **expiry} for seconds in times],
                }
            },
            "positions": [*options, {"kind": "perp", "underlying": "BTC", "quantity": sign * 4.0}],
            "collateral": [
                {"asset": "BTC", "amount": 2.0, "price": 100.0, "underlying": "BTC"}
                | {"risk_cancelling": True, "confidence": 0.3},
                {"asset": "SOL", "amount": 30.0, "price": 2.0},
            ],
        }
    )


def call_spread() -> Portfolio:
    """Three calls short, two long above them: the largest loss is less than the isolated sum."""
    call = {"kind": "option", "underlying": "BTC", "seconds_to_expiry": 30 * DAYS, "type": "call"}
    return msgspec.structs.replace(
        options_book(1e3),
        positions=portfolio_from(
            msgspec.to_builtins(options_book(1e3))
            | {
                "positions": [
                    call | {"strike": 100.0, "quantity": -3.0, "vol": 0.6},
                    call | {"strike": 105.0, "quantity": 2.0, "vol": 0.6},
                ]
            }
        ).positions,
    )


def perps_book(cash: float = 5e4) -> Portfolio:
    quoted = {"spot": 100.0, "perp_price": 100.0, "open_interest": 30e6}
    return portfolio_from(
        {
            "cash": cash,
            "stable_price": 1.0,
            "underlyings": {"BTC": quoted, "ETH": quoted, "X": quoted},
            "positions": [
                {"kind": "perp", "underlying": "BTC", "quantity": 1_234.5, "entry_price": 101.0},
                {"kind": "perp", "underlying": "ETH", "quantity": -777.7},
                {"kind": "perp", "underlying": "X", "quantity": 50.0},
            ],
            "collateral": [
                {"asset": "SOL", "amount": 40.0, "price": 20.0},
                {"asset": "SOL", "amount": -7.0, "price": 20.0},
                {"asset": "BTC", "amount": 1.0, "price": 100.0},
            ],
        }
    )


def _margins(portfolios: list[Portfolio], ruleset: RuleSet, **more: Any) -> Floats:
    flat = replace(flatten(portfolios, ruleset.collateral), **more)
    found = compute_margins(flat, ruleset)
    columns = [found.initial_net, found.maintenance_net, found.mark_to_market]
    if found.scenario_pnl is not None:
        columns.append(found.scenario_pnl.ravel())
    return np.concatenate(columns)


def option_margins(ruleset: RuleSet) -> Floats:
    books = [options_book(1e4), options_book(1e4, long=True), call_spread()]
    return _margins(books, ruleset)


def perp_margins(ruleset: RuleSet) -> Floats:
    return _margins([perps_book()], ruleset)


def _closes() -> DailyCloses:
    """Two coins of 60 days with a wild week, one of which stands still for a while, and one coin
    of five days."""
    rng = np.random.default_rng(5)
    returns = 0.03 * rng.standard_t(4, size=(60, 3))
    returns[8:14] *= 3.0
    returns[20:30, 1] = 0.0
    close = 100.0 * np.exp(returns.cumsum(axis=0))
    close[:-5, 2] = np.nan
    return DailyCloses(("BTC", "ETH", "X"), 20_000 * DAY, close, returns**2)


def simulated_margins(ruleset: RuleSet) -> Floats:
    straddle = options_book(1e4)
    return np.concatenate(
        [_margins([one], ruleset, history=_closes()) for one in (perps_book(), straddle)]
    )


def floors(ruleset: RuleSet) -> Floats:
    symbols = ("BTCUSDT", "ETHUSDT", "XUSDT")
    rho = np.array([[1.0, 0.8, 0.5], [0.8, 1.0, 0.6], [0.5, 0.6, 1.0]])
    fast = rho.copy()
    fast[0, 1] = fast[1, 0] = 0.5
    view = MarketView(
        as_of=0,
        symbols=symbols,
        mark=np.array([100_000.0, 2_000.0, 1.0]),
        age_hours=np.array([5.0, 0.0, np.nan]),
        volatility=np.array([0.005, 0.0, np.nan]),
        adv=np.array([1e6, 1e7, np.nan]),
        correlation=rho,
        fast_correlation=fast,
        long_volatility=np.array([0.003, np.nan, np.nan]),
        stressed_volatility=np.array([0.02, 0.025, np.nan]),
        history_hours=np.array([50_000.0, 100.0, np.nan]),
        suspect=np.array([False, True, False]),
    )
    quantities = ((0.5, -3.0, 70.0), (0.0, 0.0, 9e6), (20.0, -900.0, 0.0))
    accounts = [
        Account(
            str(i),
            1e4,
            tuple(Position(name, quantity) for name, quantity in zip(symbols, own, strict=True)),
            (Balance("BTC", 0.1),),
        )
        for i, own in enumerate(quantities)
    ]
    requirement = compute_requirement(Book.of(accounts), view, ruleset)
    found = active_floors(requirement, view, ruleset.floors)
    for name, terms in floor_terms(requirement, view, ruleset.floors).items():
        for i in range(len(accounts)):
            parts = [_of_account(term, requirement, i) for term in terms]
            scale = 1e-9 * sum(map(abs, parts))
            if np.isfinite(scale):
                assert max(0.0, sum(parts)) == pytest.approx(found[name][i], rel=1e-9, abs=scale)
    return np.concatenate(list(found.values()))


def _of_account(term: FloorTerm, requirement: Requirement, i: int) -> float:
    if term.of == "account":
        return float(term.amount[i])
    assert requirement.collateral is not None
    start = requirement.leg_start if term.of == "position" else requirement.collateral.start
    return float(term.amount[start[i] : start[i + 1]].sum())


def procyclicality(ruleset: RuleSet) -> Floats:
    """The limits that a release is held to."""
    return np.array(list(ruleset.add_on.procyclicality_limits.values()))


def add_on(ruleset: RuleSet) -> Floats:
    rules = ruleset.add_on

    def probability(level: Floats, account: npt.NDArray[np.int64]) -> Floats:
        return np.repeat(1.0 / (1.0 + level[:, None] + account[:, None]), 3, axis=1)

    asked = required_level(probability, np.full(3, 1e4), rules.targets, (1, 8, 24)).level
    margin = np.array([100.0, 50.0, 0.0])
    out = []
    for previous in (0.0, 30.0, 1e5):
        for stress in (0.5, 3.0):
            level = bound_add_on(
                asked,
                np.array([5.0, 0.0, 1.0]),
                add_on_cap(margin, rules),
                np.full(3, previous),
                np.array([0.5, 2.0, 100.0]),
                margin,
                in_stress(stress, rules),
                rules,
            )
            out.append(level.level)
    return np.concatenate(out)


def price_guard(ruleset: RuleSet) -> Floats:
    outlier_filter = ruleset.price_guard.outlier_filter()
    assert outlier_filter is not None
    closes = np.array([100.0, 100.0, 101.0, 150.0, 150.5, 100.0, 700.0, 100.0])
    bars = np.repeat(closes[:, None, None], 5, axis=2)
    bars[1, 0, 1] = 130.0
    sources = np.full((len(closes), 1, 1), np.nan)
    sources[3] = 155.0
    found = filter_history(bars, outlier_filter, Interval.parse("1h"), sources)
    verdicts = found.verdicts.astype(np.float64).ravel()
    stable = FilterInputs(TimedPrice(0, 1.0), kind="cash")
    quoted = [
        float(("good", "suspect", "rejected").index(verdict.status))
        for price in (1.0, 1.02, 1.3, 9.0)
        for verdict in [filter_quote(TimedPrice(1, price), stable, outlier_filter)]
    ]
    vol = FilterInputs(TimedPrice(0, 0.5), kind="vol")
    quoted += [
        float(("good", "suspect", "rejected").index(verdict.status))
        for value in (0.5, 0.51, 0.9, 2.0)
        for verdict in [filter_quote(TimedPrice(1, value), vol, outlier_filter)]
    ]
    return np.concatenate([verdicts, found.bars[1, 0], quoted])


def liquidation(ruleset: RuleSet) -> Floats:
    rules = ruleset.liquidation_or_default
    portfolio = perps_book(cash=2_000.0)
    out: list[float] = []
    for since in (5.0, np.inf):
        step = liquidation_step(portfolio, ruleset, elapsed_seconds=20.0, since_last_seconds=since)
        out += [*step.shares, step.fee, step.impact, step.net_after]
        out += [float(step.restored), float(step.backstop)]
    out += [allowed_shortage(rules.partial, 40.0, 20.0)]
    if rules.auction:
        out += [price_factor(at, rules.auction) for at in (0.0, 1.0, 900.0, 901.0, 1e6)]
        out += [insolvent_offer(-9.0, -5.0, at, rules.auction).price for at in (0.0, 1.0, 1e6)]
        out.append(auction_fee(-9.0, 100.0, rules.auction))
        offers = auction_steps(-9.0, 100.0, rules.auction)
        assert np.isfinite([(offer.price, offer.share, offer.seconds) for offer in offers]).all()
    if rules.fund:
        out.append(fillable_price(2.0, 100.0, 10.0, 0.3, rules.fund))
        fund = InsuranceFund.of_rules(rules.fund)
        payment = fund.collect(5.0).payment(50.0, rules.fund)
        out += [payment, fund.collect(5.0).pay(payment).balance]
    return np.array(out)


def life_cycle(ruleset: RuleSet) -> Floats:
    equity = np.array([-1.0, 20.0, 60.0, 99.0, 103.0, 112.0, 140.0, 500.0])
    states = States.healthy(len(equity))
    count = np.full(len(equity), 2)
    out = []
    for hour, shift in ((0, 0.0), (1, 4.0), (30, 4.0), (31, 40.0), (90, 2.0)):
        figures = MarginStatus(
            equity + shift, np.full(len(equity), 100.0), np.ones(len(equity)), count
        )
        states, changes = advance(
            states, figures, hour * HOUR, CallRules.plain(ruleset.life_cycle_or_default)
        )
        out += [states.state.astype(np.float64), changes.deadline.astype(np.float64)]
    return np.concatenate(out)


def enforcement(ruleset: RuleSet) -> Floats:
    """States, deadlines and amounts of calls, and what the numbers of enforcement decide."""
    rules, calls = enforcement_of(ruleset), CallRules.of(ruleset)
    equity = np.array([60.0, 99.0, 103.0, 112.0, 140.0, 500.0])
    states, count = States.healthy(len(equity)), np.full(len(equity), 2)
    out = []
    for hour, shift in ((0, 0.0), (1, 4.0), (30, 4.0), (31, 40.0)):
        figures = MarginStatus(
            equity + shift, np.full(len(equity), 100.0), np.ones(len(equity)), count
        )
        states, changes = advance(states, figures, hour * HOUR, calls)
        missing = outstanding(figures, calls, states.types)
        out += [states.state.astype(np.float64), changes.deadline.astype(np.float64), missing]
    hours = [rules.dispute_hours, rules.approval.pending_hours, rules.approval.longest_hours]
    out.append(np.array([100.0 * rules.recall_share, rules.instruction_seconds, *hours]))
    below = [rules.approval.add_on.automatic_below, rules.approval.deadline.automatic_below]
    return np.concatenate([*out, np.array(below)])


def promotion(ruleset: RuleSet) -> Floats:
    limit = ruleset.promotion_or_default.max_requirement_change
    gates = [requirement_change_gate(change, limit, 100) for change in (0.0, 0.04, 2.0)]
    return np.array([float(gate.passed) for gate in gates])


# --- rule sets that use every parameter ---------------------------------------------------------


def _on_tiers(**changes: Any) -> dict[str, Any]:
    content = load_ruleset("linear-tiers").content()
    content["tier"] = {
        "brackets": [
            {"maintenance_rate": 0.02, "initial_rate": 0.05, "upper_bound": 1e4},
            {"maintenance_rate": 0.05, "initial_rate": 0.1},
        ],
        "open_interest": {"lower": 20e6, "upper": 50e6},
        "imf_factor": 0.001,
        "quantum": 1e-6,
    }
    content["collateral"] |= {
        "default_haircut": 0.2,
        "haircuts": {"BTC": 0.05},
        "initial_extra_haircuts": {"BTC": 0.05},
        "weights": {
            "SOL": {"initial_asset": 0.8, "maintenance_asset": 0.9, "initial_liability": 1.2}
            | {"maintenance_liability": 1.1, "imf_factor": 0.01}
        },
    }
    return content | changes


def _with_floors() -> dict[str, Any]:
    content = load_ruleset("emir-tiers").content()
    del content["regulation"]
    tables = content["floors"]
    for name in ("volatility", "stressed_buffer", "stressed_weight"):
        tables[name]["enabled"] = True
    return content


def _simulated() -> dict[str, Any]:
    content = load_ruleset("emir-ccp").content()
    del content["regulation"]
    content["simulation"] |= {
        "lookback_days": 40,
        "least_known_share": 0.9,
        "filter": {"least_ratio": 0.5, "most_ratio": 2.0},
        "volatility_half_life_days": 5.0,
    }
    for name in ("buffer", "stressed_weight", "long_volatility"):
        content["simulation"].pop(name, None)
    return content


def _stressed() -> dict[str, Any]:
    content = _simulated()
    del content["simulation"]["filter"]
    content["simulation"]["lookback_days"] = 15
    content["simulation"]["stressed_weight"] = {"weight": 0.25, "observations": 20}
    return content


def _liquidated() -> dict[str, Any]:
    return _on_tiers(
        liquidation={
            "partial": {"buffer": 0.1},
            "auction": {"start": 0.98, "knee": 0.7, "fast_seconds": 900.0}
            | {"slow_seconds": 3_600.0, "insolvent_seconds": 7_200.0, "fee_rate": 0.01},
            "fund": {"balance": 40.0, "max_draw": 30.0, "fill_spread": 1.5},
        }
    )


def _by_share() -> dict[str, Any]:
    return _on_tiers(
        liquidation={
            "partial": {"method": "share", "share": 0.2, "share_above": 1e4}
            | {"cooldown_seconds": 30.0}
        }
    )


def _ramped() -> dict[str, Any]:
    content = _liquidated()
    content["liquidation"]["partial"] |= {"ramp_start": 0.1, "ramp_seconds": 60.0}
    return content


def _of_one_underlying() -> dict[str, Any]:
    content = load_ruleset("derive-srm").content()
    content["standard"]["underlyings"] = {"BTC": {}}
    return content


@pytest.fixture(scope="session")
def probes() -> dict[str, Probe]:
    """Figures under a rule set, by what they are of: finite wherever the parameters are."""
    return {
        "options": option_margins,
        "perps": perp_margins,
        "simulation": simulated_margins,
        "floors": floors,
        "add_on": add_on,
        "procyclicality": procyclicality,
        "price_guard": price_guard,
        "liquidation": liquidation,
        "life_cycle": life_cycle,
        "enforcement": enforcement,
        "promotion": promotion,
    }


@pytest.fixture(scope="session")
def contents() -> dict[str, Content]:
    """Contents of rule sets by what they use; another name is that of a preset."""
    return {
        "tiers": _on_tiers,
        "floors": _with_floors,
        "simulated": _simulated,
        "stressed observations": _stressed,
        "liquidated": _liquidated,
        "liquidated by share": _by_share,
        "liquidated slowly": _ramped,
        "one underlying": _of_one_underlying,
        "life cycle": lambda: _on_tiers(life_cycle={}),
        "enforcement": lambda: _on_tiers(
            life_cycle={},
            enforcement={"maintenance_margin": {}, "approval": {"add_on": {}, "deadline": {}}},
        ),
        "promotion": lambda: _on_tiers(promotion={}),
    }


@pytest.fixture(scope="session")
def books() -> list[Portfolio]:
    """Portfolios that concern every parameter of the engines of options."""
    return [options_book(1e4), options_book(1e4, long=True), call_spread()]


@pytest.fixture(scope="session")
def perps() -> Portfolio:
    """A portfolio that concerns every parameter of the tier engine."""
    return perps_book()
