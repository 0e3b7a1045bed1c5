"""The waterfall of the requirement, by every rule set that margins options and coins."""

from __future__ import annotations

import dataclasses

import pytest

from margin.rules.ruleset import load_ruleset
from market.accounts.book import Balance
from models.forecaster import Forecaster
from serving.console.views.accounts.requirement import requirement_parts
from tests.decisions.test_option_decisions import (
    Quoted,
    accounts,
    decided,
    every_preset,
    model,
    quoted,
)

__all__ = ["model", "quoted"]

HELD = (Balance("BTC", 0.5), Balance("USDC", -50.0))


@every_preset
def test_parts_add_up_and_collateral_is_none_of_them(
    preset: str, quoted: Quoted, model: Forecaster
) -> None:
    book = [dataclasses.replace(account, collateral=HELD) for account in accounts(quoted)]
    for decision in decided(quoted, load_ruleset(preset), model, book):
        assert isinstance(decision.explain, dict)
        parts = requirement_parts(decision.explain)
        assert sum(amount for _, amount in parts) == pytest.approx(decision.total_requirement)
        assert not [name for name, _ in parts if "collateral" in name]
