"""Probabilities and add-on of one account over time, as the monitor's model passes set them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from decisions.errors import NotReplayableError
from market.core.clock import format_time
from monitoring.evaluation.record.account_levels import AccountLevel, AccountLevels, account_levels
from monitoring.evaluation.record.model_pass_records import AlteredPass, ReadLimits
from serving.console.charts import Chart, line_chart
from serving.service import Service

LIMITS = ReadLimits()
"""With 100,000 accounts some 30 passes, in about a second."""

LEAST_DRAWN = 1e-6
"""Smaller probabilities are drawn here: evaluations clip them to it as well."""

LOG_FROM = 20.0
"""Largest over smallest drawn probability from which on their axis is logarithmic."""

MOST_ALTERED = 5
"""Altered records that are named one by one."""

_ENDED: Mapping[str, str] = {
    "first": "No older pass is on record.",
    "archived": "Older passes were moved to archived segments.",
    "joined": "The pass over the whole book before them does not hold the account.",
    "passes": f"This page takes {LIMITS.passes} passes at most.",
    "records": f"This page looks at the newest {LIMITS.records:,} records at most.",
    "size": f"This page reads {LIMITS.stored_bytes // 2**20} MiB of records at most.",
    "time": f"This page reads for {LIMITS.seconds:g} s at most.",
}

_GAPS: Mapping[str, str] = {
    "no model": "no model answered",
    "not scored": "the account could not be valued",
    "no answer": "the model could not answer for the account",
    "unknown bundle": "the bundle is not in the folder any more, so the horizons are not known",
}


def levels_content(service: Service, account_id: str) -> dict[str, Any]:
    """Charts of the newest levels of an account, the span they cover, and what is missing.

    Raises
    ------
    LedgerError
        The ledger cannot be read.
    """

    def horizons_of(sha256: str) -> Sequence[int] | None:
        try:
            return service.decisions.horizons(sha256)
        except NotReplayableError:
            return None

    found = account_levels(service.ledger, account_id, horizons_of, LIMITS)
    oldest_first = found.levels[::-1]
    gaps = Counter(one.no_forecast for one in found.levels if one.no_forecast is not None)
    return {
        "count": len(found.levels),
        "since": format_time(oldest_first[0].as_of) if oldest_first else None,
        "until": format_time(oldest_first[-1].as_of) if oldest_first else None,
        "passes": found.passes,
        "ended": _ENDED[found.ended],
        "joined_after": None if found.joined_after is None else format_time(found.joined_after),
        "gaps": [(count, _GAPS[reason]) for reason, count in gaps.most_common()],
        "unset": sum(one.add_on is None for one in found.levels),
        "altered": [one.detail for one in found.altered[:MOST_ALTERED]],
        "more_altered": max(0, len(found.altered) - MOST_ALTERED),
        "least_drawn": LEAST_DRAWN,
        "probability": probability_chart(found),
        "add_on": add_on_chart(found),
    }


def probability_chart(found: AccountLevels) -> Chart | None:
    """Probabilities by horizon over the passes; None without any forecast."""
    hours = sorted({hours for one in found.levels for hours in one.probability})
    if not hours:
        return None
    points = _points(found)
    times = [time for time, _ in points]
    exact = {
        f"within {h} h": [None if one is None else one.probability.get(h) for _, one in points]
        for h in hours
    }
    drawn = {
        name: [None if value is None else max(value, LEAST_DRAWN) for value in values]
        for name, values in exact.items()
    }
    known = [value for values in drawn.values() for value in values if value is not None]
    chart = line_chart(
        "Calibrated probability of a call",
        times,
        drawn,
        y_title="calibrated probability",
        y_format=".2~p",
        steps=True,
        log_y=max(known) >= LOG_FROM * min(known),
    )
    return replace(chart, rows=list(zip(times, *exact.values(), strict=True)))


def add_on_chart(found: AccountLevels) -> Chart | None:
    """The add-on level over the passes that set one; None where none did."""
    points = _points(found)
    values = [None if one is None else one.add_on for _, one in points]
    if all(value is None for value in values):
        return None
    return line_chart(
        "Add-on level",
        [time for time, _ in points],
        {"add-on level": values},
        y_title="settlement currency",
        steps=True,
    )


def _points(found: AccountLevels) -> list[tuple[str, AccountLevel | None]]:
    """Times and levels, the oldest first; None where a record between two of them is altered.

    The time of an altered record is that of its row, which may be altered too: it counts only
    where it lies between those beside it.
    """
    every: list[AccountLevel | AlteredPass] = [*found.levels, *found.altered]
    points: list[tuple[str, AccountLevel | None]] = []
    gap: int | None = None
    newest: int | None = None
    for one in sorted(every, key=lambda one: one.seq):
        if isinstance(one, AlteredPass):
            gap = gap if one.as_of is None else one.as_of
            continue
        if gap is not None and newest is not None and newest <= gap <= one.as_of:
            points.append((format_time(gap), None))
        gap, newest = None, one.as_of
        points.append((format_time(one.as_of), one))
    return points
