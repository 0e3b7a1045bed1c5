"""The floors of a book of 100,000 accounts with five positions and two balances each."""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmarks.measure import Result, median_seconds
from margin.book.requirement import compute_requirement
from margin.floors.registry import FLOORS, active_floors, floor_terms
from margin.rules.floors import EMIR_MEASURES
from margin.rules.ruleset import RuleSet, load_ruleset, ruleset_from_content
from margin.valuation.view import MarketView
from market.accounts.book import Book

ACCOUNTS, POSITIONS, BALANCES, SYMBOLS, REPEATS = 100_000, 5, 2, 50, 3


def run() -> Result:
    """Each floor, all of them, and the terms that explain them."""
    ruleset, view = everything_on(), market()
    requirement = compute_requirement(book(view), view, ruleset)
    rules = ruleset.floors
    floors = active_floors(requirement, view, rules)
    medians = {
        f"{name}_seconds": median_seconds(partial(floor.amount, requirement, view, rules), REPEATS)
        for name, floor in FLOORS.items()
    }
    medians["all_floors_seconds"] = median_seconds(
        lambda: active_floors(requirement, view, rules), REPEATS
    )
    medians["all_terms_seconds"] = median_seconds(
        lambda: floor_terms(requirement, view, rules), REPEATS
    )
    return Result(
        "floors",
        settings={
            "accounts": ACCOUNTS,
            "positions_each": POSITIONS,
            "balances_each": BALANCES,
            "symbols": SYMBOLS,
        },
        medians=medians,
        ratios={
            f"{name}_above_zero_share": float(np.mean(floor > 0.0))
            for name, floor in floors.items()
        },
    )


def everything_on() -> RuleSet:
    """`emir-tiers` with all three measures, which is more than it may claim."""
    content = load_ruleset("emir-tiers").content()
    for name in EMIR_MEASURES:
        content["floors"][name]["enabled"] = True
    del content["regulation"]
    return ruleset_from_content(content)


def market() -> MarketView:
    """Fifty symbols, one in ten of them stale."""
    rng = np.random.default_rng(1)
    slow = 0.6 + 0.4 * np.eye(SYMBOLS)
    return MarketView(
        as_of=0,
        symbols=tuple(f"COIN{i:02d}USDT" for i in range(SYMBOLS)),
        mark=np.full(SYMBOLS, 10.0),
        age_hours=np.where(np.arange(SYMBOLS) % 10 == 0, 9.0, 0.0),
        volatility=rng.uniform(0.003, 0.012, SYMBOLS),
        adv=10 ** rng.uniform(6, 9, SYMBOLS),
        correlation=slow,
        long_volatility=rng.uniform(0.006, 0.01, SYMBOLS),
        stressed_volatility=rng.uniform(0.02, 0.03, SYMBOLS),
        history_hours=np.full(SYMBOLS, 20_000.0),
        fast_correlation=0.9 * slow,
        suspect=np.arange(SYMBOLS) == 1,
    )


def book(view: MarketView) -> Book:
    """Positions of either sign; balances in coins, one in ten owed."""
    rng = np.random.default_rng(2)
    symbols = np.array(view.symbols)
    coins = np.array([symbol.removesuffix("USDT") for symbol in view.symbols])
    legs, balances = ACCOUNTS * POSITIONS, ACCOUNTS * BALANCES
    return Book(
        account_ids=tuple(map(str, range(ACCOUNTS))),
        cash=np.full(ACCOUNTS, 500.0),
        leg_start=np.arange(ACCOUNTS + 1) * POSITIONS,
        leg_instrument=tuple(symbols[rng.integers(0, SYMBOLS, legs)].tolist()),
        leg_quantity=rng.normal(30.0, 100.0, legs),
        leg_entry_price=np.full(legs, np.nan),
        balance_start=np.arange(ACCOUNTS + 1) * BALANCES,
        balance_asset=tuple(coins[rng.integers(0, SYMBOLS, balances)].tolist()),
        balance_amount=rng.uniform(-10.0, 90.0, balances),
    )
