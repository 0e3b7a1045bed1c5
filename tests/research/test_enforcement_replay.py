"""The replay with and without proactive calls: savings by hand, and arms that differ in calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from enforcement.history.walk import rule_levels
from market.core.clock import DAY, parse_time
from pipelines.config.config import load_config
from pipelines.data.loaders import Market, read_market, read_rules
from research.experiments.enforcement_replay import (
    ARMS,
    WIDE_CURE_SHARE,
    Days,
    Setup,
    arm_rules,
    draw,
    savings,
    tables,
    walk,
)

BEGIN = parse_time("2025-01-10T00:00:00Z")
SETUP = Setup(BEGIN, BEGIN + 6 * DAY, accounts=40, equity=1_000.0, seed=3)


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Market]:
    file: Path = tmp_path_factory.mktemp("market") / "margincast.toml"
    file.write_text("[simulate]\ndays = 18\nsymbols = 3\nseed = 4\n")
    config = load_config(file)
    return config, read_market(config)


def test_savings_are_paired_by_blocks_of_days() -> None:
    """Every block saves 6 of notional for 3 of collateral: no resample tells otherwise."""
    base, arm = Days(), Days()
    setup = Setup(0, 27 * DAY, 1, 1.0, 11)
    for block in range(4):
        base.notional[7 * block] = 10.0 + block
        arm.notional[7 * block + 6] = 4.0 + block
        arm.deposits[7 * block + 3] = 3.0
    base.uncovered[1] = 2.0
    found = savings(base, arm, setup)
    assert found["extra_collateral"] == 12.0
    assert found["notional"] == {
        "saved": 24.0,
        "interval": [24.0, 24.0],
        "per_unit": 2.0,
        "per_unit_interval": [2.0, 2.0],
    }
    low, high = found["uncovered"]["interval"]
    assert low == 0.0 < found["uncovered"]["saved"] == 2.0 < high
    alike = savings(base, base, setup)
    assert alike["notional"]["per_unit"] is None
    assert alike["notional"]["per_unit_interval"] is None


def test_arms_differ_in_the_proactive_calls_alone(market: tuple[Any, Market]) -> None:
    rules = read_rules(*market)
    none, floor, model, wide = (arm_rules(rules, arm) for arm in ARMS)
    assert floor == model
    assert wide.enforcement is not msgspec.UNSET
    assert wide.enforcement.proactive is not msgspec.UNSET
    assert wide.enforcement.proactive.cure_share == WIDE_CURE_SHARE
    assert none.enforcement is not msgspec.UNSET
    assert none.enforcement.proactive is msgspec.UNSET
    assert floor.enforcement is not msgspec.UNSET
    assert floor.enforcement.proactive is not msgspec.UNSET
    assert none.liquidation == floor.liquidation
    assert none.life_cycle == floor.life_cycle


def test_owners_pay_more_where_more_is_called(market: tuple[Any, Market]) -> None:
    config, bars = market
    rules = read_rules(config, bars)
    history = draw(bars, "reference-v1", SETUP)
    book = history.book_of(np.arange(len(history.segments.begin))).cash
    assert book == pytest.approx(1_000.0)
    arms = {
        arm: walk(bars, history, arm_rules(rules, arm), rule_levels, SETUP, True)
        for arm in ARMS[:2]
    }
    (none, none_days), (floor, floor_days) = arms[ARMS[0]], arms[ARMS[1]]
    assert not any("proactive" in types for types in none["calls"])
    assert any("proactive" in types for types in floor["calls"])
    assert floor["deposits"] > none["deposits"]
    assert none["account_days"] == floor["account_days"] > 0.0
    for figures, days in ((none, none_days), (floor, floor_days)):
        assert figures["liquidated_notional"] == pytest.approx(sum(days.notional.values()))
        assert figures["shortfall"] == pytest.approx(
            figures["fund_paid"] + figures["deleveraged"] + figures["uncovered"]
        )
    unpaid, _ = walk(bars, history, arm_rules(rules, ARMS[1]), rule_levels, SETUP, False)
    assert unpaid["deposits"] == 0.0
    report = {
        "populations": {
            "reference-v1": {
                "arms": {arm: figures for arm, (figures, _) in arms.items()},
                "saved": {"rule floor": savings(none_days, floor_days, SETUP)},
            }
        }
    }
    assert tables(report).count("\n| rule floor: ") == 3
