"""Responses of the reading routes."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from decisions.messages import Decision
from ledger.records import Record
from market.core.clock import format_time


class RecordedDecision(Decision, frozen=True, kw_only=True):
    """A decision as recorded, with its place in the ledger."""

    chain: str
    seq: int
    hash: str
    recorded_at: str


class DecisionPage(Struct, frozen=True):
    """Decisions of an account, the newest first; `next_before` leads to older ones."""

    decisions: list[RecordedDecision]
    next_before: int | None


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
    """Whether decisions can be made, and what is missing for good ones."""

    status: Literal["ready", "degraded", "unavailable"]
    reasons: list[str]


def recorded(record: Record) -> dict[str, Any]:
    """A `RecordedDecision` in plain form; what was recorded is passed on as it is."""
    return {
        **record.payload["decision"],
        "chain": record.chain,
        "seq": record.seq,
        "hash": record.hash,
        "recorded_at": format_time(record.recorded_at),
    }
