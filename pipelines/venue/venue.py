"""The simulated venue: the market goes on where the training data ended, posted over HTTP.

First it asks which accounts were taken from their clients or closed, whose clients do nothing any
more, and tells the endpoint every other account. Then every `TICK_SECONDS` it posts the marks at
its time, and before them the bars that closed since the last tick, with the figures known at their
closes and what clients did at them. Where enforcement notifies it, clients answer their calls, and
the venue carries out instructions as they come (`pipelines.venue.desk`). One request follows the
answer to the one before: where the endpoint is slow, the market waits for it. Where the endpoint's
market ended, a restarted venue goes on, because the same seed gives the same bars.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from market.bars.panel import CLOSE
from market.core.clock import HOUR, format_time, parse_time
from market.core.errors import MargincastError
from market.simulator.simulated_market import MAX_DAYS
from pipelines.config.config import Config
from pipelines.data.loaders import simulated_market
from pipelines.venue.client_activity import ClientActivity
from pipelines.venue.client_files import opened_clients
from pipelines.venue.clock import AcceleratedClock
from pipelines.venue.desk import Desk
from pipelines.venue.endpoint import Endpoint, RefusedError
from pipelines.venue.inbox import Inbox
from pipelines.venue.notified_venue import open_inbox
from pipelines.venue.simulated_feed import SimulatedFeed
from serving.settings import MAX_PAGE

TICK_SECONDS = 1.0
"""Time between two posts of marks."""

LOOK_SECONDS = 0.1
"""Longest time until a stop is noticed."""

LATER_DAYS = 60
"""Days that are simulated beyond the training data, and again whenever they are used up."""

_LOG = logging.getLogger("margincast.venue")


class SimulatedVenue:
    """A venue that trades on beside an endpoint.

    Parameters
    ----------
    config:
        With a simulated market whose ``speed`` is above 0.
    endpoint:
        What it posts to.
    stop:
        Ends it.
    inbox:
        Where events of enforcement come in; entered by the caller.
    """

    def __init__(
        self, config: Config, endpoint: Endpoint, stop: threading.Event, inbox: Inbox
    ) -> None:
        self._config, self._endpoint, self._stop = config, endpoint, stop
        self._days = LATER_DAYS
        self._feed = self._simulate()
        self._next = config.simulate.days * 24 * self._feed.panel.interval.per_hour
        """Row of the first bar that has not been posted."""
        panel = self._feed.panel
        began = int(panel.closes[self._next - 1])
        self._clients = ClientActivity(
            opened_clients(config, began), config.accounts.seed, panel.symbols
        )
        self._desk = Desk(inbox, endpoint, self._clients, config.accounts.seed)

    def run(self) -> None:
        """Post until `stop` is set, or until the longest simulated market has ended.

        Raises
        ------
        RefusedError
            The endpoint refused what was posted.
        """
        started = self._find_place()
        if started is None:
            return
        page = self._config.serving.max_page or MAX_PAGE
        if not (self._desk.catch_up(page) and self._tell_accounts(started)):
            return
        clock = AcceleratedClock(started, self._config.simulate.speed, time.monotonic())
        _LOG.info(
            "the simulated market goes on from %s, %g times as fast as the clock",
            format_time(started),
            self._config.simulate.speed,
        )
        while not self._wait(clock):
            moment = clock.advance(time.monotonic())
            if moment >= self._feed.end and not self._extend():
                _LOG.warning("the simulated market has ended after %d days", MAX_DAYS)
                return
            answer = self._post_until(moment)
            if answer is None:
                return
            # Quotes of an earlier run may be ahead of the newest bar.
            clock.move_to(answer)

    def close(self) -> None:
        """Close the connections of its desk."""
        self._desk.close()

    def _wait(self, clock: AcceleratedClock) -> bool:
        """Work at the desk until the next tick; whether to stop.

        The market stands still meanwhile: deadlines of instructions are in its time, and at a
        multiple of the clock's speed they would pass before a process can answer.
        """
        end = time.monotonic() + TICK_SECONDS
        while not self._stop.is_set():
            began = time.monotonic()
            if self._desk.work(clock.time, self._feed):
                worked = time.monotonic() - began
                clock.pause(worked)
                end += worked
            left = end - time.monotonic()
            if left <= 0.0:
                return False
            self._desk.inbox.arrived.wait(min(left, LOOK_SECONDS))
        return True

    def _find_place(self) -> int | None:
        """Close of the newest step that the endpoint knows; None: stopped before it answered.

        Its answer to a bar that it has, the last one of the training data, says so.
        """
        known = self._post("/v1/market/bars", self._feed.bars(self._next - 1, self._next))
        if known is None:
            return None
        newest = parse_time(known["as_of"])
        while newest >= self._feed.end and self._extend():
            pass
        step = self._feed.panel.interval.nanoseconds
        self._next = max(self._next, int((newest - int(self._feed.panel.opens[0])) // step))
        return newest

    def _post_until(self, moment: int) -> int | None:
        """Post the bars that have closed by a time and the marks at it; the endpoint's time."""
        last = self._feed.row_at(moment)
        for row in range(self._next, last):
            figures = self._post("/v1/market/quotes", self._feed.figures(row))
            bars = self._post("/v1/market/bars", self._feed.bars(row, row + 1))
            if figures is None or bars is None or not self._let_clients_act(row):
                return None
            self._next = row + 1
        answer = self._post("/v1/market/quotes", self._feed.marks(moment))
        return None if answer is None else parse_time(answer["as_of"])

    def _let_clients_act(self, row: int) -> bool:
        """Post what clients do at the close of a bar; False: stopped before the answer."""
        panel = self._feed.panel
        time = int(panel.closes[row])
        hours = panel.interval.nanoseconds / HOUR
        updates = self._clients.actions(row, time, panel.values[row, :, CLOSE], hours)
        posted = updates is None or self._desk.send(updates)
        return posted and self._tell_accounts(time)

    def _tell_accounts(self, time: int) -> bool:
        """Post the accounts that the endpoint does not know; False: stopped before the answer."""
        return all(self._desk.send(request) for request in self._clients.snapshots(time))

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        found = self._endpoint.post(path, body)
        if found is not None and found[0] != 200:
            raise RefusedError.of(path, *found)
        return None if found is None else found[1]

    def _extend(self) -> bool:
        """Simulate more days; whether there are more."""
        if self._config.simulate.days + self._days >= MAX_DAYS:
            return False
        self._days = min(self._days + LATER_DAYS, MAX_DAYS - self._config.simulate.days)
        self._feed = self._simulate()
        return True

    def _simulate(self) -> SimulatedFeed:
        return SimulatedFeed(simulated_market(self._config, self._days).panel)


def run_venue(config: Config, stop: threading.Event) -> None:
    """Run the simulated venue of a configuration until `stop` is set.

    What ends it early is logged: the endpoint serves on with a market that stands still.
    """
    endpoint = Endpoint(config.serving.host, config.serving.port, stop)
    try:
        with open_inbox(config) as inbox:
            venue = SimulatedVenue(config, endpoint, stop, inbox)
            try:
                venue.run()
            finally:
                venue.close()
    except MargincastError as error:
        _LOG.error("the simulated venue ends: %s", error)
    finally:
        endpoint.close()
