"""The engine against a slow reading of the rules, with QuantLib's Black formula for the marks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import QuantLib
from hypothesis import given, settings, strategies as st

from margin.rules.ruleset import RuleSet

Portfolio = dict[str, Any]
Parameters = dict[str, Any]

SECONDS = (0, 900, 892_800, 4_953_600)
COINS = {"ETH": (2_000.0, 2_001.0), "BTC": (28_000.0, 28_020.0)}


def mark_of(option: Portfolio, forward: float) -> float:
    kind = QuantLib.Option.Call if option["type"] == "call" else QuantLib.Option.Put
    deviation = option["vol"] * (option["seconds_to_expiry"] / 31_536_000) ** 0.5
    return float(QuantLib.blackFormula(kind, option["strike"], forward, deviation))


def payoff_at(price: float, options: list[Portfolio]) -> float:
    payoffs = (
        o["quantity"] * max(0.0, (price - o["strike"]) * (1 if o["type"] == "call" else -1))
        for o in options
    )
    return float(sum(payoffs))


def isolated(option: Portfolio, spot: float, forward: float, p: Parameters) -> tuple[float, float]:
    """Net initial and maintenance margin of one option, signed; nothing where it is long."""
    if option["quantity"] >= 0:
        return 0.0, 0.0
    n, mark, strike = -option["quantity"], mark_of(option, forward), option["strike"]
    otm = max(0.0, strike - spot if option["type"] == "call" else spot - strike)
    initial = -n * mark - max(p["min_spot"], p["max_spot"] - otm / spot) * spot * n
    if option["type"] == "call":
        return initial, -n * mark - p["mm_call_spot"] * spot * n
    maintenance = -n * mark - max(p["mm_put_spot"] * spot, p["mm_put_mtm"] * mark) * n
    return min(initial, p["mm_offset"] * maintenance), maintenance


def of_expiry(
    options: list[Portfolio], spot: float, forward: float, p: Parameters
) -> tuple[float, float]:
    alone = [isolated(option, spot, forward, p) for option in options]
    sums = [sum(one[level] for one in alone) for level in (0, 1)]
    if not p["max_loss_offset"]:
        return sums[0], sums[1]
    points = {0.0} | {option["strike"] for option in options}
    loss = min(0.0, *(payoff_at(price, options) for price in points))
    calls = min(0.0, sum(o["quantity"] for o in options if o["type"] == "call"))
    bounds = [loss + p[f"unpaired_{level}"] * forward * calls for level in ("im", "mm")]
    return max(sums[0], bounds[0]), max(sums[1], bounds[1])


def charge(confidence: float, kind: str, spot: float, size: float, p: Parameters) -> float:
    if confidence >= p[f"{kind}_threshold"]:
        return 0.0
    return float((1 - confidence) * p["oc_factor"] * spot * size)


def nets(portfolio: Portfolio, rules: Parameters) -> tuple[float, float]:
    """Net margins of a portfolio without equal instruments, from the formulas of the rules."""
    initial = maintenance = portfolio["cash"]
    for name, coin in portfolio["underlyings"].items():
        p = {**rules, **rules["underlyings"].get(name, {})}
        spot, depegged = coin["spot"], 0.0
        held = [one for one in portfolio["positions"] if one["underlying"] == name]
        for perp in (one for one in held if one["kind"] == "perp"):
            size = abs(perp["quantity"])
            price = coin["perp_price"] if p["perp_reference"] == "perp" else spot
            gain = perp["unrealised_pnl"] + perp["unrealised_funding"]
            initial += gain - (p["im_perp"] + p["im_perp_per_unit"] * size) * price * size
            maintenance += gain - (p["mm_perp"] + p["mm_perp_per_unit"] * size) * price * size
            trust = min(coin["spot_confidence"], coin["perp_confidence"])
            initial -= charge(trust, "perp", spot, size, p)
            depegged += size
        for expiry in coin["expiries"]:
            seconds = expiry["seconds_to_expiry"]
            options = [one for one in held if one.get("seconds_to_expiry") == seconds]
            im, mm = of_expiry(options, spot, expiry["forward"], p) if options else (0.0, 0.0)
            short = sum(max(0.0, -one["quantity"]) for one in options)
            trust = min(
                coin["spot_confidence"],
                expiry["confidence"],
                expiry["forward_confidence"],
                expiry["vol_confidence"],
            )
            initial += im - charge(trust, "option", spot, short, p)
            maintenance += mm
            depegged += short
        slip = max(0.0, p["depeg_threshold"] - portfolio["stable_price"])
        initial -= p["depeg_factor"] * slip * spot * depegged
        for balance in portfolio["collateral"]:
            if balance["underlying"] == name:
                credit = balance["amount"] * spot * p["base_factor"]
                maintenance += credit
                initial += credit * p["base_im_scale"]
                initial -= charge(coin["spot_confidence"], "base", spot, balance["amount"], p)
    return initial, maintenance


quantities = st.integers(-12, 12).map(lambda quarter: quarter / 4)
confidences = st.sampled_from([1.0, 1.0, 0.4, 0.39, 0.1, 0.0])


@st.composite
def portfolios(draw: st.DrawFn) -> Portfolio:
    underlyings, positions, collateral = {}, [], []
    for name, (spot, perp) in COINS.items():
        seconds = draw(st.lists(st.sampled_from(SECONDS), max_size=2, unique=True))
        expiries = [
            {
                "seconds_to_expiry": left,
                "forward": spot * draw(st.sampled_from([0.97, 1.0, 1.004])),
                "rate": draw(st.sampled_from([0.0, 0.05])),
                **{
                    key: draw(confidences)
                    for key in ("confidence", "forward_confidence", "vol_confidence")
                },
            }
            for left in seconds
        ]
        underlyings[name] = {
            "spot": spot,
            "perp_price": perp,
            "spot_confidence": draw(confidences),
            "perp_confidence": draw(confidences),
            "expiries": expiries,
        }
        if draw(st.booleans()):
            positions.append(
                {
                    "kind": "perp",
                    "underlying": name,
                    "quantity": draw(quantities),
                    "unrealised_pnl": draw(st.integers(-900, 900)) / 1.0,
                    "unrealised_funding": draw(st.integers(-90, 90)) / 1.0,
                }
            )
        for left in seconds:
            chosen = st.tuples(
                st.sampled_from([0.4, 0.9, 0.97, 1.0, 1.1, 3.0]), st.sampled_from(["call", "put"])
            )
            for ratio, kind in draw(st.lists(chosen, max_size=5, unique=True)):
                quantity = draw(quantities.filter(bool))
                positions.append(
                    {
                        "kind": "option",
                        "underlying": name,
                        "seconds_to_expiry": left,
                        "strike": ratio * spot,
                        "type": kind,
                        "quantity": quantity,
                        "vol": draw(st.sampled_from([0.0, 0.3, 0.9])),
                    }
                )
        if draw(st.booleans()):
            amount = draw(st.integers(0, 8)) / 4
            collateral.append({"asset": name, "underlying": name, "amount": amount, "price": spot})
    return {
        "cash": draw(st.integers(-5_000, 5_000)) / 1.0,
        "stable_price": draw(st.sampled_from([1.0, 1.0, 0.98, 0.95, 0.7])),
        "underlyings": underlyings,
        "positions": positions,
        "collateral": collateral,
    }


@st.composite
def figures(draw: st.DrawFn) -> Parameters:
    """Parameters that differ from each other, and from a preset's."""
    tenth = st.integers(0, 30).map(lambda n: n / 100)
    around_one = st.integers(80, 130).map(lambda n: n / 100)
    shares = ("im_perp", "mm_perp", "max_spot", "min_spot", "mm_call_spot", "mm_put_spot")
    given_ = {key: draw(tenth) for key in (*shares, "mm_put_mtm", "base_factor")}
    ones = ("unpaired_im", "unpaired_mm", "mm_offset", "base_im_scale", "depeg_factor")
    given_ |= {key: draw(around_one) for key in (*ones, "depeg_threshold", "oc_factor")}
    return given_ | {
        "perp_threshold": draw(confidences),
        "option_threshold": draw(confidences),
        "base_threshold": draw(confidences),
        "im_perp_per_unit": draw(st.sampled_from([0.0, 0.001])),
        "mm_perp_per_unit": draw(st.sampled_from([0.0, 0.002])),
        "perp_reference": draw(st.sampled_from(["perp", "spot"])),
        "max_loss_offset": draw(st.booleans()),
        "underlyings": draw(st.sampled_from([{}, {"BTC": {"im_perp": 0.5, "unpaired_mm": 0.2}}])),
    }


@given(portfolio=portfolios(), rules=figures())
@settings(max_examples=150)
def test_engine_agrees_under_any_figures(
    run: Callable[..., Portfolio], portfolio: Portfolio, rules: Parameters
) -> None:
    got = run(portfolio, "derive-srm", **rules)
    found = (got["initial_net_margin"], got["maintenance_net_margin"])
    assert found == pytest.approx(nets(portfolio, rules), rel=1e-9, abs=1e-6)


@pytest.mark.parametrize("preset", ["srm", "deribit"])
def test_engine_agrees_with_a_plain_reading_of_the_rules(
    preset: str, request: pytest.FixtureRequest, run: Callable[..., Portfolio]
) -> None:
    ruleset: RuleSet = request.getfixturevalue(preset)
    rules = ruleset.content()["standard"]

    @given(portfolio=portfolios())
    @settings(max_examples=150)
    def agree(portfolio: Portfolio) -> None:
        got = run(portfolio, ruleset.name)
        expected = nets(portfolio, rules)
        found = (got["initial_net_margin"], got["maintenance_net_margin"])
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-6)
        value = sum(
            o["quantity"] * mark_of(o, expiry["forward"])
            for o in portfolio["positions"]
            if o["kind"] == "option"
            for expiry in portfolio["underlyings"][o["underlying"]]["expiries"]
            if expiry["seconds_to_expiry"] == o["seconds_to_expiry"]
        )
        value += sum(o["amount"] * o["price"] for o in portfolio["collateral"])
        value += sum(
            o["unrealised_pnl"] + o["unrealised_funding"]
            for o in portfolio["positions"]
            if o["kind"] == "perp"
        )
        assert got["mark_to_market"] == pytest.approx(portfolio["cash"] + value, abs=1e-6)

    agree()


def test_oracle_itself_meets_a_published_figure() -> None:
    # Derive, "Standard Margin", example 2: the loss of the spread is 8 * 200, at 1900.
    legs = [
        {"quantity": -8.0, "type": "call", "strike": 1_700.0},
        {"quantity": 8.0, "type": "call", "strike": 1_900.0},
    ]
    assert [payoff_at(price, legs) for price in (0.0, 1_700.0, 1_900.0)] == [0.0, 0.0, -1_600.0]
