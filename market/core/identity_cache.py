"""Values that are made once per object: a bounded cache that tells its keys apart by identity."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class IdentityCache(Generic[Value]):
    """What was made of objects that never change. Safe to use from several threads.

    An entry keeps its objects alive, so that their identities are not given to others. Two threads
    that ask for the same value at once may both make it.

    Parameters
    ----------
    size:
        Most entries; the oldest goes first.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: dict[tuple[int, ...], tuple[tuple[object, ...], Value]] = {}
        self._lock = threading.Lock()

    def get(self, objects: tuple[object, ...], make: Callable[[], Value]) -> Value:
        """The value of these objects, made by `make` where it is not there yet."""
        key = tuple(map(id, objects))
        entry = self._entries.get(key)
        if entry is not None:
            return entry[1]
        value = make()
        with self._lock:
            self._entries[key] = objects, value
            while len(self._entries) > self._size:
                del self._entries[next(iter(self._entries))]
        return value
