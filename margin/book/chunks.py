"""Margins of a huge book, chunk by chunk: memory stays that of a few chunks, whatever its size."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from margin.book.portfolio_batch import Portfolios
from margin.engines.margins import Margins
from margin.engines.registry import compute_margins
from margin.rules.ruleset import RuleSet


def chunks_of(portfolios: Portfolios, size: int) -> Iterator[Portfolios]:
    """The portfolios in their order, `size` at a time; every chunk has the same market.

    Raises
    ------
    ValueError
        `size` is below 1.
    """
    if size < 1:
        raise ValueError(f"a chunk of {size} portfolios; expected 1 or more")
    for begin in range(0, len(portfolios), size):
        yield portfolios.between(begin, min(begin + size, len(portfolios)))


def compute_chunks(
    chunks: Iterable[Portfolios], ruleset: RuleSet, workers: int = 1
) -> Iterator[Margins]:
    """Margins of each chunk, in order.

    A portfolio's margins rest on nothing but itself, so they are those of one large chunk to the
    last bit, however the book is cut and however many work on it.

    Parameters
    ----------
    chunks:
        Taken as they are needed, at most one more than there are workers ahead of what is read;
        they may be made on the way.
    ruleset:
        Of any engine.
    workers:
        Threads; the scenario engine's kernels run beside each other.

    Raises
    ------
    ValueError
        `workers` is below 1.
    InstrumentError, RuleSetError
        As the engine raises them, where the chunk at fault would have been answered.
    """
    if workers < 1:
        raise ValueError(f"{workers} workers; expected 1 or more")
    if workers == 1:
        for chunk in chunks:
            yield compute_margins(chunk, ruleset)
        return
    with ThreadPoolExecutor(workers) as pool:
        ahead: deque[Future[Margins]] = deque()
        try:
            for chunk in chunks:
                ahead.append(pool.submit(compute_margins, chunk, ruleset))
                if len(ahead) > workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for waiting in ahead:
                waiting.cancel()
