"""Compare a ledger with heads kept elsewhere: truncated, rewritten and missing chains."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ledger.archive.segments import Segment
from ledger.audit.heads_series import KeptHeads
from ledger.audit.walk import Walked
from market.core.clock import SECOND, format_time


@dataclass(frozen=True, slots=True)
class Coverage:
    """How far heads reach.

    Attributes
    ----------
    heads_at:
        Time of the newest heads, UTC nanoseconds.
    files:
        How many heads files there are.
    signed:
        See `ledger.audit.heads_series.KeptHeads`.
    uncovered:
        Records that were appended after the newest heads and are not protected yet.
    uncovered_since:
        When the oldest of them was recorded, UTC nanoseconds; None if there is none.
    """

    heads_at: int
    files: int
    signed: bool | None
    uncovered: int
    uncovered_since: int | None


def coverage(kept: KeptHeads, found: Sequence[Walked]) -> Coverage:
    """What the heads cover of the records that were read."""
    since = [walked.uncovered_since for walked in found if walked.uncovered_since is not None]
    return Coverage(
        kept.newest_at,
        len(kept.files),
        kept.signed,
        sum(walked.uncovered for walked in found),
        min(since, default=None),
    )


def head_problems(
    kept: KeptHeads, found: Sequence[Walked], segments: Mapping[str, Segment]
) -> Iterator[str]:
    """Truncated and missing chains, and archived segments that differ from the heads."""
    reached: dict[str, int] = {chain: segment.last_seq for chain, segment in segments.items()}
    for walked in found:
        chain = walked.part.chain
        if walked.last is not None and isinstance(walked.last.seq, int):
            reached[chain] = max(reached.get(chain, 0), walked.last.seq)
    for chain, head in kept.ends().items():
        end = reached.get(chain, 0)
        if end < head["seq"]:
            fate = "truncated" if end else "the chain is missing"
            yield (
                f"chain {chain!r} ends at seq {end}, the heads say {head['seq']}: {fate}, "
                f"{head['seq'] - end} records are gone"
            )
    for chain, named in kept.hashes().items():
        segment = segments.get(chain)
        if segment is not None:
            last = named.get(segment.last_seq)
            if last is not None and last != segment.last_hash:
                yield f"chain {chain!r}: its archived segment does not end as the heads say"


def age_problems(found: Coverage, longest: int) -> Iterator[str]:
    """Heads, or records without heads, that are older than a time in nanoseconds."""
    now = time.time_ns()
    if now - found.heads_at > longest:
        yield (
            f"the newest heads are of {format_time(found.heads_at)}, {_shown(now - found.heads_at)}"
            f" old; at most {_shown(longest)} is allowed: they are stale, or newer ones are missing"
        )
    if found.uncovered_since is not None and now - found.uncovered_since > longest:
        yield (
            f"{found.uncovered} records are in no heads, the oldest for "
            f"{_shown(now - found.uncovered_since)}; at most {_shown(longest)} is allowed"
        )


def not_covered_note(found: Coverage) -> str | None:
    """A sentence about records after the newest heads; None if there are none."""
    if found.uncovered_since is None:
        return None
    age = time.time_ns() - found.uncovered_since
    return (
        f"not covered yet: {found.uncovered} records after the newest heads of "
        f"{format_time(found.heads_at)}, the oldest {_shown(age)} old"
    )


def _shown(nanoseconds: int) -> str:
    seconds = nanoseconds // SECOND
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
