"""A session: requests to one endpoint, one after the other, and what must hold between them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec

from benchmarks.fuzz.caller import Answer, describe
from benchmarks.fuzz.endpoint import Endpoint, World
from benchmarks.fuzz.generators.accounts import control_account, control_value
from benchmarks.fuzz.generators.requests import (
    BARS,
    IDEMPOTENCY_KEY,
    QUOTES,
    SCORE,
    WHAT_IF,
    Request,
)
from benchmarks.fuzz.generators.scene import Scene
from benchmarks.fuzz.oracles.answers import answer_faults, decoded_request
from benchmarks.fuzz.oracles.relations import (
    decision_text,
    deposit_faults,
    neighbour_faults,
    price_count,
)
from decisions.replay import replay
from ledger.canonical import canonical_bytes
from ledger.verify import verify
from market.bars.outlier_filter import MAX_GAP_HOURS
from market.core.clock import HOUR, parse_time
from market.core.errors import MargincastError

Json = dict[str, Any]

_READY = Request("GET", "/health/ready")
_READY_EVERY, _CONTROL_EVERY = 10, 25
_ASKED_ALONE = 3
_REPLAYED = 3

HARD_BAND = 5.0
"""No one price may move what an account is worth by more than this factor: beyond it from the
last good price a bar or quote is rejected. One more is granted for the turn from marks to bars.
The first bar after a gap of over `MAX_GAP_HOURS` may have any price."""


class Session:
    """Sends requests and says what is wrong with what comes back.

    Parameters
    ----------
    world:
        Of the endpoint.
    endpoint:
        Fresh.
    scene:
        Follows the market and the ids that are answered.
    """

    def __init__(self, world: World, endpoint: Endpoint, scene: Scene) -> None:
        self.scene = scene
        self.over = False
        """Whether the endpoint is of no use any more: it hung, or can record nothing."""
        self._world, self._endpoint = world, endpoint
        self._control = control_account(scene)
        self._value = sum(
            leg["quantity"] * leg["entry_price"] for leg in self._control["positions"]
        )
        self._newest_bar = dict.fromkeys(scene.symbols, scene.newest)
        self._after_gap = False
        self._keyed: dict[str, tuple[bytes, bytes]] = {}
        self._steps = 0

    def step(self, request: Request, *, neighbours: bool) -> tuple[Answer, list[str]]:
        """Send a request.

        Parameters
        ----------
        request:
            The request.
        neighbours:
            Whether to ask for the decisions on single accounts of it as well.

        Returns
        -------
        The answer, and what is wrong, each as ``name: figures``.
        """
        self._steps += 1
        self._endpoint.wall.now += request.waited
        alone = self._alone(request) if neighbours else {}
        answer = self._endpoint.caller.call(request)
        faults = list(answer_faults(request, answer))
        if answer.hung:
            self.over = True
            return answer, faults
        path = request.target
        if path == SCORE and request.method == "POST":
            faults += neighbour_faults(request, answer, alone)
            faults += self._key_faults(request, answer)
            self._remember(answer)
        if path == WHAT_IF and request.method == "POST" and answer.status == 200:
            faults += self._largest_faults(request, answer)
            faults += deposit_faults(request, answer)
        if path == BARS and request.method == "POST" and answer.status == 200:
            self._note_gaps(answer)
        moved = path in (BARS, QUOTES) and b'"applied"' in answer.body
        if moved or answer.status >= 500 or self._steps % _CONTROL_EVERY == 0:
            faults += self._control_faults(request)
        if answer.status != 200 or self._steps % _READY_EVERY == 0:
            faults += self._ready_faults()
        self.scene.newest = self._endpoint.newest_close
        self.scene.known = self._endpoint.live.state.newest_known or self.scene.newest
        return answer, faults

    def finish(self) -> list[str]:
        """Verify the ledger, replay some decisions, restart: what is wrong."""
        ledger = self._endpoint.ledger
        faults = [f"ledger: {problem}" for problem in verify(ledger.engine).problems]
        decisions = self.scene.decisions
        for decision_id in decisions[:: max(1, len(decisions) // _REPLAYED)]:
            try:
                found = replay(ledger, decision_id, lambda _: self._world.model)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
                faults.append(f"replay fails: {describe(error)}: {error}")
                continue
            if not found.equal:
                faults.append(f"replay differs: {found.differences}")
        faults += self._restart_faults()
        return faults

    def _alone(self, request: Request) -> dict[str, str | None]:
        """The decision on single accounts of a score request, by id; None where there is none."""
        if request.target != SCORE or {IDEMPOTENCY_KEY, "authorization"} & set(request.headers):
            return {}
        asked = decoded_request(request)
        if asked is None or len(asked.accounts) < 2:
            return {}
        times = Counter(account.account_id for account in asked.accounts)
        found = {}
        for account in (*asked.accounts[:_ASKED_ALONE], asked.accounts[-1]):
            name = account.account_id
            if times[name] > 1:
                continue
            document: Json = {
                "accounts": [msgspec.to_builtins(account)],
                "changes": [{"account_id": name}],
            }
            if asked.as_of is not None:
                document["as_of"] = asked.as_of
            answer = self._endpoint.caller.call(Request("POST", WHAT_IF, document))
            decisions = (
                json.loads(answer.body)["before"]["decisions"] if answer.status == 200 else []
            )
            found[name] = decision_text(decisions[0]) if decisions else None
        return found

    def _key_faults(self, request: Request, answer: Answer) -> Iterator[str]:
        key = request.headers.get(IDEMPOTENCY_KEY)
        if key is None or decoded_request(request) is None or answer.status in (401, 403):
            return
        body = request.body()
        if key in self._keyed:
            first, told = self._keyed[key]
            if first != body:
                if answer.status != 409:
                    yield f"key with another body: status {answer.status}"
            elif answer.body != told or answer.headers.get("idempotent-replayed") != "true":
                yield f"key with the same body: another answer, status {answer.status}"
        elif answer.status == 200:
            self._keyed[key] = body, answer.body

    def _remember(self, answer: Answer) -> None:
        if answer.status != 200:
            return
        for decision in json.loads(answer.body)["decisions"]:
            if isinstance(decision.get("decision_id"), str):
                self.scene.decisions.append(decision["decision_id"])
                self.scene.accounts.append(decision["account_id"])

    def _largest_faults(self, request: Request, answer: Answer) -> Iterator[str]:
        """The largest size that fits must fit when it is traded."""
        found, asked = json.loads(answer.body), msgspec.to_builtins(decoded_request(request))
        for one in found.get("largest", ())[:1]:
            if not one["quantity"]:
                continue
            accounts = [a for a in asked["accounts"] if a["account_id"] == one["account_id"]]
            trade = {"instrument": one["instrument"], "quantity_delta": one["quantity"]}
            change = {"account_id": one["account_id"], "positions": [trade]}
            document: Json = {"accounts": accounts, "changes": [change]}
            if asked["as_of"] is not None:
                document["as_of"] = asked["as_of"]
            tried = self._endpoint.caller.call(Request("POST", WHAT_IF, document))
            sides = json.loads(tried.body) if tried.status == 200 else {}
            if tried.status != 200 or not sides["after"]["decisions"]:
                why = sides["after"]["errors"] if sides else tried.body[:300]
                yield f"largest size cannot be traded: {one}, status {tried.status}, {why!r}"
                continue
            decision = sides["after"]["decisions"][0]
            needed = decision.get("opening_requirement", decision["initial_margin"])
            slack = 1e-6 * max(abs(decision["equity"]), needed) + 0.02
            if decision["equity"] < needed - slack:
                yield f"largest size does not fit: {one}, equity {decision['equity']} of {needed}"

    def _note_gaps(self, answer: Answer) -> None:
        """Note bars after a gap so long that the outlier filter takes any price."""
        for result in json.loads(answer.body)["results"]:
            if result["status"] in ("applied", "corrected"):
                before, now = self._newest_bar[result["symbol"]], parse_time(result["ts"])
                self._after_gap |= now - before > MAX_GAP_HOURS * HOUR
                self._newest_bar[result["symbol"]] = max(before, now)

    def _control_faults(self, moved_by: Request) -> list[str]:
        """The control account must be answered, and at prices near those before."""
        account = self._control
        document = {"accounts": [account], "changes": [{"account_id": account["account_id"]}]}
        request = Request("POST", WHAT_IF, document)
        answer = self._endpoint.caller.call(request)
        faults = [f"control account, {fault}" for fault in answer_faults(request, answer)]
        if answer.hung:
            self.over = True
        decisions = json.loads(answer.body)["before"]["decisions"] if answer.status == 200 else []
        if not decisions:
            faults.append(f"control account is not answered: {answer.body[:300]!r}")
            return faults
        value, last = control_value(account, decisions[0]["equity"]), self._value
        most = HARD_BAND ** (1 + price_count(moved_by))
        if last / most <= value <= last * most:
            pass
        elif self._after_gap:
            self._after_gap = False
        else:
            faults.append(f"prices leap: the control account's coins go from {last} to {value}")
        self._value = value
        return faults

    def _ready_faults(self) -> list[str]:
        answer = self._endpoint.caller.call(_READY)
        if answer.status == 200:
            return []
        self.over = True
        return [f"readiness is {answer.status}: {answer.body[:200]!r}"]

    def _restart_faults(self) -> Iterator[str]:
        try:
            endpoint = self._endpoint
            with self._world.on_ledger(endpoint.ledger, endpoint.mode, endpoint.wall.now) as again:
                markets = [_market(one) for one in (endpoint, again)]
        except MargincastError as error:
            yield f"restart fails: {describe(error)}: {error}"
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            yield f"restart crashes: {describe(error)}: {error}"
            return
        if markets[0] != markets[1]:
            yield "restart gives another market: the snapshots differ"


def _market(endpoint: Endpoint) -> bytes:
    moment = endpoint.live.state
    newest = moment.newest_known or endpoint.newest_close
    return canonical_bytes(moment.snapshot(newest).content())
