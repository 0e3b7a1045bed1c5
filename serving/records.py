"""Decisions in the ledger: what is recorded, and how it is replayed."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, lru_cache
from importlib.metadata import version
from typing import Any

import msgspec

from features.registry import registry_sha256
from features.snapshot import MarketSnapshot
from ledger.canonical import canonical_bytes, sha256_of
from ledger.contents import CanonicalContent
from ledger.records import Entry, Record, new_id
from ledger.store import Ledger
from margin.ruleset import RuleSet, ruleset_from_content
from market.book import Account, Balance, Position
from market.clock import parse_time
from market.daily_closes import DailyCloses
from market.errors import LedgerError
from market.quotes import QuoteBoard
from models.forecaster import Forecaster
from serving.decision import PreviousAddOn, decide
from serving.messages import AccountIn, AccountProblem, Decision

TOLERANCE = 1e-12
"""Relative difference up to which a replay on another machine counts as equal."""


@dataclass(frozen=True, slots=True)
class Replay:
    """Outcome of a replay.

    Attributes
    ----------
    equal:
        Every figure has the same bits.
    equal_within:
        Figures agree within `TOLERANCE` and the add-on to the cent.
    differences:
        The keys that differ, with recorded and replayed value.
    same_machine:
        Libraries and processor are those of the decision.
    """

    equal: bool
    equal_within: bool
    differences: dict[str, tuple[Any, Any]]
    same_machine: bool


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
        "features": registry_sha256(),
    }


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
    no_model: str,
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
    if ruleset.method == "simulation" and daily is not None:
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
                    "decision": msgspec.to_builtins(own, str_keys=True),
                    "account": msgspec.to_builtins(accounts[own.account_id]),
                    "previous": None if before is None else asdict(before),
                    "no_model": no_model if own.model is None else None,
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


def recorded_previous(ledger: Ledger, account_ids: Sequence[str]) -> dict[str, PreviousAddOn]:
    """The add-on of each account's last recorded decision.

    A fallback to the rule floor is no level to go on from: the model said nothing then.
    """
    found: dict[str, PreviousAddOn] = {}
    for account_id, record in ledger.last_decisions(account_ids).items():
        decision = record.payload["decision"]
        if decision["binding"] != "fallback":
            legs = record.payload["account"]["positions"]
            found[account_id] = PreviousAddOn(
                float(decision["add_on"]),
                _as_of(record),
                float(decision["initial_margin"]),
                {leg["instrument"]: leg["quantity"] for leg in legs if leg["quantity"] != 0.0},
            )
    return found


def replay(ledger: Ledger, decision_id: str, load_model: Callable[[str], Forecaster]) -> Replay:
    """Decide again from what was recorded, and compare.

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
    account = msgspec.convert(payload["account"], AccountIn)
    before = payload["previous"]
    answer = decide(
        [to_account(account)],
        snapshot,
        ruleset,
        load_model(recorded["model"]) if recorded["model"] else None,
        {} if before is None else {account.account_id: PreviousAddOn(**before)},
        no_model=payload["no_model"] or "",
    )[0]
    if isinstance(answer, AccountProblem):
        raise LedgerError(f"decision {decision_id} cannot be made again: {answer.detail}")
    again = msgspec.structs.replace(answer, decision_id=decision_id)
    replayed = msgspec.to_builtins(again, str_keys=True)
    differences = {
        key: (recorded.get(key), replayed.get(key))
        for key in sorted({*recorded, *replayed})
        if canonical_bytes(recorded.get(key)) != canonical_bytes(replayed.get(key))
    }
    within = all(_close(a, b) for a, b in differences.values())
    cents = abs(recorded["add_on"] - replayed["add_on"]) < 0.005
    return Replay(
        equal=not differences,
        equal_within=within and cents,
        differences=differences,
        same_machine=payload["fingerprint"] == fingerprint(),
    )


def _close(a: object, b: object) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) <= TOLERANCE * max(1.0, abs(a), abs(b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_close(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_close, a, b))
    return a == b


def _as_of(record: Record) -> int:
    if record.as_of is None:
        return parse_time(record.payload["decision"]["as_of"])
    return record.as_of
