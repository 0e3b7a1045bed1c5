"""Commands over HTTP: checked, put on record, and answered by what the leader made of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from decisions.batch import check_key
from decisions.errors import NoRulesError
from enforcement.calls.call import Call
from enforcement.calls.instruction import Instruction
from enforcement.controls.commands import CommandLog, KeyedRequest
from enforcement.controls.context import AccountView, RefusalKind
from ledger.records import Record
from margin.life_cycle.call_rules import enforcement_of
from margin.rules.approval import ApprovalRules
from margin.rules.enforcement import EnforcementRules
from market.core.errors import RuleSetError
from monitoring.evaluation.lease import holder_of
from monitoring.evaluation.monitor import LEASE
from serving.admission.lane import Lane
from serving.clock import time_now
from serving.enforcement.call_listing import CallListing
from serving.enforcement.control_listing import ControlListing
from serving.enforcement.instruction_listing import InstructionListing
from serving.http.problems import ProblemError
from serving.schemas.enforcement_messages import CommandAnswer
from serving.service import Service

WAIT_SECONDS = 2.0
"""How long a request waits for the leader to apply its command."""

POLL_SECONDS = 0.05

_REFUSALS: dict[RefusalKind, tuple[int, str]] = {
    "not_found": (404, "not-found"),
    "invalid": (422, "invalid-request"),
    "conflict": (409, "command-refused"),
}


@dataclass(frozen=True, slots=True)
class PostedCommand:
    """A command on record.

    Attributes
    ----------
    command_id:
        Its id.
    repeated:
        Whether its Idempotency-Key appended it before.
    """

    command_id: str
    repeated: bool


class CommandPosts:
    """Takes commands for the leader of a ledger.

    Parameters
    ----------
    service:
        Ledger, rules, market and clock.
    calls, instructions, controls:
        What commands are checked against.
    """

    def __init__(
        self,
        service: Service,
        calls: CallListing,
        instructions: InstructionListing,
        controls: ControlListing,
    ) -> None:
        self._service, self._controls = service, controls
        self._calls, self._instructions = calls, instructions
        self._log = CommandLog(service.ledger)

    def append(self, command: Mapping[str, Any], keyed: KeyedRequest | None) -> PostedCommand:
        """Check a command as things stand and put it on record; the leader checks it again.

        Parameters
        ----------
        command:
            See `enforcement.controls.messages`.
        keyed:
            The Idempotency-Key that it came with, if any.

        Raises
        ------
        ProblemError
            404, 409 or 422: the command cannot be applied; nothing was recorded.
        RequestError
            The key is impossible.
        LedgerConflictError
            The key came with another request.
        NoMarketError, NoRulesError
            There is no time yet on the market's clock, or no rules are in force.
        LedgerError
            It could not be recorded.
        """
        if keyed is not None:
            check_key(keyed.key.key)
            if self._log.find(keyed) is not None:
                return PostedCommand(keyed.command_id, repeated=True)
        now = time_now(self._service, "then send the command again")
        self._check(command, now)
        appended = self._log.append(command, now, keyed)
        return PostedCommand(appended.command_id, appended.repeated)

    def answer(self, command_id: str) -> CommandAnswer:
        """What became of a command so far.

        Raises
        ------
        ProblemError
            404: there is no such command.
        """
        outcome = self._log.outcome(command_id)
        if outcome is not None:
            return _answer(command_id, outcome)
        if self._log.get(command_id) is None:
            raise ProblemError(404, "not-found", f"there is no command {command_id!r}")
        return CommandAnswer(command_id, "waiting")

    async def wait(self, command_id: str, lane: Lane, call_seconds: float) -> CommandAnswer:
        """What became of a command, at the latest after `WAIT_SECONDS`.

        Where no process leads nobody is waited for.

        Parameters
        ----------
        command_id:
            The command.
        lane, call_seconds:
            Where the ledger is read, and how long each read may wait.
        """

        def look() -> tuple[CommandAnswer, bool]:
            answer = self.answer(command_id)
            led = answer.result == "waiting" and holder_of(self._service.ledger, LEASE) is not None
            return answer, led

        end = time.monotonic() + WAIT_SECONDS
        while True:
            answer, led = await lane.run(look, call_seconds)
            if not led or time.monotonic() >= end:
                return answer
            await asyncio.sleep(POLL_SECONDS)

    def _check(self, command: Mapping[str, Any], now: int) -> None:
        kind = command["command"]
        state = self._controls.state()
        if kind == "mode":
            self._check_symbol(command.get("symbol"), state.modes)
        if kind == "skip_delivery":
            self._check_dead(str(command["event_id"]), str(command["sink"]))
        context = _Context(self._service, self._calls, self._instructions)
        tried = {**command, "command_id": "0" * 32, "seq": state.seq + 1}
        _, outcome = state.apply(tried, now, context)
        if outcome.refused is not None and outcome.kind is not None:
            status, problem = _REFUSALS[outcome.kind]
            raise ProblemError(status, problem, outcome.refused)

    def _check_symbol(self, symbol: str | None, modes: Mapping[str, object]) -> None:
        known = self._service.live.state.head.symbols
        if symbol is not None and symbol not in known and symbol not in modes:
            raise ProblemError(
                404,
                "not-found",
                f"the market has no symbol {symbol!r}; give a symbol of its bars, like "
                f"{known[0] if known else 'BTCUSDT'}, or leave it out for all markets",
            )

    def _check_dead(self, event_id: str, sink: str) -> None:
        status = self._controls.delivery_status(event_id, sink)
        remedy = "GET /v1/admin/deliveries?status=dead lists what can be skipped"
        if status is None:
            raise ProblemError(
                404, "not-found", f"event {event_id!r} has no notification at {sink!r}; {remedy}"
            )
        if status != "dead":
            raise ProblemError(
                409,
                "command-refused",
                f"the notification of event {event_id} at {sink} is {status}; {remedy}",
            )


class _Context:
    """A `ControlContext` by the tables and the newest evaluation."""

    def __init__(
        self, service: Service, calls: CallListing, instructions: InstructionListing
    ) -> None:
        self._service, self._calls, self._instructions = service, calls, instructions

    @property
    def approval(self) -> ApprovalRules:
        """The approval matrix in force."""
        return self._rules().approval

    @property
    def dispute_hours(self) -> float:
        """How long a dispute may stay open."""
        return self._rules().dispute_hours

    def call(self, call_id: str) -> Call | None:
        """A call; None where there is none."""
        return self._calls.find(call_id)

    def instruction(self, instruction_id: str) -> Instruction | None:
        """An instruction; None where there is none."""
        return self._instructions.find(instruction_id)

    def account(self, account_id: str) -> AccountView | None:
        """An account with its figures at the newest market; None where there is none."""
        basis = self._service.basis_now()
        book = self._service.book.at(basis.snapshot, basis.ruleset)
        row = book.state.index.get(account_id)
        if row is None:
            return None
        return AccountView(float(book.columns.floor[row]), float(book.columns.add_on[row]))

    def _rules(self) -> EnforcementRules:
        try:
            return enforcement_of(self._service.in_force.now())
        except RuleSetError as error:
            raise NoRulesError(str(error)) from None


def _answer(command_id: str, outcome: Record) -> CommandAnswer:
    result = outcome.payload["result"]
    return CommandAnswer(command_id, result, outcome.payload)
