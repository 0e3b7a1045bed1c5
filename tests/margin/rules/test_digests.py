"""The identity of every preset: a digest that changes unmakes recorded decisions.

A preset that changes on purpose gets a new version, and its new digest here.
"""

from __future__ import annotations

import pytest

from margin.rules.ruleset import list_rulesets, load_ruleset

DIGESTS = {
    "binance-usdm": "d5f62dda5ad443caf4d8f6f679ff376f7a15d06899de2e9240bf425bbf8aa101",
    "deribit-portfolio-like": "60b64125dc957901c275b2ef48a2198601e9c73775aefad6e3da9377999cb02e",
    "deribit-standard": "39516fda601322210709fcc3db8f3fe5fe7a84145a92191de8e2f1558362c005",
    "derive-pmrm2": "3867a840b45a890afea5a40414bfcd696adcaaf595decb225f02702082db58a5",
    "derive-srm": "8637d730d1d875d8a5ef975445f05dccb7040f70d401aba331dc31904a9da567",
    "derive-srm-v2": "053e1be67f2d4922d20307bfadadf72228595b30914232d77101b15a42396375",
    "drift-v2": "a56c21eaea9fe924b23e11ff5ec5e20551b4b2a59a1d4ad94153a7aad0ebc108",
    "dydx-v4": "3cb599c32ee4350fd15ea058c4ce7f60b247e9dc53715309207dd67fed40f325",
    "emir-ccp": "46a01a869c7eec94c17684ab061668f99ed703f7a70ff2c6e1475dfb597a5798",
    "emir-tiers": "151a9322341df2374db150144e9e5cded8aaf4e76e64b9973b7fb873695bbc18",
    "hyperliquid": "dda103a7bf653bbfccb1af0c67ac15998cf5d01f6a03dd5bc2e3def25be78ac1",
    "linear-tiers": "b93d7bf7894ec09bf30f09c7957e412c9a561887fca818b72a6b5164389597bd",
    "paradex-portfolio": "5a5cb6fd777f6b1229a40306d6d56f1d4974d55ea28dbaeb38425cb9cf0b4e55",
}


def test_every_preset_is_listed_here() -> None:
    assert set(DIGESTS) == set(list_rulesets())


@pytest.mark.parametrize("name", DIGESTS)
def test_the_digest_of_a_preset_stays(name: str) -> None:
    assert load_ruleset(name).sha256 == DIGESTS[name]
