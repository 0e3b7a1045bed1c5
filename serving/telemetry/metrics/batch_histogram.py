"""A Prometheus histogram that takes many observations at once."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from math import isnan

from prometheus_client import Histogram


class BatchHistogram(Histogram):
    """A histogram whose cost is by batch: each bucket moves once, however many values it gets.

    Under several workers each move is a write to a file in memory, and a call has up to 20,000
    accounts.
    """

    def observe_many(self, values: Iterable[float]) -> None:
        """Count values; NaN is passed over."""
        bounds, total, counts = self._upper_bounds, 0.0, dict[int, int]()
        for value in values:
            if isnan(value):
                continue
            total += value
            bucket = bisect_left(bounds, value)
            counts[bucket] = counts.get(bucket, 0) + 1
        if not counts:
            return
        self._sum.inc(total)
        for bucket, count in counts.items():
            self._buckets[bucket].inc(count)
