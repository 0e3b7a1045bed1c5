"""The identity of every preset: a digest that changes unmakes recorded decisions.

A preset that changes on purpose gets a new version, and its new digest here.
"""

from __future__ import annotations

import pytest

from margin.rules.ruleset import list_rulesets, load_ruleset

DIGESTS = {
    "binance-usdm": "d5f62dda5ad443caf4d8f6f679ff376f7a15d06899de2e9240bf425bbf8aa101",
    "deribit-portfolio-like": "9264a70f09ed68aa95a60d3a63ca513db569528ded2e63820ce928fc3d493deb",
    "deribit-standard": "c736c3366001b7f6d3b4c3f040dbb45cb326120e1e4181a3305d4d99060bcd61",
    "derive-pmrm2": "5c5c8ccc56d829a83a143fd8ef42a1bb313bef455eee0a9d4dc627e16258ba55",
    "derive-srm": "5f74e150859be9a8ff94caadf190c2b2b833050fa99c3552b2821aad61aee820",
    "derive-srm-v2": "8fbc1bbedf203daac69aae5e5f51762ac0b920efb41f0be524e1aeca655bad7c",
    "drift-v2": "646c312b6195ab7a8e6baea787cbc63401e65b14a08e873522b869cb462dad46",
    "dydx-v4": "3cb599c32ee4350fd15ea058c4ce7f60b247e9dc53715309207dd67fed40f325",
    "emir-ccp": "46a01a869c7eec94c17684ab061668f99ed703f7a70ff2c6e1475dfb597a5798",
    "emir-tiers": "151a9322341df2374db150144e9e5cded8aaf4e76e64b9973b7fb873695bbc18",
    "hyperliquid": "dda103a7bf653bbfccb1af0c67ac15998cf5d01f6a03dd5bc2e3def25be78ac1",
    "linear-tiers": "b93d7bf7894ec09bf30f09c7957e412c9a561887fca818b72a6b5164389597bd",
    "paradex-portfolio": "58c185daf10277d06d25a999777e3d6f9ff2c58820f5af5ca5e10551f6ba8b26",
}


def test_every_preset_is_listed_here() -> None:
    assert set(DIGESTS) == set(list_rulesets())


@pytest.mark.parametrize("name", DIGESTS)
def test_the_digest_of_a_preset_stays(name: str) -> None:
    assert load_ruleset(name).sha256 == DIGESTS[name]
