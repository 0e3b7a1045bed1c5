"""Work on the parts of a large input in a few threads, in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Part = TypeVar("Part")
Result = TypeVar("Result")

_WORKERS = 2


def in_order(work: Callable[[Part], Result], parts: Iterable[Part]) -> Iterator[Result]:
    """Results of the parts in their order.

    `work` runs in other threads, so it must be compiled code that lets go of the interpreter to
    gain anything. `parts` is iterated in the calling thread, and no further ahead than there are
    threads: no more parts and results than that are in memory.
    """
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(_WORKERS) as pool:
        for part in parts:
            waiting.append(pool.submit(work, part))
            if len(waiting) > _WORKERS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
