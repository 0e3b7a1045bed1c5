"""Decisions in the ledger: what is recorded with each, and the add-ons in force by the records.

`Recording` appends the decisions of one request, each after the one that it continues from.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache, lru_cache
from importlib.metadata import version

import msgspec

from decisions.book_scoring import PreviousAddOn
from decisions.decision import Outcome
from decisions.messages import AccountProblem, Decision
from features.state.snapshot import MarketSnapshot
from ledger.canonical import canonical_bytes, sha256_of
from ledger.contents import CanonicalContent
from ledger.decisions import Draft
from ledger.idempotency import IdempotentAnswer
from ledger.records import Entry, Record, new_id
from ledger.store import Ledger
from margin.engines.registry import engine_of
from margin.rules.ruleset import RuleSet
from market.bars.daily_closes import DailyCloses
from market.core.clock import DAY, parse_time
from market.core.errors import UnrecordableError
from market.quotes.quotes import QuoteBoard
from market.sources.http import AccountMessage

SCHEMA = 1
"""Raise it with every field that a decision gains or loses (`decisions.messages.Decision`)."""

CALCULATION = 1
"""Raise it with every change that moves results on purpose, and add the change to
`decisions.replay.CHANGES`."""

LOOK_BACK = DAY
"""How far back a level is looked for in records that do not carry it, nanoseconds."""

_FALLBACK = '"binding":"fallback"'
"""Part of the canonical JSON of a decision that the model did not answer."""


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
) -> tuple[list[Entry], list[tuple[str, CanonicalContent]], list[Decision]]:
    """What to append for decisions: entries, the shared contents, and the decisions with ids.

    Daily closes are among the contents where the rule set simulates history: they are the same
    for all decisions of a day, and stored once.
    """
    # Quotes apart: they are large, and stay while the clock goes on.
    market = replace(snapshot, quotes=None).content()
    shared = [
        ("market", CanonicalContent.of(market)),
        ("ruleset", CanonicalContent.of(ruleset.content())),
    ]
    if snapshot.quotes is not None:
        shared.append(("quotes", _quotes_content(snapshot.quotes)))
    daily = snapshot.features.daily
    if engine_of(ruleset).needs_daily_history and daily is not None:
        shared.append(("daily_closes", _daily_content(daily)))
    contents = {f"{kind}_sha256": content.sha256 for kind, content in shared}
    recorded: list[Entry] = []
    identified: list[Decision] = []
    for decision in decisions:
        before = previous.get(decision.account_id)
        decision = msgspec.structs.replace(decision, decision_id=new_id())
        identified.append(decision)
        recorded.append(
            Entry(
                kind="decision",
                id=str(decision.decision_id),
                account_id=decision.account_id,
                as_of=snapshot.as_of,
                payload={
                    "schema": SCHEMA,
                    "calculation": CALCULATION,
                    "decision": msgspec.to_builtins(decision, str_keys=True),
                    "account": msgspec.to_builtins(accounts[decision.account_id]),
                    "previous": None if before is None else asdict(before),
                    # Why there was no model is then why the decision is degraded.
                    "no_model": decision.degraded if decision.model is None else None,
                    "fingerprint": fingerprint(),
                    "contents": contents,
                },
            )
        )
    return recorded, shared, identified


def _quotes_content(board: QuoteBoard) -> CanonicalContent:
    """The canonical JSON of a board. That of the last board is cached by identity, for boards never
    change."""
    known = _LAST_BOARD.get("last")
    if known is not None and known[0] is board:
        return known[1]
    content = CanonicalContent.of(board.content)
    _LAST_BOARD["last"] = board, content
    return content


_LAST_BOARD: dict[str, tuple[QuoteBoard, CanonicalContent]] = {}


@lru_cache(maxsize=4)
def _daily_content(daily: DailyCloses) -> CanonicalContent:
    return CanonicalContent.of(daily.content())


@dataclass(frozen=True, slots=True)
class LevelsInForce:
    """The add-ons in force of some accounts by the ledger.

    Attributes
    ----------
    previous:
        By account id; accounts without one are left out.
    based_on:
        Id of the record that each rests on, None for an account without any; by account id, all of
        them.
    """

    previous: dict[str, PreviousAddOn]
    based_on: dict[str, str | None]

    def renewed(self, last: Mapping[str, Record]) -> LevelsInForce:
        """These after newer decisions of some accounts."""
        current = {name: level for name, level in self.previous.items() if name not in last}
        newer = {name: level_in_force(record) for name, record in last.items()}
        return LevelsInForce(
            current | {name: level for name, level in newer.items() if level is not None},
            self.based_on | {name: record.id for name, record in last.items()},
        )


def levels_in_force(ledger: Ledger, account_ids: Sequence[str]) -> LevelsInForce:
    """The level that the model last set for each account.

    A fallback to the rule floor sets no level; its record carries the one before. Fallbacks that
    earlier versions recorded carry none: the level is searched in the `LOOK_BACK` before them.

    Raises
    ------
    LedgerError
        The ledger cannot be read, or a record was altered.
    """
    last = ledger.last_decisions(account_ids)
    levels = LevelsInForce({}, dict.fromkeys(account_ids)).renewed(last)
    fallbacks = {
        name: record.recorded_at - LOOK_BACK
        for name, record in last.items()
        if name not in levels.previous and "calculation" not in record.payload
    }
    for name, record in ledger.last_decisions_without(fallbacks, _FALLBACK).items():
        before = level_in_force(record)
        if before is not None:
            levels.previous[name] = replace(before, carried=True)
    return levels


def level_in_force(record: Record) -> PreviousAddOn | None:
    """The level in force after a recorded decision; None where it carries none.

    A decision of a time before that of the level it continued from changes nothing: else deciding
    on the past would give the present the hours between once more.
    """
    decision, before = record.payload["decision"], record.payload["previous"]
    if before is not None and before["as_of"] > _as_of(record):
        return PreviousAddOn(**before)
    if decision["binding"] == "fallback":
        return None if before is None else PreviousAddOn(**before | {"carried": True})
    legs = record.payload["account"]["positions"]
    # The level was paced by the margin at the last good prices.
    valued = decision["valuations"]["last_good"] if "valuations" in decision else decision
    return PreviousAddOn(
        float(decision["add_on"]),
        _as_of(record),
        float(valued["initial_margin"]),
        {leg["instrument"]: leg["quantity"] for leg in legs if leg["quantity"] != 0.0},
    )


def _as_of(record: Record) -> int:
    if record.as_of is None:
        return parse_time(record.payload["decision"]["as_of"])
    return record.as_of


Decide = Callable[[Sequence[str], Mapping[str, PreviousAddOn]], Outcome]
"""Decides on the accounts of some ids with these add-ons in force."""

Respond = Callable[[list[Decision], list[AccountProblem]], IdempotentAnswer | None]
"""The answer to keep under its idempotency key; None where the request carried none."""

Append = Callable[[Draft, Callable[[Mapping[str, Record]], Draft]], Draft]
"""`Ledger.append_decisions`."""


def _no_answer(decisions: list[Decision], problems: list[AccountProblem]) -> None:
    return None


@dataclass(slots=True)
class Recording:
    """Decisions of one request on their way into the ledger.

    Attributes
    ----------
    accounts:
        What was decided on, by id.
    levels:
        Add-ons in force by the ledger. An account whose request gave its add-on is in
        `stated` instead.
    stated:
        Add-ons in force that the request states, by account id.
    snapshot, ruleset:
        Market and rules of the decisions.
    decide, respond:
        Make the decisions, and the answer that is recorded with them.
    decisions, problems:
        The results; decisions have their ids once `record` returned.
    """

    accounts: Mapping[str, AccountMessage]
    levels: LevelsInForce
    stated: dict[str, PreviousAddOn]
    snapshot: MarketSnapshot
    ruleset: RuleSet
    decide: Decide
    respond: Respond = _no_answer
    decisions: list[Decision] = field(default_factory=list)
    problems: list[AccountProblem] = field(default_factory=list)
    _entries: Sequence[Entry] = ()

    def run(self) -> None:
        """Decide on all accounts."""
        outcome = self.decide(list(self.accounts), self.levels.previous | self.stated)
        self.decisions, self.problems = outcome.decisions, outcome.problems

    def record(self, append: Append) -> None:
        """Put the decisions on record.

        An account whose decision cannot be recorded for what it holds becomes a problem; the
        others are recorded. Nothing is appended where no decision is left.

        Raises
        ------
        LedgerDuplicateError, LedgerConflictError, LedgerError
            As `Ledger.append_decisions`; nothing was recorded.
        UnrecordableError
            What all decisions share cannot be recorded.
        """
        if not self.decisions:
            return
        try:
            append(self._draft(), self._renew)
        except UnrecordableError:
            if not self._move_unrecordable_to_problems():
                raise
            if self.decisions:
                append(self._draft(), self._renew)

    def _draft(self) -> Draft:
        self._entries, contents, self.decisions = entries(
            self.decisions,
            self.accounts,
            self.levels.previous | self.stated,
            self.snapshot,
            self.ruleset,
        )
        recorded = {decision.account_id for decision in self.decisions}
        based_on = {name: last for name, last in self.levels.based_on.items() if name in recorded}
        return Draft(self._entries, contents, self.respond(self.decisions, self.problems), based_on)

    def _renew(self, last: Mapping[str, Record]) -> Draft:
        """Decide again on accounts on which another decision was recorded meanwhile."""
        self.levels = self.levels.renewed(last)
        outcome = self.decide(list(last), self.levels.previous)
        renewed = {decision.account_id: decision for decision in outcome.decisions}
        current = {d.account_id: d for d in self.decisions if d.account_id not in last} | renewed
        self.decisions = [current[d.account_id] for d in self.decisions if d.account_id in current]
        self.problems = self.problems + outcome.problems
        return self._draft()

    def _move_unrecordable_to_problems(self) -> bool:
        """Turn decisions without a canonical form into problems; whether there were any."""
        unrecordable: dict[str, str] = {}
        for entry in self._entries:
            try:
                canonical_bytes(entry.payload)
            except UnrecordableError as error:
                unrecordable[str(entry.account_id)] = str(error)
        self.problems = self.problems + [
            AccountProblem(name, "unrecordable", f"account {name!r}: the decision {why}")
            for name, why in unrecordable.items()
        ]
        self.decisions = [d for d in self.decisions if d.account_id not in unrecordable]
        return bool(unrecordable)
