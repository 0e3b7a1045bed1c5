"""Times that cannot be represented, wherever a request can name one: refused, never a 500."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

EXTREME = (
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+23:59",
    "1969-12-31T23:00:00Z",
    "2262-01-01T00:00:00Z",
    "9999-12-31T23:00:00Z",
    "9999-12-31T23:59:59.999999-23:59",
)
RANGE = "expected a time from 1970-01-01T00:00:00Z to the end of 2261"
CLOCKS = ("market", "wall")


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("time", EXTREME)
def test_decision_time_is_422_with_the_range(
    serve: Any, account: dict[str, Any], time: str, clock: str
) -> None:
    endpoint = serve(clock=clock)
    for path, more in (("/v1/score", {}), ("/v1/what-if", {"marginal": True})):
        body = {"accounts": [account], "as_of": time, **more}
        response = endpoint.client.post(path, json=body)
        assert response.status_code == 422
        assert RANGE in response.json()["detail"]
        assert time in response.json()["detail"]
    rules = endpoint.client.get("/v1/ruleset", params={"as_of": time})
    assert rules.status_code == 422
    assert RANGE in rules.json()["detail"]


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("time", EXTREME)
def test_previous_add_on_is_a_problem_of_its_account_alone(
    serve: Any, account: dict[str, Any], time: str, clock: str
) -> None:
    dated = account | {"previous_add_on": {"amount": 1.0, "as_of": time}}
    answer = serve(clock=clock).score(dated, account | {"account_id": "sound"}).json()
    assert [decision["account_id"] for decision in answer["decisions"]] == ["sound"]
    (problem,) = answer["errors"]
    assert RANGE in problem["detail"]


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("time", [*EXTREME, "2261-12-31T23:00:00Z"])
def test_bar_and_quote_are_rejected_each_on_its_own(
    serve: Any, market: Any, time: str, clock: str
) -> None:
    endpoint = serve(market.head(200), clock=clock)
    sound = market.bars(range(200, 201))
    bars = [{**sound[0], "ts": time}, *sound]
    response = endpoint.client.post("/v1/market/bars", json={"interval": "1h", "bars": bars})
    assert response.status_code == 200
    first, *others = response.json()["results"]
    assert first["status"] == "rejected"
    assert {result["status"] for result in others} == {"applied"}
    quotes = [{"instrument": "BTCUSDT-PERP", "mark": 1.0, "ts": time}]
    response = endpoint.client.post("/v1/market/quotes", json={"quotes": quotes})
    assert response.status_code == 200
    assert [result["status"] for result in response.json()["results"]] == ["rejected"]
    if time in EXTREME:
        assert RANGE in first["detail"]
        assert RANGE in response.json()["results"][0]["detail"]


class Target:
    """An endpoint and the next bar for it; small to print, as Hypothesis prints what fails."""

    def __init__(self, client: Any, bar: dict[str, Any]) -> None:
        self.client, self.bar = client, bar


@pytest.fixture
def target(serve: Any, market: Any) -> Target:
    (bar, *_) = market.bars(range(200, 201))
    return Target(serve(market.head(200)).client, bar)


@given(
    time=st.text()
    | st.datetimes(timezones=st.none() | st.timezones()).map(datetime.isoformat)
    | st.sampled_from(EXTREME)
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_text_as_a_time_is_answered_without_a_500(
    target: Target, account: dict[str, Any], time: str
) -> None:
    previous = {"amount": 1.0, "as_of": time}
    body = {"accounts": [account | {"previous_add_on": previous}], "as_of": time, "marginal": True}
    bars = {"interval": "1h", "bars": [target.bar | {"ts": time}]}
    quotes = {"quotes": [{"instrument": "BTCUSDT-PERP", "mark": 1.0, "ts": time}]}
    for path, content in (
        ("/v1/what-if", body),
        ("/v1/market/bars", bars),
        ("/v1/market/quotes", quotes),
    ):
        assert target.client.post(path, json=content).status_code in (200, 422)
