"""Replay the life cycle of a book's margin calls over a span, and keep or compare its history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from features.state.snapshot import MarketSnapshot
from ledger.canonical import canonical_bytes, sha256_hex, sha256_of
from ledger.records import Entry
from ledger.store import Ledger
from margin.engines.registry import engine_of
from margin.life_cycle.states import State
from margin.rules.history import RuleHistory
from margin.valuation.view import MarketView
from market.accounts.account_files import read_accounts
from market.bars.history import MarketHistory
from market.bars.panel import CLOSE
from market.core.clock import HOUR, format_time, parse_time
from market.core.errors import DataError, LedgerError
from market.core.files import replace_file
from market.quotes.quotes import QuoteBoard
from monitoring.recovery.recorded_quotes import RecordedQuotes
from monitoring.recovery.recorded_steps import rows_known_at
from pipelines.cli.progress import Stages
from pipelines.config.config import Config
from pipelines.data.loaders import describe_rules, read_history, read_market, read_rule_history
from pipelines.jobs.life_cycle_walk import Walk, walk

Floats = npt.NDArray[np.float64]

_CHAIN = "life_cycle"
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

    Every transition and every liquidation step becomes a ledger entry, with the run they belong
    to; all of a run or none. A run is known by its span, accounts and rules. One that is recorded
    already is compared bit for bit, and nothing is recorded again.

    Parameters
    ----------
    config:
        Market, rules and ledger.
    accounts:
        Folder of the account files.
    begin, end:
        First and last decision time, ISO 8601.
    replay:
        Only compare: refuse a run that is not recorded.
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
            with Ledger(config.ledger.url, chain=_CHAIN) as ledger:
                views = _Views(config, rules, parse_time(begin), parse_time(end), ledger)
        with stages.stage("life cycle"):
            found = walk(read_accounts(accounts), views, rules.at, stages.within, len(views))
        with stages.stage("ledger"):
            run = _run_key(views, accounts)
            payloads = _payloads(found, run)
            with Ledger(config.ledger.url, chain=_CHAIN) as ledger:
                known = _recorded(ledger, run)
                if known is None and replay:
                    raise LedgerError(
                        f"no history of this span, accounts and rules is recorded (run {run}); "
                        "run lifecycle without --replay first"
                    )
                if known is None:
                    _record(ledger, run, payloads, views, found)
    if out is not None:
        replace_file(out, b"".join(canonical_bytes(payload) + b"\n" for payload in payloads))
    difference = None if known is None else _difference(known, payloads)
    return _report(found, views) | {
        "run": run,
        "history_sha256": _history_sha256(payloads),
        "recorded": known is None,
        "equal": None if known is None else difference is None,
        "difference": difference,
        "bars_report": views.history.report.to_dict(),
    }


class _Views:
    """The market at each close of a span.

    Quotes are those that the ledger holds, as they were known at the close. Features are computed
    only where an add-on is in the call level or history is simulated; else the rules need marks
    alone.
    """

    def __init__(
        self, config: Config, rules: RuleHistory, begin: int, end: int, ledger: Ledger
    ) -> None:
        self.mark_max_age = config.market.mark_max_age_ns
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
        in_force = [rules.at(int(closes[row])) for row in self._rows]
        self.versions = tuple({version.sha256: version for version in in_force}.values())
        cash = {asset for version in self.versions for asset in version.collateral.cash_assets}
        self._quotes = RecordedQuotes(ledger, self.history.bars.symbols, cash, self.span[1])

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[MarketView]:
        ages = _Ages(self.history)
        for row in self._rows:
            time = int(self.history.bars.closes[row])
            quotes = self._quotes.board(time)
            if self._features is None:
                yield self._marks(row, time, ages.at(row), quotes)
            else:
                yield MarketSnapshot.of_history(
                    self.history, self._features, time, quotes, self.mark_max_age
                ).view()

    @property
    def span(self) -> tuple[int, int]:
        """First and last close, nanoseconds."""
        closes = self.history.bars.closes
        return int(closes[self._rows[0]]), int(closes[self._rows[-1]])

    @property
    def interval(self) -> str:
        """Name of the bar interval."""
        return self.history.bars.interval.name

    def _marks(
        self, row: int, time: int, age_hours: Floats, quotes: QuoteBoard | None
    ) -> MarketView:
        symbols = self.history.bars.symbols
        unknown: Floats = np.full(len(symbols), np.nan)
        return MarketView(
            as_of=time,
            symbols=symbols,
            mark=self.history.last_mark(row),
            age_hours=age_hours,
            volatility=unknown,
            adv=unknown,
            correlation=np.full((len(symbols), len(symbols)), np.nan),
            interval_hours=1.0 / self.history.bars.interval.per_hour,
            suspect=self.history.suspect_at(row),
            quotes=quotes,
            mark_max_age_hours=None if self.mark_max_age is None else self.mark_max_age / HOUR,
        )


class _Ages:
    """How old each symbol's newest accepted bar is, row after row."""

    def __init__(self, history: MarketHistory) -> None:
        self._close = history.bars.values[:, :, CLOSE]
        self._per_hour = history.bars.interval.per_hour
        self._next = 0
        self._last = np.full(self._close.shape[1], np.nan)

    def at(self, row: int) -> Floats:
        """Hours at the close of `row`, shape (S,); NaN before the first bar. Rows must rise."""
        for passed in range(self._next, row + 1):
            self._last[~np.isnan(self._close[passed])] = passed
        self._next = row + 1
        age: Floats = (row - self._last) / self._per_hour
        return age


def _run_key(views: _Views, accounts: Path) -> str:
    """What a run is known by. Bars and quotes are not in it: a history that changes with them
    differs."""
    files = sorted(accounts.glob("*.parquet"))
    first, last = views.span
    limit = {} if views.mark_max_age is None else {"mark_max_age": views.mark_max_age}
    return sha256_of(
        limit
        | {
            "from": first,
            "to": last,
            "interval": views.interval,
            "accounts": {file.name: sha256_hex(file.read_bytes()) for file in files},
            "rulesets_sha256": [version.sha256 for version in views.versions],
        }
    )


def _payloads(found: Walk, run: str) -> list[dict[str, Any]]:
    return [{"run": run, "seq": seq, **event} for seq, event in enumerate(found.events)]


def _history_sha256(payloads: Sequence[Mapping[str, Any]]) -> str:
    return sha256_hex(b"\n".join(canonical_bytes(payload) for payload in payloads))


def _record(
    ledger: Ledger,
    run: str,
    payloads: Sequence[dict[str, Any]],
    views: _Views,
    found: Walk,
) -> None:
    rules = [("ruleset", version.content()) for version in views.versions]
    first, last = views.span
    summary = {
        "run": run,
        "span": [format_time(first), format_time(last)],
        "interval": views.interval,
        "accounts": len(found.states),
        "events": len(payloads),
        "history_sha256": _history_sha256(payloads),
        "contents": [sha256_of(content) for _, content in rules],
    }
    entries = [
        Entry(
            kind=payload["event"],
            account_id=payload["account_id"],
            as_of=payload["time"],
            payload=payload | {"contents": {"ruleset_sha256": payload["ruleset_sha256"]}},
        )
        for payload in payloads
    ]
    # The id is the run's: whoever comes second is refused, and the whole of it with it.
    entries.append(Entry(kind=_CHAIN, id=f"{_CHAIN}-{run}", as_of=last, payload=summary))
    ledger.append(entries, contents=rules)


def _recorded(ledger: Ledger, run: str) -> list[dict[str, Any]] | None:
    """The events of a run as they were recorded; None where it is not."""
    runs = [record for record in ledger.records(_CHAIN) if record.payload["run"] == run]
    if not runs:
        return None
    events = [
        {key: value for key, value in record.payload.items() if key != "contents"}
        for kind in ("transition", "liquidation")
        for record in ledger.records(kind)
        if record.payload.get("run") == run
    ]
    return sorted(events, key=lambda event: int(event["seq"]))


def _difference(
    recorded: Sequence[Mapping[str, Any]], replayed: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """The first event that is another; None where every one has the same bits."""
    for seq in range(max(len(recorded), len(replayed))):
        one, other = (
            history[seq] if seq < len(history) else None for history in (recorded, replayed)
        )
        if canonical_bytes(one) != canonical_bytes(other):
            return {"seq": seq, "recorded": one, "replayed": other}
    return None


def _report(found: Walk, views: _Views) -> dict[str, Any]:
    transitions = [event for event in found.events if event["event"] == "transition"]
    steps = [event for event in found.events if event["event"] == "liquidation"]
    ends = Counter(State(code).label for code in found.states.state.tolist())
    first, last = views.span
    return {
        "span": [format_time(first), format_time(last)],
        "bars": found.bars,
        "accounts": len(found.states),
        "rulesets": [describe_rules(version) for version in views.versions],
        "transitions": len(transitions),
        "reasons": dict(sorted(Counter(event["reason"] for event in transitions).items())),
        "states": {state.label: ends.get(state.label, 0) for state in State},
        "liquidation": {
            "steps": len(steps),
            "accounts": len({event["account_id"] for event in steps}),
            "notional": sum(event["notional"] for event in steps),
            "fees": sum(event["fee"] for event in steps),
            "shortfall": found.shortfall,
        },
        "unknown": {
            "account_bars": found.unknown,
            "of": found.margined,
            "problems": dict(sorted(found.problems.items())[:_SHOWN]),
        },
    }
