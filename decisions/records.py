"""What is recorded with each decision."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from typing import Any

import msgspec
from msgspec import UNSET

from decisions.book_scoring import PreviousAddOn
from decisions.messages import Decision
from features.state.snapshot import MarketSnapshot
from ledger.canonical import sha256_of
from ledger.contents import CanonicalContent
from ledger.records import Entry, Record, new_id
from margin.engines.registry import engine_of
from margin.rules.ruleset import RuleSet
from market.core.clock import parse_time
from market.core.identity_cache import IdentityCache
from market.sources.http import AccountMessage

SCHEMA = 3
"""Raise it with every field that a recorded decision gains or loses
(`decisions.messages.Decision`), and with every change of what a field or a shared content holds.

0 and 1 hold all reasons, the explanation and a market with ages at the decision time; 2 holds the
leading reasons and a market with ages at its close; 3 names the requester.
"""

CALCULATION = 1
"""Raise it with every change that moves results on purpose, and add the change to
`decisions.replay.CHANGES`."""


@cache
def fingerprint() -> dict[str, str]:
    """What equality to the last bit depends on: libraries and processor."""
    libraries = {name: version(name) for name in ("margincast", "numpy", "numba", "onnxruntime")}
    return {
        **libraries,
        "machine": platform.machine(),
        "python": platform.python_version(),
        "cpu_features": sha256_of(_cpu_features())[:16],
    }


def _cpu_features() -> list[str]:
    import numpy as np

    features: Mapping[str, bool] = np._core._multiarray_umath.__cpu_features__  # type: ignore[attr-defined]
    return sorted(name for name, present in features.items() if present)


def entries(
    decisions: Sequence[Decision],
    accounts: Mapping[str, AccountMessage],
    previous: Mapping[str, PreviousAddOn],
    snapshot: MarketSnapshot,
    ruleset: RuleSet,
    requesters: Mapping[str, str],
) -> tuple[list[Entry], list[tuple[str, CanonicalContent]], list[Decision]]:
    """What to append for decisions: entries, the shared contents, and the decisions with ids.

    A record holds no explanation: a replay makes it again. It names who requested the decision,
    by `requesters` of each account.
    """
    shared = shared_contents(snapshot, ruleset)
    common = {
        "schema": SCHEMA,
        "calculation": CALCULATION,
        "fingerprint": fingerprint(),
        "contents": {f"{kind}_sha256": content.sha256 for kind, content in shared},
    }
    recorded: list[Entry] = []
    identified: list[Decision] = []
    for decision in decisions:
        name = decision.account_id
        decision_id = new_id()
        decision = msgspec.structs.replace(decision, decision_id=decision_id)
        identified.append(decision)
        short = decision
        if decision.explain is not UNSET:
            short = msgspec.structs.replace(decision, explain=UNSET)
        before = previous.get(name)
        recorded.append(
            Entry(
                kind="decision",
                id=decision_id,
                account_id=name,
                as_of=snapshot.as_of,
                payload={
                    **common,
                    "decision": msgspec.to_builtins(short),
                    "account": msgspec.to_builtins(accounts[name]),
                    "previous": None if before is None else _plain(before),
                    # Why there was no model is then why the decision is degraded.
                    "no_model": decision.degraded if decision.model is None else None,
                    "requester": requesters[name],
                },
            )
        )
    return recorded, shared, identified


def _plain(before: PreviousAddOn) -> dict[str, Any]:
    """The fields of an add-on in force."""
    return {
        "amount": before.amount,
        "as_of": before.as_of,
        "initial_margin": before.initial_margin,
        "positions": dict(before.positions),
        "carried": before.carried,
    }


def shared_contents(
    snapshot: MarketSnapshot, ruleset: RuleSet
) -> list[tuple[str, CanonicalContent]]:
    """What decisions share, by its kind: market, rules, and quotes where there are some.

    None of it depends on the decision time. Daily closes are among it where the rule set simulates
    history: they are the same for all decisions of a day. The canonical JSON of each is made once.
    """
    shared = [
        (
            "market",
            _MARKETS.get(snapshot.recorded_parts, lambda: CanonicalContent.of(snapshot.content())),
        ),
        ("ruleset", _RULESETS.get((ruleset,), lambda: CanonicalContent.of(ruleset.content()))),
    ]
    board = snapshot.quotes
    if board is not None:
        made = _BOARDS.get((board,), lambda: CanonicalContent.of(board.content))
        shared.append(("quotes", made))
    daily = snapshot.at_close.daily
    if daily is not None and engine_of(ruleset).needs_daily_history:
        made = _DAILY_CLOSES.get((daily,), lambda: CanonicalContent.of(daily.content()))
        shared.append(("daily_closes", made))
    return shared


_MARKETS = IdentityCache[CanonicalContent](8)
_RULESETS = IdentityCache[CanonicalContent](8)
_BOARDS = IdentityCache[CanonicalContent](4)
_DAILY_CLOSES = IdentityCache[CanonicalContent](4)


def decision_time(record: Record) -> int:
    """Time of a recorded decision, nanoseconds."""
    if record.as_of is None:
        return parse_time(record.payload["decision"]["as_of"])
    return record.as_of
