"""Levels that the monitor set for one account over time, from the records of model passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ledger.records import Record
from ledger.store import Ledger
from margin.add_on.bounds import BINDINGS
from market.core.errors import AlteredError
from monitoring.evaluation.passes.levels import NO_BINDING
from monitoring.evaluation.record.column_codec import decode_row, find_name
from monitoring.evaluation.record.model_pass_records import (
    AlteredPass,
    Ended,
    ModelPassReader,
    ReadLimits,
)

HorizonsOf = Callable[[str], Sequence[int] | None]
"""Horizons in hours of the bundle of a SHA-256; None where it is not available."""

NoForecast = Literal["no model", "not scored", "no answer", "unknown bundle"]
"""Why a pass has no probabilities of an account: no model answered at all, the account had a
problem, the model could not answer for it, or the horizons of its bundle are unknown."""

_FALLBACK = BINDINGS.index("fallback")
_COLUMNS = ("amount", "as_of", "binding", "probability")


@dataclass(frozen=True, slots=True)
class AccountLevel:
    """What one model pass set for an account.

    Attributes
    ----------
    seq:
        Number of the record in the chain of evaluations.
    as_of:
        Time of the pass's market, nanoseconds.
    binding:
        What bound the level, of `margin.add_on.bounds.BINDINGS`; None where the account had a
        problem.
    add_on:
        The level that the pass set, settlement currency; None where it set none, as a fallback
        carries the level before and an account with a problem keeps it.
    probability:
        Calibrated probability of a call within each horizon (hours), float32; empty without a
        forecast.
    no_forecast:
        Why it is empty; None where it is not.
    """

    seq: int
    as_of: int
    binding: str | None
    add_on: float | None
    probability: Mapping[int, float]
    no_forecast: NoForecast | None


@dataclass(frozen=True, slots=True)
class AccountLevels:
    """Levels of an account in the newest model passes.

    Attributes
    ----------
    levels:
        Of the passes that hold the account, the newest first.
    altered:
        Records that cannot be relied on, the newest first; nothing is taken from them.
    passes:
        How many sound model passes were read.
    ended:
        Why no older pass was read: as `model_pass_records.Ended`, or ``joined`` where a pass over
        the whole book does not hold the account.
    joined_after:
        Time of the market of that pass, nanoseconds; None without one.
    """

    levels: tuple[AccountLevel, ...]
    altered: tuple[AlteredPass, ...]
    passes: int
    ended: Ended | Literal["joined"]
    joined_after: int | None = None


@dataclass(slots=True)
class _Found:
    levels: list[AccountLevel] = field(default_factory=list)
    altered: list[AlteredPass] = field(default_factory=list)
    passes: int = 0

    def result(
        self, ended: Ended | Literal["joined"], joined_after: int | None = None
    ) -> AccountLevels:
        levels, altered = tuple(self.levels), tuple(self.altered)
        return AccountLevels(levels, altered, self.passes, ended, joined_after)


def account_levels(
    ledger: Ledger,
    account_id: str,
    horizons_of: HorizonsOf,
    limits: ReadLimits = ReadLimits(),  # noqa: B008  frozen
) -> AccountLevels:
    """Levels of one account in the newest model passes that hold it.

    Of each pass the ids and four columns are inflated, and of the columns one row is decoded:
    neither the levels of others nor the state of the book are made.

    Parameters
    ----------
    ledger:
        Where the evaluations are.
    account_id:
        The account.
    horizons_of:
        Gives the horizons of a bundle; asked once for each.
    limits:
        How far back is read; `ReadLimits.passes` counts the passes that hold the account.

    Raises
    ------
    LedgerError
        The ledger cannot be read. An altered record is named in the result.
    """
    horizons: dict[str, Sequence[int] | None] = {}
    found, reader = _Found(), ModelPassReader(ledger, limits)
    for one in reader:
        if isinstance(one, AlteredPass):
            found.altered.append(one)
            continue
        try:
            sha256, whole = one.payload["model"], bool(one.payload["whole"])
            row = find_name(one.payload["columns"], account_id)
            if row is not None:
                if sha256 is not None and sha256 not in horizons:
                    horizons[sha256] = horizons_of(sha256)
                known = () if sha256 is None else horizons[sha256]
                found.levels.append(_level(one, row, known))
        except (AlteredError, KeyError, TypeError, ValueError, IndexError) as error:
            detail = f"record {one.seq} of chain {one.chain!r} cannot be read: {error}"
            found.altered.append(AlteredPass(one.seq, one.as_of, detail))
            continue
        found.passes += 1
        if row is None and whole:
            return found.result("joined", one.as_of)
        if len(found.levels) >= limits.passes:
            return found.result("passes")
    return found.result(reader.ended)


def _level(record: Record, row: int, horizons: Sequence[int] | None) -> AccountLevel:
    amount, set_at, code, probability = decode_row(record.payload["columns"], _COLUMNS, row)
    as_of = record.as_of or 0
    if not NO_BINDING <= code < len(BINDINGS):
        raise ValueError(f"binding {code} is not one of this version")
    # A fallback and a problem leave amount and time as they were before the pass.
    sets = set_at == as_of and code not in (NO_BINDING, _FALLBACK) and amount == amount
    missing = _no_forecast(record.payload["model"], code, probability, horizons)
    return AccountLevel(
        record.seq,
        as_of,
        None if code == NO_BINDING else BINDINGS[code],
        amount if sets else None,
        dict(zip(horizons or (), probability, strict=True)) if missing is None else {},
        missing,
    )


def _no_forecast(
    model: str | None, code: int, probability: Sequence[float], horizons: Sequence[int] | None
) -> NoForecast | None:
    if model is None:
        return "no model"
    if code == NO_BINDING:
        return "not scored"
    if any(value != value for value in probability):
        return "no answer"
    if horizons is None or len(horizons) != len(probability):
        return "unknown bundle"
    return None
