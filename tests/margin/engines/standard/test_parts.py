"""What the parts say: what decided each expiry, and which price is not trusted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from margin.book.portfolio_batch import Portfolios
from margin.engines.margins import Part
from margin.engines.registry import compute_margins, engine_of
from margin.engines.standard.engine import expiry_name
from margin.rules.ruleset import RuleSet

Make = Callable[..., dict[str, Any]]
Flat = Callable[..., Portfolios]


def parts_of(flat: Flat, ruleset: RuleSet, portfolio: dict[str, Any]) -> dict[str, Part]:
    portfolios = flat(portfolio, ruleset=ruleset)
    parts = engine_of(ruleset).parts(portfolios, 0, ruleset)
    return {f"{part.name} | {part.subject}": part for part in parts}


def test_loss_names_its_settlement_price_and_the_unpaired_calls(
    make: Make, option: Make, flat: Flat, srm: RuleSet
) -> None:
    legs = [option(-2.0, "put", 1_800.0), option(2.0, "put", 1_750.0), option(-0.25, "call", 200.0)]
    parts = parts_of(flat, srm, make(positions=legs))
    # At 1750 the call loses 387.50, and being unpaired costs 600: more than the sum of all three.
    names = [name for name in parts if "ETH" in name]
    assert names == ["isolated sum | ETH-1209600.0s"]
    legs[2] = option(-0.25, "call", 50.0)
    legs.append(option(0.25, "call", 60.0))
    parts = parts_of(flat, srm, make(positions=legs))
    assert list(parts) == ["cash | ", "max loss at 60 | ETH-1209600.0s"]
    assert parts["max loss at 60 | ETH-1209600.0s"].initial == -102.5
    legs[:2] = [option(2.0, "put", 1_800.0), option(-2.0, "put", 1_750.0)]
    parts = parts_of(flat, srm, make(positions=legs))
    assert parts["max loss at 1800 | ETH-1209600.0s"].maintenance == -2.5


def test_expiry_that_its_levels_decide_differently_has_both_parts(
    make: Make, option: Make, flat: Flat, srm: RuleSet
) -> None:
    legs = [option(-1.0, "put", 1_900.0, vol=0.0), option(1.0, "put", 1_720.0, vol=0.0)]
    parts = parts_of(flat, srm, make(positions=legs))
    sums, loss = (parts[f"{name} | ETH-1209600.0s"] for name in ("isolated sum", "max loss at 0"))
    assert (sums.initial, sums.maintenance) == (0.0, -150.0)
    assert (loss.initial, loss.maintenance) == (-180.0, 0.0)


def test_unpaired_calls_stand_beside_the_loss_and_on_no_leg(
    make: Make, option: Make, flat: Flat, srm: RuleSet
) -> None:
    # Ten short calls of 200 against nine of 220: 20 lost at 220, and one call unpaired.
    legs = [option(-10.0, "call", 200.0), option(9.0, "call", 220.0)]
    portfolio = make(positions=legs)
    parts = parts_of(flat, srm, portfolio)
    assert parts["max loss at 220 | ETH-1209600.0s"].initial == pytest.approx(-200.0)
    unpaired = parts["unpaired calls -1 | ETH-1209600.0s"]
    assert (unpaired.initial, unpaired.maintenance) == pytest.approx((-2_400.0, -2_200.0))
    margins = compute_margins(flat(portfolio, ruleset=srm), srm)
    # At 220 the short leg pays 200 and the long one nothing.
    values = np.array([-10 * 1_800.0, 9 * 1_780.0])
    np.testing.assert_allclose(margins.leg_initial, values - [-200.0, 0.0], atol=1e-6)


def test_isolated_legs_take_their_margin_and_long_ones_their_value(
    make: Make, option: Make, flat: Flat, deribit: RuleSet
) -> None:
    legs = [option(-2.0, "put", 3_000.0, vol=0.0), option(1.0, "call", 1_500.0, vol=0.0)]
    margins = compute_margins(flat(make(positions=legs), ruleset=deribit), deribit)
    # Canonical order: by strike. The long call adds its value to equity and to no margin balance.
    np.testing.assert_allclose(margins.leg_initial, [500.0, 600.0])
    np.testing.assert_allclose(margins.leg_maintenance, [500.0, 300.0])
    assert margins.mark_to_market[0] - margins.initial_net[0] == pytest.approx(1_100.0)


def test_doubt_and_depeg_say_where_they_come_from(
    make: Make, option: Make, flat: Flat, srm: RuleSet
) -> None:
    portfolio = make(
        stable_price=0.9,
        positions=[
            option(-1.0, "put", 1_000.0, instrument="ETH-27MAR26-1000-P"),
            {"kind": "perp", "underlying": "BTC", "quantity": 1.0},
        ],
        collateral=[{"asset": "WBTC", "underlying": "BTC", "amount": 1.0, "price": 28_000.0}],
    )
    portfolio["underlyings"]["ETH"]["expiries"][0]["vol_confidence"] = 0.1
    portfolio["underlyings"]["BTC"]["spot_confidence"] = 0.3
    portfolio["underlyings"]["BTC"]["perp_confidence"] = 0.2
    parts = parts_of(flat, srm, portfolio)
    assert {name: part.initial for name, part in parts.items() if part.maintenance == 0.0} == {
        "cash | ": 0.0,
        "depeg, stable price 0.9 | ETH": pytest.approx(-1.2 * 0.08 * 2_000),
        "depeg, stable price 0.9 | BTC": pytest.approx(-1.2 * 0.08 * 28_000),
        "low option confidence: vol 0.1 | ETH-27MAR26-1000-P": pytest.approx(-0.9 * 0.4 * 2_000),
        "low perp confidence: perp 0.2 | BTC-PERP": pytest.approx(-0.8 * 0.4 * 28_000),
        "low base confidence: spot 0.3 | WBTC": pytest.approx(-0.7 * 0.4 * 28_000),
    }
    assert parts["isolated sum | ETH-27MAR26"].initial == pytest.approx(-200.0, abs=1.0)
    assert parts["base collateral | WBTC"].maintenance == pytest.approx(22_400.0)


@pytest.mark.parametrize(
    ("option", "expiry"),
    [("BTC-27MAR26-60000-C", "BTC-27MAR26"), ("ETH-892800.0s-2000.0-P", "ETH-892800.0s")],
)
def test_expiry_is_named_by_its_options(option: str, expiry: str) -> None:
    assert expiry_name(option) == expiry
