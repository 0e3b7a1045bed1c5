"""The desk of the simulated venue: clients answer their calls, instructions are carried out.

A change of an account is posted before the answer that it follows from, so that whoever reads the
answer sees the account after it. Calls are acknowledged and instructions are carried out when they
come, answers to calls when their time has come. What the venue had heard of and not yet done is
lost when it is killed, as the word of a client may be.

An event may come again after a restart, which forgets what came before. So an instruction is
carried out only while the endpoint has it open. A venue that is killed between a fill and its
answer has traded what the endpoint has open still: were the event to come again, it would trade
once more.
"""

from __future__ import annotations

import heapq
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from enforcement.calls.instruction import OPEN_STATES
from market.accounts.book import SETTLEMENT_CURRENCY
from market.core.clock import parse_time
from pipelines.venue.client_activity import ClientActivity
from pipelines.venue.client_answers import Answer, answer_call
from pipelines.venue.endpoint import Endpoint, RefusedError
from pipelines.venue.fills import carry_out
from pipelines.venue.inbox import Inbox

UPDATES = "/v1/accounts/updates"

CONNECTIONS = 8
"""Commands that are posted side by side."""

_GONE = frozenset({"taken_over", "closed", "bad_debt"})
"""Events after which a client does nothing any more, and states that calls have from then on."""

_ANSWERED = _GONE | {"met", "reinstated", "cancelled", "stop_out", "deadline_missed"}
"""Events after which a client owes no answer to its call."""

_TRIES = 3
"""Numbers that an update is sent with, where another sender took the one before."""

_LOG = logging.getLogger("margincast.venue")


class Prices(Protocol):
    """Where the venue trades."""

    def price(self, instrument: str, time: int) -> float:
        """Its mark; NaN where it is not traded."""

    def turnover(self, instrument: str, time: int) -> float:
        """What is traded of it a day, settlement currency."""


class Desk:
    """Answers the events of an inbox.

    Parameters
    ----------
    inbox:
        Where they come in.
    endpoint:
        Where answers go.
    clients:
        Their accounts.
    seed:
        Of what clients do and of what is filled.
    """

    def __init__(
        self, inbox: Inbox, endpoint: Endpoint, clients: ClientActivity, seed: int
    ) -> None:
        self.inbox = inbox
        self._endpoint, self._clients, self._seed = endpoint, clients, seed
        self._own = threading.local()
        self._pool = ThreadPoolExecutor(CONNECTIONS, "venue-desk")
        self._posted: list[Future[None]] = []
        self._answers: list[tuple[int, int, Answer]] = []
        self._newest: dict[str, int] = {}
        """Number of the answer that counts of each call that is to be answered."""
        self._count = 0

    def work(self, now: int, prices: Prices) -> bool:
        """Carry out what has come in, and give the answers whose time has come; whether there was
        anything to do.

        Parameters
        ----------
        now:
            Market time, nanoseconds.
        prices:
            Marks of the market.

        Raises
        ------
        RefusedError
            The endpoint refused what can be no answer to a request of this venue.
        """
        events, given = self.inbox.take(), 0
        for event in events:
            if event["topic"] == "instruction" and event["event"] == "issued":
                self._carry_out(event, now, prices)
            elif event["topic"] == "call":
                self._consider(event, now)
        while self._answers and self._answers[0][0] <= now:
            _, number, answer = heapq.heappop(self._answers)
            if self._newest.get(answer.call_id) == number:
                del self._newest[answer.call_id]
                self._give(answer, now)
                given += 1
        posted, self._posted = self._posted, []
        for one in posted:
            one.result()
        return bool(events or given)

    def catch_up(self, page: int) -> bool:
        """Let the clients do nothing any more whose accounts were taken from them, or closed,
        before this venue was started; False: stopped before the answer.

        Parameters
        ----------
        page:
            Most calls in one answer.

        Raises
        ------
        RefusedError
            The endpoint does not list calls.
        """
        for state in sorted(_GONE):
            cursor: str | None = ""
            while cursor is not None:
                asked = {"state": state, "limit": page} | ({"cursor": cursor} if cursor else {})
                path = f"/v1/calls?{urlencode(asked)}"
                found = self._endpoint.get(path)
                if found is None:
                    return False
                if found[0] != 200:
                    raise RefusedError.of(path, *found, "GET")
                for call in found[1]["calls"]:
                    self._clients.retire(call["account_id"])
                cursor = found[1]["next_cursor"]
        return True

    def close(self) -> None:
        """Close the connections of its own."""
        self._pool.shutdown(cancel_futures=True)

    def send(self, request: Mapping[str, Any]) -> bool:
        """Post updates of accounts; False: stopped before the answer.

        Raises
        ------
        RefusedError
            They were refused for what they are.
        """
        return self._results(request) is not None

    def _results(self, request: Mapping[str, Any]) -> list[dict[str, Any]] | None:
        """Post updates of accounts; what became of each, None: stopped before the answer."""
        found = self._endpoint.post(UPDATES, request)
        if found is None:
            return None
        status, answer = found
        if "results" not in answer:
            raise RefusedError.of(UPDATES, status, answer)
        # 409: an earlier venue, or somebody else, numbered further updates; the answer says so.
        results: list[dict[str, Any]] = answer["results"]
        self._clients.take(results)
        return results

    def _consider(self, event: Mapping[str, Any], now: int) -> None:
        known = self._clients.knows(event["account_id"])
        if known and event["event"] == "opened" and event["kind"] == "call":
            path = f"/v1/calls/{quote(event['call_id'], safe='')}/ack"
            self._command(path, {"reference": event["event_id"]})
        if event["event"] in _GONE:
            self._clients.retire(event["account_id"])
        if event["event"] in _ANSWERED:
            self._newest.pop(event["call_id"], None)
        answer = answer_call(event, self._seed, now)
        if answer is not None and self._clients.knows(answer.account_id):
            self._count += 1
            self._newest[answer.call_id] = self._count
            heapq.heappush(self._answers, (answer.at, self._count, answer))

    def _give(self, answer: Answer, now: int) -> None:
        if answer.deposit > 0.0:
            deposit = {
                "kind": "deposit",
                "asset": SETTLEMENT_CURRENCY,
                "amount": answer.deposit,
            }
            self._change(answer.account_id, now, [deposit])
        if answer.dispute is not None:
            self._command(f"/v1/calls/{quote(answer.call_id, safe='')}/dispute", answer.dispute)

    def _carry_out(self, event: Mapping[str, Any], now: int, prices: Prices) -> None:
        if parse_time(event["deadline"]) <= now:
            _LOG.info("an instruction came after it had expired, and nothing was traded for it")
            return
        account = event["account_id"]
        instruction = f"/v1/instructions/{quote(event['instruction_id'], safe='')}"
        if not self._is_open(instruction):
            _LOG.info("%s is not open, and nothing was traded for it", instruction)
            return
        path = f"{instruction}/ack"
        if not self._clients.knows(account):
            self._command(path, {"status": "rejected", "reason": "no account of this venue"})
        elif event["kind"] == "transfer_to_backstop":
            self._command(path, self._take_over(event, now))
        else:
            instrument = event["parameters"].get("instrument", "")
            mark = prices.price(instrument, now) if instrument else 0.0
            traded = prices.turnover(instrument, now) if instrument else 0.0
            carried = carry_out(event, self._seed, mark, traded)
            if carried.deltas and not self._change(account, now, carried.deltas):
                carried.answer.clear()
                carried.answer.update(status="rejected", reason="the account is not in sync")
            self._command(path, carried.answer)

    def _is_open(self, path: str) -> bool:
        """Whether the endpoint still waits for what becomes of an instruction; one that it does
        not know is not open."""
        found = self._endpoint.get(path)
        if found is None or found[0] != 200:
            return False
        state: str = found[1]["instruction"]["state"]
        return state in OPEN_STATES

    def _take_over(self, event: Mapping[str, Any], now: int) -> dict[str, Any]:
        """Empty an account and let its client stop; the answer to the instruction."""
        account = event["account_id"]
        if not self._report(account, lambda: self._clients.emptied(account, now)):
            return {"status": "rejected", "reason": "the account could not be emptied"}
        self._clients.retire(account)
        return {"status": "filled", "reference": event["event_id"]}

    def _change(self, account: str, now: int, deltas: list[dict[str, Any]]) -> bool:
        """Report a change of an account; whether it was applied."""
        return self._report(account, lambda: self._clients.update(account, now, deltas))

    def _report(self, account: str, make: Callable[[], dict[str, Any] | None]) -> bool:
        """Report an account under the number that the endpoint expects; whether it was applied.

        Parameters
        ----------
        make:
            The request with one update under the number that is known now; None: there is none.
        """
        for _ in range(_TRIES):
            request = make()
            results = None if request is None else self._results(request)
            if results is None:
                break
            if _is_applied(results[0]):
                return True
        _LOG.info("account %s of the venue could not be updated", account)
        return False

    def _command(self, path: str, body: Mapping[str, Any]) -> None:
        """Post a command beside others: each is answered once the leader has applied it."""
        self._posted.append(self._pool.submit(self._post_command, path, body))

    def _post_command(self, path: str, body: Mapping[str, Any]) -> None:
        """Post a command; one that does not fit any more is not repeated."""
        if not hasattr(self._own, "endpoint"):
            self._own.endpoint = self._endpoint.another()
        found = self._own.endpoint.post(path, body)
        if found is not None and found[0] not in (200, 202):
            _LOG.info("POST %s was answered %d: %s", path, found[0], found[1].get("detail", ""))


def _is_applied(result: Mapping[str, Any]) -> bool:
    """Whether an update counts: by this request, or by an earlier one whose answer was lost.

    A `duplicate` of the newest number has the same content; that of another sender is a `conflict`.
    """
    status: str = result["status"]
    newest: bool = result["expected"] == result["sequence"] + 1
    return status == "applied" or (status == "duplicate" and newest)
