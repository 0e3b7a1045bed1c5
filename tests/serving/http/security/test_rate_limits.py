"""How often a key may ask, and an address without one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from ledger.keys import Keys
from serving.http.auth import FAILURES_PER_MINUTE
from serving.http.security.rate_limits import MOST_BUCKETS, TokenBuckets


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@given(st.integers(1, 200), st.lists(st.floats(0.0, 30.0), max_size=200))
def test_no_span_sees_more_than_a_full_bucket_and_what_it_gained(
    per_minute: int, pauses: list[float]
) -> None:
    clock = Clock()
    buckets = TokenBuckets(clock)
    taken: list[float] = []
    for pause in pauses:
        clock.now += pause
        wait = buckets.take("a", per_minute)
        assert wait == 0.0 or (0.0 < wait <= 60.0 / per_minute + 1e-6)
        if wait == 0.0:
            taken.append(clock.now)
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            span = taken[last] - taken[first]
            assert last - first + 1 <= per_minute + span * per_minute / 60.0 + 1e-6


def test_a_token_comes_back_after_the_wait_that_was_told() -> None:
    clock = Clock()
    buckets = TokenBuckets(clock)
    assert [buckets.take("a", 2) for _ in range(2)] == [0.0, 0.0]
    wait = buckets.take("a", 2)
    assert wait == pytest.approx(30.0)
    assert buckets.take("b", 2) == 0.0, "each name has its own"
    clock.now += wait
    assert buckets.take("a", 2) == 0.0


def test_names_without_number_do_not_fill_the_memory() -> None:
    buckets = TokenBuckets(Clock())
    for number in range(MOST_BUCKETS + 100):
        buckets.take(str(number), 1)
    assert len(buckets._buckets) == MOST_BUCKETS
    assert buckets.wait("0", 1) == 0.0
    assert buckets.wait(str(MOST_BUCKETS + 99), 1) > 0.0


def limited(answer: Any, per_minute: int) -> None:
    assert answer.status_code == 429
    assert answer.json()["type"] == "urn:margincast:problem:rate-limited"
    assert answer.headers["ratelimit-policy"] == f'"minute";q={per_minute};w=60'
    seconds = int(answer.headers["retry-after"])
    assert 1 <= seconds <= 60
    assert answer.headers["ratelimit"] == f'"minute";r=0;t={seconds}'


def test_a_key_is_held_to_its_own_rate_and_others_to_the_configured_one(
    serve: Any, account: dict[str, Any]
) -> None:
    endpoint = serve(auth="keys", rate_per_minute=3)
    keys = Keys(endpoint.ledger)
    slow, free, usual = (
        {"authorization": f"Bearer {keys.add_key(['score', 'read'], rate_per_minute=rate)[1]}"}
        for rate in (1, 0, None)
    )
    body = {"accounts": [account]}

    def score(key: dict[str, str]) -> Any:
        return endpoint.client.post("/v1/score", json=body, headers=key)

    assert score(slow).status_code == 200
    limited(score(slow), 1)
    limited(endpoint.client.get("/v1/model", headers=slow), 1)
    assert {score(free).status_code for _ in range(5)} == {200}
    assert [score(usual).status_code for _ in range(4)] == [200, 200, 200, 429]
    limited(score(usual), 3)
    assert len(list(endpoint.ledger.records("decision"))) == 9, "what is refused is not recorded"


def test_without_keys_the_configured_rate_is_that_of_all_together(serve: Any) -> None:
    client = serve(rate_per_minute=2).client
    assert [client.get("/v1/ruleset").status_code for _ in range(3)] == [200, 200, 429]
    assert client.get("/health/live").status_code == 200


def test_an_address_that_guesses_is_held_up_and_known_keys_from_there_are_not(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = serve(auth="keys")
    known, fresh = endpoint.key("read"), endpoint.key("read")

    def status(headers: dict[str, str]) -> int:
        return int(endpoint.client.get("/v1/ruleset", headers=headers).status_code)

    assert status(known) == 200
    wrong = {"authorization": "Bearer mck_a_b"}
    answers = [status(wrong) for _ in range(FAILURES_PER_MINUTE + 5)]
    assert answers[: FAILURES_PER_MINUTE - 1] == [401] * (FAILURES_PER_MINUTE - 1)
    assert answers[-3:] == [429] * 3
    limited(endpoint.client.get("/v1/ruleset", headers=wrong), FAILURES_PER_MINUTE)
    limited(endpoint.client.post("/v1/score", json={}), FAILURES_PER_MINUTE)
    asked: list[str] = []
    authenticate = Keys.authenticate

    def noted(keys: Keys, secret: str) -> Any:
        asked.append(secret)
        return authenticate(keys, secret)

    monkeypatch.setattr(Keys, "authenticate", noted)
    assert status(wrong) == 429
    assert status(fresh) == 429
    assert asked == [], "nothing is looked up"
    assert status(known) == 200


def test_a_request_that_needs_two_scopes_counts_once(serve: Any, market: Any) -> None:
    endpoint = serve(market.head(200), auth="keys")
    _, secret = Keys(endpoint.ledger).add_key(["admin"], rate_per_minute=1)
    body = {"interval": "1h", "bars": market.bars(range(200, 201)), "correct": True}
    answer = endpoint.client.post(
        "/v1/market/bars", json=body, headers={"authorization": f"Bearer {secret}"}
    )
    assert answer.status_code == 200
