"""The what-if page beside the answers of ``POST /v1/what-if``."""

from __future__ import annotations

import html
import json
import re
from typing import Any
from urllib.parse import quote

import pytest

from models.bundle.pointer import CHAMPION
from serving.console.rendering import money, percent, time
from tests.endpoint_fixtures import Bundles, Serve, SmallMarket
from tests.monitoring.evaluation.helpers import snapshot
from tests.serving.enforcement_fixtures import ROWS, Desk, desk

__all__ = ["desk"]

HOSTILE = "<script>alert('x')</script>\"/&"
BTC = "BTCUSDT-PERP"


def page(desk: Desk, path: str, **headers: str) -> str:
    client = desk.endpoint.client
    answer = client.get(path, headers=desk.key("read") | headers, follow_redirects=False)
    assert answer.status_code == 200, answer.text
    return str(answer.text)


def asked(desk: Desk, account_id: str, **rest: Any) -> Any:
    account = desk.get(f"/v1/accounts/{quote(account_id, safe='')}")["account"]
    names = ("account_id", "cash", "positions", "collateral")
    body = {"accounts": [{name: account[name] for name in names}], **rest}
    answer = desk.post("/v1/what-if", body, "score")
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_without_an_account_it_asks_for_one_and_suggests_those_of_the_book(desk: Desk) -> None:
    text = page(desk, "/what-if")
    assert '<option value="desk/1">' in text
    assert "Before and after" not in text


def test_its_figures_are_those_of_the_api(desk: Desk) -> None:
    url = f"/what-if?account=desk%2F1&p=-10&p.ETH=5&d=250&c.{BTC}=40&t1=ETHUSDT-PERP&q1=-1.5"
    text = page(desk, f"{url}&target=500&l={BTC}", **{"X-Fragment": "result"})
    assert "<h1>" not in text
    (position,) = desk.get("/v1/accounts/desk%2F1")["account"]["positions"]
    trades = [
        {"instrument": BTC, "quantity_delta": -position["quantity"] * 0.4},
        {"instrument": "ETHUSDT-PERP", "quantity_delta": -1.5},
    ]
    answer = asked(
        desk,
        "desk/1",
        changes=[{"account_id": "desk/1", "deposit": 250.0, "positions": trades}],
        shocks={"spot": {"*": -0.1, "ETH": 0.05}},
        target_headroom=500.0,
        marginal=True,
    )
    for one in (answer["before"]["decisions"][0], answer["after"]["decisions"][0]):
        for name in ("equity", "headroom", "add_on", "total_requirement", "deposit_to_meet"):
            assert f"<td>{money(one[name])}</td>" in text, name
        assert f"<td>{percent(one['probability']['24'])}</td>" in text
    assert answer["remedies"][0]["deposit"] > 0.0
    assert f"<strong>{money(answer['remedies'][0]['deposit'])}</strong>" in text
    for part in answer["marginal"][0]["positions"]:
        assert f"<td>{money(part['maintenance'])}</td>" in text
    assert f"Largest buy of {BTC}" in text


def heat(desk: Desk, kind: str) -> dict[str, Any]:
    """The heat map that the page draws."""
    text = page(desk, f"/what-if?account=desk%2F1&heat={kind}", **{"X-Fragment": "result"})
    assert "volatility changes none of its figures" in text
    figure = re.search(r'<script type="application/json" class="figure">(.*?)</script>', text)
    assert figure is not None
    return dict(json.loads(figure[1])["data"][0])


def test_each_cell_of_the_heat_map_is_the_decision_in_that_market(desk: Desk) -> None:
    headroom, probability = heat(desk, "headroom"), heat(desk, "probability")
    assert probability["y"] == ["1 h", "8 h", "24 h"]
    for spot in ("-30%", "-5%", "+0%", "+20%"):
        column = headroom["x"].index(spot)
        shocks = {"spot": {"*": int(spot[:-1]) / 100.0}}
        decision = asked(desk, "desk/1", shocks=shocks)["after"]["decisions"][0]
        assert headroom["z"][0][column] == decision["headroom"]
        shown = [row[column] for row in probability["z"]]
        expected = [decision["probability"][hours] for hours in ("1", "8", "24")]
        assert shown == pytest.approx(expected, rel=1e-12)


def test_the_heat_map_counts_collateral(desk: Desk) -> None:
    held = snapshot("desk/1", 2, 1_000.0, BTC=0.5)
    held["snapshot"]["collateral"] = [{"asset": "ETH", "amount": 3.0}]
    desk.watched.update(held)
    found = heat(desk, "headroom")
    for spot in ("-10%", "+0%"):
        shocks = {"spot": {"*": int(spot[:-1]) / 100.0}}
        decision = asked(desk, "desk/1", shocks=shocks)["after"]["decisions"][0]
        assert found["z"][0][found["x"].index(spot)] == decision["headroom"]


def test_a_hostile_id_is_escaped(desk: Desk) -> None:
    desk.watched.update(snapshot(HOSTILE, 1, 1e6, BTC=0.1))
    text = page(desk, f"/what-if?account={quote(HOSTILE, safe='')}&t1={quote(HOSTILE, safe='')}")
    assert "<script>alert" not in text
    assert (
        html.escape(HOSTILE, quote=True).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")
        in text
    )


@pytest.mark.parametrize(
    ("query", "status", "part"),
    [
        ("account=nobody", 404, "nobody"),
        ("account=calm&p=abc", 422, "give a number"),
        ("account=calm&d=1e300", 422, "from -1e15 to 1e15"),
        (f"account=calm&q1=1&t1={'A' * 200}", 422, "length"),
        ("account=calm&p=nan", 422, "give a number"),
        ("account=calm&p=-100", 422, "-99 to 1000"),
        (f"account=calm&c.{BTC}=101", 422, "0 to 100"),
        ("account=calm&p.NOCOIN=-1", 422, "NOCOIN"),
        ("account=calm&heat=x", 422, "headroom, probability, off"),
    ],
)
def test_an_impossible_input_is_said(desk: Desk, query: str, status: int, part: str) -> None:
    answer = desk.endpoint.client.get(f"/what-if?{query}", headers=desk.key("read"))
    assert answer.status_code == status
    assert part in answer.text


def test_it_needs_a_key_that_may_read(desk: Desk) -> None:
    client = desk.endpoint.client
    away = client.get("/what-if?account=calm", follow_redirects=False)
    assert away.status_code == 303
    assert away.headers["location"] == "/login?next=%2Fwhat-if%3Faccount%3Dcalm"
    assert client.get("/what-if", headers=desk.key("venue")).status_code == 403


def test_an_empty_field_of_a_coin_leaves_it_to_the_shock_of_all(desk: Desk) -> None:
    """As a browser without scripts sends the form: every field, also the empty ones."""
    text = page(desk, "/what-if?account=desk%2F1&p=-5&p.BTC=&v=&d=&t1=&q1=&heat=off")
    after = asked(desk, "desk/1", shocks={"spot": {"*": -0.05}})["after"]["decisions"][0]
    assert f"<td>{money(after['equity'])}</td>" in text


def test_the_part_with_the_figures_says_of_which_market_they_are(desk: Desk) -> None:
    text = page(desk, "/what-if?account=desk%2F1", **{"X-Fragment": "result"})
    as_of = asked(desk, "desk/1", marginal=True)["after"]["decisions"][0]["as_of"]
    assert f"Computed at the market of {time(as_of)} UTC" in text


def test_fields_show_every_shock_of_the_address_and_coins_of_collateral(desk: Desk) -> None:
    held = {"cash": 1e4, "positions": [], "collateral": [{"asset": "ETH", "amount": 1.0}]}
    desk.watched.update({"account_id": "coins", "sequence": 1, "snapshot": held})
    text = page(desk, "/what-if?account=coins&p.BTCUSDT=-7&t1=BTCUSDT-PERP&q1=1")
    assert 'name="p.ETH"' in text
    assert re.search(r'name="p\.BTCUSDT"[^>]*value="-7"', text)
    assert 'name="p.BTC"' not in text, "a coin has one field"


def test_an_account_that_cannot_be_valued_says_why(desk: Desk) -> None:
    held = {"cash": 1.0, "positions": [{"instrument": "NOPEUSDT-PERP", "quantity": 1.0}]}
    desk.watched.update({"account_id": "odd", "sequence": 1, "snapshot": held})
    text = page(desk, "/what-if?account=odd")
    problem = desk.get("/v1/accounts/odd")["evaluation"]["problem"]
    assert problem
    assert problem in html.unescape(text)
    assert "the account cannot be valued" in text


def test_without_a_model_the_page_says_that_there_are_no_probabilities(
    desk: Desk, bundles: Bundles, serve: Serve, market: SmallMarket
) -> None:
    (bundles.root / CHAMPION).unlink()
    endpoint = serve(live=market.head(ROWS).live(), auth="keys")
    text = page(Desk(endpoint, desk.watched), "/what-if?account=desk%2F1&heat=probability")
    assert "No scenarios: no model answers for this account" in text
    assert "There are no probabilities" in text


def test_the_deposit_and_the_cut_that_are_shown_cure_and_are_no_larger(desk: Desk) -> None:
    desk.watched.update(snapshot("large", 1, 500_000.33, BTC=1_000.0))
    text = page(desk, "/what-if?account=large&heat=off&target=0")
    deposit = re.search(r"<p>Deposit <strong>([0-9,.]+)</strong>", text)
    cut = re.search(r'<td class="text">BTCUSDT-PERP</td><td>(-[0-9,.]+)</td>', text)
    assert deposit is not None
    assert cut is not None
    paid, traded = (float(found[1].replace(",", "")) for found in (deposit, cut))
    assert paid > 1e6
    trade = {"instrument": BTC, "quantity_delta": traded}
    cures: list[dict[str, Any]] = [{"deposit": paid}, {"positions": [trade]}]
    for cure in cures:
        answer = asked(desk, "large", changes=[{"account_id": "large"} | cure], target_headroom=0.0)
        cost = answer["remedies"][0]["single"][0]["cost"] if "positions" in cure else 0.0
        left = answer["after"]["decisions"][0]["headroom"] - cost
        assert -0.001 < left < 0.02, cure
