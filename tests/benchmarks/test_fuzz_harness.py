"""The fuzzing harness: equal seeds give equal bodies, and every check can fail."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.fuzz.campaign import faults_of, next_request, run_campaign
from benchmarks.fuzz.endpoint import MODES, World
from benchmarks.fuzz.generators.draw import Draw
from benchmarks.fuzz.generators.hostile import RAW
from benchmarks.fuzz.generators.requests import BARS, QUOTES, SCORE, WHAT_IF, Request, dumps
from benchmarks.fuzz.oracles.decisions import decision_faults
from benchmarks.fuzz.oracles.relations import price_count
from benchmarks.fuzz.shrink import shrink
from market.core.clock import HOUR, format_time
from market.core.errors import LedgerError

ACCOUNT = {
    "account_id": "a",
    "cash": 20_000.0,
    "positions": [{"instrument": "BTCUSDT-PERP", "quantity": 1.0}],
}
CASH = {"account_id": "b", "cash": 5.0, "positions": []}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("fuzz"), "linear-tiers", limit_seconds=60.0)


@pytest.fixture(scope="module")
def decision(world: World) -> dict[str, Any]:
    with world.endpoint(MODES[0]) as endpoint:
        body = {"accounts": [ACCOUNT], "explain": True}
        response = endpoint.caller.call(Request("POST", SCORE, body))
    (found,) = json.loads(response.body)["decisions"]
    return dict(found)


def score(*accounts: dict[str, Any]) -> Request:
    return Request("POST", SCORE, {"accounts": list(accounts)})


def names(faults: Sequence[str]) -> set[str]:
    return {fault.partition(":")[0] for fault in faults}


def test_equal_seeds_give_equal_bodies_and_others_do_not(world: World) -> None:
    def bodies(seed: int) -> list[tuple[str, bytes]]:
        with world.endpoint(MODES[0]) as endpoint:
            scene, draw = world.scene(endpoint, 0), Draw(seed)
        requests = [next_request(draw, scene) for _ in range(60)]
        return [(request.target, request.body()) for request in requests]

    assert bodies(1) == bodies(1)
    assert bodies(1) != bodies(2)


def test_numbers_that_python_lacks_reach_the_body_as_written() -> None:
    assert dumps({"a": RAW + "1e400", "b": [RAW + "-0"], "c": "x"}) == (
        b'{"a": 1e400, "b": [-0], "c": "x"}'
    )


def test_a_sound_request_has_no_fault(world: World) -> None:
    what_if = Request(
        "POST",
        WHAT_IF,
        {
            "accounts": [ACCOUNT],
            "target_headroom": 0.0,
            "marginal": True,
            "largest": [{"account_id": "a", "instrument": "ETHUSDT-PERP", "side": "buy"}],
        },
    )
    quotes = Request("POST", QUOTES, {"quotes": [{"instrument": "USDT", "mark": 0.999}]})
    for mode in dict.fromkeys(MODES):
        assert faults_of(world, [quotes, what_if, score(ACCOUNT, CASH)], mode) == []


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"equity": None}, "required number missing"),
        ({"cap": "1"}, "required number missing"),
        ({"add_on": -1.0}, "add-on outside its bounds"),
        ({"add_on": 1e12}, "add-on outside its bounds"),
        ({"floor": 1e12}, "add-on outside its bounds"),
        ({"maintenance_margin": -1e-12}, "negative margin"),
        ({"headroom": 0.0}, "headroom 0.0 is not equity"),
        ({"total_requirement": 0.0}, "total 0.0 is not maintenance"),
        ({"deposit_to_meet": 7.0}, "deposit 7.0 is not what is missing, 0.0"),
        ({"probability": {"1": 0.2, "8": 0.1, "24": 0.3}}, "probability falls"),
        ({"probability": {"1": 0.2, "8": 0.3, "24": 1.5}}, "probability outside"),
        ({"probability": None}, "decision without a model is not degraded"),
        ({"degraded": "stale"}, "binding does not fit degraded"),
        ({"binding": "fallback"}, "binding does not fit degraded"),
        ({"binding": "cap"}, "binding does not fit the level"),
        ({"binding": "model", "model_add_on": 0.5}, "binding does not fit the level"),
        ({"opening_requirement": 1.0}, "opening_requirement 1.0 is not max"),
        ({"opening_requirement": None}, "opening_requirement None is not max"),
        ({"marks": []}, "no mark of a position"),
        ({"explain": {"floors": {"liquidity": None}}}, "null in the explanation"),
        ({"explain": {"positions": [{"notional": None}]}}, "null in the explanation"),
        ({"explain": {"add_on": 1.0}}, "explanation of another decision"),
        ({"explain": {"reasons": []}}, "a reason is not among all reasons"),
        ({"reasons": []}, "reasons do not lead with what bound"),
    ],
)
def test_every_fault_of_a_decision_is_detected(
    decision: dict[str, Any], changes: dict[str, Any], fault: str
) -> None:
    assert list(decision_faults(decision, ACCOUNT)) == []
    faults = list(decision_faults(copy.deepcopy(decision) | changes, ACCOUNT))
    assert any(found.startswith(fault) for found in faults), faults


def test_a_leap_of_the_price_is_detected_unless_a_gap_explains_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(hours: int) -> Request:
        with world.endpoint(MODES[0]) as endpoint:
            opened = endpoint.newest_close + hours * HOUR
        bars = [
            {"symbol": symbol, "ts": format_time(opened), "volume": 1.0}
            | dict.fromkeys(("open", "high", "low", "close"), 1.0)
            for symbol in ("BTCUSDT", "ETHUSDT")
        ]
        return Request("POST", BARS, {"interval": "1h", "bars": bars, "final": True})

    assert faults_of(world, [crash(30)]) == []
    assert faults_of(world, [crash(2)]) == []
    monkeypatch.setattr("market.bars.outlier_filter.MAX_GAP_HOURS", 0)
    assert "prices leap" in names(faults_of(world, [crash(2)]))


def test_only_an_option_may_be_worth_nothing(decision: dict[str, Any]) -> None:
    mark = {"instrument": "BTC-7FEB25-60000-P", "source": "quote", "age_seconds": 0.0}
    assert list(decision_faults(decision | {"marks": [mark | {"price": 0.0}]})) == []
    (fault,) = decision_faults(decision | {"marks": [mark | {"price": -0.0}]})
    assert fault.startswith("mark of BTC-7FEB25-60000-P")


@pytest.mark.parametrize(
    "mark",
    [
        {"price": 0.0, "source": "bar", "age_seconds": 0.0},
        {"price": None, "source": "bar", "age_seconds": 0.0},
        {"price": 1.0, "source": "guess", "age_seconds": 0.0},
        {"price": 1.0, "source": "quote", "age_seconds": -1.0},
        {"price": 1.0, "source": "quote", "age_seconds": None},
    ],
)
def test_an_impossible_mark_is_detected(decision: dict[str, Any], mark: dict[str, Any]) -> None:
    sound = {"instrument": "BTCUSDT-PERP", "price": 1.0, "source": "bar", "age_seconds": 0.0}
    assert list(decision_faults(decision | {"marks": [sound]}, ACCOUNT)) == []
    (fault,) = decision_faults(decision | {"marks": [sound | mark]}, ACCOUNT)
    assert fault.startswith("mark of BTCUSDT-PERP")


def test_a_call_that_never_returns_is_ended_and_reported(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from serving.service import Service

    class Endless(str):
        """A name that never compares: whoever looks for it stands there at any moment."""

        def __hash__(self) -> int:
            while True:
                pass

        def __eq__(self, other: object) -> bool:
            return bool(hash(self))

    def endless(*_: object) -> None:
        world.ruleset.collateral.haircut(Endless("BTC"))

    slow = World(world.folder, world.preset, limit_seconds=3.0)
    monkeypatch.setattr(Service, "what_if", endless)
    with slow.endpoint(MODES[0]) as endpoint:
        response = endpoint.caller.call(
            Request("POST", WHAT_IF, {"accounts": [CASH], "changes": [{"account_id": "b"}]})
        )
        assert "margin/rules/ruleset.py haircut" in response.hang
        assert not response.stuck
        assert response.seconds < 60.0
        assert endpoint.caller.call(Request("GET", "/health/live")).status == 200


def test_an_unexpected_error_is_named_by_its_place(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from serving.service import Service

    def broken(*_: Any) -> None:
        world.ruleset.collateral.haircut([])  # type: ignore[arg-type]

    monkeypatch.setattr(Service, "score_many", broken)
    faults = faults_of(world, [score(ACCOUNT)])
    assert any(
        fault.startswith("status 500: TypeError at margin/rules/ruleset.py") for fault in faults
    ), faults


def test_a_decision_that_depends_on_its_neighbours_is_detected(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from decisions.decision import decide

    def crowded(accounts: Sequence[Any], *rest: Any, **named: Any) -> Any:
        responses = decide(accounts, *rest, **named)
        return responses[:1] if len(accounts) > 1 else responses

    monkeypatch.setattr("monitoring.champion.decide", crowded)
    found = names(faults_of(world, [score(ACCOUNT, CASH)]))
    assert "refused for a neighbour" in found
    assert not any("neighbour" in name for name in names(faults_of(world, [score(ACCOUNT)])))


def test_a_refused_record_shows_as_unready(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from ledger.store import Ledger

    def refuse(*_: Any, **__: Any) -> None:
        raise LedgerError("full")

    monkeypatch.setattr(Ledger, "append_decisions", refuse)
    found = names(faults_of(world, [score(ACCOUNT)]))
    assert {"status 503", "readiness is 503"} <= found


def test_a_lost_quote_shows_at_the_restart(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from monitoring.market_state import live_market
    from monitoring.recovery.recovery import RecoveredMarket

    quotes = Request("POST", QUOTES, {"quotes": [{"instrument": "USDT", "mark": 0.999}]})
    assert faults_of(world, [quotes]) == []
    monkeypatch.setattr(
        live_market, "replay_market_records", lambda state, *_: RecoveredMarket(state, 0, 0)
    )
    assert names(faults_of(world, [quotes])) == {"restart gives another market"}


def test_shrinking_keeps_the_failure_and_drops_the_rest() -> None:
    guilty = {"account_id": "x", "cash": 1e300, "positions": [{"quantity": 3.25}]}
    request = score(ACCOUNT, guilty, CASH)
    before = [score(CASH, ACCOUNT) for _ in range(7)]

    def fails(earlier: Sequence[Request], tried: Request) -> bool:
        accounts = tried.document.get("accounts", ())
        return len(earlier) >= 2 and any(one.get("cash", 0.0) > 1e200 for one in accounts)

    kept, smaller = shrink(before, request, fails, tries=500, seconds=60.0)
    assert [earlier.document for earlier in kept] == [{}, {}]
    assert smaller.document == {"accounts": [{"cash": 1e300}]}


def test_a_campaign_counts_every_body_and_names_each_failure_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from serving.service import Service

    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Service, "post_quotes", broken)
    report = run_campaign(tmp_path, ["linear-tiers"], 40, 3, minimise=False)
    assert report.bodies == 40
    keys = [key for key in report.failures if "ZeroDivisionError" in key]
    assert len(keys) == 1
    assert report.times[keys[0]] > 1
    assert report.presets[keys[0]] == {"linear-tiers"}


def test_prices_are_counted_where_a_body_has_lists_of_them() -> None:
    quotes = [{"instrument": "BTCUSDT", "mark": 1.0}, {"instrument": "XRPUSDT", "mark": 1.0}, 7]
    assert price_count(Request("POST", QUOTES, {"quotes": quotes, "bars": 3})) == 1
