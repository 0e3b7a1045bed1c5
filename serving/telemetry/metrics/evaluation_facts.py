"""What metrics say of the continuous evaluation of the live book."""

from __future__ import annotations

from collections.abc import Iterator
from math import nan

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from monitoring.evaluation.book_follower import BookFollower
from monitoring.evaluation.view import BookView


class EvaluationCollector(Collector):
    """Shows the newest evaluations when the metrics are read; all workers know the same.

    Parameters
    ----------
    view:
        The live book and its evaluations as they were followed last.
    follower:
        Knows how old they are.
    """

    def __init__(self, view: BookView, follower: BookFollower) -> None:
        self._view, self._follower = view, follower

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges; NaN before the first evaluation."""
        age = self._follower.age_seconds()
        yield GaugeMetricFamily(
            "margincast_evaluation_age_seconds",
            "Seconds since the newest evaluation of the live book was recorded.",
            value=nan if age is None else age,
        )
        yield GaugeMetricFamily(
            "margincast_evaluation_accounts", "Accounts of the live book.", value=len(self._view)
        )
        state = self._view.state
        newest = {} if state is None else state.newest
        problems = GaugeMetricFamily(
            "margincast_evaluation_problems",
            "Accounts without figures in the newest pass, by pass.",
            labels=["pass"],
        )
        seconds = GaugeMetricFamily(
            "margincast_evaluation_pass_seconds",
            "How long the newest pass took, by pass.",
            labels=["pass"],
        )
        for which, facts in newest.items():
            problems.add_metric([which], facts.problems)
            seconds.add_metric([which], facts.seconds)
        yield problems
        yield seconds
