"""The parts of the total requirement, under engines that net options and collateral."""

from __future__ import annotations

import dataclasses

import pytest
from msgspec import UNSET

from margin.rules.ruleset import load_ruleset
from market.accounts.book import Account, Balance
from models.forecaster import Forecaster
from serving.console.views.accounts.requirement import VALUE_OF_OPTIONS, requirement_parts
from tests.decisions.test_option_decisions import Quoted, accounts, decided, model, quoted

__all__ = ["model", "quoted"]

NETS_OPTIONS = ("deribit-standard", "derive-srm")


def with_collateral(account: Account) -> Account:
    held = (Balance("BTC", 0.5), Balance("USDC", -50.0))
    return dataclasses.replace(
        account, account_id=f"{account.account_id}, collateral", collateral=held
    )


@pytest.mark.parametrize("preset", [*NETS_OPTIONS, "derive-pmrm2", "paradex-portfolio"])
def test_parts_add_up_and_hold_nothing_of_the_equity(
    preset: str, quoted: Quoted, model: Forecaster
) -> None:
    book = accounts(quoted)
    book += [with_collateral(account) for account in book]
    for one in decided(quoted, load_ruleset(preset), model, book):
        assert one.explain is not UNSET
        parts = requirement_parts(one.explain)
        assert sum(amount for _, amount in parts) == pytest.approx(one.total_requirement)
        names = [name for name, _ in parts]
        assert not [name for name in names if "collateral" in name]
        assert "other rules of the engine" not in names
        assert (VALUE_OF_OPTIONS in names) == (preset in NETS_OPTIONS)
