"""What proactive calls change: the same accounts over real bars, with and without them.

``python -m research.experiments.enforcement_replay CONFIG --bundle PATH --json OUT`` walks sampled
accounts of the configured market with `enforcement.history.walk.HistoryWalk` under four rule sets
that differ in the calls alone, and writes the tables of ``docs/experiments/enforcement.md``.

Accounts are drawn as `reference-v1` and, apart from them, as `behaving-v1`. Of the first, every
second owner pays calls: the outstanding amount at the next close, up to 1.1 times the equity at
opening over the life of the account (the median top-up of `behaving-v1`). Owners of `behaving-v1`
act as their population does, whatever is called.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from decisions.book_scoring import DecisionBasis, PreviousAddOn, score_book
from enforcement.history.walk import HistoryWalk, Levels, rule_levels
from features.state.snapshot import MarketSnapshot
from margin.life_cycle.call_rules import default_enforcement
from margin.rules.liquidation import (
    DeleverageRules,
    FundRules,
    LiquidationRules,
    PartialRules,
)
from margin.rules.ruleset import RuleSet
from market.accounts.account_files import AccountHistory
from market.accounts.book import Book
from market.core.arrays import Floats
from market.core.clock import DAY, format_time, parse_time
from market.simulator.account_behaviour import AccountTrajectories, simulate_behaviour
from market.simulator.population import Population, sample_population
from models.bundle.bundle import load_bundle
from models.forecaster import Forecaster
from pipelines.config.config import load_config
from pipelines.data.loaders import Market, read_market, read_rules, usable
from research.pages.markdown import table as markdown_table

WARM_UP_HOURS = 200
PAYS_UP_TO = 1.1
BLOCK_DAYS = 7
RESAMPLES = 2_000
ARMS = ("no proactive calls", "rule floor", "model", "model, wide cure band")
WIDE_CURE_SHARE = 0.5
"""Of the last arm: a proactive call is met this share of the maintenance margin above its level."""

POPULATIONS = ("reference-v1", "behaving-v1")


@dataclass(frozen=True, slots=True)
class Setup:
    """What all arms share.

    Attributes
    ----------
    begin, end:
        First and last close, nanoseconds.
    accounts:
        Open at once.
    equity:
        Of an account at its opening, settlement currency.
    seed:
        Of the accounts.
    """

    begin: int
    end: int
    accounts: int
    equity: float
    seed: int


@dataclass(slots=True)
class Days:
    """Sums of each day of one arm, settlement currency, and what changed its accounts' states."""

    notional: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    shortfall: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    uncovered: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    deposits: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    flips: dict[tuple[int, int], int] = field(default_factory=lambda: defaultdict(int))
    account_hours: int = 0


def main() -> None:
    """Print the tables and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--from", dest="begin", default="2025-04-01T00:00:00Z")
    parser.add_argument("--to", dest="end", default="2025-07-01T00:00:00Z")
    parser.add_argument("--accounts", type=int, default=400)
    parser.add_argument("--equity", type=float, default=100_000.0)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--population", action="append", choices=POPULATIONS)
    given = parser.parse_args()
    setup = Setup(
        parse_time(given.begin), parse_time(given.end), given.accounts, given.equity, given.seed
    )
    report = compare(given.config, given.bundle, setup, given.population or POPULATIONS)
    if given.json is not None:
        given.json.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    print(tables(report))


def compare(
    config_file: Path, bundle: Path, setup: Setup, populations: Sequence[str]
) -> dict[str, Any]:
    """Figures of every arm and population, and what the model's calls save."""
    config, forecaster = load_config(config_file), Forecaster(load_bundle(bundle))
    market = read_market(config)
    rules = read_rules(config, market)
    report: dict[str, Any] = {
        "span": [format_time(setup.begin), format_time(setup.end)],
        "accounts_open": setup.accounts,
        "equity": setup.equity,
        "seed": setup.seed,
        "bundle_sha256": forecaster.bundle.sha256,
        "populations": {},
    }
    for population in populations:
        history = draw(market, population, setup)
        pays = population == POPULATIONS[0]
        days, figures = {}, {}
        for arm in ARMS:
            levels = model_levels(forecaster) if arm.startswith("model") else rule_levels
            figures[arm], days[arm] = walk(
                market, history, arm_rules(rules, arm), levels, setup, pays
            )
        saved = {
            f"{arm} against {ARMS[0]}": savings(days[ARMS[0]], days[arm], setup) for arm in ARMS[1:]
        }
        report["populations"][population] = {"arms": figures, "saved": saved}
    return report


def arm_rules(rules: RuleSet, arm: str) -> RuleSet:
    """The rule set of an arm: the calls that its life cycle implies, less the proactive ones in
    the first arm, and with a wide cure band in the last one; closes move the price, pay a fee of
    0.5% into an empty fund, and winners are deleveraged."""
    calls = default_enforcement(rules.life_cycle_or_default)
    if arm == ARMS[0]:
        calls = msgspec.structs.replace(calls, proactive=msgspec.UNSET)
    if arm == ARMS[3] and calls.proactive is not msgspec.UNSET:
        wide = msgspec.structs.replace(calls.proactive, cure_share=WIDE_CURE_SHARE)
        calls = msgspec.structs.replace(calls, proactive=wide)
    liquidation = LiquidationRules(
        PartialRules(fee_rate=0.005),
        fund=FundRules(),
        deleverage=DeleverageRules("profit_leverage"),
        price_impact="depth",
    )
    return msgspec.structs.replace(rules, enforcement=calls, liquidation=liquidation)


def draw(market: Market, population: str, setup: Setup) -> AccountHistory:
    """Accounts over the span and a warm-up, with the chosen equity at opening."""
    bars = market.history.bars
    rows = slice(
        max(0, int(np.searchsorted(bars.closes, setup.begin)) - WARM_UP_HOURS),
        int(np.searchsorted(bars.closes, setup.end, side="right")),
    )
    closes, mark = bars.closes[rows], market.history.mark[rows]
    drawn = Population.load(population)
    unit = sample_population(drawn, setup.accounts, setup.seed, closes, mark, usable(market)[rows])
    if drawn.behaviour is None:
        trajectories = AccountTrajectories.idle(unit)
    else:
        trajectories = simulate_behaviour(unit, drawn.behaviour, setup.seed, closes, mark)
    scaled = replace(
        unit, cash=unit.cash * setup.equity, leg_quantity=unit.leg_quantity * setup.equity
    )
    scaled_trajectories = replace(
        trajectories,
        accounts=scaled,
        cash=trajectories.cash * setup.equity,
        amount=trajectories.amount * setup.equity,
    )
    return scaled_trajectories.history(bars.symbols, closes)


def model_levels(forecaster: Forecaster) -> Levels:
    """The add-on of the model, paced from close to close as the live book's."""
    previous: dict[str, PreviousAddOn] = {}

    def levels(snapshot: MarketSnapshot, book: Book, ruleset: RuleSet) -> Floats:
        known = {name: previous[name] for name in book.account_ids if name in previous}
        scores = score_book(book, DecisionBasis(snapshot, ruleset, forecaster, known))
        found = scores.add_on.level
        margin = scores.requirement.initial_margin
        for i in np.flatnonzero(np.isfinite(found)).tolist():
            legs = slice(int(book.leg_start[i]), int(book.leg_start[i + 1]))
            held = dict(
                zip(book.leg_instrument[legs], book.leg_quantity[legs].tolist(), strict=True)
            )
            previous[book.account_ids[i]] = PreviousAddOn(
                float(found[i]), snapshot.as_of, float(margin[i]), held
            )
        return found

    return levels


def walk(
    market: Market,
    history: AccountHistory,
    rules: RuleSet,
    levels: Levels,
    setup: Setup,
    pays: bool,
) -> tuple[dict[str, Any], Days]:
    """One arm: its figures and its days."""
    closes = market.history.bars.closes
    rows = np.flatnonzero((closes >= setup.begin) & (closes <= setup.end))
    walker, days = HistoryWalk(history, levels), Days()
    paid: dict[str, float] = defaultdict(float)
    for row in rows.tolist():
        time = int(closes[row])
        day = (time - setup.begin) // DAY
        before, resources = walker.states, walker.resources
        notional = walker.tally.notional
        snapshot = MarketSnapshot.of_history(market.history, market.features, time)
        walker.advance_to(snapshot, rules)
        days.notional[day] += walker.tally.notional - notional
        days.shortfall[day] += walker.resources.shortfall - resources.shortfall
        days.uncovered[day] += walker.resources.uncovered - resources.uncovered
        changed = np.flatnonzero(walker.states.state != before.state)
        for account in changed.tolist():
            days.flips[account, day] += 1
        segments = history.segments
        days.account_hours += int(((segments.begin <= time) & (time < segments.end)).sum())
        if pays:
            days.deposits[day] += _pay(walker, paid, setup)
    return _figures(walker, days), days


def _pay(walker: HistoryWalk, paid: dict[str, float], setup: Setup) -> float:
    """Let owners who pay put in what is outstanding; the sum of it."""
    total = 0.0
    for name, call in list(walker.calls.items()):
        if call.kind != "call" or call.state not in ("called", "partly_met", "reduce_only"):
            continue
        if not int(name.split("-")[0][1:]) % 2:  # every second slot
            continue
        amount = min(call.outstanding, PAYS_UP_TO * setup.equity - paid[name])
        if amount > 0.0 and walker.account(name) is not None:
            walker.deposit(name, amount)
            paid[name] += amount
            total += amount
    return total


def _figures(walker: HistoryWalk, days: Days) -> dict[str, Any]:
    opened: dict[str, int] = defaultdict(int)
    cures: dict[str, float] = defaultdict(float)
    for entry in walker.entries:
        payload = entry.payload
        if entry.kind != "call":
            continue
        if payload["event"] == "opened" and payload["kind"] == "call":
            opened["+".join(payload["types"])] += 1
        for cure in payload["cures"]:
            cures[cure["source"]] += cure["amount"]
    resources, events = walker.resources, walker.tally.events
    account_days = days.account_hours / 24.0
    flips = sorted(days.flips.values())
    return {
        "account_days": account_days,
        "calls": dict(sorted(opened.items())),
        "met": events.get("call.met", 0),
        "missed_deadlines": events.get("call.deadline_missed", 0),
        "stop_outs": events.get("call.stop_out", 0),
        "liquidated_accounts": len(walker.tally.liquidated),
        "steps": walker.tally.steps,
        "liquidated_notional": walker.tally.notional,
        "fees": resources.fees,
        "impact": resources.impact,
        "bad_debts": events.get("call.bad_debt", 0),
        "shortfall": resources.shortfall,
        "fund_paid": 0.0 if resources.fund is None else resources.fund.paid,
        "fund_balance": 0.0 if resources.fund is None else resources.fund.balance,
        "deleveraged": resources.deleveraged,
        "uncovered": resources.uncovered,
        "deposits": sum(days.deposits.values()),
        "cures": dict(sorted(cures.items())),
        "flips_per_account_day": sum(flips) / account_days,
        "account_days_above_4_flips": sum(count > 4 for count in flips),
        "most_flips_of_an_account_day": flips[-1] if flips else 0,
    }


def savings(base: Days, arm: Days, setup: Setup) -> dict[str, Any]:
    """What an arm saves against another, and per unit of extra collateral, with 95% intervals.

    Blocks of seven days are drawn with replacement, the same for both arms.
    """
    count = int((setup.end - setup.begin) // DAY) + 1

    def column(of: Mapping[int, float]) -> Floats:
        values: Floats = np.array([of.get(day, 0.0) for day in range(count)])
        return values

    extra = column(arm.deposits) - column(base.deposits)
    found: dict[str, Any] = {"extra_collateral": float(extra.sum())}
    blocks = np.arange(count) // BLOCK_DAYS
    last = int(blocks[-1]) + 1
    draws = np.random.default_rng(setup.seed).integers(0, last, (RESAMPLES, last))

    def resampled(values: Floats) -> Floats:
        sums: Floats = np.bincount(blocks, weights=values, minlength=last)[draws].sum(axis=1)
        return sums

    extra_drawn = resampled(extra)
    for name in ("notional", "shortfall", "uncovered"):
        saved = column(getattr(base, name)) - column(getattr(arm, name))
        drawn = resampled(saved)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = drawn / extra_drawn
        ratio = ratio[np.isfinite(ratio)]
        found[name] = {
            "saved": float(saved.sum()),
            "interval": np.quantile(drawn, (0.025, 0.975)).tolist(),
            "per_unit": float(saved.sum() / extra.sum()) if extra.sum() else None,
            "per_unit_interval": np.quantile(ratio, (0.025, 0.975)).tolist()
            if len(ratio)
            else None,
        }
    return found


def tables(report: Mapping[str, Any]) -> str:
    """The figures as Markdown."""
    parts = []
    for population, found in report["populations"].items():
        arms = found["arms"]
        names = [name for name in next(iter(arms.values())) if name not in ("calls", "cures")]
        rows = [[name, *(_number(arms[arm][name]) for arm in arms)] for name in names]
        for group in ("calls", "cures"):
            keys = sorted({key for arm in arms.values() for key in arm[group]})
            rows += [
                [f"{group}: {key}", *(_number(arms[arm][group].get(key, 0)) for arm in arms)]
                for key in keys
            ]
        parts.append(f"{population}:\n\n" + markdown_table([population, *arms], rows))
        saved = [
            [
                f"{arm}: {name}",
                _number(figures["extra_collateral"]),
                _number(figures[name]["saved"]),
                _interval(figures[name]["interval"]),
                _number(figures[name]["per_unit"]),
                _interval(figures[name]["per_unit_interval"]),
            ]
            for arm, figures in found["saved"].items()
            for name in ("notional", "shortfall", "uncovered")
        ]
        heads = ["saved", "extra collateral", "saved", "95%", "per unit", "95%"]
        parts.append(markdown_table(heads, saved))
    return "\n\n".join(parts)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _interval(bounds: list[float] | None) -> str:
    return "" if bounds is None else f"[{_number(bounds[0])}, {_number(bounds[1])}]"


if __name__ == "__main__":
    main()
