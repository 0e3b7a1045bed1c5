"""The simulated venue against an endpoint that only notes what it gets."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pipelines.venue.venue as venue
from market.bars.panel import CLOSE
from market.core.clock import HOUR, format_time, parse_time
from pipelines.config.config import Config, load_config
from pipelines.data.loaders import read_market, simulated_market
from pipelines.venue.client_files import write_clients
from pipelines.venue.endpoint import RefusedError
from pipelines.venue.inbox import Inbox
from pipelines.venue.venue import SimulatedVenue
from tests.enforcement.delivery.receiver import SECRET

DAYS = 12


class Noted:
    """An endpoint that applies everything and stops the venue after some bars."""

    def __init__(self, config: Config, stop: threading.Event, most_bars: int) -> None:
        self.posts: list[tuple[str, Any]] = []
        self.bars: list[Any] = []
        self.newest = int(simulated_market(config).panel.closes[-1])
        self.time = self.newest
        self.refused = False
        self.ended: list[str] = []
        """Accounts whose call is closed."""
        self._stop, self._most = stop, most_bars

    def post(self, path: str, body: Mapping[str, Any]) -> tuple[int, dict[str, Any]] | None:
        if self._stop.is_set():
            return None
        self.posts.append((path, body))
        if self.refused and path.endswith("quotes"):
            return 422, {"detail": "no such instrument"}
        if path.endswith("bars"):
            closes = [parse_time(bar["ts"]) + HOUR for bar in body["bars"]]
            if closes[0] > self.newest:
                self.bars += body["bars"]
            self.newest = max(self.newest, *closes)
            self.time = max(self.time, self.newest)
            if len({bar["ts"] for bar in self.bars}) >= self._most:
                self._stop.set()
            return 200, {"as_of": format_time(self.newest)}
        if path.endswith("updates"):
            results = [
                {"account_id": u["account_id"], "expected": u["sequence"] + 1, "in_sync": True}
                for u in body["updates"]
            ]
            return 200, {"results": results}
        self.time = max(self.time, *(parse_time(quote["ts"]) for quote in body["quotes"]))
        return 200, {"as_of": format_time(self.time)}

    def get(self, path: str) -> tuple[int, dict[str, Any]] | None:
        ended = self.ended if "state=closed" in path else []
        return 200, {"calls": [{"account_id": name} for name in ended], "next_cursor": None}

    def close(self) -> None:
        pass


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setattr(venue, "TICK_SECONDS", 0.005)
    monkeypatch.setattr(venue, "LATER_DAYS", 1)
    file = tmp_path / "margincast.toml"
    file.write_text(
        f"[simulate]\ndays = {DAYS}\nsymbols = 3\nspeed = 3600\nhalts = {{ SOLUSDT = 5 }}\n"
        "[accounts]\ncount = 20\n[serving]\nbundles = 'var/bundles'\n"
    )
    read = load_config(file)
    write_clients(read, read_market(read))
    # So fast that a tick is a few minutes of the market.
    fast = read.simulate.model_copy(update={"speed": 40_000.0})
    return read.model_copy(update={"simulate": fast})


def run(
    config: Config, bars: int, endpoint: Noted | None = None, ended: Sequence[str] = ()
) -> Noted:
    stop = threading.Event()
    noted = Noted(config, stop, bars)
    noted.ended = list(ended)
    if endpoint is not None:
        noted.newest, noted.time = endpoint.newest, endpoint.time
    with Inbox(0, SECRET) as inbox:
        SimulatedVenue(config, noted, stop, inbox).run()  # type: ignore[arg-type]
    return noted


def test_bars_continue_the_training_market_without_a_gap(config: Config) -> None:
    noted = run(config, 30)  # more than one extension of the market
    later = simulated_market(config, 3).panel
    first = DAYS * 24
    expected = [
        (symbol, format_time(int(later.opens[row])), float(later.values[row, column, CLOSE]))
        for row in range(first, first + 30)
        for column, symbol in enumerate(later.symbols)
        if symbol != "SOLUSDT"
    ]
    assert [(bar["symbol"], bar["ts"], bar["close"]) for bar in noted.bars] == expected
    training = simulated_market(config).panel
    assert np.array_equal(training.values, later.values[:first], equal_nan=True)
    assert (training.closes == later.closes[:first]).all()


def test_marks_are_posted_within_bars_and_never_of_a_closed_one(config: Config) -> None:
    noted = run(config, 4)
    newest, within = 0, 0
    for path, body in noted.posts:
        if path.endswith("bars"):
            newest = max(newest, *(parse_time(bar["ts"]) + HOUR for bar in body["bars"]))
        elif path.endswith("quotes"):
            times = {parse_time(quote["ts"]) for quote in body["quotes"]}
            assert len(times) == 1
            assert times.pop() >= newest
            within += body["quotes"][0]["ts"][14:16] != "00"
    assert within > 4


def test_every_account_is_told_before_the_market_moves(config: Config) -> None:
    noted = run(config, 2)
    kinds = [path for path, _ in noted.posts[:3]]
    assert kinds[:2] == ["/v1/market/bars", "/v1/accounts/updates"]
    told = noted.posts[1][1]["updates"]
    assert len(told) == 20
    assert all("snapshot" in update for update in told)


def test_a_restart_goes_on_where_the_endpoint_is(config: Config) -> None:
    first = run(config, 30)
    second = run(config, 5, first)
    assert parse_time(second.bars[0]["ts"]) == first.newest
    assert parse_time(second.bars[-1]["ts"]) + HOUR == second.newest
    quoted = [
        parse_time(body["quotes"][0]["ts"])
        for path, body in second.posts
        if path.endswith("quotes")
    ]
    assert min(quoted) >= first.newest


def test_a_restarted_venue_leaves_accounts_alone_that_were_closed(config: Config) -> None:
    first = run(config, 30)
    told = first.posts[1][1]["updates"]
    acted = updated(first.posts[2:])
    assert acted
    ended = sorted(acted)[:3]
    second = run(config, 30, ended=ended)
    assert updated(second.posts) == {update["account_id"] for update in told} - set(ended)


def updated(posts: Sequence[tuple[str, Any]]) -> set[str]:
    bodies = [body for path, body in posts if path.endswith("updates")]
    return {update["account_id"] for body in bodies for update in body["updates"]}


def test_a_refusal_of_quotes_ends_it(config: Config) -> None:
    stop = threading.Event()
    noted = Noted(config, stop, 10)
    noted.refused = True
    with Inbox(0, SECRET) as inbox, pytest.raises(RefusedError, match="no such instrument"):
        SimulatedVenue(config, noted, stop, inbox).run()  # type: ignore[arg-type]
