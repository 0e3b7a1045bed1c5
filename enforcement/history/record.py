"""Record of enforcement over history in the ledger: written once, continued, compared bit for bit.

A record is known by its first close, interval, account files and rules. It ends with an entry of
the kind ``life_cycle`` that names the state at its end, from which a longer span goes on: only
later entries are appended. The closes that it rests on are named by a digest; other ones, or
another history, show as a difference. Ids of its entries begin with the id of the record, so
nothing is recorded twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ledger.canonical import canonical_bytes, sha256_hex, sha256_of
from ledger.records import Entry, Record
from ledger.store import Ledger
from margin.rules.ruleset import RuleSet
from market.core.clock import format_time
from market.core.errors import LedgerError, RuleSetError

CHAIN = "life_cycle"
"""Chain of the ledger, and kind of the entry that closes each recorded span."""

STATE = "life_cycle_state"
"""Kind of the content that a longer span continues from."""

CALCULATION = 3
"""Revision of the calculation; records of another one stay as they are, and are not continued.

1: auction, insurance fund and auto-deleverage of the rule set are used (ADR 0037). 2: the engine of
the live book makes calls, instructions and settlements (ADR 0073). 3: closes name the position that
they were given for, settlements the share of each account; several debts are settled in one step.
"""

_KINDS = ("call", "instruction", "default_resources")

Events = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class HistoryBasis:
    """What identifies a walk over history.

    Attributes
    ----------
    begin, end:
        First and last close, nanoseconds.
    interval:
        Of the bars.
    accounts:
        SHA-256 of each account file by its name.
    mark_max_age:
        As configured, nanoseconds; None: two intervals.
    versions:
        The rule sets in force from one time to another, each once, in order.
    closes:
        SHA-256 of the closes from one time to another.
    """

    begin: int
    end: int
    interval: str
    accounts: Mapping[str, str]
    mark_max_age: int | None
    versions: Callable[[int, int], tuple[RuleSet, ...]]
    closes: Callable[[int, int], str]

    def key(self, begin: int, end: int) -> str:
        """Identifier of these accounts and rules over a span."""
        return sha256_of(
            {
                "calculation": CALCULATION,
                "from": begin,
                "to": end,
                "interval": self.interval,
                "mark_max_age": self.mark_max_age,
                "accounts": dict(self.accounts),
                "rulesets_sha256": [rules.sha256 for rules in self.versions(begin, end)],
            }
        )


@dataclass(frozen=True, slots=True)
class HistoryRecord:
    """What the ledger holds of a walk.

    Attributes
    ----------
    run:
        Its identifier: the key of the span that was recorded first.
    begin, end:
        First and last close that are recorded, nanoseconds.
    closes_sha256:
        Of the closes in between.
    events:
        As `numbered` made them.
    state:
        Content to continue from.
    """

    run: str
    begin: int
    end: int
    closes_sha256: str
    events: list[dict[str, Any]]
    state: dict[str, Any]

    def difference(self, events: Events, end: int) -> dict[str, Any] | None:
        """The first event up to `end` that is another; None where every one has the same bits."""
        recorded, other = (_until(these, min(end, self.end)) for these in (self.events, events))
        for seq in range(max(len(recorded), len(other))):
            pair = [these[seq] if seq < len(these) else None for these in (recorded, other)]
            if canonical_bytes(pair[0]) != canonical_bytes(pair[1]):
                return {"seq": seq, "recorded": pair[0], "replayed": pair[1]}
        return None


def find_record(ledger: Ledger, basis: HistoryBasis) -> HistoryRecord | None:
    """The record of these accounts and rules; None without one.

    Raises
    ------
    LedgerError
        The span begins before the record does, or leaves a gap after it.
    """
    newest = None
    for entry in ledger.records(CHAIN):
        later = newest is None or _end(entry) > _end(newest)
        if entry.payload.get("calculation") == CALCULATION and later and _is_of(entry, basis):
            newest = entry
    if newest is None:
        return None
    begin, end = int(newest.payload["begin"]), _end(newest)
    known = f"it is recorded from {format_time(begin)} to {format_time(end)}"
    if basis.begin < begin:
        raise LedgerError(
            f"the span begins at {format_time(basis.begin)}, before the record of these accounts "
            f"and rules: {known}; begin there, or use another ledger"
        )
    if basis.begin > end:
        raise LedgerError(
            f"the span begins at {format_time(basis.begin)}, after the record of these accounts "
            f"and rules: {known}; a longer span continues it, so begin within it"
        )
    run = str(newest.payload["run"])
    events = [
        {key: value for key, value in record.payload.items() if key != "contents"}
        for kind in _KINDS
        for record in ledger.records(kind)
        if record.payload.get("run") == run
    ]
    events.sort(key=lambda event: int(event["seq"]))
    state = ledger.get(newest.payload["state_sha256"])
    return HistoryRecord(run, begin, end, newest.payload["closes_sha256"], events, state)


def numbered(entries: Sequence[Entry], run: str, first: int = 0) -> list[dict[str, Any]]:
    """Entries as they are recorded: with their run, their number in it, kind, id and time."""
    return [
        {
            "run": run,
            "seq": seq,
            "record": entry.kind,
            "id": entry.id,
            "time": entry.as_of,
            **{key: value for key, value in entry.payload.items() if key != "contents"},
        }
        for seq, entry in enumerate(entries, first)
    ]


def history_sha256(events: Events) -> str:
    """SHA-256 of a history in canonical JSON lines."""
    return sha256_hex(b"\n".join(canonical_bytes(event) for event in events))


def append_history(
    ledger: Ledger,
    basis: HistoryBasis,
    events: Events,
    state: dict[str, Any],
    record: HistoryRecord | None,
) -> None:
    """Record a history, or what of it is later than its record: all or none.

    Parameters
    ----------
    ledger:
        On the chain `CHAIN`.
    basis, events, state:
        The walk, all its `numbered` events, and its state at the end.
    record:
        What is recorded of it and does not differ; None: nothing.

    Raises
    ------
    UnrecordableError
        Another process has recorded the same; nothing was recorded.
    LedgerError
        The ledger cannot be written.
    """
    begin = basis.begin if record is None else record.begin
    key = basis.key(begin, basis.end)
    rules = [("ruleset", version.content()) for version in basis.versions(begin, basis.end)]
    state_sha256 = sha256_of(state)
    summary = {
        "run": key if record is None else record.run,
        "calculation": CALCULATION,
        "begin": begin,
        "span": [format_time(begin), format_time(basis.end)],
        "interval": basis.interval,
        "events": len(events),
        "history_sha256": history_sha256(events),
        "closes_sha256": basis.closes(begin, basis.end),
        "state_sha256": state_sha256,
        "contents": [*(sha256_of(content) for _, content in rules), state_sha256],
    }
    entries = [
        Entry(
            kind=event["record"],
            id=f"{event['run']}-{event['id']}",
            account_id=event["account_id"],
            as_of=event["time"],
            payload={**event, "contents": {"ruleset_sha256": event["ruleset_sha256"]}},
        )
        for event in events[0 if record is None else len(record.events) :]
    ]
    entries.append(Entry(kind=CHAIN, id=f"{CHAIN}-{key}", as_of=basis.end, payload=summary))
    ledger.append(entries, contents=[*rules, (STATE, state)])


def _end(entry: Record) -> int:
    return -1 if entry.as_of is None else entry.as_of


def _is_of(entry: Record, basis: HistoryBasis) -> bool:
    try:
        key = basis.key(int(entry.payload["begin"]), _end(entry))
    except RuleSetError:  # these rules are not in force then: it is a record of others
        return False
    return entry.id == f"{CHAIN}-{key}"


def _until(events: Events, end: int) -> Events:
    return [event for event in events if int(event["time"]) <= end]
