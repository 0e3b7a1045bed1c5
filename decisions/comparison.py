"""A recorded decision beside the same decision made again: equal, superseded or different."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from decisions.revisions import (
    CALCULATION,
    ROUNDING,
    Change,
    RecordedBasis,
    changes_between,
    superseding,
)
from ledger.canonical import canonical_bytes

TOLERANCE = 1e-12
"""Relative difference up to which a replay on another machine counts as equal."""


@dataclass(frozen=True, slots=True)
class Replay:
    """Outcome of a replay.

    Attributes
    ----------
    verdict:
        ``equal``; ``superseded`` where figures differ and changes made on purpose since explain
        each of them; else ``different``.
    superseded_by:
        These changes.
    equal:
        Every recorded figure has the same bits.
    equal_within:
        Figures agree within `TOLERANCE` and the add-on to the cent.
    differences:
        The recorded keys that differ, with recorded and replayed value.
    same_machine:
        Libraries and processor are those of the decision.
    """

    verdict: Literal["equal", "superseded", "different"]
    superseded_by: tuple[Change, ...]
    equal: bool
    equal_within: bool
    differences: dict[str, tuple[Any, Any]]
    same_machine: bool


def compare(
    recorded: Mapping[str, Any],
    replayed: Mapping[str, Any],
    basis: RecordedBasis,
    same_machine: bool,
) -> Replay:
    """Compare a decision with what the same facts give now, key by recorded key.

    Parameters
    ----------
    recorded, replayed:
        The decision in plain form; keys that only `replayed` has, at any depth, do not count.
    basis:
        What it rests on.
    same_machine:
        Libraries and processor are those of the decision.
    """
    differences = {
        key: (recorded[key], replayed.get(key))
        for key in sorted(recorded)
        if not _same(recorded[key], replayed.get(key))
    }
    within = all(_close(a, b, TOLERANCE) for a, b in differences.values())
    cents = abs(recorded["add_on"] - replayed["add_on"]) < 0.005
    since = int(basis.payload.get("calculation", 0))
    found = superseding(
        changes_between(since, CALCULATION, basis),
        {key: _close(a, b, ROUNDING) for key, (a, b) in differences.items()},
    )
    changes = () if found is None else found
    verdict: Literal["equal", "superseded", "different"] = (
        "superseded" if changes else "different" if differences else "equal"
    )
    return Replay(
        verdict=verdict,
        superseded_by=changes,
        equal=not differences,
        equal_within=within and cents,
        differences=differences,
        same_machine=same_machine,
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
