"""A campaign: sessions over rule sets, failures counted by kind and shrunk."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.fuzz.endpoint import MODES, Mode, World
from benchmarks.fuzz.generators.draw import Draw
from benchmarks.fuzz.generators.mutation import garbage, mutate
from benchmarks.fuzz.generators.requests import (
    BARS,
    QUOTES,
    SCORE,
    WHAT_IF,
    Request,
    bars_request,
    opening_quotes,
    quotes_request,
    read_request,
    score_request,
    what_if_request,
)
from benchmarks.fuzz.generators.scene import Scene
from benchmarks.fuzz.session import Session
from benchmarks.fuzz.shrink import shrink
from market.core.clock import DAY, HOUR, MINUTE, SECOND

SESSION_LENGTH = 150
"""Bodies to one endpoint: posts to its market affect no more than these."""

LIMIT_SECONDS = 5.0
_FIRST_LIMIT_SECONDS = 600.0  # the first call compiles kernels
_SHRINK_LIMIT_SECONDS = 2.0
_SHRINK_TRIES, _SHRINK_SECONDS = 600, 120.0
_SINGLE_SHARE = 0.35
_CLOCK_SHARE = 0.15
_ODD_KEY_SHARE = 0.1
_UNQUOTED_SHARE = 0.1
_LEAP, _AFTER_LEAP = 3 * DAY, 20
"""After such a leap of the market no model scores any more: a session ends so many bodies
later."""
_MAX_STUCK = 3
_SHOWN = 8

_IN_FULL = ("status", "hang", "warning", "error in the log", "response", "replay fails", "restart")
"""Kinds of fault whose figures belong to the key."""


@dataclass(frozen=True)
class Failure:
    """A fault and the requests that show it.

    Attributes
    ----------
    preset, mode, session:
        Where it happened.
    fault:
        What, as ``name: figures``.
    before, request:
        What led to it, and what showed it.
    at_end:
        Whether it shows at the end of the session only: in the ledger, a replay or a restart.
    """

    preset: str
    mode: Mode
    session: int
    fault: str
    before: tuple[Request, ...]
    request: Request
    at_end: bool = False

    def __str__(self) -> str:
        lines = [f"  {self.preset}, {self.mode}, session {self.session}", f"  {self.fault[:600]}"]
        lines += [f"  after {request}" for request in self.before[-_SHOWN:]]
        if len(self.before) > _SHOWN:
            lines.append(f"  and {len(self.before) - _SHOWN} requests before these")
        return "\n".join([*lines, f"  shown by {self.request}"])

    @property
    def key(self) -> str:
        """Route and fault, without figures: the kind of the failure."""
        key = fault_key(self.fault)
        return key if key.startswith("warning") else f"{self.request.route}: {key}"


@dataclass
class Report:
    """Results of a campaign.

    Attributes
    ----------
    responses:
        How many by route and status.
    failures:
        The first of each kind, by its key.
    times:
        Number of failures of each kind.
    presets:
        Under which rule sets.
    decisions, degraded:
        Numbers of decisions, and of those without a model.
    slowest:
        The longest calls: seconds and route.
    """

    responses: Counter[tuple[str, int]] = field(default_factory=Counter)
    failures: dict[str, Failure] = field(default_factory=dict)
    times: Counter[str] = field(default_factory=Counter)
    presets: dict[str, set[str]] = field(default_factory=dict)
    decisions: int = 0
    degraded: int = 0
    slowest: list[tuple[float, str]] = field(default_factory=list)
    stuck: int = 0

    @property
    def bodies(self) -> int:
        """Number of requests, without those of checks."""
        return sum(self.responses.values())

    def add(self, failure: Failure) -> bool:
        """Count a failure; whether it is the first of its kind."""
        first = failure.key not in self.failures
        self.failures.setdefault(failure.key, failure)
        self.times[failure.key] += 1
        self.presets.setdefault(failure.key, set()).add(failure.preset)
        return first


def fault_key(fault: str) -> str:
    """A fault without its figures."""
    name, _, figures = fault.partition(":")
    if name.startswith(_IN_FULL):
        return re.sub(r"(?<![\w.:-])[-+]?\d[\d.e+-]*", "#", f"{name}:{figures}")[:300]
    return name


def run_campaign(
    folder: Path,
    presets: Sequence[str],
    count: int,
    seed: int,
    *,
    minimise: bool = True,
    log: Callable[[str], None] = lambda text: None,
) -> Report:
    """Send `count` bodies, the same number under each rule set, in turns.

    Parameters
    ----------
    folder:
        Where bundles and ledgers are written.
    presets:
        The rule sets.
    count, seed:
        How many bodies and which: equal figures give equal bodies.
    minimise:
        Whether to shrink the first failure of each kind.
    log:
        Called with each new failure and with the progress of the campaign.
    """
    report = Report()
    worlds = [World(folder, preset, LIMIT_SECONDS) for preset in presets]
    for preset in presets:
        _warm_up(World(folder, preset, _FIRST_LIMIT_SECONDS))
    session = 0
    while report.bodies < count and report.stuck < _MAX_STUCK:
        world = worlds[session % len(worlds)]
        length = min(SESSION_LENGTH, count - report.bodies)
        mode, draw = mode_of(session, len(worlds)), Draw(seed, session)
        for failure in _run_session(world, mode, draw, session, length, report):
            if report.add(failure):
                if minimise:
                    failure = report.failures[failure.key] = _minimise(folder, failure)
                log(f"new: {failure.key}\n{failure}")
        session += 1
        if session % 20 == 0:
            log(f"{report.bodies} bodies, {len(report.failures)} kinds of failure")
    return report


def mode_of(session: int, presets: int) -> Mode:
    """The mode of a session of a campaign over so many rule sets."""
    return MODES[session // presets % len(MODES)]


def faults_of(
    world: World, requests: Sequence[Request], mode: Mode = MODES[0], session: int = 0
) -> list[str]:
    """Send requests to a fresh endpoint with every check; what is wrong with the last of them and
    with what is left at the end."""
    return [*_faults_of(world, requests, mode, session, neighbours=True, finish=True)]


def _faults_of(
    world: World,
    requests: Sequence[Request],
    mode: Mode,
    session: int,
    *,
    neighbours: bool,
    finish: bool,
) -> list[str]:
    faults: list[str] = []
    with world.endpoint(mode) as endpoint:
        checks = Session(world, endpoint, world.scene(endpoint, session))
        for request in requests:
            last = request is requests[-1]
            _, faults = checks.step(request, neighbours=last and neighbours)
            if checks.is_over:
                return faults if last else []
        return faults + (checks.finish() if finish else [])


def _run_session(
    world: World, mode: Mode, draw: Draw, number: int, length: int, report: Report
) -> list[Failure]:
    failures: list[Failure] = []
    sent: list[Request] = []
    with world.endpoint(mode) as endpoint:
        session = Session(world, endpoint, world.scene(endpoint, number))
        while len(sent) < length and not session.is_over:
            if draw.chance(_CLOCK_SHARE):
                wait = draw.pick((SECOND, MINUTE, 30 * MINUTE, HOUR, HOUR, 3 * HOUR))
            else:
                wait = 0
            quoted = bool(sent) or draw.chance(_UNQUOTED_SHARE)
            make = next_request if quoted else opening_quotes
            request = replace(make(draw, session.scene), delay=wait)
            if mode.keys and draw.chance(_ODD_KEY_SHARE):
                header = draw.pick(
                    ("", "Bearer", "Bearer x", "Basic eA==", "Bearer \u00e9", "x" * 9_000)
                )
                request = replace(request, headers={**request.headers, "authorization": header})
            response, faults = session.step(request, neighbours=draw.chance(_SINGLE_SHARE))
            report.responses[request.route, response.status] += 1
            report.stuck += response.stuck
            report.slowest = sorted([*report.slowest, (response.seconds, request.route)])[-5:]
            if request.target == SCORE and response.status == 200:
                report.decisions += response.body.count(b'"decision_id"')
                report.degraded += response.body.count(b'"binding":"fallback","degraded":"')
            failures += [
                Failure(world.preset, mode, number, fault, tuple(sent), request) for fault in faults
            ]
            sent.append(request)
            if session.scene.newest > session.scene.start_time + _LEAP:
                length = min(length, len(sent) + _AFTER_LEAP)
        if sent and not session.is_over:
            failures += [
                Failure(world.preset, mode, number, fault, tuple(sent[:-1]), sent[-1], at_end=True)
                for fault in session.finish()
            ]
    return failures


def next_request(draw: Draw, scene: Scene) -> Request:
    """A request of any route, plausible or hostile."""
    kind = draw.below(100)
    if kind < 2:
        return garbage(draw, draw.pick((SCORE, WHAT_IF, BARS, QUOTES)))
    if kind < 12:
        return read_request(draw, scene)
    make = draw.by_weight(
        [(42, score_request), (20, what_if_request), (13, bars_request), (13, quotes_request)]
    )
    return mutate(draw, scene, make(draw, scene))


def _warm_up(world: World) -> None:
    draw = Draw(0)
    with world.endpoint(MODES[0]) as endpoint:
        session = Session(world, endpoint, world.scene(endpoint, 0))
        session.step(opening_quotes(draw, session.scene), neighbours=False)
        for make in (quotes_request, score_request, what_if_request, bars_request) * 4:
            session.step(make(draw, session.scene), neighbours=False)
        session.finish()


def _minimise(folder: Path, failure: Failure) -> Failure:
    world = World(folder, failure.preset, _SHRINK_LIMIT_SECONDS)
    key = fault_key(failure.fault)

    def fails(before: Sequence[Request], request: Request) -> bool:
        faults = _faults_of(
            world,
            [*before, request],
            failure.mode,
            failure.session,
            neighbours="neighbour" in key,
            finish=failure.at_end,
        )
        return key in map(fault_key, faults)

    before, request = shrink(
        failure.before, failure.request, fails, tries=_SHRINK_TRIES, seconds=_SHRINK_SECONDS
    )
    return replace(failure, before=tuple(before), request=request)
