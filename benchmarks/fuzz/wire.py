"""``python -m benchmarks wire``: odd bytes to a running endpoint, and what answers promise."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import random
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.fuzz.wire_requests import WireRequest, draw_request
from benchmarks.measure import Result, write
from benchmarks.reliability.load import decision_faults
from benchmarks.reliability.scenarios import serve
from benchmarks.reliability.service import Service
from benchmarks.reliability.workspace import make_workspace
from ledger.verify import verify
from serving.http.problems import PROBLEM_JSON

CLIENTS, ENDPOINTS = 8, 2
"""Two endpoints with a ledger each keep two cores busy; two workers on one ledger follow each
other's records, which takes a third of the time."""

_ANSWER_SECONDS = 60.0
_REPEATED = 0.1
_SHOWN, _KNOWN_IDS = 5, 200
MONITORED = {
    "MARGINCAST__MONITORING__ENABLED": "true",
    "MARGINCAST__ENFORCEMENT__ENABLED": "true",
    "MARGINCAST__ENFORCEMENT__COMMAND": '["false"]',
    "MARGINCAST__ENFORCEMENT__ATTEMPTS": "1",
}
"""Variables of an endpoint with a monitor, whose events are all dead letters."""

_LISTED = {
    "accounts": ("account", "account_id"),
    "calls": ("call", "call_id"),
    "instructions": ("instruction", "instruction_id"),
    "deliveries": ("event", "event_id"),
    "decisions": ("decision", "decision_id"),
}
"""What an answer lists: by which name requests know its id, and the field of it."""

_ROUTE_STATUSES = {200, 202, 204, 400, 401, 403, 404, 405, 408, 409, 411, 413, 415, 422, 429, 431}
"""What a request may be answered; 503 is left out, as nothing is overloaded or out of order."""


@dataclass
class WireReport:
    """What was answered.

    Attributes
    ----------
    answers:
        Number by kind of request and status; 0: closed without an answer.
    faults:
        Number of each kind of broken promise, and examples of each.
    decisions, commands:
        Decisions, and commands to enforcement, that were answered.
    """

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    decisions: int = 0
    commands: int = 0

    def add(self, fault: str, request: WireRequest) -> None:
        """Count a broken promise, by what stands before its colon."""
        name = fault.partition(":")[0]
        self.faults[name] += 1
        shown = self.examples.setdefault(name, [])
        if len(shown) < _SHOWN:
            shown.append(f"{fault[:400]}; {request.kind}: {request.content[:1_500]!r}")

    def merge(self, other: WireReport) -> None:
        """Add what another client saw."""
        self.answers += other.answers
        self.faults += other.faults
        self.decisions += other.decisions
        self.commands += other.commands
        for name, examples in other.examples.items():
            self.examples[name] = [*self.examples.get(name, []), *examples][:_SHOWN]


class Wire:
    """A connection that is made anew where the endpoint has closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None

    def send(self, request: WireRequest) -> tuple[int, str, bytes]:
        """Status, type of content and body; status 0 without an answer."""
        for again in (True, False):
            fresh = self._socket is None
            try:
                answer = self._exchange(request)
            except (OSError, http.client.HTTPException):
                self.close()
                if fresh or not again:
                    return 0, "", b""
                continue  # the endpoint had closed it after the request before
            if request.closes:
                self.close()
            return answer
        return 0, "", b""

    def _exchange(self, request: WireRequest) -> tuple[int, str, bytes]:
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), _ANSWER_SECONDS)
        self._socket.sendall(request.content)
        response = http.client.HTTPResponse(self._socket, method=request.method)
        response.begin()
        body = response.read()
        if response.will_close:
            self.close()
        return response.status, response.headers.get("Content-Type", ""), body

    def close(self) -> None:
        """Close it."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None


def fuzz(services: Sequence[Service], count: int, seed: int, clients: int = 1) -> WireReport:
    """Send so many requests to running endpoints; equal seeds, equal bytes but for the ids
    of decisions.

    Each client has a connection to one endpoint and sends every so manieth request, one after the
    other.
    """
    report = WireReport()

    def client(first: int) -> WireReport:
        return _client(services[first % len(services)], range(first, count, clients), seed)

    with ThreadPoolExecutor(clients) as threads:
        for part in threads.map(client, range(clients)):
            report.merge(part)
    return report


def _client(service: Service, numbers: Iterable[int], seed: int) -> WireReport:
    report, wire = WireReport(), Wire(service.port)
    ids: dict[str, list[str]] = {}
    for number in numbers:
        draw = random.Random(f"{seed}-{number}")  # noqa: S311 - no secret
        request = draw_request(draw, number, ids)
        begun = time.monotonic()
        status, kind, body = wire.send(request)
        if time.monotonic() - begun > _ANSWER_SECONDS / 2:
            report.add("hang: no answer for half a minute", request)
        report.answers[request.kind, status] += 1
        for fault in _faults(request, status, kind, body, ids, report):
            report.add(fault, request)
        if request.is_score and status == 200 and draw.random() < _REPEATED:
            again = wire.send(request)
            if again[0] != status or again[2] != body:
                report.add(f"repetition differs: {again[0]} {again[2][:200]!r}", request)
        if service.process.poll() is not None:
            report.add(f"the endpoint ended: {service.log()[-500:]}", request)
            break
    wire.close()
    return report


def _faults(
    request: WireRequest,
    status: int,
    kind: str,
    body: bytes,
    ids: dict[str, list[str]],
    report: WireReport,
) -> list[str]:
    if status == 0:
        return [] if request.kind == "framing" else ["no answer: the connection was closed"]
    if status not in _ROUTE_STATUSES and not (request.kind == "framing" and status in (501, 505)):
        return [f"status {status}: {body[:300]!r}"]
    if request.method == "HEAD" or not body:
        return []
    if status >= 400 and kind != PROBLEM_JSON:
        return [f"type of content: {status} is {kind!r}: {body[:300]!r}"]
    if "json" not in kind:
        return []
    try:
        content = json.loads(body, parse_constant=_refuse)
    except ValueError as error:
        return [f"no JSON: {error} in {body[:300]!r}"]
    if status >= 400:
        return _problem_faults(status, content)
    _learn(content, ids)
    report.commands += request.method == "POST" and "command_id" in content
    if request.path == "/v1/score":
        decisions = content["decisions"]
        report.decisions += len(decisions)
        return [f"promise: {fault}" for each in decisions for fault in decision_faults(each)]
    return []


def _learn(content: Any, ids: dict[str, list[str]]) -> None:
    """Note ids and cursors of an answer, for later requests."""
    if not isinstance(content, dict):
        return
    found = [("command", content.get("command_id")), ("cursor", content.get("next_cursor"))]
    for name, (kind, field_) in _LISTED.items():
        found += [(kind, one.get(field_)) for one in content.get(name, ())[:1]]
    for kind, text in found:
        known = ids.setdefault(kind, [])
        if text and text not in known and len(known) < _KNOWN_IDS:
            known.append(text)


def _problem_faults(status: int, content: Any) -> list[str]:
    if not isinstance(content, dict) or content.get("status") != status:
        return [f"problem without its status: {content}"]
    if not content.get("detail") or not content.get("title"):
        return [f"problem without detail: {content}"]
    return []


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")


def main(arguments: list[str]) -> None:
    """Parse, run, print, write; exit code 1 where a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks wire", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clients", type=int, default=CLIENTS, help="connections at once")
    parser.add_argument("--endpoints", type=int, default=ENDPOINTS, help="each with a ledger")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results/wire.json")
    options = parser.parse_args(arguments)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        workspaces = [make_workspace(folder / str(n)) for n in range(options.endpoints)]
        with contextlib.ExitStack() as running:
            services = [
                running.enter_context(serve(w, w.sqlite, variables=MONITORED)) for w in workspaces
            ]
            begun = time.monotonic()
            report = fuzz(services, options.count, options.seed, options.clients)
            seconds = time.monotonic() - begun
        problems = [problem for w in workspaces for problem in verify(w.sqlite).problems]
    statuses: Counter[int] = Counter()
    for (_, status), times in report.answers.items():
        statuses[status] += times
    counts = {
        "requests": report.answers.total(),
        "decisions": report.decisions,
        "commands": report.commands,
        "broken_promises": report.faults.total(),
        "answers_5xx": sum(times for status, times in statuses.items() if status >= 500),
        "verify_problems": len(problems),
        **{f"answers_{status}": times for status, times in sorted(statuses.items())},
    }
    for name, value in counts.items():
        print(f"{name:<24} {value:>10}")
    print(f"{report.answers.total() / seconds:.0f} requests a second")
    for name, examples in report.examples.items():
        print(f"\n{report.faults[name]} x {name}\n  " + "\n  ".join(examples))
    if options.keep:
        settings = {name: getattr(options, name) for name in ("seed", "clients", "endpoints")}
        print(f"written to {write(Result('wire', settings, {}, counts))}")
    if report.faults or problems:
        raise SystemExit(1)
