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
    """A decision as recorded, with its place in the ledger and who requested it."""

    chain: str
    """Chain of the ledger that holds it."""
    seq: int
    """Number of the record within its chain."""
    hash: str
    """SHA-256 of the record, which covers the one before."""
    recorded_at: str
    """When it was recorded."""
    requester: str | None = None
    """Id of a key, `jwt:` and the subject of a token, or `local`; null in records of earlier
    versions, which do not name it."""


class AlteredDecision(Struct, frozen=True):
    """A record in the place of a decision that is not as it was recorded; verify the ledger."""

    chain: str
    """Chain of the ledger that holds it."""
    seq: int
    """Number of the record within its chain."""
    detail: str
    """What does not fit."""


class DecisionPage(Struct, frozen=True):
    """Decisions of an account, the newest first."""

    decisions: list[RecordedDecision]
    """Decisions of this page."""
    next_before: int | None
    """Value of `before` for the next page; null on the last."""
    altered: list[AlteredDecision] = []
    """Records of the page that were altered; none of what they hold is answered."""


class SupersedingChange(Struct, frozen=True):
    """A rule that was changed on purpose since a decision, and the decision record that says so."""

    adr: str
    """Number of the decision record, four digits like `0029`."""
    title: str
    """Title of the decision record."""


class DecisionExplanation(Struct, frozen=True):
    """A recorded decision, explained by computing it again."""

    decision_id: str
    """Id of the decision."""
    verdict: Literal["equal", "superseded", "different"]
    """The decision came out again to the last bit (`equal`), its fields differ as changes of the
    rules since then say (`superseded`), or otherwise (`different`)."""
    superseded_by: list[SupersedingChange]
    """Changes of the rules that explain the differences; empty where there are none."""
    differences: list[str]
    """Names of the fields that differ."""
    reasons: list[Reason]
    """All reasons, the most important first."""
    explain: dict[str, Any]
    """Margins, floors and level in parts, as a request with `explain` returns."""


class ModelInfo(Struct, frozen=True):
    """The model that answers."""

    sha256: str
    """SHA-256 of the bundle, its name."""
    horizons: list[int]
    """Horizons of the forecast in hours."""
    features: list[str]
    """Names of the features that it reads, in their order."""
    training: dict[str, Any]
    """How it was trained: the span of the data and the settings."""
    training_data_sha256: str
    """SHA-256 of the training data."""
    ruleset_sha256: str
    """SHA-256 of the rule set that it was trained under."""
    metrics: dict[str, Any]
    """Metrics at the end of training, by horizon and by name."""
    versions: dict[str, str]
    """Versions of the packages that trained it."""


class RuleSetInfo(Struct, frozen=True):
    """The rules that apply, every default written out."""

    sha256: str
    """SHA-256 of the rule set, its name."""
    content: dict[str, Any]
    """The rule set as TOML holds it, every default written out."""


class Alive(Struct, frozen=True):
    """The process answers."""

    status: Literal["live"]
    """Always `live`."""


class Readiness(Struct, frozen=True):
    """Whether decisions can be made, and what is missing for good ones."""

    status: Literal["ready", "degraded", "unavailable"]
    """`ready`; `degraded`: decisions are made, but something is missing; or `unavailable`: none can
    be made or recorded."""
    reasons: list[str]
    """What is missing, as sentences; empty where nothing is."""
    age_seconds: float | UnsetType = UNSET
    """Seconds since it was found out; absent unless it could not be refreshed in time."""


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
