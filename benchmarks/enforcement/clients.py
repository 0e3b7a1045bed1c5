"""Clients and a venue that answer calls and instructions by a seeded draw over their ids.

What they do depends on the ids of calls and instructions, on amounts and on the step alone: two
runs whose calls are the same get the same answers.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Any, Literal, Protocol

import msgspec
from sqlalchemy import select

from benchmarks.workloads.real_span import RealSpan, draw_accounts
from enforcement.calls.call import Call
from enforcement.calls.instruction import Instruction
from enforcement.controls.commands import CHAIN as COMMANDS, COMMAND, CommandLog, KeyedRequest
from enforcement.record.rows import read_open_calls, read_open_instructions
from ledger.canonical import canonical_bytes, sha256_hex
from ledger.chain import to_record
from ledger.following import SharedChain
from ledger.idempotency import RequestKey
from ledger.records import Entry, Record
from ledger.schema import records
from ledger.store import Ledger
from market.core.clock import HOUR, format_time, parse_time
from monitoring.book.account_rows import CHAIN as ACCOUNTS
from monitoring.book.account_store import AccountStore
from monitoring.book.messages import AccountUpdateIn
from monitoring.evaluation.record.evaluation_state import CHAIN as EVALUATIONS, Pass

Written = Literal["market", "updates", "commands"]
"""What is on record for the monitor to evaluate."""

MET, PART, DISPUTED = 0.6, 0.75, 0.8
"""Draws below these pay all, pay half, and dispute; others do nothing."""

REJECTED = 0.05
"""Share of closes that the venue rejects."""

MOST_HOURS = 20
"""A client that pays does so within these hours."""

WAIT_SECONDS = 300.0
"""Longest wait for an evaluation."""

_LOOK_SECONDS = 0.01


class Watch(Protocol):
    """What sees to the monitor of a run."""

    def written(self, what: Written) -> None:
        """Told once something is on record that the monitor has to evaluate."""

    def check(self) -> None:
        """Raise where the monitor ended by itself."""


class EnforcedClients:
    """The clients and the venue of a book.

    Parameters
    ----------
    ledger:
        Of the book.
    span:
        The market.
    seed:
        Of what they do.
    watch:
        Sees to the monitor while they wait for it.
    """

    def __init__(self, ledger: Ledger, span: RealSpan, seed: int, watch: Watch) -> None:
        self._ledger, self._span, self._seed, self._watch = ledger, span, seed, watch
        self._store, self._commands = AccountStore(ledger), CommandLog(ledger)
        self._sequence: dict[str, int] = {}
        self._disputed: set[str] = set()
        self._seen = 0

    def open_accounts(self, count: int) -> None:
        """Give the accounts as snapshots."""
        time_of = self._span.opens[0]
        updates = draw_accounts(self._span, count, self._seed)
        for begin in range(0, len(updates), 5_000):
            self._apply(updates[begin : begin + 5_000], time_of)

    def wait_for(self, row: int, close: int) -> None:
        """Wait until all levels of a step are recorded, which its rule pass comes before.

        Raises
        ------
        RuntimeError
            It takes longer than `WAIT_SECONDS`.
        """
        self._watch.written("market")
        self._wait(lambda: self._find(lambda record: _is_whole(record, close)), f"step {row}")

    def answer(self, row: int, close: int) -> None:
        """Pay, dispute and fill what is open at a step, and wait until all of it is evaluated.

        All updates are written at once and so are all commands: how many evaluations read them
        does not depend on the speed of the monitor.
        """
        updates, commands = [], []
        for call in sorted(read_open_calls(self._ledger), key=lambda call: call.call_id):
            paid = self._payment(call, close)
            if paid > 0.0:
                deposit = {"kind": "deposit", "asset": "USD", "amount": paid}
                updates.append(self._update(call.account_id, [deposit]))
            if self._disputes(call):
                commands.append({"command": "dispute", "call_id": call.call_id, "reason": "price"})
        given = read_open_instructions(self._ledger)
        for one in sorted(given, key=lambda one: one.instruction_id):
            fill, command = self._execution(one, row)
            commands.append(command)
            if fill is not None:
                updates.append(self._update(one.account_id, [fill]))
        merged = _merged(updates)
        if merged:
            self._apply(merged, close)
            self._watch.written("updates")
            head = self._head(ACCOUNTS)
            self._wait(
                lambda: self._find(lambda record: _knows(record, head.seq)), f"updates of {row}"
            )
        if commands:
            newest = self._command(commands, row, close)
            self._watch.written("commands")
            self._wait(
                lambda: self._commands.outcome(newest) is not None, f"commands of step {row}"
            )

    def _command(self, commands: list[dict[str, Any]], row: int, now: int) -> str:
        """Append commands in one transaction, as `CommandLog.append` does one; the last one's id"""
        entries = []
        for k, command in enumerate(commands):
            body = sha256_hex(canonical_bytes(command))
            content = command | {"requester": "venue", "time": format_time(now)}
            name = KeyedRequest(RequestKey("venue", f"{row}-{k}"), body).command_id
            entries.append(Entry(COMMAND, content | {"body_sha256": body}, name, as_of=now))
        chain = SharedChain(self._ledger, COMMANDS)
        return chain.append(chain.head(), entries)[-1].id

    def _payment(self, call: Call, close: int) -> float:
        draw = self._draw(call.call_id, "client")
        hours = int(self._draw(call.call_id, "hours") * MOST_HOURS)
        due = parse_time(call.opened_at) + hours * HOUR
        if call.kind != "call" or draw >= PART or due != close or call.outstanding <= 0.0:
            return 0.0
        share = 1.0 if draw < MET else 0.5
        return round(share * call.outstanding + 0.005, 2)

    def _disputes(self, call: Call) -> bool:
        draw = self._draw(call.call_id, "client")
        wanted = PART <= draw < DISPUTED and call.state in ("called", "partly_met")
        if not wanted or call.call_id in self._disputed:
            return False
        self._disputed.add(call.call_id)
        return call.dispute_end is None

    def _execution(
        self, one: Instruction, row: int
    ) -> tuple[dict[str, Any] | None, dict[str, Any]]:
        command: dict[str, Any] = {
            "command": "acknowledge",
            "instruction_id": one.instruction_id,
            "status": "filled",
        }
        if one.kind != "close":
            return None, command
        if self._draw(one.instruction_id, "venue") < REJECTED:
            return None, command | {"status": "rejected", "reason": "no liquidity"}
        name, quantity = str(one.parameters["instrument"]), float(one.parameters["quantity"])
        coin = self._span.symbols.index(name.removesuffix("-PERP"))
        price = float(self._span.mark(row)[coin])
        fill = {"kind": "fill", "instrument": name, "quantity": quantity, "price": price}
        return fill, command | {"quantity": quantity, "price": price}

    def _draw(self, name: str, what: str) -> float:
        digest = hashlib.sha256(f"{self._seed}/{what}/{name}".encode()).digest()
        return int.from_bytes(digest[:8]) / 2**64

    def _update(self, account_id: str, deltas: list[dict[str, Any]]) -> dict[str, Any]:
        return {"account_id": account_id, "deltas": deltas}

    def _apply(self, updates: list[dict[str, Any]], time_of: int) -> None:
        numbered = []
        for update in updates:
            number = self._sequence.get(update["account_id"], 0) + 1
            self._sequence[update["account_id"]] = number
            numbered.append(msgspec.convert(update | {"sequence": number}, AccountUpdateIn))
        results = self._store.apply(numbered, time_of, "venue")
        wrong = [result for result in results if result.status != "applied"]
        if wrong:
            raise RuntimeError(f"the live book refused {wrong[0]}")

    def _wait(self, reached: Callable[[], bool], what: str) -> None:
        ends = time.monotonic() + WAIT_SECONDS
        while not reached():
            self._watch.check()
            if time.monotonic() > ends:
                raise RuntimeError(f"{what} was not evaluated in {WAIT_SECONDS} s")
            time.sleep(_LOOK_SECONDS)

    def _find(self, wanted: Callable[[Record], bool]) -> bool:
        """Whether one of the evaluations that were not seen yet is as wanted."""
        for record in self._after(EVALUATIONS, self._seen):
            self._seen = record.seq
            if wanted(record):
                return True
        return False

    def _head(self, chain: str) -> Record:
        """The newest record of a chain."""
        query = select(records).where(records.c.chain == chain).order_by(records.c.seq.desc())
        with self._ledger.engine.connect() as connection:
            return to_record(connection.execute(query.limit(1)).one())

    def _after(self, chain: str, seq: int) -> list[Record]:
        query = select(records).where(records.c.chain == chain, records.c.seq > seq)
        with self._ledger.engine.connect() as connection:
            return [to_record(row) for row in connection.execute(query.order_by(records.c.seq))]


def _is_whole(record: Record, close: int) -> bool:
    """Whether a record holds the levels of all accounts at a step."""
    payload = record.payload
    return _of_model(record) and payload["whole"] and payload["close"] >= close


def _knows(record: Record, seq: int) -> bool:
    """Whether a record holds levels that rest on an update of the book."""
    return _of_model(record) and int(record.payload["book"]["seq"]) >= seq


def _of_model(record: Record) -> bool:
    which: Pass = "model"
    return bool(record.payload["pass"] == which)


def _merged(updates: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One update an account."""
    merged: dict[str, dict[str, Any]] = {}
    for update in updates:
        known = merged.setdefault(update["account_id"], {**update, "deltas": []})
        known["deltas"] = [*known["deltas"], *update["deltas"]]
    return list(merged.values())
