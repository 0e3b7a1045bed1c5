"""Cases of the standard engine, built key by key and run like those of a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from margin.book.case_batch import flatten
from margin.book.case_portfolio import portfolio_from
from margin.book.portfolio_batch import Portfolios
from margin.cases.margin_cases import run_case
from margin.rules.ruleset import RuleSet, load_ruleset

DAY = 86_400


@pytest.fixture(scope="session")
def make() -> Callable[..., dict[str, Any]]:
    """A portfolio of ETH at 2000 and BTC at 28000, one expiry each in a fortnight; a keyword adds
    or replaces."""

    def build(**given: Any) -> dict[str, Any]:
        eth: dict[str, Any] = {"spot": 2_000.0, "perp_price": 2_001.0}
        btc: dict[str, Any] = {"spot": 28_000.0, "perp_price": 28_020.0}
        for coin, forward in ((eth, 2_000.0), (btc, 28_000.0)):
            coin["expiries"] = [{"seconds_to_expiry": 14 * DAY, "forward": forward, "rate": 0.0}]
        return {
            "cash": 0.0,
            "stable_price": 1.0,
            "underlyings": {"ETH": eth, "BTC": btc},
            "positions": [],
            "collateral": [],
            **given,
        }

    return build


@pytest.fixture(scope="session")
def option() -> Callable[..., dict[str, Any]]:
    """An ETH option of a fortnight at a vol of 50%; a keyword replaces."""

    def build(quantity: float, kind: str, strike: float, **given: Any) -> dict[str, Any]:
        return {
            "kind": "option",
            "underlying": "ETH",
            "seconds_to_expiry": 14 * DAY,
            "strike": strike,
            "type": kind,
            "quantity": quantity,
            "vol": 0.5,
            **given,
        }

    return build


@pytest.fixture(scope="session")
def run() -> Callable[..., dict[str, Any]]:
    """The answer to a portfolio under a preset, keywords replacing its parameters."""

    def answer(portfolio: dict[str, Any], name: str, **parameters: Any) -> dict[str, Any]:
        ruleset = {"engine": "standard", "name": name, "parameters": parameters}
        return run_case(json.dumps({"id": 1, "portfolio": portfolio, "ruleset": ruleset}).encode())

    return answer


@pytest.fixture(scope="session")
def flat() -> Callable[..., Portfolios]:
    """Portfolios as arrays."""

    def build(*portfolios: dict[str, Any], ruleset: RuleSet) -> Portfolios:
        return flatten([portfolio_from(one) for one in portfolios], ruleset.collateral)

    return build


@pytest.fixture(scope="session")
def srm() -> RuleSet:
    return load_ruleset("derive-srm")


@pytest.fixture(scope="session")
def deribit() -> RuleSet:
    return load_ruleset("deribit-standard")
