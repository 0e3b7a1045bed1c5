"""Enforcement of a live book: its memory by the ledger, and its records in the ledger.

The monitor writes what a step caused in the transaction of its evaluation: events, rows of calls
and instructions, and the rows of the outbox. A step that is not written leaves no trace: the memory
is read again.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, insert

from enforcement.calls.engine import CallEngine
from enforcement.calls.memory import Memory
from enforcement.controls.commands import CommandLog
from enforcement.controls.control_state import STATE_NAME, ControlState
from enforcement.delivery.outbox import outbox_rows, skip
from enforcement.delivery.topics import Subscription
from enforcement.liquidation.resources import DefaultResources
from enforcement.record.rows import (
    CHAIN,
    read_open_calls,
    read_open_instructions,
    read_sequences,
    read_state,
    write_calls,
    write_instructions,
    write_state,
)
from ledger.chain import extend_in_rounds
from ledger.following import ChainHead
from ledger.records import EncodedEntry
from ledger.schema import outbox
from ledger.store import Ledger
from margin.life_cycle.states import States, Transitions
from market.accounts.book import Account
from monitoring.evaluation.passes.state_inputs import StateInputs
from monitoring.evaluation.record.recorded_accounts import read_accounts, updated_since
from monitoring.evaluation.state_engine import StateStep

RESOURCES = "resources"
"""Name of the row of ``enforcement_state`` with the default resources."""


class LiveEnforcement:
    """The `monitoring.evaluation.state_engine.StateEngine` of a ledger.

    Parameters
    ----------
    ledger:
        Of the live book.
    sinks:
        What is notified of events.
    """

    def __init__(self, ledger: Ledger, sinks: Sequence[Subscription] = ()) -> None:
        self._ledger, self._sinks = ledger, tuple(sinks)
        self._commands = CommandLog(ledger)
        self._controls = ControlState()
        self._resources = DefaultResources()
        self._engine: CallEngine | None = None

    @property
    def engine(self) -> CallEngine:
        """The engine, restored."""
        if self._engine is None:
            raise RuntimeError("enforcement is used before it was restored")
        return self._engine

    def restore(self, book: ChainHead) -> Mapping[str, Account]:
        """Go back to what is recorded.

        Parameters
        ----------
        book:
            The live book that the newest recorded rule pass saw.

        Returns
        -------
        Called accounts that were updated since, as they were then.

        Raises
        ------
        LedgerError
            The ledger cannot be read, or a row was altered.
        """
        content = read_state(self._ledger, STATE_NAME)
        self._controls = ControlState() if content is None else ControlState.of_content(content)
        memory = Memory(self._controls)
        content = read_state(self._ledger, RESOURCES)
        if content is not None:
            memory.resources = DefaultResources.of_content(content)
        self._resources = memory.resources
        for call in read_open_calls(self._ledger):
            memory.keep(call)
        memory.instructions = {
            one.instruction_id: one for one in read_open_instructions(self._ledger)
        }
        memory.sequences = read_sequences(self._ledger)
        self._engine = CallEngine(memory)
        names = memory.calls.keys() & updated_since(self._ledger, book)
        if not names:
            return {}
        found = read_accounts(self._ledger, book, names).accounts
        return {name: known.account for name, known in found.items()}

    def has_work(self, now: int) -> bool:
        """Whether commands wait, or something is due at a time."""
        memory = self.engine.memory
        return self._commands.newest() > memory.controls.seq or memory.due(now)

    def inputs(self, step: StateStep) -> StateInputs:
        """Enforcement's part in the states of the accounts of a step."""
        engine = self.engine
        commands = self._commands.after(engine.memory.controls.seq) if step.whole else ()
        return engine.inputs(step, commands)

    def outcome(self, step: StateStep, after: States, transitions: Transitions) -> bool:
        """Take the new states; whether there is something to write."""
        return self.engine.outcome(step, after, transitions)

    def facts(self) -> dict[str, Any]:
        """What the evaluation record says of enforcement."""
        return {"events": len(self.engine.log.entries)}

    def write(self, connection: Connection, evaluation: int, stored: Collection[str]) -> None:
        """Record what followed, inside the transaction of evaluation record `evaluation`."""
        log, memory = self.engine.log, self.engine.memory
        if not log.entries:
            # A fund opens without an event.
            self._write_resources(connection, 0)
            return
        for entry in log.entries:
            entry.payload["evaluation"] = evaluation
        encoded = [EncodedEntry.of(entry) for entry in log.entries]
        rows = extend_in_rounds(connection, CHAIN, [encoded], 0, stored)
        numbers = [int(row["seq"]) for row in rows]
        write_calls(connection, ((call, numbers[at]) for call, at in log.calls.values()))
        write_instructions(
            connection, ((one, numbers[at]) for one, at in log.instructions.values())
        )
        if memory.controls is not self._controls:
            write_state(connection, STATE_NAME, numbers[-1], memory.controls.to_content())
            self._controls = memory.controls
        self._write_resources(connection, numbers[-1])
        for event_id, sink, reason in log.skipped:
            skip(connection, event_id, sink, time.time_ns(), reason)
        events = [
            entry.payload | {"event_id": entry.id} for entry in log.entries if entry.account_id
        ]
        waiting = outbox_rows(events, self._sinks, time.time_ns())
        if waiting:
            connection.execute(insert(outbox), waiting)
        log.clear()

    def _write_resources(self, connection: Connection, seq: int) -> None:
        """Write the default resources where they changed; `seq`: the record that covers them."""
        resources = self.engine.memory.resources
        if resources is not self._resources:
            write_state(connection, RESOURCES, seq, resources.to_content())
            self._resources = resources
