"""Reads what metrics say of the market and the model of an endpoint."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import nan

from features.state.snapshot import MarketSnapshot
from market.core.clock import SECOND
from monitoring.champion import ChampionWatch
from monitoring.market_state.live_market import LiveMarket
from serving.telemetry.metrics.facts import MarketFacts


class MarketFactsReader:
    """Reads facts; waits neither for the database nor for a lock.

    Parameters
    ----------
    champion:
        The model.
    live:
        The market.
    snapshot:
        Gives the market at the decision time, once there is one.
    """

    def __init__(
        self, champion: ChampionWatch, live: LiveMarket, snapshot: Callable[[], MarketSnapshot]
    ) -> None:
        self._champion, self._live, self._snapshot = champion, live, snapshot
        self._loaded: tuple[str | None, float] = (None, nan)

    def read(self) -> MarketFacts:
        """What is known now."""
        model, live = self._champion.current().model, self._live
        sha = model.bundle.sha256 if model else None
        if sha != self._loaded[0]:
            self._loaded = (sha, nan if sha is None else time.time())
        trained = model.bundle.manifest["training"].get("span_ns") if model else None
        newest, quoted = live.newest_close, live.state.quotes.newest
        age, quote_age, usable = nan, nan, 0
        if newest is not None:
            snapshot = self._snapshot()
            age = (snapshot.as_of - newest) / SECOND
            usable = int(snapshot.usable().sum())
            quote_age = nan if quoted is None else (snapshot.as_of - quoted) / SECOND
        return MarketFacts(
            model=sha,
            trained_until=trained[-1] / SECOND if trained else nan,
            loaded_at=self._loaded[1],
            market_age=age,
            quote_age=quote_age,
            symbols=len(live.state.mark),
            usable=usable,
            suspects=len(live.state.suspect_prices),
        )
