"""Calls, instructions, controls and default resources by the chain ``enforcement``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from enforcement.calls.call_events import ENDING
from enforcement.record.rows import CHAIN
from ledger.following import ChainHead, SharedChain
from ledger.records import Record
from ledger.store import Ledger
from market.core.clock import format_time, parse_time
from pipelines.ledger_reports.book_at_time import cut_at
from pipelines.ledger_reports.formats.document import Cell


@dataclass(frozen=True, slots=True)
class CallHistory:
    """A call with its events, the oldest first.

    Attributes
    ----------
    call_id:
        Its id.
    events:
        Payload of each of its records.
    times:
        When each was, nanoseconds.
    """

    call_id: str
    events: list[dict[str, Any]] = field(default_factory=list)
    times: list[int] = field(default_factory=list)

    @property
    def opened_at(self) -> int:
        """Time of the first event."""
        return self.times[0]

    @property
    def newest(self) -> dict[str, Any]:
        """Payload of the newest event."""
        return self.events[-1]

    @property
    def ended_at(self) -> int | None:
        """Time of the first event of those that ended it; None while it is open."""
        end: int | None = None
        for time, payload in zip(self.times, self.events, strict=True):
            if payload["event"] not in ENDING:
                end = None
            elif end is None:
                end = time
        return end

    @property
    def missed_at(self) -> int | None:
        """When its deadline was missed first; None where it was not."""
        return self.first("deadline_missed")

    @property
    def deadline(self) -> int | None:
        """Its newest deadline, also once it was missed; None where it never had one."""
        known = (payload.get("deadline") for payload in reversed(self.events))
        return optional_time(next((text for text in known if text is not None), None))

    def first(self, event: str) -> int | None:
        """Time of the first event of a name; None without one."""
        for time, payload in zip(self.times, self.events, strict=True):
            if payload["event"] == event:
                return time
        return None

    def cured(self) -> dict[str, float]:
        """What met the call, by source."""
        amounts: dict[str, float] = {}
        for payload in self.events:
            for cure in payload.get("cures") or ():
                source = str(cure["source"])
                amounts[source] = amounts.get(source, 0.0) + float(cure["amount"])
        return amounts


@dataclass(frozen=True, slots=True)
class EnforcementLog:
    """The records of the chain up to a time.

    Attributes
    ----------
    records:
        In their order.
    """

    records: tuple[Record, ...]

    @classmethod
    def until(cls, ledger: Ledger, time: int) -> EnforcementLog:
        """What was recorded before the chain went past a time.

        Raises
        ------
        LedgerError
            Records are missing or were altered.
        """
        last = cut_at(ledger, CHAIN, time)
        return cls(tuple(_take(SharedChain(ledger, CHAIN).after(ChainHead()), last)))

    def calls(self, account: str | None = None) -> list[CallHistory]:
        """All calls, or those of an account, in the order in which they were opened."""
        found: dict[str, CallHistory] = {}
        for record in self.of_kind("call", account):
            call_id = str(record.payload["call_id"])
            history = found.setdefault(call_id, CallHistory(call_id))
            history.events.append(record.payload)
            history.times.append(record.as_of or 0)
        return list(found.values())

    def of_kind(self, kind: str, account: str | None = None) -> list[Record]:
        """Records of a kind, all or of an account."""
        return [
            record
            for record in self.records
            if record.kind == kind and (account is None or record.account_id == account)
        ]

    def facts(self) -> dict[str, Cell]:
        """Where the chain ended, for a report."""
        head = ChainHead.of(self.records[-1]) if self.records else ChainHead()
        rules = {
            str(r.payload["ruleset_sha256"]) for r in self.records if "ruleset_sha256" in r.payload
        }
        return {
            "head_enforcement_seq": head.seq,
            "head_enforcement_hash": head.hash,
            "enforcement_rulesets_sha256": ", ".join(sorted(rules)) or None,
        }


def optional_time(text: str | None) -> int | None:
    """A recorded time; None for null."""
    return None if text is None else parse_time(text)


def time_cell(time: int | None) -> str | None:
    """A time for a report; None stays."""
    return None if time is None else format_time(time)


def figure(payload: dict[str, Any], name: str) -> float | None:
    """A number of a payload; None where it is absent or null."""
    value = payload.get(name)
    return None if value is None else float(value)


def _take(records: Iterable[Record], last: int) -> Iterator[Record]:
    if last < 1:
        return
    for record in records:
        yield record
        if record.seq >= last:
            return
