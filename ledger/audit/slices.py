"""Check whole chains in slices, with several processes if there are many records."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor

from sqlalchemy import Connection, Engine, func, select

from ledger.archive.segments import Segment
from ledger.audit.walk import Place, Rules, Slice, Walked, link_problem, walk
from ledger.records import FIRST_PREVIOUS_HASH
from ledger.schema import open_engine, records

SLICE = 20_000
"""Records a slice has at most, but for those that are appended meanwhile."""

_FEW = 3
"""With fewer full slices one process is faster than starting others."""


def slices(connection: Connection, segments: Mapping[str, Segment]) -> list[Slice]:
    """Slices that hold every record of the table once.

    Parameters
    ----------
    connection:
        To the ledger.
    segments:
        The archived beginning of each chain that has one: records that stayed behind there are a
        slice of their own, and the others follow it.
    """
    ends = select(records.c.chain, func.min(records.c.seq), func.max(records.c.seq))
    found: list[Slice] = []
    for chain, low, high in connection.execute(ends.group_by(records.c.chain)):
        start: int | None = None
        if chain in segments:
            start = segments[chain].last_seq
            found.append(Slice(chain, None, start, linked=False))
        # Values that were altered may sort anywhere: the ends of a chain are open.
        first = start if start is not None else low
        cuts: list[int] = []
        if isinstance(first, int) and isinstance(high, int):
            cuts = list(range(first + SLICE, high - SLICE // 2, SLICE))
        for after, until in zip([start, *cuts], [*cuts, None], strict=True):
            found.append(Slice(chain, after, until))
    return found


def walk_all(
    engine: Engine,
    parts: Sequence[Slice],
    rules: Rules,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Iterator[Walked]:
    """What was found in each slice, in their order.

    Parameters
    ----------
    engine:
        Of the ledger.
    parts, rules:
        See `ledger.audit.walk`.
    workers:
        Processes; None: one a processor where there are many records.
    progress:
        Called with the number of records read so far.
    """
    full = sum(part.linked and part.until is not None for part in parts)
    count = workers or (len(os.sched_getaffinity(0)) if full >= _FEW else 1)
    read = 0
    for found in _walked(engine, parts, rules, count):
        read += found.count
        if progress is not None:
            progress(read)
        yield found


def _walked(engine: Engine, parts: Sequence[Slice], rules: Rules, count: int) -> Iterator[Walked]:
    if count == 1:
        with engine.connect() as connection:
            for part in parts:
                yield walk(connection, part, rules)
        return
    url = engine.url.render_as_string(hide_password=False)
    # Not forked: this process may have threads and connections.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, context, _connect, (url,)) as pool:
        yield from pool.map(_walk_slice, parts, [rules] * len(parts))


def join_problems(found: Sequence[Walked], segments: Mapping[str, Segment]) -> Iterator[str]:
    """Where the slices of a chain do not follow one another, or its first not its beginning."""
    last: dict[str, Place] = {
        chain: Place(segment.last_seq, None, segment.last_hash)
        for chain, segment in segments.items()
    }
    for walked in found:
        chain = walked.part.chain
        if not walked.part.linked or walked.first is None:
            continue
        before = last.get(chain, Place(0, None, FIRST_PREVIOUS_HASH))
        problem = link_problem(before, walked.first)
        if problem is not None:
            yield f"chain {chain!r} seq {walked.first.seq}: {problem}"
        if walked.last is not None:
            last[chain] = walked.last


_engines: list[Engine] = []
"""The engine of a worker process."""


def _connect(url: str) -> None:
    _engines.append(open_engine(url, create=False))


def _walk_slice(part: Slice, rules: Rules) -> Walked:
    with _engines[0].connect() as connection:
        return walk(connection, part, rules)
