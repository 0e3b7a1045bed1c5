"""A crash counts as soon as two sources agree on it; a bad tick never does.

Prices pass one filter, bars and quotes alike: beyond the hard band (a factor of 5 from the last
good price) they are rejected, within it a price that is suspect waits until another source agrees.
Meanwhile each account is valued at the last good prices and at the suspect ones, and the lower
headroom counts.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest

# Classes of conftest.py, which no test can import, are Any here.
Endpoint: TypeAlias = Any

PERP, SPOT = "BTCUSDT-PERP", "BTCUSDT"
CRASH = 0.65


def account(name: str, entry: float, quantity: float, cash: float) -> dict[str, Any]:
    """One perpetual position, entered at a price."""
    return {
        "account_id": name,
        "cash": cash,
        "positions": [{"instrument": PERP, "quantity": quantity, "entry_price": entry}],
        "collateral": [],
    }


@dataclass(frozen=True)
class Desk:
    """An endpoint with a long and a short account, thin enough for a crash to bankrupt the long."""

    endpoint: Endpoint
    entry: float

    @property
    def long(self) -> dict[str, Any]:
        return account("long", self.entry, 1.0, 0.11 * self.entry)

    @property
    def short(self) -> dict[str, Any]:
        return account("short", self.entry, -1.0, 0.11 * self.entry)

    def decide(self, **rest: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        decided = self.endpoint.score(self.long, self.short, **rest)
        return decided["long"], decided["short"]

    def equity(self, quantity: float, mark: float) -> float:
        return 0.11 * self.entry + quantity * (mark - self.entry)


@pytest.fixture
def desk(start: Callable[..., Endpoint]) -> Desk:
    endpoint = start("linear-tiers")
    return Desk(endpoint, endpoint.market.closes[SPOT])


def money(value: float) -> Any:
    return pytest.approx(value, rel=1e-9, abs=1e-6)


def test_a_bar_that_live_marks_agree_with_is_applied(desk: Desk) -> None:
    crashed = desk.entry * CRASH
    endpoint = desk.endpoint
    for minutes in (20, 50):
        statuses = endpoint.marks(
            endpoint.at(minutes=minutes), BTCUSDT_PERP=crashed, BTCUSDT=crashed * 1.002
        )
        assert statuses == ["applied", "applied"]
        long, short = desk.decide()
        assert long["equity"] == money(desk.equity(1.0, crashed))
        assert short["equity"] == money(desk.equity(-1.0, crashed))
    statuses = endpoint.bars(*endpoint.quiet_bars(0, BTCUSDT=crashed * 1.004))
    assert statuses == ["applied"] * 3
    long, short = desk.decide()
    assert long["as_of"] == endpoint.at(hours=1)
    assert long["equity"] == money(desk.equity(1.0, crashed * 1.004))
    assert short["equity"] == money(desk.equity(-1.0, crashed * 1.004))
    assert long.get("valuations") is None


def test_one_live_mark_that_agrees_confirms_a_bar(desk: Desk) -> None:
    """Mark and bar are two sources: what each alone leaves in doubt, both settle."""
    crashed = desk.entry * CRASH
    endpoint = desk.endpoint
    assert endpoint.marks(endpoint.at(minutes=55), BTCUSDT_PERP=crashed) != ["rejected"]
    assert endpoint.bars(*endpoint.quiet_bars(0, BTCUSDT=crashed * 1.003)) == ["applied"] * 3
    long, short = desk.decide()
    assert long["equity"] == money(desk.equity(1.0, crashed * 1.003))
    assert short["equity"] == money(desk.equity(-1.0, crashed * 1.003))


def _suspect(desk: Desk, crashed: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """The crash of a bar that nothing else has seen yet."""
    endpoint = desk.endpoint
    results = endpoint.bars(*endpoint.quiet_bars(0, BTCUSDT=crashed))
    assert results == ["suspect", "applied", "applied"]
    return desk.decide()


def test_a_suspect_bar_values_accounts_twice_and_the_lower_headroom_counts(desk: Desk) -> None:
    crashed = desk.entry * CRASH
    for decision, quantity in zip(_suspect(desk, crashed), (1.0, -1.0), strict=True):
        both = decision["valuations"]
        for name, mark in (("last_good", desk.entry), ("suspect", crashed)):
            equity, maintenance = desk.equity(quantity, mark), 0.02 * mark
            assert both[name]["equity"] == money(equity)
            assert both[name]["maintenance_margin"] == money(maintenance)
            assert both[name]["initial_margin"] == money(0.04 * mark)
            assert both[name]["headroom"] == money(equity - maintenance)
        lower = min(both["last_good"]["headroom"], both["suspect"]["headroom"])
        assert decision["headroom"] == lower
        missing = decision["add_on"] - lower
        assert 0.0 <= decision["deposit_to_meet"] - max(0.0, missing) <= 0.01 + 1e-6
    long, short = desk.decide()
    assert long["equity"] == money(desk.equity(1.0, crashed))
    assert short["equity"] == money(desk.equity(-1.0, desk.entry))


def test_what_counts_while_a_price_is_suspect_is_on_record(desk: Desk) -> None:
    long, _ = _suspect(desk, desk.entry * CRASH)
    recorded = desk.endpoint.get(f"/v1/decisions/{long['decision_id']}")
    assert recorded["valuations"] == long["valuations"]
    assert recorded["headroom"] == long["headroom"] < 0.0
    named = [reason["text"] for reason in long["reasons"]]
    assert any("suspect" in text for text in named), named


def test_a_restart_keeps_what_waits_for_confirmation(
    desk: Desk, start: Callable[..., Endpoint]
) -> None:
    before = _suspect(desk, desk.entry * CRASH)
    again = Desk(start(after=desk.endpoint), desk.entry)
    for earlier, later in zip(before, again.decide(), strict=True):
        assert later["valuations"] == earlier["valuations"]
        assert later["headroom"] == earlier["headroom"]


def test_files_that_end_with_a_suspect_bar_are_valued_twice_everywhere(
    desk: Desk,
    start: Callable[..., Endpoint],
    extended_files: Callable[..., Path],
    account_files: Callable[..., Path],
    tmp_path: Path,
) -> None:
    """Posted, read at the start of an endpoint, or read by ``margincast score``: all the same."""
    crashed = desk.entry * CRASH
    posted = _suspect(desk, crashed)
    bars = extended_files(tmp_path / "bars", desk.endpoint.quiet_bars(0, BTCUSDT=crashed))
    started = Desk(start(bars=bars), desk.entry)
    folder = account_files(tmp_path / "accounts", desk.endpoint.at(), [desk.long, desk.short])
    scored = started.endpoint.score_files(folder, desk.endpoint.at(hours=1))
    for live, read in zip(posted, started.decide(), strict=True):
        assert read["valuations"] == live["valuations"]
        row = scored[live["account_id"]]
        for figure in ("equity", "headroom", "maintenance_margin", "initial_margin", "floor"):
            assert read[figure] == live[figure]
            assert row[figure] == pytest.approx(live[figure], rel=1e-12)


def test_a_later_mark_confirms_a_suspect_bar(desk: Desk) -> None:
    crashed = desk.entry * CRASH
    _suspect(desk, crashed)
    endpoint = desk.endpoint
    later = crashed * 1.01
    statuses = endpoint.marks(endpoint.at(hours=1, minutes=5), BTCUSDT_PERP=later)
    assert statuses == ["applied"]
    for decision, quantity in zip(desk.decide(), (1.0, -1.0), strict=True):
        assert decision["equity"] == money(desk.equity(quantity, later))
        assert decision.get("valuations") is None


def test_the_next_bar_confirms_a_suspect_one(desk: Desk) -> None:
    crashed = desk.entry * CRASH
    _suspect(desk, crashed)
    endpoint = desk.endpoint
    later = crashed * 0.99
    assert endpoint.bars(*endpoint.quiet_bars(1, BTCUSDT=later)) == ["applied"] * 3
    for decision, quantity in zip(desk.decide(), (1.0, -1.0), strict=True):
        assert decision["equity"] == money(desk.equity(quantity, later))
        assert decision.get("valuations") is None


def test_a_suspect_bar_that_the_next_one_takes_back_is_forgotten(desk: Desk) -> None:
    _suspect(desk, desk.entry * CRASH)
    endpoint = desk.endpoint
    after = desk.entry * 1.002
    assert endpoint.bars(*endpoint.quiet_bars(1, BTCUSDT=after)) == ["applied"] * 3
    for decision, quantity in zip(desk.decide(), (1.0, -1.0), strict=True):
        assert decision["equity"] == money(desk.equity(quantity, after))
        assert decision.get("valuations") is None


@pytest.mark.parametrize("mark", [1e-15, 1e-3, 1e12])
@pytest.mark.parametrize("instrument", [PERP, SPOT])
def test_a_mark_beyond_the_hard_band_is_rejected(
    impossible: Endpoint, instrument: str, mark: float
) -> None:
    """Whatever else a rejected price may be, it is no headroom for a short account."""
    entry = impossible.market.closes[SPOT]
    accounts = [
        account("short", entry, -1.0, 0.11 * entry),
        account("long", entry, 1.0, 0.11 * entry),
        account("pledged", entry, 0.0, 0.0)
        | {"positions": [], "collateral": [{"asset": "BTC", "amount": 1.0}]},
    ]
    before = impossible.score(*accounts)
    quote = {"instrument": instrument, "ts": impossible.at(minutes=1), "mark": mark}
    assert impossible.quotes(quote) == ["rejected"]
    after = impossible.score(*accounts)
    for name, decision in before.items():
        for figure in ("equity", "headroom", "maintenance_margin", "initial_margin", "floor"):
            assert after[name][figure] == pytest.approx(decision[figure], rel=1e-3), (name, figure)
        assert after[name].get("valuations") is None


@pytest.mark.parametrize("mark", [1e-15, 1e-3, 1e12])
def test_a_stable_coin_beyond_its_band_is_rejected(impossible: Endpoint, mark: float) -> None:
    entry = impossible.market.closes[SPOT]
    holder = account("stable", entry, 0.01, 0.0) | {
        "collateral": [{"asset": "USDT", "amount": 5_000.0}]
    }
    before = impossible.decision(holder)
    quote = {"instrument": "USDT", "ts": impossible.at(minutes=1), "mark": mark}
    assert impossible.quotes(quote) == ["rejected"]
    assert impossible.decision(holder)["equity"] == pytest.approx(before["equity"], rel=1e-3)


@pytest.fixture(scope="module")
def impossible(start: Callable[..., Endpoint]) -> Endpoint:
    """One endpoint for all prices that must leave no trace on it."""
    return start("linear-tiers")


def test_a_mark_beyond_the_hard_band_is_rejected_after_a_silence_too(desk: Desk) -> None:
    endpoint = desk.endpoint
    for instrument in (PERP, SPOT, "USDT"):
        for mark in (1e-15, 1e12):
            quote = {"instrument": instrument, "ts": endpoint.at(hours=22), "mark": mark}
            assert endpoint.quotes(quote) == ["rejected"], (instrument, mark)


def test_a_forward_beyond_the_hard_band_is_rejected(start: Callable[..., Endpoint]) -> None:
    endpoint = start("derive-srm")
    price = endpoint.market.closes[SPOT]
    expiry = {"instrument": "BTC-28MAR25", "ts": endpoint.at(minutes=1), "vols": {"140000": 0.6}}
    assert endpoint.quotes({**expiry, "forward": price * 1.01}) == ["applied"]
    writer = {
        "account_id": "writer",
        "cash": price,
        "positions": [{"instrument": "BTC-28MAR25-140000-C", "quantity": -1.0}],
        "collateral": [],
    }
    before = endpoint.decision(writer)
    for minute, forward in ((2, 1e-15), (3, 1e12), (4, price * 6.0), (5, price / 6.0)):
        wrong = {"instrument": "BTC-28MAR25", "ts": endpoint.at(minutes=minute), "forward": forward}
        assert endpoint.quotes(wrong) == ["rejected"], forward
    after = endpoint.decision(writer)
    for figure in ("equity", "headroom", "maintenance_margin"):
        assert after[figure] == pytest.approx(before[figure], rel=1e-3)


@pytest.mark.parametrize("factor", [CRASH, 1.0 / CRASH])
def test_a_single_glitch_of_one_source_does_not_stick(desk: Desk, factor: float) -> None:
    """Neither its repetition nor time confirms a price that one source alone has seen."""
    endpoint = desk.endpoint
    glitch = desk.entry * factor
    for minutes in (5, 10, 15):
        statuses = endpoint.marks(endpoint.at(minutes=minutes), BTCUSDT_PERP=glitch)
        assert statuses == ["suspect"]
        for decision, quantity in zip(desk.decide(), (1.0, -1.0), strict=True):
            both = decision["valuations"]
            assert both["last_good"]["equity"] == money(desk.equity(quantity, desk.entry))
            assert both["suspect"]["equity"] == money(desk.equity(quantity, glitch))
    normal = desk.entry * 1.001
    assert endpoint.marks(endpoint.at(minutes=20), BTCUSDT_PERP=normal) == ["applied"]
    for decision, quantity in zip(desk.decide(), (1.0, -1.0), strict=True):
        assert decision["equity"] == money(desk.equity(quantity, normal))
        assert decision.get("valuations") is None


def test_a_bar_that_contradicts_a_suspect_mark_settles_it(desk: Desk) -> None:
    endpoint = desk.endpoint
    assert endpoint.marks(endpoint.at(minutes=30), BTCUSDT_PERP=desk.entry * CRASH) == ["suspect"]
    close = desk.entry * 1.001
    assert endpoint.bars(*endpoint.quiet_bars(0, BTCUSDT=close)) == ["applied"] * 3
    for decision, quantity in zip(desk.decide(), (1.0, -1.0), strict=True):
        assert decision["equity"] == money(desk.equity(quantity, close))
        assert decision.get("valuations") is None


def _crash_path(seed: int, entry: float) -> list[tuple[int, float]]:
    """Minutes and prices of a day like 2025-10-10: half is lost within minutes, part comes back."""
    draw = random.Random(seed)  # noqa: S311 - a path, no secret
    price, path = entry, []
    for minute in range(0, 300, 5):
        drift = {65: -0.3, 70: -0.3, 75: -0.1, 80: -0.1, 90: 0.3, 95: 0.1}.get(minute, 0.0)
        price *= math.exp(drift + draw.gauss(0.0, 0.004))
        path.append((minute, price))
    return path


@pytest.mark.parametrize("together", [True, False])
def test_no_account_is_solvent_on_record_while_bankrupt_at_the_consensus(
    desk: Desk, together: bool
) -> None:
    """Perpetual and spot are quoted every five minutes, in one request or one after the other."""
    endpoint = desk.endpoint
    draw = random.Random(100)  # noqa: S311 - noise of quotes, no secret
    bankrupt = 0
    for minute, price in _crash_path(1, desk.entry):
        perp, spot = (price * math.exp(draw.gauss(0.0, 0.003)) for _ in range(2))
        moment = endpoint.at(minutes=minute + 1)
        if together:
            endpoint.marks(moment, BTCUSDT_PERP=perp, BTCUSDT=spot)
        else:
            endpoint.marks(moment, BTCUSDT_PERP=perp)
            endpoint.marks(moment, BTCUSDT=spot)
        if minute % 60 == 55:
            endpoint.bars(*endpoint.quiet_bars(minute // 60, BTCUSDT=price))
        if desk.equity(1.0, statistics.median([perp, spot])) < -0.01 * desk.entry:
            bankrupt += 1
            (long, _) = desk.decide()
            assert long["equity"] < 0.0, (minute, perp / desk.entry, long["marks"])
            assert long["headroom"] < 0.0
    assert bankrupt > 10
