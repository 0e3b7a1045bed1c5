"""A session: requests to one endpoint, one after the other, and checks across requests."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from benchmarks.fuzz.caller import Response, describe
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
from benchmarks.fuzz.oracles.relations import (
    decision_text,
    deposit_faults,
    neighbour_faults,
    price_count,
)
from benchmarks.fuzz.oracles.responses import decoded_request, plain, response_faults
from decisions.replay import replay
from ledger.canonical import canonical_bytes
from ledger.verify import verify
from market.bars.outlier_filter import MAX_GAP_HOURS
from market.core.clock import HOUR, parse_time
from market.core.errors import MargincastError

Json = dict[str, Any]

_READY = Request("GET", "/health/ready")
_READY_EVERY, _CONTROL_EVERY = 10, 25
_SINGLE_ACCOUNTS = 3
_REPLAYED = 3

HARD_BAND = 5.0
"""No price may change the value of an account by more than this factor: a bar or quote further
from the last good price is rejected. One more factor covers the change from marks to bars. The
first bar after a gap of over `MAX_GAP_HOURS` may have any price."""


class Session:
    """Sends requests and checks the responses.

    Parameters
    ----------
    world:
        Of the endpoint.
    endpoint:
        Fresh.
    scene:
        Updated with the market and with the ids of decisions.
    """

    def __init__(self, world: World, endpoint: Endpoint, scene: Scene) -> None:
        self.scene = scene
        self.is_over = False
        """Whether the endpoint cannot be used any more: a call hangs, or it cannot record."""
        self._world, self._endpoint = world, endpoint
        self._control = control_account(scene)
        self._value = sum(
            leg["quantity"] * leg["entry_price"] for leg in self._control["positions"]
        )
        self._newest_bar = dict.fromkeys(scene.symbols, scene.newest)
        self._after_gap = False
        self._first_responses: dict[str, tuple[bytes, bytes]] = {}
        self._steps = 0

    def step(self, request: Request, *, neighbours: bool) -> tuple[Response, list[str]]:
        """Send a request.

        Parameters
        ----------
        request:
            The request.
        neighbours:
            Whether to ask for the decisions on single accounts of it as well.

        Returns
        -------
        The response, and what is wrong, each as ``name: figures``.
        """
        self._steps += 1
        self._endpoint.wall.now += request.delay
        single = self._single_decisions(request) if neighbours else {}
        response = self._endpoint.caller.call(request)
        faults = list(response_faults(request, response))
        if response.hang:
            self.is_over = True
            return response, faults
        path = request.target
        if path == SCORE and request.method == "POST":
            faults += neighbour_faults(request, response, single)
            faults += self._key_faults(request, response)
            self._store_ids(response)
        if path == WHAT_IF and request.method == "POST" and response.status == 200:
            faults += self._largest_faults(request, response)
            faults += deposit_faults(request, response)
        if path == BARS and request.method == "POST" and response.status == 200:
            self._note_gaps(response)
        applied = path in (BARS, QUOTES) and b'"applied"' in response.body
        if applied or response.status >= 500 or self._steps % _CONTROL_EVERY == 0:
            faults += self._control_faults(request)
        if response.status != 200 or self._steps % _READY_EVERY == 0:
            faults += self._ready_faults()
        self.scene.newest = self._endpoint.newest_close
        self.scene.newest_update = self._endpoint.live.state.newest_known or self.scene.newest
        return response, faults

    def finish(self) -> list[str]:
        """Verify the ledger, replay some decisions, restart: what is wrong."""
        ledger = self._endpoint.ledger
        faults = [f"ledger: {problem}" for problem in verify(ledger.engine).problems]
        decisions = self.scene.decisions
        for decision_id in decisions[:: max(1, len(decisions) // _REPLAYED)]:
            try:
                result = replay(ledger, decision_id, lambda _: self._world.model)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
                faults.append(f"replay fails: {describe(error)}: {error}")
                continue
            if not result.equal:
                faults.append(f"replay differs: {result.differences}")
        faults += self._restart_faults()
        return faults

    def _single_decisions(self, request: Request) -> dict[str, str | None]:
        """The decision on single accounts of a score request, by id; None where there is none."""
        if request.target != SCORE or {IDEMPOTENCY_KEY, "authorization"} & set(request.headers):
            return {}
        parameters = decoded_request(request)
        if parameters is None or len(parameters.accounts) < 2:
            return {}
        times = Counter(account.account_id for account in parameters.accounts)
        decided: dict[str, str | None] = {}
        for account in (*parameters.accounts[:_SINGLE_ACCOUNTS], parameters.accounts[-1]):
            name = account.account_id
            if times[name] > 1:
                continue
            document: Json = {
                "accounts": [plain(account)],
                "changes": [{"account_id": name}],
                "explain": parameters.explain,
            }
            if parameters.as_of is not None:
                document["as_of"] = parameters.as_of
            response = self._endpoint.caller.call(Request("POST", WHAT_IF, document))
            decisions = (
                json.loads(response.body)["before"]["decisions"] if response.status == 200 else []
            )
            decided[name] = decision_text(decisions[0]) if decisions else None
        return decided

    def _key_faults(self, request: Request, response: Response) -> Iterator[str]:
        key = request.headers.get(IDEMPOTENCY_KEY)
        if key is None or decoded_request(request) is None or response.status in (401, 403):
            return
        body = request.body()
        if key in self._first_responses:
            first_body, first_response = self._first_responses[key]
            if first_body != body:
                if response.status != 409:
                    yield f"key with another body: status {response.status}"
            elif (
                response.body != first_response
                or response.headers.get("idempotent-replayed") != "true"
            ):
                yield f"key with the same body: another response, status {response.status}"
        elif response.status == 200 or _is_kept(response):
            self._first_responses[key] = body, response.body

    def _store_ids(self, response: Response) -> None:
        if response.status != 200:
            return
        for decision in json.loads(response.body)["decisions"]:
            if isinstance(decision.get("decision_id"), str):
                self.scene.decisions.append(decision["decision_id"])
                self.scene.accounts.append(decision["account_id"])

    def _largest_faults(self, request: Request, response: Response) -> Iterator[str]:
        """The largest size that fits must fit when it is traded."""
        content, parameters = (
            json.loads(response.body),
            plain(decoded_request(request)),
        )
        for size in content.get("largest", ())[:1]:
            if not size["quantity"]:
                continue
            accounts = [a for a in parameters["accounts"] if a["account_id"] == size["account_id"]]
            trade = {"instrument": size["instrument"], "quantity_delta": size["quantity"]}
            change = {"account_id": size["account_id"], "positions": [trade]}
            document: Json = {"accounts": accounts, "changes": [change]}
            if parameters["as_of"] is not None:
                document["as_of"] = parameters["as_of"]
            tried = self._endpoint.caller.call(Request("POST", WHAT_IF, document))
            sides = json.loads(tried.body) if tried.status == 200 else {}
            if tried.status != 200 or not sides["after"]["decisions"]:
                why = sides["after"]["errors"] if sides else tried.body[:300]
                yield f"largest size cannot be traded: {size}, status {tried.status}, {why!r}"
                continue
            decision = sides["after"]["decisions"][0]
            needed = decision.get("opening_requirement", decision["initial_margin"])
            slack = 1e-6 * max(abs(decision["equity"]), needed) + 0.02
            if decision["equity"] < needed - slack:
                yield f"largest size does not fit: {size}, equity {decision['equity']} of {needed}"

    def _note_gaps(self, response: Response) -> None:
        """Note bars after a gap so long that the outlier filter takes any price."""
        for result in json.loads(response.body)["results"]:
            if result["status"] in ("applied", "corrected"):
                before, now = self._newest_bar[result["symbol"]], parse_time(result["ts"])
                self._after_gap |= now - before > MAX_GAP_HOURS * HOUR
                self._newest_bar[result["symbol"]] = max(before, now)

    def _control_faults(self, moved_by: Request) -> list[str]:
        """The control account must have a decision, at prices near the previous ones."""
        account = self._control
        document = {"accounts": [account], "changes": [{"account_id": account["account_id"]}]}
        request = Request("POST", WHAT_IF, document)
        response = self._endpoint.caller.call(request)
        faults = [f"control account, {fault}" for fault in response_faults(request, response)]
        if response.hang:
            self.is_over = True
        decisions = (
            json.loads(response.body)["before"]["decisions"] if response.status == 200 else []
        )
        if not decisions:
            faults.append(f"control account has no decision: {response.body[:300]!r}")
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
        response = self._endpoint.caller.call(_READY)
        if response.status == 200:
            return []
        self.is_over = True
        return [f"readiness is {response.status}: {response.body[:200]!r}"]

    def _restart_faults(self) -> Iterator[str]:
        try:
            endpoint = self._endpoint
            with self._world.on_ledger(
                endpoint.ledger, endpoint.mode, endpoint.wall.now
            ) as restarted:
                markets = [_market(each) for each in (endpoint, restarted)]
        except MargincastError as error:
            yield f"restart fails: {describe(error)}: {error}"
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            yield f"restart crashes: {describe(error)}: {error}"
            return
        if markets[0] != markets[1]:
            yield "restart gives another market: the snapshots differ"


def _market(endpoint: Endpoint) -> bytes:
    state = endpoint.live.state
    snapshot = state.snapshot(state.newest_known or endpoint.newest_close)
    board = None if snapshot.quotes is None else snapshot.quotes.content
    return canonical_bytes([snapshot.as_of, snapshot.content(), board])


def _is_kept(response: Response) -> bool:
    """Whether a refusal is the outcome of its request, as `decisions.decision_group.is_kept`."""
    if response.status != 422:
        return False
    problem = json.loads(response.body)
    types = {error["type"] for error in problem.get("errors", ())}
    return bool(problem["type"].endswith(":no-account-answered") and "unrecordable" not in types)
