"""Figures under brackets have the bits that they had before there were other engines."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import pytest

from margin.floors import active_floors
from margin.requirement import compute_requirement
from margin.ruleset import load_ruleset
from margin.view import MarketView
from market.book import Account, Balance, Book, Position

NAMES = ("BTCUSDT", "BTCUSDT-PERP", "ETHUSDT-PERP", "XUSDT", "NOUSDT", "BTC-27MAR26-60000-C")
FIGURES = (
    *("equity", "initial_margin", "maintenance_margin", "headroom", "gross_notional"),
    *("leg_symbol", "leg_notional", "leg_unrealised_pnl", "leg_initial_margin"),
    "leg_maintenance_margin",
)


def book() -> Book:
    rng = np.random.default_rng(42)
    accounts = []
    for i in range(300):
        chosen = rng.choice(
            len(NAMES), int(rng.integers(0, 5)), replace=False, p=[0.3, 0.2, 0.2, 0.26, 0.02, 0.02]
        )
        legs = tuple(
            Position(NAMES[k], float(rng.normal()), float(rng.uniform(1.0, 9e4)) if i % 2 else None)
            for k in chosen.tolist()
        )
        coins = tuple(
            Balance(asset, float(rng.normal()))
            for asset in ("BTC", "USD", "ETH")[: int(rng.integers(0, 4))]
        )
        accounts.append(Account(str(i), float(rng.normal(0.0, 1e4)), legs, coins))
    return Book.of(accounts)


@pytest.mark.parametrize(
    ("preset", "digest"),
    [
        ("linear-tiers", "ebc05b3465c083213f44e91728f94af6a18eb82c9135b35cecc79d517a457d8f"),
        ("emir-tiers", "8ab90e03730f727ee1bd5e4c45e8614502fef5e987111de067dbef775aaa4cc4"),
    ],
)
def test_requirement_and_floors_have_the_bits_of_the_version_before(
    make_view: Callable[..., MarketView], preset: str, digest: str
) -> None:
    # Digests of commit 1a73f63. Sums, products and square roots alone: the same on every processor.
    rho = np.array([[1.0, 0.8, 0.5], [0.8, 1.0, 0.6], [0.5, 0.6, 1.0]])
    view = make_view(
        age_hours=[5.0, 0.0, 0.0],
        volatility=[0.01, 0.012, 0.03],
        correlation=rho,
        fast_correlation=rho,
        long_volatility=[0.012, 0.012, 0.03],
        history_hours=[2e4, 2e4, 2e4],
        suspect=[False, True, False],
    )
    rules = load_ruleset(preset)
    got = compute_requirement(book(), view, rules)
    assert got.collateral is not None
    assert (got.options, got.margined) == (None, None)
    found = hashlib.sha256()
    for key in FIGURES:
        found.update(getattr(got, key).tobytes())
    found.update(got.collateral.counted().tobytes())
    for i in sorted(got.problems):
        found.update(f"{i} {got.problems[i]}".encode())
    for name, floor in sorted(active_floors(got, view, rules.floors).items()):
        found.update(name.encode() + floor.tobytes())
    assert found.hexdigest() == digest
