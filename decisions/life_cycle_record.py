"""Record of a replayed life cycle in the ledger: written once, continued, compared bit for bit.

A record is known by its first close, interval, account files and rules; bars and quotes are not
part of it, so a history that changes with them differs. A replay over a longer span continues the
record: its events up to the recorded end must be the recorded ones, and only later ones are
appended. Every event has an id of its own, so nothing is recorded twice.
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
from market.core.errors import RuleSetError

CHAIN = "life_cycle"
"""Chain of the ledger, and kind of the entry that closes each recorded span."""

CALCULATION = 1
"""Revision of the replay; records without one count as 0.

1: auction, insurance fund and auto-deleverage of the rule set are used (ADR 0037).
"""

_EVENT_KINDS = ("transition", "liquidation", "shortfall", "deleverage")

Events = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class ReplayBasis:
    """What identifies a replay.

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
    versions_until:
        The rule sets in force from `begin` to a time, each once, in order.
    """

    begin: int
    end: int
    interval: str
    accounts: Mapping[str, str]
    mark_max_age: int | None
    versions_until: Callable[[int], tuple[RuleSet, ...]]

    def key(self, end: int) -> str:
        """Identifier of the replay up to `end`."""
        limit = {} if self.mark_max_age is None else {"mark_max_age": self.mark_max_age}
        return sha256_of(
            limit
            | {
                "from": self.begin,
                "to": end,
                "interval": self.interval,
                "accounts": dict(self.accounts),
                "rulesets_sha256": [version.sha256 for version in self.versions_until(end)],
            }
        )


@dataclass(frozen=True, slots=True)
class LifeCycleRecord:
    """What the ledger holds of a replay.

    Attributes
    ----------
    run:
        Its identifier: the key of the span that was recorded first.
    end:
        Last close that is recorded, nanoseconds.
    calculation:
        Revision of the replay that it was begun with, and is continued with.
    events:
        As `payloads` made them.
    """

    run: str
    end: int
    calculation: int
    events: list[dict[str, Any]]

    def difference(self, replayed: Events, end: int) -> dict[str, Any] | None:
        """The first event up to `end` that is another; None where every one has the same bits."""
        recorded, other = (_until(events, min(end, self.end)) for events in (self.events, replayed))
        for seq in range(max(len(recorded), len(other))):
            pair = [events[seq] if seq < len(events) else None for events in (recorded, other)]
            if canonical_bytes(pair[0]) != canonical_bytes(pair[1]):
                return {"seq": seq, "recorded": pair[0], "replayed": pair[1]}
        return None


def find_record(ledger: Ledger, basis: ReplayBasis) -> LifeCycleRecord | None:
    """The longest record of the replay, whether it ends before or after it; None without one."""
    newest = None
    for entry in ledger.records(CHAIN):
        if entry.as_of is None or entry.as_of < basis.begin:
            continue
        later = newest is None or newest.as_of is None or entry.as_of > newest.as_of
        if later and _has_basis(entry, basis):
            newest = entry
    if newest is None or newest.as_of is None:
        return None
    run = str(newest.payload["run"])
    events = [
        {key: value for key, value in record.payload.items() if key != "contents"}
        for kind in _EVENT_KINDS
        for record in ledger.records(kind)
        if record.payload.get("run") == run
    ]
    events.sort(key=lambda event: int(event["seq"]))
    return LifeCycleRecord(run, newest.as_of, int(newest.payload.get("calculation", 0)), events)


def payloads(events: Events, run: str) -> list[dict[str, Any]]:
    """Events as they are recorded: with their run and their number in it."""
    return [{"run": run, "seq": seq, **event} for seq, event in enumerate(events)]


def history_sha256(history: Events) -> str:
    """SHA-256 of a history in canonical JSON lines."""
    return sha256_hex(b"\n".join(canonical_bytes(event) for event in history))


def append_history(
    ledger: Ledger,
    basis: ReplayBasis,
    history: Events,
    accounts: int,
    record: LifeCycleRecord | None,
) -> None:
    """Record a history, or what of it is later than its record: all or none.

    Parameters
    ----------
    ledger:
        On the chain `CHAIN`.
    basis, history:
        The replay and its `payloads`.
    accounts:
        Number of accounts.
    record:
        What is recorded of it and does not differ; None: nothing.

    Raises
    ------
    UnrecordableError
        Another process has recorded the same; nothing was recorded.
    LedgerError
        The ledger cannot be written.
    """
    key = basis.key(basis.end)
    rules = [("ruleset", version.content()) for version in basis.versions_until(basis.end)]
    summary = {
        "run": key if record is None else record.run,
        "calculation": CALCULATION if record is None else record.calculation,
        "span": [format_time(basis.begin), format_time(basis.end)],
        "interval": basis.interval,
        "accounts": accounts,
        "events": len(history),
        "history_sha256": history_sha256(history),
        "contents": [sha256_of(content) for _, content in rules],
    }
    entries = [
        Entry(
            kind=event["event"],
            id=f"{event['run']}-{event['seq']}",
            account_id=event["account_id"],
            as_of=event["time"],
            payload={**event, "contents": {"ruleset_sha256": event["ruleset_sha256"]}},
        )
        for event in history[0 if record is None else len(record.events) :]
    ]
    entries.append(Entry(kind=CHAIN, id=f"{CHAIN}-{key}", as_of=basis.end, payload=summary))
    ledger.append(entries, contents=rules)


def _has_basis(entry: Record, basis: ReplayBasis) -> bool:
    try:
        return entry.as_of is not None and entry.id == f"{CHAIN}-{basis.key(entry.as_of)}"
    except RuleSetError:  # these rules are not in force until then: it is a record of others
        return False


def _until(events: Events, end: int) -> Events:
    return [event for event in events if int(event["time"]) <= end]
