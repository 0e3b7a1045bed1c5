"""How clients of the simulated venue answer calls: they meet, meet a part, dispute or miss them.

What a client does is drawn by seed and call, so the same calls get the same answers, and a client
that misses its call does so however often it is raised. When it acts is a share of the time that
the call leaves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from market.core.clock import HOUR, parse_time

Choice = Literal["meet", "part", "dispute", "miss"]

CHOICES: Mapping[Choice, float] = {"meet": 0.55, "part": 0.12, "dispute": 0.08, "miss": 0.25}
"""Shares of calls that are answered in each way."""

REASONS = ("position", "price", "haircut", "model", "duplicate")
"""Of disputes."""

_WHEN = (0.05, 0.60)
"""When clients act, as a share of the time until the deadline, uniform."""

_PART = (0.30, 0.70)
"""What of a call is met in part, uniform."""

_SPARE = 0.02
"""Clients send a little more than they are asked for."""

_DISPUTED = 0.5
"""Share of a call that is disputed, in half of all disputes; in the others it is all of it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client does about a call.

    Attributes
    ----------
    at:
        Market time, nanoseconds.
    account_id, call_id:
        Who, and about what.
    deposit:
        Settlement currency; 0: none.
    dispute:
        Body of the request; None: it is not disputed.
    """

    at: int
    account_id: str
    call_id: str
    deposit: float = 0.0
    dispute: dict[str, Any] | None = None


def draws_of(seed: int, name: str) -> np.random.Generator:
    """Random numbers of a call or an event: the same in every process and in every order."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16]))


def answer_call(event: Mapping[str, Any], seed: int, now: int) -> Answer | None:
    """What the client of a call does about an event of it.

    Parameters
    ----------
    event:
        Of topic ``call``.
    seed:
        Of the population.
    now:
        Market time, nanoseconds.

    Returns
    -------
    None where it does nothing: a call is missed, is advice only, or nothing new is asked for. Of a
    call that is raised only those hear more that meet it: it replaces their answer.
    """
    if event["event"] not in ("opened", "raised") or event["kind"] != "call":
        return None
    draw = draws_of(seed, event["call_id"])
    choice = draw.choice(list(CHOICES), p=list(CHOICES.values()))
    when, size = draw.uniform(*_WHEN), draw.random()
    deadline = event.get("deadline")
    window = HOUR if deadline is None else max(parse_time(deadline) - now, 0)
    at = now + int(when * window)
    account, call = event["account_id"], event["call_id"]
    outstanding = float(event["outstanding"])
    if choice != "meet" and event["event"] == "raised":
        return None
    if choice == "meet":
        return Answer(at, account, call, _cents(outstanding * (1.0 + _SPARE)))
    if choice == "part":
        share = _PART[0] + size * (_PART[1] - _PART[0])
        return Answer(at, account, call, _cents(outstanding * share))
    if choice == "dispute":
        # Disputes come early: a call can be disputed until its deadline only.
        body: dict[str, Any] = {"reason": REASONS[int(draw.integers(len(REASONS)))]}
        if size < 0.5 and outstanding > 0.0:
            body["amount"] = outstanding * _DISPUTED
        return Answer(now + int(0.2 * when * window), account, call, dispute=body)
    return None


def _cents(amount: float) -> float:
    return float(np.ceil(amount * 100.0) / 100.0)
