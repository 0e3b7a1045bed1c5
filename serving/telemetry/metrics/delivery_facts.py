"""What metrics say of the outbox of enforcement."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from enforcement.delivery.outbox import SinkCounts
from market.core.clock import SECOND

_STATUSES = ("pending", "dead", "delivered", "skipped")


class DeliveryCollector(Collector):
    """Shows the outbox as it was looked at last; all workers know the same.

    Parameters
    ----------
    outbox:
        Gives the counts of each sink; does not wait for the database.
    """

    def __init__(self, outbox: Callable[[], Mapping[str, SinkCounts]]) -> None:
        self._outbox = outbox

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges; a sink has series once an event was for it."""
        rows = GaugeMetricFamily(
            "margincast_notifications",
            "Events in the outbox of enforcement, by sink and by what became of them.",
            labels=["sink", "status"],
        )
        age = GaugeMetricFamily(
            "margincast_notification_age_seconds",
            "Age of the oldest event that is not delivered, by sink; 0 where none waits.",
            labels=["sink"],
        )
        now = time.time_ns()
        for sink, counts in self._outbox().items():
            for status in _STATUSES:
                rows.add_metric([sink, status], counts.by_status.get(status, 0))
            oldest = counts.oldest
            age.add_metric([sink], 0.0 if oldest is None else max(0, now - oldest) / SECOND)
        yield rows
        yield age
