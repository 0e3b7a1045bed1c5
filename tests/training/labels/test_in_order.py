"""Parts are worked on in other threads, and not further ahead than there are threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from training.labels.in_order import in_order


def test_results_come_in_the_order_of_the_parts() -> None:
    def work(part: int) -> tuple[int, bool]:
        time.sleep(0.01 * (3 - part % 3))
        return part, threading.current_thread() is threading.main_thread()

    assert list(in_order(work, range(9))) == [(part, False) for part in range(9)]


def test_few_parts_are_made_ahead() -> None:
    made = 0

    def parts() -> Iterator[int]:
        nonlocal made
        for part in range(20):
            made += 1
            yield part

    for taken in in_order(lambda part: part, parts()):
        assert made <= taken + 3


def test_failure_of_a_part_is_raised() -> None:
    def work(part: int) -> float:
        return 1.0 / (part - 2)

    with pytest.raises(ZeroDivisionError):
        list(in_order(work, range(5)))
