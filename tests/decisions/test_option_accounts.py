"""Accounts with options over HTTP: valued from posted quotes, decided on, explained, replayed."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest

from decisions.replay import replay
from margin.rules.history import RuleHistory, load_history
from margin.rules.ruleset import load_ruleset
from market.core.clock import DAY, HOUR, MINUTE, format_time
from market.core.instruments import parse_expiry

QUOTES = "/v1/market/quotes"
PRESETS = ("derive-pmrm2", "derive-srm", "deribit-standard", "paradex-portfolio")


@pytest.fixture
def expiry(market: Any) -> str:
    """A month after the newest bar."""
    day = datetime.fromtimestamp((int(market.panel.closes[-1]) + 30 * DAY) / 1e9, UTC)
    return f"BTC-{day.day}{day:%b%y}".upper()


@pytest.fixture
def spot(market: Any) -> float:
    """The newest close of BTCUSDT."""
    return float(market.panel.values[-1, market.panel.symbols.index("BTCUSDT"), 3])


@pytest.fixture
def strikes(spot: float) -> tuple[str, str]:
    """One at the money, one a fifth above."""
    return f"{round(spot)}", f"{round(1.2 * spot)}"


@pytest.fixture
def quoted(expiry: str, spot: float, strikes: tuple[str, str]) -> list[dict[str, Any]]:
    vols = {strikes[0]: 0.5, strikes[1]: 0.55}
    return [{"instrument": expiry, "forward": 1.01 * spot, "rate": 0.03, "vols": vols}]


@pytest.fixture
def book(expiry: str, strikes: tuple[str, str], spot: float) -> dict[str, Any]:
    """A short call spread with cash to carry it."""
    return {
        "account_id": "options",
        "cash": spot,
        "positions": [
            {"instrument": f"{expiry}-{strikes[0]}-C", "quantity": -1.0},
            {"instrument": f"{expiry}-{strikes[1]}-C", "quantity": 1.0},
        ],
    }


def decided(answer: Any) -> dict[str, Any]:
    body = answer.json()
    assert answer.status_code == 200, body
    assert body["errors"] == [], body
    (decision,) = body["decisions"]
    return dict(decision)


def post(endpoint: Any, quotes: list[dict[str, Any]]) -> None:
    answer = endpoint.client.post(QUOTES, json={"quotes": quotes}).json()
    assert {result["status"] for result in answer["results"]} == {"applied"}, answer


def black76(forward: float, strike: float, vol: float, years: float, rate: float) -> float:
    """A call by its textbook formula, discounted."""
    spread = vol * math.sqrt(years)
    d1 = math.log(forward / strike) / spread + spread / 2
    normal = [0.5 * math.erfc(-d / math.sqrt(2)) for d in (d1, d1 - spread)]
    return math.exp(-rate * years) * (forward * normal[0] - strike * normal[1])


@pytest.mark.parametrize("preset", PRESETS)
def test_unquoted_options_are_errors_that_name_them_and_quotes_end_that(
    serve: Any, preset: str, book: dict[str, Any], quoted: list[dict[str, Any]], account: Any
) -> None:
    endpoint = serve(rules=load_history(preset))
    plain = {**account, "positions": account["positions"][:1]}
    first = endpoint.score(book, plain).json()
    assert [d["account_id"] for d in first["decisions"]] == ["acc-1"]
    (error,) = first["errors"]
    assert error["instrument"] == book["positions"][0]["instrument"]
    assert QUOTES in error["detail"]
    assert endpoint.score(book).status_code == 422
    post(endpoint, quoted)
    decision = decided(endpoint.score(book))
    assert decision["maintenance_margin"] > 0.0
    assert decision["initial_margin"] >= decision["maintenance_margin"]
    assert decision["floor"] <= decision["add_on"] <= max(decision["floor"], decision["cap"])
    assert decision["headroom"] == pytest.approx(
        decision["equity"] - decision["maintenance_margin"]
    )


@pytest.mark.parametrize("preset", PRESETS)
def test_decisions_replay_when_the_quotes_have_moved_on(
    serve: Any,
    champion: str,
    bundles: Any,
    preset: str,
    book: dict[str, Any],
    quoted: list[dict[str, Any]],
    market: Any,
) -> None:
    from models.bundle.bundle import load_bundle
    from models.forecaster import Forecaster

    endpoint = serve(rules=load_history(preset))
    post(endpoint, quoted)
    before = decided(endpoint.score(book))
    later = format_time(int(market.panel.closes[-1]) + 10 * MINUTE)
    post(endpoint, [quoted[0] | {"forward": 1.2 * quoted[0]["forward"], "ts": later}])
    after = decided(endpoint.score(book))
    assert after["as_of"] == later
    assert after["equity"] < before["equity"]
    for decision in (before, after):
        found = replay(
            endpoint.ledger,
            decision["decision_id"],
            lambda sha: Forecaster(load_bundle(bundles.root / sha)),
        )
        assert found.equal, found.differences


def test_equity_values_options_by_black_76_on_the_posted_figures(
    serve: Any,
    book: dict[str, Any],
    quoted: list[dict[str, Any]],
    expiry: str,
    strikes: tuple[str, str],
    market: Any,
) -> None:
    endpoint = serve(rules=load_history("derive-pmrm2"))
    post(endpoint, quoted)
    years = (parse_expiry(expiry) - int(market.panel.closes[-1])) / (365 * DAY)
    forward, rate = quoted[0]["forward"], quoted[0]["rate"]
    low, high = (
        black76(forward, float(strike), quoted[0]["vols"][strike], years, rate)
        for strike in strikes
    )
    decision = decided(endpoint.score(book))
    assert decision["equity"] == pytest.approx(book["cash"] - low + high, rel=1e-9)


def test_the_vol_of_the_option_itself_goes_before_that_of_its_expiry(
    serve: Any, book: dict[str, Any], quoted: list[dict[str, Any]]
) -> None:
    endpoint = serve(rules=load_history("derive-pmrm2"))
    post(endpoint, quoted)
    before = decided(endpoint.score(book))
    short = book["positions"][0]["instrument"]
    post(endpoint, [{"instrument": short, "vol": 0.8}])
    assert decided(endpoint.score(book))["equity"] < before["equity"]


def test_svi_and_the_vols_it_gives_value_alike(
    serve: Any,
    book: dict[str, Any],
    quoted: list[dict[str, Any]],
    expiry: str,
    strikes: tuple[str, str],
    market: Any,
) -> None:
    svi = {"a": 0.01, "b": 0.08, "rho": -0.4, "m": 0.05, "sigma": 0.2}
    years = (parse_expiry(expiry) - int(market.panel.closes[-1])) / (365 * DAY)

    def vol(strike: str) -> float:
        k = math.log(float(strike) / quoted[0]["forward"])
        wing = svi["rho"] * (k - svi["m"]) + math.hypot(k - svi["m"], svi["sigma"])
        return math.sqrt((svi["a"] + svi["b"] * wing) / years)

    endpoint = serve(rules=load_history("derive-pmrm2"))
    without = {key: value for key, value in quoted[0].items() if key != "vols"}
    post(endpoint, [without | {"svi": svi}])
    by_svi = decided(endpoint.score(book))
    post(endpoint, [{"instrument": expiry, "vols": {strike: vol(strike) for strike in strikes}}])
    by_vols = decided(endpoint.score(book))
    for key in ("equity", "initial_margin", "maintenance_margin"):
        assert by_vols[key] == pytest.approx(by_svi[key], rel=1e-9), key


def test_low_confidence_asks_for_more_initial_margin(
    serve: Any, book: dict[str, Any], quoted: list[dict[str, Any]], expiry: str
) -> None:
    endpoint = serve(rules=load_history("derive-pmrm2"))
    post(endpoint, quoted)
    trusted = decided(endpoint.score(book))
    post(endpoint, [{"instrument": expiry, "confidence": 0.1}])
    doubted = decided(endpoint.score(book))
    assert doubted["initial_margin"] > trusted["initial_margin"]
    assert doubted["maintenance_margin"] == trusted["maintenance_margin"]


def test_a_stable_coin_off_its_peg_asks_for_more_initial_margin(
    serve: Any, book: dict[str, Any], quoted: list[dict[str, Any]]
) -> None:
    ruleset = load_ruleset("derive-pmrm2")
    endpoint = serve(rules=RuleHistory.constant(ruleset))
    post(endpoint, quoted)
    pegged = decided(endpoint.score(book))
    post(endpoint, [{"instrument": ruleset.collateral.cash_assets[0], "mark": 0.8}])
    off = decided(endpoint.score(book))
    assert off["initial_margin"] > pegged["initial_margin"]


def test_a_decision_before_the_quotes_knows_nothing_of_them(
    serve: Any, book: dict[str, Any], quoted: list[dict[str, Any]], market: Any
) -> None:
    endpoint = serve(rules=load_history("derive-srm"))
    newest = int(market.panel.closes[-1])
    post(endpoint, [quoted[0] | {"ts": format_time(newest + HOUR)}])
    refused = endpoint.score(book, as_of=format_time(newest + HOUR - MINUTE))
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["instrument"] == book["positions"][0]["instrument"]
    assert decided(endpoint.score(book))["maintenance_margin"] > 0.0


def test_a_restarted_endpoint_values_options_as_the_one_before(
    serve: Any, book: dict[str, Any], quoted: list[dict[str, Any]]
) -> None:
    rules = load_history("derive-srm")
    first = serve(rules=rules)
    post(first, quoted)
    previous = {"amount": 0.0, "as_of": "2025-01-01T00:00:00Z"}
    body = book | {"previous_add_on": previous}
    a, b = (decided(e.score(body)) for e in (first, serve(rules=rules)))
    assert {**a, "decision_id": ""} == {**b, "decision_id": ""}


def test_what_if_buys_an_option_at_its_value(
    serve: Any, book: dict[str, Any], quoted: list[dict[str, Any]]
) -> None:
    endpoint = serve(rules=load_history("deribit-standard"))
    post(endpoint, quoted)
    change = {"instrument": book["positions"][1]["instrument"], "quantity_delta": 1.0}
    body = {
        "accounts": [book],
        "changes": [{"account_id": "options", "positions": [change]}],
    }
    answer = endpoint.client.post("/v1/what-if", json=body).json()
    before, after = (answer[side]["decisions"][0] for side in ("before", "after"))
    assert after["equity"] == pytest.approx(before["equity"], rel=1e-9)
    assert after["maintenance_margin"] > before["maintenance_margin"]
    assert list(endpoint.ledger.records("decision")) == []


def test_an_expired_option_is_an_error_of_its_account(
    serve: Any, book: dict[str, Any], market: Any, spot: float
) -> None:
    """Between its expiry and the next bar the market's clock is that of the quotes."""
    endpoint = serve(rules=load_history("derive-srm"))
    newest = int(market.panel.closes[-1])
    day = datetime.fromtimestamp((newest + DAY) / 1e9, UTC)
    tomorrow = f"BTC-{day.day}{day:%b%y}".upper()
    if parse_expiry(tomorrow) > newest + DAY:
        day = datetime.fromtimestamp(newest / 1e9, UTC)
        tomorrow = f"BTC-{day.day}{day:%b%y}".upper()
    end = parse_expiry(tomorrow)
    assert newest < end <= newest + DAY
    option = f"{tomorrow}-{round(spot)}-C"
    own = book | {"positions": [{"instrument": option, "quantity": -1.0}]}
    post(endpoint, [{"instrument": option, "vol": 0.5, "forward": spot}])
    assert decided(endpoint.score(own))["maintenance_margin"] > 0.0
    post(endpoint, [{"instrument": "BTCUSDT", "mark": spot, "ts": format_time(end + MINUTE // 60)}])
    refused = endpoint.score(own)
    assert refused.status_code == 422
    assert "expired" in refused.json()["errors"][0]["detail"]


def test_quotes_are_written_out_once_a_board_and_never_for_another_board(
    serve: Any,
    monkeypatch: pytest.MonkeyPatch,
    book: dict[str, Any],
    quoted: list[dict[str, Any]],
) -> None:
    from decisions import records
    from ledger.contents import CanonicalContent

    made: list[dict[str, Any]] = []

    class Counting(CanonicalContent):
        @classmethod
        def of(cls, content: dict[str, Any]) -> CanonicalContent:
            if "expiries" in content:
                made.append(content)
            return CanonicalContent.of(content)

    monkeypatch.setattr(records, "CanonicalContent", Counting)
    endpoint = serve(rules=load_history("derive-srm"))
    named = []
    for forward in (quoted[0]["forward"], 1.1 * quoted[0]["forward"]):
        post(endpoint, [quoted[0] | {"forward": forward}])
        for _ in range(3):
            decision = decided(endpoint.score(book))
            payload = endpoint.ledger.get_record(decision["decision_id"]).payload
            named.append(payload["contents"]["quotes_sha256"])
    assert len(made) == 2
    assert named[0] == named[1] == named[2] != named[3] == named[4] == named[5]
    (expiry,) = endpoint.ledger.get(named[5])["expiries"].values()
    assert expiry["forward"] == 1.1 * quoted[0]["forward"]
