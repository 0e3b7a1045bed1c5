"""Input that cannot be margined: one clear error that names the instrument, or the key."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from margin.book.portfolio_batch import Portfolios
from margin.engines.registry import compute_margins
from margin.engines.standard.engine import StandardEngine
from margin.rules.ruleset import RuleSet, load_ruleset, ruleset_from_content
from market.core.errors import InstrumentError, RuleSetError

Make = Callable[..., dict[str, Any]]
Flat = Callable[..., Portfolios]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seconds_to_expiry": -1.0}, "expired"),
        ({"seconds_to_expiry": 5.0}, "no such expiry"),
        ({"strike": 0.0}, "strike"),
        ({"vol": -0.1}, "vol"),
        ({"vol": None}, "vol"),
        ({"underlying": "DOGE"}, "DOGE"),
    ],
)
def test_option_that_cannot_be_valued_is_named(
    make: Make, option: Make, run: Make, change: dict[str, Any], named: str
) -> None:
    broken = {**option(-1.0, "call", 2_000.0), "instrument": "ETH-27MAR26-2000-C", **change}
    got = run(make(positions=[broken]), "derive-srm")
    assert set(got) == {"id", "error"}
    assert "ETH-27MAR26-2000-C" in got["error"]
    assert named in got["error"]


@pytest.mark.parametrize(
    ("array", "value", "named"),
    [
        ("underlyings.spot", 0.0, "spot"),
        ("underlyings.perp_price", np.nan, "perp_price"),
        ("expiries.forward", np.nan, "forward"),
        ("strike", -1.0, "strike"),
        ("vol", np.inf, "vol"),
    ],
)
def test_arrays_without_a_price_are_refused_by_the_leg(
    make: Make,
    option: Make,
    flat: Flat,
    srm: RuleSet,
    array: str,
    value: float,
    named: str,
) -> None:
    perp = {"kind": "perp", "underlying": "ETH", "quantity": 1.0}
    portfolios = flat(make(positions=[option(-1.0, "put", 1_900.0), perp]), ruleset=srm)
    table, _, key = array.rpartition(".")
    at = getattr(portfolios, table) if table else portfolios
    changed: dict[str, Any] = {key: np.full_like(getattr(at, key), value)}
    if table:
        changed = {table: dataclasses.replace(at, **changed)}
    broken = dataclasses.replace(portfolios, **changed)
    with pytest.raises(InstrumentError, match=named) as caught:
        compute_margins(broken, srm)
    expected = "ETH-PERP" if named in ("spot", "perp_price") else "ETH-1209600.0s-1900.0-P"
    assert caught.value.instrument == expected


def test_account_in_coin_holds_one_coin(make: Make, option: Make, run: Make) -> None:
    eth, btc = option(-1.0, "put", 1_900.0), {"kind": "perp", "underlying": "BTC", "quantity": 1.0}
    got = run(make(positions=[eth, btc]), "deribit-standard", settlement="coin")
    assert "not of BTC" in got["error"]
    balance = {"asset": "PAXG", "amount": 1.0, "price": 3_000.0}
    got = run(make(collateral=[balance]), "deribit-standard", settlement="coin")
    assert "'PAXG' is not of its coin" in got["error"]
    wrapped = {**balance, "asset": "WETH", "underlying": "ETH"}
    got = run(make(positions=[btc], collateral=[wrapped]), "deribit-standard", settlement="coin")
    assert "'WETH' is not of BTC" in got["error"]
    assert "error" not in run(make(positions=[eth, btc]), "deribit-standard")


def test_portfolios_that_tell_no_profit_in_coin_are_refused(
    make: Make, flat: Flat, deribit: RuleSet
) -> None:
    content = deribit.content()
    content["standard"]["settlement"] = "coin"
    coin = ruleset_from_content(content)
    portfolios = dataclasses.replace(flat(make(), ruleset=coin), unrealised_inverse=None)
    with pytest.raises(RuleSetError, match="profit and loss in coin"):
        compute_margins(portfolios, coin)


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"settlement": "coin", "max_loss_offset": True}, "max_loss_offset"),
        ({"settlement": "gold"}, "settlement"),
        ({"perp_reference": "last"}, "perp_reference"),
        ({"im_perp": -0.1}, "im_perp"),
        ({"im_perp_per_unit": -0.1}, "im_perp_per_unit"),
        ({"underlyings": {"BTC": {"rate": 0.1}}}, "`rate` - at `$.standard.underlyings"),
        (
            {"underlyings": {"BTC": {"settlement": 1.0}}},
            "`settlement` - at `$.standard.underlyings",
        ),
        ({"underlyings": {"BTC": {"im_perp": -1.0}}}, "underlyings[...].im_perp"),
        ({"unknown": 1.0}, "unknown"),
    ],
)
def test_impossible_rules_are_refused_by_key(
    make: Make, run: Make, parameters: dict[str, Any], named: str
) -> None:
    assert named in run(make(), "deribit-standard", **parameters)["error"]


def test_rules_of_another_engine_are_refused(
    make: Make, flat: Flat, linear_tiers: RuleSet, srm: RuleSet
) -> None:
    with pytest.raises(RuleSetError, match="StandardRules"):
        StandardEngine().margins(flat(make(), ruleset=srm), linear_tiers)


def test_bar_symbols_take_the_figures_of_their_coin(
    make: Make, flat: Flat, deribit: RuleSet
) -> None:
    for name, rate in (("BTCUSDT", 0.02 + 0.00005), ("BTC", 0.02 + 0.00005), ("DOGE", 0.040005)):
        portfolio = make(
            underlyings={name: {"spot": 100.0}},
            positions=[{"kind": "spot", "underlying": name, "quantity": -1.0}],
        )
        margins = compute_margins(flat(portfolio, ruleset=deribit), deribit)
        assert margins.leg_initial[0] == pytest.approx(100.0 * rate)


def test_identity_of_the_tier_preset_is_what_it_was_before_these_rules() -> None:
    assert "standard" not in load_ruleset("linear-tiers").content()
