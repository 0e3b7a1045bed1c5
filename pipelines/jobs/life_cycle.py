"""Replay the life cycle of a book over a span of the market; record, continue or compare it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from decisions.life_cycle_record import (
    CALCULATION,
    CHAIN,
    ReplayBasis,
    append_history,
    find_record,
    history_sha256,
    payloads,
)
from features.state.snapshot import MarketSnapshot
from ledger.canonical import canonical_bytes, sha256_hex
from ledger.store import Ledger
from margin.engines.registry import engine_of
from margin.life_cycle.replay import LifeCycleHistory, replay_life_cycle
from margin.life_cycle.states import State
from margin.rules.history import RuleHistory
from margin.rules.ruleset import RuleSet
from margin.valuation.history_view import HistoryViews
from margin.valuation.view import MarketView
from market.accounts.account_files import read_accounts
from market.bars.history import MarketHistory
from market.core.clock import format_time, parse_time
from market.core.errors import DataError, LedgerError
from market.core.files import replace_file
from monitoring.recovery.recorded_quotes import RecordedQuotes
from monitoring.recovery.recorded_steps import rows_known_at
from pipelines.cli.progress import Stages
from pipelines.config.config import Config
from pipelines.data.loaders import describe_rules, read_history, read_market, read_rule_history

_SHOWN = 20


def run_life_cycle(
    config: Config,
    accounts: Path,
    begin: str,
    end: str,
    *,
    replay: bool = False,
    out: Path | None = None,
) -> dict[str, Any]:
    """Walk the accounts of a folder over the closes of the configured market in a span.

    Every event becomes a ledger entry; all of a run or none. What is recorded already is compared
    bit for bit, and not recorded again: a longer span continues the record. A record begun before
    default resources were used is compared and continued without them.

    Parameters
    ----------
    config:
        Market, rules and ledger.
    accounts:
        Folder of the account files.
    begin, end:
        First and last decision time, ISO 8601.
    replay:
        Only compare: refuse a span that is not recorded.
    out:
        JSON-lines file for the history.

    Raises
    ------
    MargincastError
        The data, the rules or the ledger refused; nothing is recorded.
    """
    with Stages(3) as stages:
        with stages.stage("market"):
            rules = read_rule_history(config)
            with Ledger(config.ledger.url, chain=CHAIN) as ledger:
                views = _Views(config, rules, parse_time(begin), parse_time(end), ledger)
                basis = views.basis(accounts, config.market.mark_max_age_ns)
                record = find_record(ledger, basis)
        if replay and (record is None or record.end < basis.end):
            until = "nothing" if record is None else f"it up to {format_time(record.end)}"
            raise LedgerError(
                f"no history of this span, accounts and rules is recorded, {until} is "
                f"(run {basis.key(basis.end)}); run lifecycle without --replay first"
            )
        calculation = CALCULATION if record is None else record.calculation
        with stages.stage("life cycle"):
            history = replay_life_cycle(
                read_accounts(accounts),
                views,
                rules.at,
                default_resources=calculation > 0,
                progress=lambda bars: stages.within(bars / len(views)),
            )
        with stages.stage("ledger"):
            run = basis.key(basis.end) if record is None else record.run
            events = payloads(history.events, run)
            difference = None if record is None else record.difference(events, basis.end)
            appended = difference is None and (record is None or record.end < basis.end)
            if appended:
                with Ledger(config.ledger.url, chain=CHAIN) as ledger:
                    append_history(ledger, basis, events, len(history.states), record)
    if out is not None:
        replace_file(out, b"".join(canonical_bytes(event) + b"\n" for event in events))
    return _report(history, basis, rules, calculation) | {
        "run": run,
        "calculation": calculation,
        "history_sha256": history_sha256(events),
        "recorded": appended,
        "equal": None if record is None else difference is None,
        "difference": difference,
        "bars_report": views.history.report.to_dict(),
    }


class _Views:
    """The market at each close of a span, with the quotes of the ledger as they were known then.

    Features are computed only where an add-on is in the call level or history is simulated; else
    the rules need marks alone.
    """

    def __init__(
        self, config: Config, rules: RuleHistory, begin: int, end: int, ledger: Ledger
    ) -> None:
        self._rules, self._mark_max_age = rules, config.market.mark_max_age_ns
        self._features = None
        recorded = rows_known_at(ledger, end)
        if any(
            version.life_cycle_or_default.call_level == "total"
            or engine_of(version).needs_daily_history
            for version in rules.versions
        ):
            market = read_market(config, recorded)
            self.history: MarketHistory = market.history
            self._features = market.features
        else:
            self.history = read_history(config, recorded)
        closes = self.history.bars.closes
        self._rows = np.flatnonzero((closes >= begin) & (closes <= end)).tolist()
        if not self._rows:
            raise DataError(
                f"no bar closes from {format_time(begin)} to {format_time(end)}; the market has "
                f"{format_time(int(closes[0]))} to {format_time(int(closes[-1]))}"
            )
        self._closes = closes[self._rows].tolist()
        versions = self.versions_until(self._closes[-1])
        cash = {asset for version in versions for asset in version.collateral.cash_assets}
        self._quotes = RecordedQuotes(ledger, self.history.bars.symbols, cash, self._closes[-1])

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[MarketView]:
        marks = HistoryViews(self.history, self._mark_max_age)
        for row, time in zip(self._rows, self._closes, strict=True):
            quotes = self._quotes.board(time)
            if self._features is None:
                yield marks.at(row, quotes)
            else:
                yield MarketSnapshot.of_history(
                    self.history, self._features, time, quotes, self._mark_max_age
                ).view()

    def versions_until(self, end: int) -> tuple[RuleSet, ...]:
        """The rule sets in force at the closes from the first one to `end`, each once."""
        closes = self.history.bars.closes
        span = closes[(closes >= self._closes[0]) & (closes <= end)].tolist()
        in_force = [self._rules.at(time) for time in span]
        return tuple({version.sha256: version for version in in_force}.values())

    def basis(self, accounts: Path, mark_max_age: int | None) -> ReplayBasis:
        """What the replay of account files over these views is known by."""
        files = sorted(accounts.glob("*.parquet"))
        return ReplayBasis(
            begin=self._closes[0],
            end=self._closes[-1],
            interval=self.history.bars.interval.name,
            accounts={file.name: sha256_hex(file.read_bytes()) for file in files},
            mark_max_age=mark_max_age,
            versions_until=self.versions_until,
        )


def _report(
    history: LifeCycleHistory, basis: ReplayBasis, rules: RuleHistory, calculation: int
) -> dict[str, Any]:
    events: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in history.events:
        events[event["event"]].append(event)
    transitions, steps = events["transition"], events["liquidation"]
    deleveraged = events["deleverage"]
    counts = Counter(State(code).label for code in history.states.state.tolist())
    fund, life_cycle = history.fund, rules.at(basis.end).life_cycle_or_default
    return {
        "span": [format_time(basis.begin), format_time(basis.end)],
        "bars": history.bars,
        "accounts": len(history.states),
        "rulesets": [describe_rules(version) for version in basis.versions_until(basis.end)],
        "transitions": len(transitions),
        "reasons": dict(sorted(Counter(event["reason"] for event in transitions).items())),
        "states": {state.label: counts.get(state.label, 0) for state in State},
        "reduce_only": int(history.states.may_only_reduce(life_cycle).sum()),
        "liquidation": {
            "steps": len(steps),
            "accounts": len({event["account_id"] for event in steps}),
            "notional": sum(event["notional"] for event in steps),
            "fees": sum(event["fee"] for event in steps),
            "auction_discounts": history.discounts,
            "shortfall": history.shortfall,
        },
        "default_resources": None
        if calculation == 0
        else {
            "bankrupt_accounts": len(events["shortfall"]),
            "fund": None if fund is None else asdict(fund),
            "deleveraged": {
                "accounts": len({event["account_id"] for event in deleveraged}),
                "positions": len(deleveraged),
                "loss": history.deleveraged,
            },
            "uncovered": history.uncovered,
        },
        "unknown": {
            "account_bars": history.unknown,
            "of": history.valuations,
            "problems": dict(sorted(history.problems.items())[:_SHOWN]),
        },
    }
