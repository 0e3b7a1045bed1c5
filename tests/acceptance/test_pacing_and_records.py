"""The level in force follows the model's levels on record, whatever happens between them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

import pytest

# Classes of conftest.py, which no test can import, are Any here.
Endpoint: TypeAlias = Any
Start: TypeAlias = Callable[..., Endpoint]

STEP = 0.5
"""Initial margins an hour by which the add-on may rise under linear-tiers."""


@pytest.fixture(scope="module")
def endpoint(start: Start) -> Endpoint:
    """One endpoint with a folder of bundles of its own."""
    return start(own_bundles=True)


@pytest.fixture(scope="module")
def price(endpoint: Endpoint) -> float:
    found: float = endpoint.market.closes["BTCUSDT"]
    return found


def account(name: str, price: float, **rest: Any) -> dict[str, Any]:
    """Long one coin: the model asks for far more than half an initial margin."""
    return {
        "account_id": name,
        "cash": 0.2 * price,
        "positions": [{"instrument": "BTCUSDT-PERP", "quantity": 1.0, "entry_price": price}],
        "collateral": [],
        **rest,
    }


@contextmanager
def without_model(endpoint: Endpoint) -> Iterator[None]:
    """The pointer to the champion is away, as before the first promotion."""
    pointer = endpoint.folder / "bundles" / "champion"
    kept = pointer.read_text()
    pointer.unlink()
    try:
        yield
    finally:
        pointer.write_text(kept)


def wait_for(endpoint: Endpoint, held: Mapping[str, Any], *, degraded: bool) -> dict[str, Any]:
    """The first decision with or without the model; the pointer is looked at now and then."""
    deadline = time.monotonic() + 120.0
    while time.monotonic() < deadline:
        decision: dict[str, Any] = endpoint.decision(held)
        if (decision["degraded"] is not None) == degraded:
            return decision
        time.sleep(0.05)
    pytest.fail(f"the endpoint did not become {'degraded' if degraded else 'whole'}")


def warm(endpoint: Endpoint, price: float, *, degraded: bool) -> None:
    """Let the endpoint notice the pointer, at the cost of an account of its own."""
    wait_for(endpoint, account("pointer", price), degraded=degraded)


def low_level(endpoint: Endpoint) -> dict[str, Any]:
    """A level in force far below what the model asks."""
    return {"amount": 1.0, "as_of": endpoint.at(hours=-1)}


def test_a_degraded_decision_does_not_reset_a_rising_level(
    endpoint: Endpoint, price: float
) -> None:
    held = account("rising", price)
    first = endpoint.decision({**held, "previous_add_on": low_level(endpoint)})
    assert first["binding"] == "step"
    step = STEP * first["initial_margin"]
    assert first["add_on"] == pytest.approx(1.0 + step, rel=1e-9)
    assert first["model_add_on"] > first["add_on"] + step
    with without_model(endpoint):
        warm(endpoint, price, degraded=True)
        between = endpoint.decision(held)
        assert between["degraded"] is not None
        assert between["model_add_on"] is None
        assert between["binding"] == "fallback"
        assert between["add_on"] == between["floor"]
    warm(endpoint, price, degraded=False)
    back = endpoint.decision(held)
    assert back["degraded"] is None
    assert back["as_of"] == first["as_of"]
    assert back["add_on"] == pytest.approx(first["add_on"], rel=1e-9)


def test_a_degraded_decision_does_not_drop_a_level_that_is_released_slowly(
    endpoint: Endpoint, price: float
) -> None:
    short = -price / endpoint.market.closes["ETHUSDT"]
    hedged = [
        {"instrument": "BTCUSDT-PERP", "quantity": 1.0, "entry_price": price},
        {"instrument": "ETHUSDT-PERP", "quantity": short},
    ]
    held = account("falling", price, positions=hedged)
    asked = endpoint.decision(account("falling-fresh", price, positions=hedged))
    high = asked["cap"]
    assert asked["floor"] < asked["model_add_on"] < 0.9 * high
    first = endpoint.decision(
        {**held, "previous_add_on": {"amount": high, "as_of": endpoint.at(hours=-1)}}
    )
    assert first["binding"] == "release"
    with without_model(endpoint):
        warm(endpoint, price, degraded=True)
        assert endpoint.decision(held)["binding"] == "fallback"
    warm(endpoint, price, degraded=False)
    back = endpoint.decision(held)
    assert back["add_on"] == pytest.approx(first["add_on"], rel=1e-9)


def test_only_a_degraded_history_leaves_no_level_in_force(endpoint: Endpoint, price: float) -> None:
    """Where the model never set a level there is none that paces it."""
    held = account("never", price)
    with without_model(endpoint):
        warm(endpoint, price, degraded=True)
        assert endpoint.decision(held)["binding"] == "fallback"
    warm(endpoint, price, degraded=False)
    fresh = endpoint.decision(account("never-fresh", price))
    back = endpoint.decision(held)
    assert (back["add_on"], back["binding"]) == (fresh["add_on"], fresh["binding"])


def test_thirty_scores_at_once_take_at_most_one_step(start: Start) -> None:
    endpoint = start()
    price = endpoint.market.closes["BTCUSDT"]
    held = account("busy", price)
    first = endpoint.decision({**held, "previous_add_on": low_level(endpoint)})
    assert first["binding"] == "step"
    endpoint.bars(*endpoint.quiet_bars(0))
    with ThreadPoolExecutor(30) as pool:
        decisions = list(pool.map(lambda _: endpoint.decision(held), range(30)))
    assert {decision["as_of"] for decision in decisions} == {endpoint.at(hours=1)}
    most = first["add_on"] + STEP * decisions[0]["initial_margin"]
    for decision in [*decisions, endpoint.decision(held)]:
        assert decision["add_on"] <= most * (1.0 + 1e-9)
    recorded = endpoint.get("/v1/accounts/busy/decisions", params={"limit": 100})["decisions"]
    assert {entry["decision_id"] for entry in recorded} >= {
        decision["decision_id"] for decision in [first, *decisions]
    }
    assert len({decision["decision_id"] for decision in decisions}) == 30


def test_decision_times_that_go_back_and_forth_do_not_pump_the_level(start: Start) -> None:
    """The step is one of event time: half an hour allows half of it, asked once or ten times."""
    endpoint = start()
    price = endpoint.market.closes["BTCUSDT"]
    held = account("back-and-forth", price)
    first = endpoint.decision({**held, "previous_add_on": low_level(endpoint)})
    assert first["binding"] == "step"
    most = first["add_on"] + 0.5 * STEP * first["initial_margin"]
    for _ in range(3):
        for minutes in (1, 30):
            decision = endpoint.decision(held, as_of=endpoint.at(minutes=minutes))
            assert decision["add_on"] <= most * (1.0 + 1e-9)


def test_a_decision_of_the_past_recorded_afterwards_does_not_pace_the_present(
    endpoint: Endpoint, price: float, account_files: Callable[..., Path], tmp_path: Path
) -> None:
    """A book scored for an earlier time gives the present no more hours to rise in."""
    held = account("backfilled", price)
    first = endpoint.decision({**held, "previous_add_on": low_level(endpoint)})
    assert first["binding"] == "step"
    folder = account_files(tmp_path / "accounts", endpoint.at(hours=-9), [held])
    endpoint.score_files(folder, endpoint.at(hours=-8), "--record")
    again = endpoint.decision(held)
    assert again["as_of"] == first["as_of"]
    assert again["add_on"] <= first["add_on"] * (1.0 + 1e-9)


@pytest.fixture(scope="module")
def recorded_by_score(
    endpoint: Endpoint,
    price: float,
    account_files: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    """Rows of ``margincast score --record``; one id has slashes in it."""
    held = [account("desk/btc/7", price), account("plain", price)]
    folder = account_files(tmp_path_factory.mktemp("accounts"), endpoint.at(), held)
    rows: dict[str, Any] = endpoint.score_files(folder, endpoint.at(), "--record")
    return rows


@pytest.mark.parametrize("name", ["desk/btc/7", "plain"])
def test_decisions_of_the_score_verb_are_found_at_their_account(
    endpoint: Endpoint, recorded_by_score: Mapping[str, Any], name: str
) -> None:
    row = recorded_by_score[name]
    page = endpoint.get(f"/v1/accounts/{quote(name, safe='')}/decisions")
    (entry,) = page["decisions"]
    assert entry["decision_id"] == row["decision_id"]
    assert entry["account_id"] == name
    assert entry["add_on"] == row["add_on"]
    assert endpoint.get(f"/v1/decisions/{row['decision_id']}")["account_id"] == name


def test_a_level_that_the_score_verb_set_paces_the_endpoint(
    endpoint: Endpoint, price: float, account_files: Callable[..., Path], tmp_path: Path
) -> None:
    held = account("handed-over", price)
    low = endpoint.decision({**held, "previous_add_on": low_level(endpoint)})
    folder = account_files(tmp_path / "accounts", endpoint.at(), [held])
    row = endpoint.score_files(folder, endpoint.at(), "--record")["handed-over"]
    assert row["add_on"] == pytest.approx(low["add_on"], rel=1e-9)
    assert endpoint.decision(held)["add_on"] == pytest.approx(row["add_on"], rel=1e-9)
    page = endpoint.get("/v1/accounts/handed-over/decisions")
    assert len(page["decisions"]) == 3


@pytest.mark.parametrize("name", ["a/b", "/", "a%2Fb", "ä b/ü?#&"])
def test_any_printable_id_is_found_again(endpoint: Endpoint, price: float, name: str) -> None:
    decision = endpoint.decision(account(name, price))
    page = endpoint.get(f"/v1/accounts/{quote(name, safe='')}/decisions")
    assert [entry["decision_id"] for entry in page["decisions"]] == [decision["decision_id"]]


def test_reasons_name_pace_only_where_there_is_a_position(endpoint: Endpoint, price: float) -> None:
    empty = account("empty", price, positions=[])
    endpoint.decision(empty)
    for _ in range(2):
        decision = endpoint.decision(empty)
        assert decision["add_on"] == 0.0
        assert decision["binding"] not in {"step", "release", "dead_band"}
        texts = [reason["text"] for reason in decision["reasons"]]
        assert not any("faster" in text or "slow" in text for text in texts), texts


def test_a_level_on_the_cap_is_bound_by_the_cap(endpoint: Endpoint, price: float) -> None:
    """A step that ends on the cap or above it is not what bounds the level."""
    found = set()
    for index, share in enumerate((0.0, 0.5, 0.83, 0.84, 0.9, 1.0)):
        held = account(f"capped-{index}", price, cash=0.05 * price)
        cap = 3.0 * 0.04 * price
        previous = {"amount": share * cap, "as_of": endpoint.at(hours=-1)}
        decision = endpoint.decision({**held, "previous_add_on": previous})
        assert decision["cap"] == pytest.approx(cap, rel=1e-9)
        found.add(decision["binding"])
        if decision["add_on"] == decision["cap"]:
            assert decision["binding"] != "step"
        if decision["binding"] == "step":
            assert decision["add_on"] < decision["cap"]
    assert "step" in found
