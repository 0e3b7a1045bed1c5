"""Enforcement of a book over a span of the market; record, continue or compare it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from enforcement.history.record import (
    CALCULATION,
    CHAIN,
    HistoryBasis,
    HistoryRecord,
    append_history,
    find_record,
    history_sha256,
    numbered,
)
from enforcement.history.walk import HistoryWalk
from features.state.snapshot import MarketSnapshot
from ledger.canonical import canonical_bytes, sha256_hex
from ledger.store import Ledger
from margin.life_cycle.states import State
from margin.rules.history import RuleHistory
from margin.rules.ruleset import RuleSet
from market.accounts.account_files import read_accounts
from market.core.clock import format_time, parse_time
from market.core.errors import DataError, LedgerError
from market.core.files import replace_file
from monitoring.recovery.recorded_quotes import RecordedQuotes
from monitoring.recovery.recorded_steps import rows_known_at
from pipelines.cli.progress import Stages
from pipelines.config.config import Config
from pipelines.data.loaders import describe_rules, read_market, read_rule_history

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

    The engine of the live book makes calls and instructions, see
    `enforcement.history.walk.HistoryWalk`; every event becomes a ledger entry, all of a run or
    none. A span that is recorded already is walked again, compared bit for bit and not recorded
    again; a longer one goes on from the recorded state.

    Parameters
    ----------
    config:
        Market, rules and ledger.
    accounts:
        Folder of account files.
    begin, end:
        First and last decision time, ISO 8601 in UTC.
    replay:
        Only compare with the record.
    out:
        File for the history, one event a line.

    Returns
    -------
    The report.

    Raises
    ------
    DataError
        No bar closes within the span, or an input cannot be read.
    LedgerError
        The span begins before the record does, or `replay` is asked for what is not recorded.
    """
    with Stages(3) as stages, Ledger(config.ledger.url, chain=CHAIN) as ledger:
        with stages.stage("market"):
            rules = read_rule_history(config)
            closes = _Closes(config, rules, (parse_time(begin), parse_time(end)), ledger)
            basis = closes.basis(accounts, config.market.mark_max_age_ns)
            record = find_record(ledger, basis)
        if replay and (record is None or record.end < basis.end):
            until = "nothing" if record is None else f"it up to {format_time(record.end)}"
            raise LedgerError(
                f"no history of this span, accounts and rules is recorded, {until} is "
                f"(run {basis.key(basis.begin, basis.end)}); run lifecycle without --replay first. "
                f"Records of an earlier calculation than {CALCULATION} are not compared"
            )
        longer = record is not None and record.end < basis.end
        with stages.stage("life cycle"):
            history, difference = read_accounts(accounts), None
            if record is None or not longer:
                walk = HistoryWalk(history)
                span = closes.between(basis.begin if record is None else record.begin, basis.end)
            else:
                difference = _other_closes(basis, record)
                walk = HistoryWalk.of_content(history, record.state)
                span = closes.between(record.end + 1, basis.end)
            for done, (snapshot, ruleset) in enumerate(span if difference is None else (), 1):
                walk.advance_to(snapshot, ruleset)
                stages.within(done / len(span))
        with stages.stage("ledger"):
            run = basis.key(basis.begin, basis.end) if record is None else record.run
            earlier = record.events if record is not None and longer else []
            events = earlier + numbered(walk.entries, run, len(earlier))
            if record is not None and not longer:
                difference = record.difference(events, basis.end)
            appended = difference is None and (record is None or longer)
            if appended:
                append_history(ledger, basis, events, walk.to_content(), record)
    if out is not None:
        replace_file(out, b"".join(canonical_bytes(event) + b"\n" for event in events))
    return _report(walk, basis, rules) | {
        "run": run,
        "calculation": CALCULATION,
        "continued_from": format_time(record.end) if record is not None and longer else None,
        "events": len(events),
        "history_sha256": history_sha256(events),
        "recorded": appended,
        "equal": None if record is None else difference is None,
        "difference": difference,
        "bars_report": closes.history.report.to_dict(),
    }


def _other_closes(basis: HistoryBasis, record: HistoryRecord) -> dict[str, Any] | None:
    """What tells the closes that a record rests on from those of today; None if they are equal."""
    found = basis.closes(record.begin, record.end)
    if found == record.closes_sha256:
        return None
    return {"recorded": {"closes_sha256": record.closes_sha256}, "replayed": found}


class _Span:
    """The market at some closes and the rules in force, with the quotes as they were known then."""

    def __init__(self, closes: _Closes, rows: list[int]) -> None:
        self._closes, self._rows = closes, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[tuple[MarketSnapshot, RuleSet]]:
        return map(self._closes.at, self._rows)


class _Closes:
    """The closes of the configured market up to the end of a span."""

    def __init__(
        self, config: Config, rules: RuleHistory, span: tuple[int, int], ledger: Ledger
    ) -> None:
        self._rules, self._mark_max_age = rules, config.market.mark_max_age_ns
        begin, end = span
        market = read_market(config, rows_known_at(ledger, end))
        self.history, self._features = market.history, market.features
        self._closes = self.history.bars.closes
        rows = self._rows(begin, end)
        if not rows:
            raise DataError(
                f"no bar closes from {format_time(begin)} to {format_time(end)}; the market has "
                f"{format_time(int(self._closes[0]))} to {format_time(int(self._closes[-1]))}"
            )
        self._span = int(self._closes[rows[0]]), int(self._closes[rows[-1]])
        cash = {
            asset
            for version in self._versions(*self._span)
            for asset in version.collateral.cash_assets
        }
        self._quotes = RecordedQuotes(ledger, self.history.bars.symbols, cash, self._span[1])

    def between(self, begin: int, end: int) -> _Span:
        """The closes from one time to another; may be iterated once."""
        return _Span(self, self._rows(begin, end))

    def at(self, row: int) -> tuple[MarketSnapshot, RuleSet]:
        """Market and rules at one close."""
        time = int(self._closes[row])
        snapshot = MarketSnapshot.of_history(
            self.history, self._features, time, self._quotes.board(time), self._mark_max_age
        )
        return snapshot, self._rules.at(time)

    def basis(self, accounts: Path, mark_max_age: int | None) -> HistoryBasis:
        """What the walk of account files over these closes is known by."""
        files = sorted(accounts.glob("*.parquet"))
        return HistoryBasis(
            begin=self._span[0],
            end=self._span[1],
            interval=self.history.bars.interval.name,
            accounts={file.name: sha256_hex(file.read_bytes()) for file in files},
            mark_max_age=mark_max_age,
            versions=self._versions,
            closes=self._digest,
        )

    def _rows(self, begin: int, end: int) -> list[int]:
        rows: list[int] = np.flatnonzero((self._closes >= begin) & (self._closes <= end)).tolist()
        return rows

    def _versions(self, begin: int, end: int) -> tuple[RuleSet, ...]:
        """The rule sets in force at the closes from one time to another, each once."""
        in_force = [self._rules.at(int(self._closes[row])) for row in self._rows(begin, end)]
        return tuple({version.sha256: version for version in in_force}.values())

    def _digest(self, begin: int, end: int) -> str:
        rows = self._rows(begin, end)
        marks = np.stack([self.history.last_mark(row) for row in rows])
        named = "\n".join(self.history.bars.symbols).encode()
        return hashlib.sha256(named + marks.astype("<f8").tobytes()).hexdigest()


def _report(walk: HistoryWalk, basis: HistoryBasis, rules: RuleHistory) -> dict[str, Any]:
    tally, resources = walk.tally, walk.resources
    counts = Counter(State(code).label for code in walk.states.state.tolist())
    life_cycle = rules.at(basis.end).life_cycle_or_default
    fund = resources.fund
    return {
        "span": [format_time(basis.begin), format_time(basis.end)],
        "bars": tally.bars,
        "accounts": len(walk.states),
        "rulesets": [describe_rules(version) for version in basis.versions(basis.begin, basis.end)],
        "by_event": dict(sorted(tally.events.items())),
        "transitions": sum(tally.reasons.values()),
        "reasons": dict(sorted(tally.reasons.items())),
        "states": {state.label: counts.get(state.label, 0) for state in State},
        "reduce_only": int(walk.states.may_only_reduce(life_cycle).sum()),
        "liquidation": {
            "steps": tally.steps,
            "accounts": len(tally.liquidated),
            "notional": tally.notional,
            "fees": resources.fees,
            "impact": resources.impact,
            "auction_discounts": resources.discounts,
            "taken_over": resources.taken_over,
            "shortfall": resources.shortfall,
        },
        "default_resources": {
            "fund": None if fund is None else asdict(fund),
            "deleveraged": resources.deleveraged,
            "shared": resources.shared,
            "uncovered": resources.uncovered,
        },
        "unknown": {
            "account_bars": tally.unknown,
            "of": tally.valuations,
            "problems": dict(sorted(tally.problems.items())[:_SHOWN]),
        },
    }
