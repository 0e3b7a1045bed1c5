from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from market.core.errors import ModelError
from models.bundle.schema import ModelSchema, canonical_json

SCHEMA = ModelSchema(
    features=("prior_1", "prior_8", "leverage"),
    monotone=(1, 1, 0),
    horizons=(1, 8),
    prior=("prior_1", "prior_8"),
    features_sha256="0" * 64,
)


def test_survives_json() -> None:
    assert ModelSchema.from_dict(json.loads(canonical_json(SCHEMA.to_dict()))) == SCHEMA


def test_prior_columns_are_positions() -> None:
    swapped = replace(SCHEMA, prior=("prior_8", "prior_1"))
    assert swapped.prior_columns() == (1, 0)
    assert replace(SCHEMA, prior=()).prior_columns() == ()


@pytest.mark.parametrize(
    "change",
    [
        {"features": ("prior_8", "prior_1", "leverage")},
        {"monotone": (1, 1, 1)},
        {"horizons": (1, 24)},
        {"prior": ()},
        {"features_sha256": "1" * 64},
    ],
)
def test_hash_changes_with_every_part(change: dict[str, Any]) -> None:
    assert replace(SCHEMA, **change).sha256() != SCHEMA.sha256()


@pytest.mark.parametrize(
    ("hazard", "change"),
    [
        ("twice", {"features": ("prior_1", "prior_8", "prior_8")}),
        ("plain", {"features": ("prior_1", "prior_8", "a b")}),
        ("0 features", {"features": (), "monotone": (), "prior": ()}),
        ("one each", {"monotone": (1, 1)}),
        ("-1, 0 or", {"monotone": (1, 1, 2)}),
        ("rising", {"horizons": (8, 1)}),
        ("rising", {"horizons": (0, 1)}),
        ("rising", {"horizons": ()}),
        ("one each", {"prior": ("prior_1",)}),
        ("prior column", {"prior": ("prior_1", "missing")}),
        ("prior column", {"prior": ("prior_1", "leverage")}),
        ("features_sha256", {"features_sha256": "A" * 64}),
    ],
)
def test_parts_that_do_not_fit_are_refused(hazard: str, change: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=hazard):
        replace(SCHEMA, **change)


@pytest.mark.parametrize(
    "change",
    [
        {"extra": 1},
        {"horizons": ["1", "8"]},
        {"horizons": [1.5, 8]},
        {"features": "abc"},
        {"monotone": None},
        {"prior": ["prior_1", 8]},
    ],
)
def test_malformed_dictionary_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="schema"):
        ModelSchema.from_dict(SCHEMA.to_dict() | change)


def test_missing_key_is_refused() -> None:
    data = SCHEMA.to_dict()
    del data["prior"]
    with pytest.raises(ModelError, match="prior"):
        ModelSchema.from_dict(data)


@pytest.mark.parametrize("value", [np.nan, np.inf, {1, 2}, np.float32(1)])
def test_what_json_cannot_say_is_refused(value: object) -> None:
    with pytest.raises(ModelError, match="JSON"):
        canonical_json({"value": value})


def test_canonical_json_ignores_insertion_order() -> None:
    assert canonical_json({"b": 1, "a": 2}) == canonical_json({"a": 2, "b": 1}) == b'{"a":2,"b":1}'
