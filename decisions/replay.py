"""Replay a recorded decision, and compare it: equal, superseded or different.

A record names the set of a decision's fields (``schema``) and the revision of the calculation that
made it (``calculation``); earlier records have neither and count as 0 and 0. Where a rule was
changed on purpose, a replay of an older record differs, and the change is named by its ADR. What
no change explains is a fault.

A replay explains its decision. Records of the schemas 0 and 1 hold all reasons and the explanation,
and there these are compared too; later ones hold the leading reasons alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import msgspec

from decisions.book_scoring import PreviousAddOn
from decisions.decision import decide
from decisions.errors import NotReplayableError
from decisions.messages import AccountProblem
from decisions.records import CALCULATION, decision_time, fingerprint
from features.state.snapshot import MarketSnapshot
from ledger.canonical import canonical_bytes
from ledger.records import Record
from margin.rules.ruleset import RuleSet, ruleset_from_content
from market.bars.daily_closes import DailyCloses
from market.core.errors import DataError, LedgerError
from market.quotes.quotes import QuoteBoard
from market.sources.http import AccountMessage, account_update
from models.forecaster import Forecaster

ROUNDING = 1e-9
"""Relative difference up to which numbers differ by the order of their arithmetic alone."""

_LEADING_REASONS_SCHEMA = 2
"""The first schema whose records hold the leading reasons alone."""

TOLERANCE = 1e-12
"""Relative difference up to which a replay on another machine counts as equal."""


@dataclass(frozen=True, slots=True)
class RecordedBasis:
    """The inputs of a recorded decision that determine which changes concern it.

    Attributes
    ----------
    payload:
        Of the record.
    market:
        Content of the market snapshot.
    ruleset:
        The rules.
    """

    payload: Mapping[str, Any]
    market: Mapping[str, Any]
    ruleset: RuleSet


@dataclass(frozen=True, slots=True)
class Change:
    """A rule that was changed on purpose.

    Attributes
    ----------
    revision:
        The first calculation with it.
    adr:
        Number of the decision record under ``docs/adr``.
    title:
        What changed.
    fields:
        Fields of a decision that it can move; None: all amounts and their explanations.
    applies:
        Whether it concerns a decision.
    rounding_only:
        Whether it moves numbers by no more than `ROUNDING`.
    """

    revision: int
    adr: str
    title: str
    fields: frozenset[str] | None
    applies: Callable[[RecordedBasis], bool]
    rounding_only: bool = False

    def explains(self, field: str, close: bool) -> bool:
        """Whether it can have moved a field, by rounding or by more."""
        if self.rounding_only and not close:
            return False
        return field in (_ALL_FIELDS if self.fields is None else self.fields)


_EXPLANATIONS = frozenset({"binding", "reasons", "explain"})
_ADD_ON = frozenset(
    {"add_on", "total_requirement", "deposit_to_meet", "floor", "model_add_on", "cap"}
)
_ALL_FIELDS = (
    frozenset({"equity", "initial_margin", "maintenance_margin", "headroom", "probability"})
    | _ADD_ON
    | _EXPLANATIONS
)


def _has_quotes(basis: RecordedBasis) -> bool:
    return "quotes_sha256" in basis.payload["contents"]


def _has_collateral(basis: RecordedBasis) -> bool:
    return bool(basis.payload["account"].get("collateral"))


def _has_suspect_price(basis: RecordedBasis) -> bool:
    return any(basis.market["suspect"])


def _repeats_instrument(basis: RecordedBasis) -> bool:
    names = [position["instrument"] for position in basis.payload["account"]["positions"]]
    return len(set(names)) < len(names)


def _always(_: RecordedBasis) -> bool:
    return True


CHANGES: tuple[Change, ...] = (
    Change(1, "0029", "quoted marks count in every valuation", None, _has_quotes),
    Change(1, "0029", "extra haircuts of the initial margin count", None, _has_collateral),
    Change(1, "0029", "positions in one instrument are netted", None, _repeats_instrument),
    Change(1, "0029", "one valuation and one engine path", None, _always, rounding_only=True),
    Change(1, "0030", "suspect prices are valued apart", None, _has_suspect_price),
    Change(1, "0035", "what binds a level is named by its last step", _EXPLANATIONS, _always),
)
"""Every change since records began, the oldest first."""


@dataclass(frozen=True, slots=True)
class Replay:
    """Outcome of a replay.

    Attributes
    ----------
    verdict:
        ``equal``; ``superseded`` where fields differ and changes made on purpose since explain
        each of them; else ``different``.
    superseded_by:
        These changes.
    equal:
        Whether every recorded field has the same bits.
    equal_within:
        Whether numbers agree within `TOLERANCE` and the add-on to the cent.
    differences:
        The recorded keys that differ, with recorded and replayed value.
    same_machine:
        Whether libraries and processor are those of the decision.
    explanation:
        Of the decision as replayed, with all its reasons under ``reasons``.
    """

    verdict: Literal["equal", "superseded", "different"]
    superseded_by: tuple[Change, ...]
    equal: bool
    equal_within: bool
    differences: dict[str, tuple[Any, Any]]
    same_machine: bool
    explanation: dict[str, Any]


class RecordSource(Protocol):
    """Source of a decision and its inputs: a ledger, or a ledger with its archive."""

    def get_record(self, id: str) -> Record:  # noqa: A002  the column's name
        """The record of this id; raises `LedgerError` where there is none or it was altered."""
        ...

    def get(self, sha256: str) -> dict[str, Any]:
        """A shared content; raises `LedgerError` where it is missing or was altered."""
        ...


def replay(
    ledger: RecordSource, decision_id: str, load_model: Callable[[str], Forecaster]
) -> Replay:
    """Compute a recorded decision again from its inputs, and compare the recorded fields.

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
    NotReplayableError
        The market was recorded without a column that rules or model need, or the account can no
        longer be decided on.
    """
    record = ledger.get_record(decision_id)
    if record.kind != "decision":
        raise LedgerError(f"record {decision_id!r} is a {record.kind}, not a decision")
    payload = record.payload
    recorded: dict[str, Any] = payload["decision"]
    market = ledger.get(payload["contents"]["market_sha256"])
    ruleset = ruleset_from_content(ledger.get(payload["contents"]["ruleset_sha256"]))
    model = load_model(recorded["model"]) if recorded["model"] else None
    try:
        snapshot = recorded_snapshot(ledger, record, market)
        if model is not None:
            snapshot.check_columns(model.bundle.schema.features)
    except DataError as error:
        raise NotReplayableError(f"decision {decision_id} cannot be made again: {error}") from error
    account = msgspec.convert(payload["account"], AccountMessage)
    before = payload["previous"]
    result = decide(
        [account_update(account, snapshot.as_of).account],
        snapshot,
        ruleset,
        model,
        {} if before is None else {account.account_id: PreviousAddOn(**before)},
        no_model=payload["no_model"] or "",
        explain=(account.account_id,),
    )[0]
    if isinstance(result, AccountProblem):
        raise NotReplayableError(f"decision {decision_id} cannot be made again: {result.detail}")
    repeated = msgspec.structs.replace(result, decision_id=decision_id)
    replayed = msgspec.to_builtins(repeated, str_keys=True)
    explanation = replayed["explain"]
    if int(payload.get("schema", 0)) < _LEADING_REASONS_SCHEMA:
        replayed["reasons"] = explanation["reasons"]
    return _compare(recorded, replayed, RecordedBasis(payload, market, ruleset), explanation)


def recorded_snapshot(
    ledger: RecordSource, record: Record, market: Mapping[str, Any]
) -> MarketSnapshot:
    """The market of a decision, from its content and the other recorded inputs."""
    named = record.payload["contents"]
    board = None
    if "quotes_sha256" in named:
        board = QuoteBoard.from_content(ledger.get(named["quotes_sha256"]))
    snapshot = MarketSnapshot.from_content(market, decision_time(record), board)
    if "daily_closes_sha256" in named:
        daily = DailyCloses.from_content(ledger.get(named["daily_closes_sha256"]))
        snapshot = snapshot.with_daily(daily)
    return snapshot


def recorded_machine(recorded: Mapping[str, str]) -> dict[str, str]:
    """A fingerprint without the hash of the feature registry, which earlier versions put there."""
    return {name: part for name, part in recorded.items() if name != "features"}


def _compare(
    recorded: Mapping[str, Any],
    replayed: Mapping[str, Any],
    basis: RecordedBasis,
    explanation: dict[str, Any],
) -> Replay:
    """Compare a decision with its replay, key by recorded key.

    Parameters
    ----------
    recorded, replayed:
        The decision in plain form; keys that only `replayed` has, at any depth, do not count.
    basis:
        What it rests on.
    explanation:
        Of the replay.
    """
    differences = {
        key: (recorded[key], replayed.get(key))
        for key in sorted(recorded)
        if not _same(recorded[key], replayed.get(key))
    }
    within = all(_close(a, b, TOLERANCE) for a, b in differences.values())
    cents = abs(recorded["add_on"] - replayed["add_on"]) < 0.005
    since = int(basis.payload.get("calculation", 0))
    explained = _superseding(
        _changes_between(since, CALCULATION, basis),
        {key: _close(a, b, ROUNDING) for key, (a, b) in differences.items()},
    )
    changes = explained or ()
    verdict: Literal["equal", "superseded", "different"] = (
        "superseded" if changes else "different" if differences else "equal"
    )
    return Replay(
        verdict=verdict,
        superseded_by=changes,
        equal=not differences,
        equal_within=within and cents,
        differences=differences,
        same_machine=recorded_machine(basis.payload["fingerprint"])
        == recorded_machine(fingerprint()),
        explanation=explanation,
    )


def _same(recorded: object, replayed: object) -> bool:
    """Whether what was recorded came out again to the last bit; keys that are new do not count."""
    if isinstance(recorded, dict) and isinstance(replayed, dict):
        return all(
            key in replayed and _same(value, replayed[key]) for key, value in recorded.items()
        )
    if isinstance(recorded, list) and isinstance(replayed, list):
        return len(recorded) == len(replayed) and all(map(_same, recorded, replayed))
    return canonical_bytes(recorded) == canonical_bytes(replayed)


def _close(recorded: object, replayed: object, tolerance: float) -> bool:
    """The same up to a relative difference of numbers."""
    if isinstance(recorded, float) and isinstance(replayed, float):
        return abs(recorded - replayed) <= tolerance * max(1.0, abs(recorded), abs(replayed))
    if isinstance(recorded, dict) and isinstance(replayed, dict):
        return all(
            key in replayed and _close(value, replayed[key], tolerance)
            for key, value in recorded.items()
        )
    if isinstance(recorded, list) and isinstance(replayed, list):
        pairs = zip(recorded, replayed, strict=False)
        return len(recorded) == len(replayed) and all(_close(a, b, tolerance) for a, b in pairs)
    return recorded == replayed


def _changes_between(recorded: int, current: int, basis: RecordedBasis) -> tuple[Change, ...]:
    """Changes after one revision, up to another, that concern a decision."""
    return tuple(
        change
        for change in CHANGES
        if recorded < change.revision <= current and change.applies(basis)
    )


def _superseding(
    changes: Collection[Change], fields: Mapping[str, bool]
) -> tuple[Change, ...] | None:
    """The changes that explain why fields differ.

    Parameters
    ----------
    changes:
        Those that concern the decision.
    fields:
        The fields that differ, and whether by no more than `ROUNDING`.

    Returns
    -------
    In the order of `CHANGES`; None where a field is left that none of them explains.
    """
    named: list[Change] = []
    for field, close in fields.items():
        explaining = [change for change in changes if change.explains(field, close)]
        if not explaining:
            return None
        by_rounding = [change for change in explaining if change.rounding_only]
        named += by_rounding or explaining
    return tuple(change for change in changes if change in named)
