"""Decisions in the ledger: what is recorded, and how it is replayed."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, lru_cache
from importlib.metadata import version
from typing import Any

import msgspec

from decisions.comparison import Replay, compare
from decisions.decision import PreviousAddOn, decide
from decisions.messages import AccountIn, AccountProblem, Decision
from decisions.revisions import CALCULATION, SCHEMA, RecordedBasis
from features.state.snapshot import MarketSnapshot
from ledger.canonical import sha256_of
from ledger.contents import CanonicalContent
from ledger.records import Entry, Record, new_id
from ledger.store import Ledger
from margin.engines.registry import engine_of
from margin.rules.ruleset import RuleSet, ruleset_from_content
from market.accounts.book import Account, Balance, Position
from market.bars.daily_closes import DailyCloses
from market.core.clock import DAY, parse_time
from market.core.errors import LedgerError
from market.quotes.quotes import QuoteBoard
from models.forecaster import Forecaster

LOOK_BACK = DAY
"""How far back a level is looked for in records that do not carry it, nanoseconds."""

_FALLBACK = '"binding":"fallback"'
"""Part of the canonical JSON of a decision that the model did not answer."""


def to_account(account: AccountIn) -> Account:
    """The account that a request describes; cash-like collateral stays collateral."""
    return Account(
        account.account_id,
        account.cash,
        tuple(Position(p.instrument, p.quantity, p.entry_price) for p in account.positions),
        tuple(Balance(b.asset, b.amount) for b in account.collateral),
    )


def from_account(account: Account) -> AccountIn:
    """The request that describes an account."""
    return msgspec.convert(
        {
            "account_id": account.account_id,
            "cash": account.cash,
            "positions": [
                {"instrument": p.instrument, "quantity": p.quantity, "entry_price": p.entry_price}
                for p in account.positions
            ],
            "collateral": [{"asset": b.asset, "amount": b.amount} for b in account.collateral],
        },
        AccountIn,
    )


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


def _machine(recorded: Mapping[str, str]) -> dict[str, str]:
    """A fingerprint without the hash of the feature registry, which earlier versions put there."""
    return {name: part for name, part in recorded.items() if name != "features"}


def _cpu_features() -> list[str]:
    import numpy as np

    features: Mapping[str, bool] = np._core._multiarray_umath.__cpu_features__  # type: ignore[attr-defined]
    return sorted(name for name, present in features.items() if present)


def entries(
    decisions: Sequence[Decision],
    accounts: Mapping[str, AccountIn],
    previous: Mapping[str, PreviousAddOn],
    snapshot: MarketSnapshot,
    ruleset: RuleSet,
) -> tuple[list[Entry], list[tuple[str, CanonicalContent]], list[Decision]]:
    """What to append for decisions: entries, the shared contents, and the decisions with ids.

    Daily closes are among the contents where the rule set simulates history: they are the same
    for all decisions of a day, and stored once.
    """
    # Quotes on their own: they are large, and stay while the clock goes on.
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
    found: list[Entry] = []
    named: list[Decision] = []
    for decision in decisions:
        before = previous.get(decision.account_id)
        own = msgspec.structs.replace(decision, decision_id=new_id())
        named.append(own)
        found.append(
            Entry(
                kind="decision",
                id=str(own.decision_id),
                account_id=own.account_id,
                as_of=snapshot.as_of,
                payload={
                    "schema": SCHEMA,
                    "calculation": CALCULATION,
                    "decision": msgspec.to_builtins(own, str_keys=True),
                    "account": msgspec.to_builtins(accounts[own.account_id]),
                    "previous": None if before is None else asdict(before),
                    # Why there was no model is then why the decision is degraded.
                    "no_model": own.degraded if own.model is None else None,
                    "fingerprint": fingerprint(),
                    "contents": contents,
                },
            )
        )
    return found, shared, named


def _quotes_content(board: QuoteBoard) -> CanonicalContent:
    """The canonical JSON of a board, made once for all decisions on it: of the last board it is
    kept, told by identity, for boards never change."""
    known = _LAST_BOARD.get("last")
    if known is not None and known[0] is board:
        return known[1]
    made = CanonicalContent.of(board.content)
    _LAST_BOARD["last"] = board, made
    return made


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
        Id of the record that each rests on, None for an account without any: every account asked
        about is here.
    """

    previous: dict[str, PreviousAddOn]
    based_on: dict[str, str | None]

    def renewed(self, last: Mapping[str, Record]) -> LevelsInForce:
        """These after newer decisions of some accounts."""
        kept = {name: level for name, level in self.previous.items() if name not in last}
        found = {name: level_in_force(record) for name, record in last.items()}
        return LevelsInForce(
            kept | {name: level for name, level in found.items() if level is not None},
            self.based_on | {name: record.id for name, record in last.items()},
        )


def levels_in_force(ledger: Ledger, account_ids: Sequence[str]) -> LevelsInForce:
    """The level that the model last set for each account.

    A fallback to the rule floor sets no level; its record carries the one before. Fallbacks that
    earlier versions recorded carry none: the level is looked for in the `LOOK_BACK` before them.

    Raises
    ------
    LedgerError
        The ledger cannot be read, or a record was altered.
    """
    last = ledger.last_decisions(account_ids)
    levels = LevelsInForce({}, dict.fromkeys(account_ids)).renewed(last)
    silent = {
        name: record.recorded_at - LOOK_BACK
        for name, record in last.items()
        if name not in levels.previous and "calculation" not in record.payload
    }
    for name, record in ledger.last_decisions_without(silent, _FALLBACK).items():
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


def recorded_previous(ledger: Ledger, account_ids: Sequence[str]) -> dict[str, PreviousAddOn]:
    """The add-on in force of each account that has one, see `levels_in_force`."""
    return levels_in_force(ledger, account_ids).previous


def replay(ledger: Ledger, decision_id: str, load_model: Callable[[str], Forecaster]) -> Replay:
    """Decide again from what was recorded, and compare what was recorded.

    Fields that decisions gained since are not compared.

    Parameters
    ----------
    ledger:
        Where the decision is.
    decision_id:
        Its id.
    load_model:
        Gives the model of a bundle's SHA-256.

    Raises
    ------
    LedgerError
        There is no such decision, or what it rests on is missing.
    DataError
        The market was recorded without a column that rules or model need.
    """
    record = ledger.get_record(decision_id)
    if record.kind != "decision":
        raise LedgerError(f"record {decision_id!r} is a {record.kind}, not a decision")
    payload = record.payload
    recorded: dict[str, Any] = payload["decision"]
    named = payload["contents"]
    market = ledger.get(named["market_sha256"])
    if "quotes_sha256" in named:
        market["quotes"] = ledger.get(named["quotes_sha256"])
    snapshot = MarketSnapshot.from_content(market)
    ruleset = ruleset_from_content(ledger.get(named["ruleset_sha256"]))
    if "daily_closes_sha256" in named:
        snapshot = snapshot.with_daily(
            DailyCloses.from_content(ledger.get(named["daily_closes_sha256"]))
        )
    model = load_model(recorded["model"]) if recorded["model"] else None
    if model is not None:
        snapshot.check_columns(model.bundle.schema.features)
    account = msgspec.convert(payload["account"], AccountIn)
    before = payload["previous"]
    answer = decide(
        [to_account(account)],
        snapshot,
        ruleset,
        model,
        {} if before is None else {account.account_id: PreviousAddOn(**before)},
        no_model=payload["no_model"] or "",
    )[0]
    if isinstance(answer, AccountProblem):
        raise LedgerError(f"decision {decision_id} cannot be made again: {answer.detail}")
    again = msgspec.structs.replace(answer, decision_id=decision_id)
    replayed = msgspec.to_builtins(again, str_keys=True)
    same_machine = _machine(payload["fingerprint"]) == _machine(fingerprint())
    return compare(recorded, replayed, RecordedBasis(payload, market, ruleset), same_machine)


def _as_of(record: Record) -> int:
    if record.as_of is None:
        return parse_time(record.payload["decision"]["as_of"])
    return record.as_of
