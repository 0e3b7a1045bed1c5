"""How old a mark may be, on the market's clock and on the wall's."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.waiting import WAIT_SECONDS, wait_for

# Classes of conftest.py, which no test can import, are Any here.
Endpoint: TypeAlias = Any
Start: TypeAlias = Callable[..., Endpoint]

PERP = "BTCUSDT-PERP"


def long(price: float) -> dict[str, Any]:
    return {
        "account_id": "long",
        "cash": price,
        "positions": [{"instrument": PERP, "quantity": 1.0, "entry_price": price}],
        "collateral": [],
    }


def mark_of(decision: dict[str, Any]) -> dict[str, Any]:
    (mark,) = [mark for mark in decision["marks"] if mark["instrument"] == PERP]
    return dict(mark)


def quoted(live: Endpoint, held: dict[str, Any], *quotes: dict[str, Any]) -> dict[str, Any]:
    """The decision right after quotes that live for three seconds; once more where the machine
    took longer for both calls."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        began = time.monotonic()
        assert live.quotes(*quotes) == ["applied"] * len(quotes)
        decision: dict[str, Any] = live.decision(held)
        if time.monotonic() - began < 3.0:
            return decision
        assert time.monotonic() < deadline, "no decision follows its quotes within three seconds"


def test_a_mark_counts_up_to_the_configured_age_and_the_close_beyond_it(start: Start) -> None:
    endpoint = start(market='mark_max_age = "30m"')
    price = endpoint.market.closes["BTCUSDT"]
    endpoint.marks(endpoint.at(minutes=10), BTCUSDT_PERP=price * 1.02)
    for minutes, used, source, age in (
        (10, price * 1.02, "quote", 0.0),
        (25, price * 1.02, "quote", 900.0),
        (40, price * 1.02, "quote", 1800.0),
        (41, price, "bar", 2460.0),
        (70, price, "bar", 4200.0),
    ):
        decision = endpoint.decision(long(price), as_of=endpoint.at(minutes=minutes))
        mark = mark_of(decision)
        assert (minutes, mark["price"], mark["source"]) == (minutes, used, source)
        assert mark["age_seconds"] == age
        assert not mark.get("stale", False)
        assert decision["equity"] == pytest.approx(used, rel=1e-12)


def test_a_decision_of_a_time_before_a_mark_does_not_know_it(start: Start) -> None:
    endpoint = start()
    price = endpoint.market.closes["BTCUSDT"]
    endpoint.marks(endpoint.at(minutes=10), BTCUSDT_PERP=price * 1.02)
    endpoint.marks(endpoint.at(minutes=20), BTCUSDT_PERP=price * 1.04)
    for minutes, used in ((5, price), (15, price * 1.02), (25, price * 1.04)):
        decision = endpoint.decision(long(price), as_of=endpoint.at(minutes=minutes))
        assert decision["equity"] == pytest.approx(used, rel=1e-12)
        assert mark_of(decision)["price"] == used


def test_a_restart_keeps_the_marks(start: Start) -> None:
    endpoint = start()
    price = endpoint.market.closes["BTCUSDT"]
    endpoint.marks(endpoint.at(minutes=10), BTCUSDT_PERP=price * 1.02)
    before = endpoint.decision(long(price))
    after = start(after=endpoint).decision(long(price))
    for figure in ("as_of", "equity", "headroom", "maintenance_margin", "floor", "marks"):
        assert after[figure] == before[figure]


def test_a_mark_counts_for_two_intervals_where_nothing_is_configured(start: Start) -> None:
    endpoint = start()
    price = endpoint.market.closes["BTCUSDT"]
    endpoint.marks(endpoint.at(minutes=10), BTCUSDT_PERP=price * 1.02)
    young = endpoint.decision(long(price), as_of=endpoint.at(hours=2, minutes=10))
    assert mark_of(young)["source"] == "quote"
    assert mark_of(young)["age_seconds"] == 7200.0
    old = endpoint.decision(long(price), as_of=endpoint.at(hours=2, minutes=11))
    assert mark_of(old)["stale"] is True


def test_a_coin_without_bars_is_named_as_stale_until_it_is_quoted(start: Start) -> None:
    endpoint = start()
    price = endpoint.market.closes["BTCUSDT"]
    for hour in range(4):
        assert endpoint.bars(*endpoint.quiet_bars(hour, "BTCUSDT")) == ["applied"] * 2
    readiness = endpoint.get("/health/ready")
    assert readiness["status"] == "degraded"
    named = [text for text in readiness["reasons"] if "stale" in text and "BTCUSDT" in text]
    assert named, readiness
    decision = endpoint.decision(long(price))
    assert decision["as_of"] == endpoint.at(hours=4)
    assert mark_of(decision)["stale"] is True
    assert mark_of(decision)["age_seconds"] == 4 * 3600.0
    assert any("stale" in reason["text"] for reason in decision["reasons"]), decision["reasons"]
    assert endpoint.marks(endpoint.at(hours=4), BTCUSDT_PERP=price * 0.99) == ["applied"]
    quoted = endpoint.decision(long(price))
    assert not mark_of(quoted).get("stale", False)
    assert quoted["equity"] == pytest.approx(price * 0.99, rel=1e-12)


@pytest.fixture(scope="module")
def recent_bars(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bar files moved in time, so that the newest bar closed at the last full hour."""
    market = start().market
    now = datetime.now(UTC)
    shift = now.replace(minute=0, second=0, microsecond=0) - market.newest
    folder: Path = tmp_path_factory.mktemp("recent")
    for path in market.bars.glob("*.parquet"):
        table = pq.read_table(path)
        field = table.schema.field("ts")
        moved = pc.add(table["ts"], pa.scalar(shift, pa.duration(field.type.unit)))
        index = table.schema.get_field_index("ts")
        pq.write_table(table.set_column(index, field, moved.cast(field.type)), folder / path.name)
    return folder


@pytest.fixture(scope="module")
def live(start: Start, recent_bars: Path) -> Endpoint:
    """An endpoint on the wall clock, with marks that live for three seconds."""
    return start(clock="wall", bars=recent_bars, market='mark_max_age = "3s"')


def test_on_the_wall_clock_a_mark_counts_at_once_and_until_it_is_too_old(live: Endpoint) -> None:
    price = live.market.closes["BTCUSDT"]
    wait_for(lambda: mark_of(live.decision(long(price)))["source"] == "bar")  # of no other test
    before = live.decision(long(price))
    assert before["equity"] == pytest.approx(price, rel=1e-12)
    decision = quoted(live, long(price), {"instrument": PERP, "mark": price * 0.95})
    assert mark_of(decision)["price"] == price * 0.95
    assert mark_of(decision)["source"] == "quote"
    assert 0.0 <= mark_of(decision)["age_seconds"] <= 3.0
    assert decision["equity"] == pytest.approx(price * 0.95, rel=1e-12)
    taken = datetime.fromisoformat(decision["as_of"]).astimezone(UTC)
    assert abs(datetime.now(UTC) - taken) < timedelta(seconds=WAIT_SECONDS)
    time.sleep(3.2)
    after = live.decision(long(price))
    assert mark_of(after)["source"] == "bar"
    assert after["equity"] == pytest.approx(price, rel=1e-12)


def test_on_the_wall_clock_a_crash_that_two_sources_quote_counts_at_once(live: Endpoint) -> None:
    price = live.market.closes["BTCUSDT"]
    low = price * 0.62
    perpetual = {"instrument": PERP, "mark": low}
    decision = quoted(live, long(price), perpetual, {"instrument": "BTCUSDT", "mark": low * 1.001})
    assert decision["equity"] == pytest.approx(low, rel=1e-12)


def test_on_the_wall_clock_a_lone_bar_counts_after_the_grace(
    start: Start, recent_bars: Path, tmp_path: Path
) -> None:
    """The files end an hour early; of the missing hour one symbol alone is posted."""
    for path in recent_bars.glob("*.parquet"):
        table = pq.read_table(path)
        pq.write_table(table.slice(0, table.num_rows - 1), tmp_path / path.name)
    endpoint = start(clock="wall", bars=tmp_path, serving="step_grace = 2")
    table = pq.read_table(recent_bars / "BTCUSDT.parquet")
    opened = table["ts"][-1].as_py()
    price = table["close"][-2].as_py() * 1.01
    held = long(price)
    before = endpoint.decision(held)
    ts = opened.strftime("%Y-%m-%dT%H:%M:%SZ")
    bar = {**endpoint.bar("BTCUSDT", 0, price), "ts": ts}
    assert endpoint.bars(bar) == ["applied"]
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        after = endpoint.decision(held)
        if mark_of(after)["price"] == price and after["floor"] != before["floor"]:
            break
        time.sleep(0.5)
    assert mark_of(after)["price"] == price
    assert mark_of(after)["source"] == "bar"
    late = {**endpoint.bar("ETHUSDT", 0, endpoint.market.closes["ETHUSDT"]), "ts": ts}
    assert endpoint.bars(late) == ["applied"]
