"""Odd bytes on the wire to every route; ``python -m benchmarks wire`` sends many more."""

from __future__ import annotations

import random

from benchmarks.fuzz.wire import WireReport, fuzz
from benchmarks.fuzz.wire_requests import draw_request
from benchmarks.reliability.load import decision_faults
from benchmarks.reliability.service import Service

REQUESTS, SEED = 3_000, 1


def test_odd_requests_break_no_promise(fuzzed: Service) -> None:
    report: WireReport = fuzz([fuzzed], REQUESTS, SEED, clients=4)
    assert report.examples == {}
    assert report.answers.total() == REQUESTS
    assert report.decisions > 50
    assert report.commands > 20
    assert max(status for _, status in report.answers) < 500
    kinds = {kind.removesuffix(", chunked") for kind, _ in report.answers}
    assert {"encoding", "number", "nesting", "duplicate key", "framing", "read"} <= kinds


def test_equal_seeds_give_equal_bytes() -> None:
    def draw(seed: int) -> list[bytes]:
        return [
            draw_request(random.Random(f"{seed}-{n}"), n, {}).content  # noqa: S311
            for n in range(50)
        ]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_a_decision_outside_its_promises_is_noticed() -> None:
    sound = {"floor": 1.0, "cap": 2.0, "add_on": 1.5, "probability": {"1": 0.1, "8": 0.2}}
    assert decision_faults(sound) == []
    assert decision_faults({**sound, "add_on": 2.5}) != []
    assert decision_faults({**sound, "add_on": 0.5}) != []
    assert decision_faults({**sound, "probability": {"1": 0.3, "8": 0.2}}) != []
    assert decision_faults({**sound, "probability": {"1": 0.3, "8": 1.2}}) != []
