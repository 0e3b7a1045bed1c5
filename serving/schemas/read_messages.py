"""Responses of the reading routes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from decisions.messages import Decision, Reason
from ledger.decisions import AlteredRecord
from ledger.records import Record
from market.core.clock import format_time


class RecordedDecision(Decision, frozen=True, kw_only=True):
    """A decision as recorded, with its place in the ledger and who requested it.

    `requester`: the id of a key, ``jwt:`` and the subject of a token, or ``local``; null in records
    of earlier versions, which do not name it.
    """

    chain: str
    seq: int
    hash: str
    recorded_at: str
    requester: str | None = None


class AlteredDecision(Struct, frozen=True):
    """A record in the place of a decision that is not as it was recorded; verify the ledger."""

    chain: str
    seq: int
    detail: str


class DecisionPage(Struct, frozen=True):
    """Decisions of an account, the newest first; `next_before` leads to older ones.

    `altered`: records of the page that were altered. None of what they hold is answered.
    """

    decisions: list[RecordedDecision]
    next_before: int | None
    altered: list[AlteredDecision] = []


class SupersedingChange(Struct, frozen=True):
    """A rule that was changed on purpose since a decision, and the decision record that says so."""

    adr: str
    title: str


class DecisionExplanation(Struct, frozen=True):
    """A recorded decision, explained by computing it again.

    `verdict`: the decision came out again to the last bit (``equal``), or its fields differ as
    changes of the rules since then say (``superseded``), or otherwise (``different``);
    `differences` names these fields. `reasons` are all reasons, `explain` is what a request with
    ``explain`` returns.
    """

    decision_id: str
    verdict: Literal["equal", "superseded", "different"]
    superseded_by: list[SupersedingChange]
    differences: list[str]
    reasons: list[Reason]
    explain: dict[str, Any]


class ModelInfo(Struct, frozen=True):
    """The model that answers."""

    sha256: str
    horizons: list[int]
    features: list[str]
    training: dict[str, Any]
    training_data_sha256: str
    ruleset_sha256: str
    metrics: dict[str, Any]
    versions: dict[str, str]


class RuleSetInfo(Struct, frozen=True):
    """The rules that apply, every default written out."""

    sha256: str
    content: dict[str, Any]


class Alive(Struct, frozen=True):
    """The process answers."""

    status: Literal["live"]


class Readiness(Struct, frozen=True):
    """Whether decisions can be made, and what is missing for good ones; with `age_seconds` where
    it could not be refreshed in time."""

    status: Literal["ready", "degraded", "unavailable"]
    reasons: list[str]
    age_seconds: float | UnsetType = UNSET


def decision_page(
    page: Sequence[Record], altered: Sequence[AlteredRecord], next_before: int | None
) -> dict[str, Any]:
    """A `DecisionPage` in plain form."""
    return {
        "decisions": [recorded(record) for record in page],
        "next_before": next_before,
        "altered": [one._asdict() for one in altered],
    }


def recorded(record: Record) -> dict[str, Any]:
    """A `RecordedDecision` in plain form; what was recorded is passed on as it is."""
    return {
        **record.payload["decision"],
        "chain": record.chain,
        "seq": record.seq,
        "hash": record.hash,
        "recorded_at": format_time(record.recorded_at),
        "requester": record.payload.get("requester"),
    }
