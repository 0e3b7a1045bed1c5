"""Smaller requests that show the same failure."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.fuzz.generators.mutation import places
from benchmarks.fuzz.generators.requests import Request

Fails = Callable[[Sequence[Request], Request], bool]
"""Whether a request, after others, shows the failure on a fresh endpoint."""


def shrink(
    before: Sequence[Request], request: Request, fails: Fails, *, tries: int, seconds: float
) -> tuple[list[Request], Request]:
    """Remove what the failure does not need: earlier requests, then parts of the bodies.

    Parameters
    ----------
    before, request:
        What led to the failure, and what showed it.
    fails:
        Tries again.
    tries, seconds:
        Bounds of the search; the smallest failure so far is returned.
    """
    budget = _Budget(tries, time.monotonic() + seconds)
    prefix = list(before)
    if prefix and budget.spend() and fails([], request):
        prefix = []
    size = max(1, len(prefix) // 2)
    while prefix and budget.remaining():
        for start in range(0, len(prefix), size):
            fewer = prefix[:start] + prefix[start + size :]
            if not budget.spend():
                break
            if fails(fewer, request):
                prefix = fewer
                break
        else:
            if size == 1:
                break
            size = max(1, size // 2)
            continue
        size = min(size, max(1, len(prefix)))
    request = _smaller_body(request, lambda tried: fails(prefix, tried), budget)
    for i, earlier in enumerate(prefix):

        def still(tried: Request, place: int = i) -> bool:
            return fails([*prefix[:place], tried, *prefix[place + 1 :]], request)

        prefix[i] = _smaller_body(earlier, still, budget)
    return prefix, request


class _Budget:
    def __init__(self, tries: int, deadline: float) -> None:
        self._tries, self._deadline = tries, deadline

    def remaining(self) -> bool:
        return self._tries > 0 and time.monotonic() < self._deadline

    def spend(self) -> bool:
        self._tries -= 1
        return self.remaining()


def _smaller_body(request: Request, fails: Callable[[Request], bool], budget: _Budget) -> Request:
    """Every place of the body in turn, outer ones first: without it, halved, rounder; twice."""
    if request.document is None or request.raw is not None:
        return request
    for make in (_shorter, _without, _rounder) * 2:
        place = 0
        while place < len(list(places(request.document))):
            for document in make(request.document, place):
                if not budget.spend():
                    return request
                candidate = replace(request, document=document)
                if fails(candidate):
                    request = candidate
                    break
            else:
                place += 1
    return request


def _shorter(document: Any, index: int) -> Iterator[Any]:
    value = _value(document, index)
    if isinstance(value, list) and len(value) > 1:
        for half in (value[: len(value) // 2], value[len(value) // 2 :]):
            yield _with(document, index, half)


def _without(document: Any, index: int) -> Iterator[Any]:
    changed = copy.deepcopy(document)
    container, key = list(places(changed))[index]
    del container[key]
    yield changed


def _rounder(document: Any, index: int) -> Iterator[Any]:
    value = _value(document, index)
    if isinstance(value, float) and value not in (0.0, 1.0, float(f"{value:.1g}")):
        for rounder in (1.0, 0.0, float(f"{value:.1g}")):
            yield _with(document, index, rounder)


def _value(document: Any, index: int) -> Any:
    container, key = list(places(document))[index]
    return container[key]


def _with(document: Any, index: int, value: Any) -> Any:
    changed = copy.deepcopy(document)
    container, key = list(places(changed))[index]
    container[key] = copy.deepcopy(value)
    return changed
