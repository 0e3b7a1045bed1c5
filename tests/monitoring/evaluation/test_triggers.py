"""What evaluates the book again: moves of marks and distances, deadlines; columns of records."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from margin.life_cycle.states import NEVER, States
from market.core.errors import AlteredError
from monitoring.evaluation.record.column_codec import (
    decode_columns,
    decode_names,
    encode_columns,
    encode_names,
)
from monitoring.evaluation.triggers import deadline_due, has_moved, moved_accounts

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("now", "moved"),
    [
        ([100.0, 50.0, NAN], False),
        ([100.1, 50.0, NAN], False),
        ([100.2, 50.0, NAN], True),
        ([100.0, 49.9, NAN], True),
        ([100.0, NAN, NAN], True),
        ([100.0, 50.0, 1.0], True),
        ([100.0, 50.0], True),
    ],
)
def test_a_mark_moves_beyond_a_relative_threshold_or_comes_or_goes(
    now: list[float], moved: bool
) -> None:
    before = np.array([100.0, 50.0, NAN])
    assert has_moved(before, np.array(now), 0.0015) is moved


def test_accounts_whose_distance_changed() -> None:
    at_level = np.array([0.10, 0.10, INF, INF, NAN, 0.10])
    now = np.array([0.105, 0.12, INF, 0.2, 0.5, NAN])
    assert moved_accounts(at_level, now, 0.01).tolist() == [False, True, False, True, False, False]


def test_a_deadline_is_due_at_its_time() -> None:
    states = States.healthy(2)
    deadline = np.array([NEVER, 500], dtype=np.int64)
    states = replace(states, deadline=deadline, as_of=100)
    assert not deadline_due(states, 499)
    assert deadline_due(states, 500)
    assert not deadline_due(States.healthy(2), 10**18)


@given(
    arrays(np.float64, array_shapes(max_dims=2, max_side=9), elements=st.floats(width=64)),
    arrays(np.int64, st.integers(0, 9)),
    arrays(np.float32, array_shapes(max_dims=2, max_side=5), elements=st.floats(width=32)),
)
def test_columns_come_back_with_the_same_bits(
    a: npt.NDArray[np.float64], b: npt.NDArray[np.int64], c: npt.NDArray[np.float32]
) -> None:
    columns: dict[str, npt.NDArray[Any]] = {"a": a, "b": b, "c": c}
    found = decode_columns(encode_columns(columns))
    for name, column in columns.items():
        assert found[name].tobytes() == column.tobytes()
        assert found[name].shape == column.shape
        assert found[name].dtype == column.dtype


@given(st.lists(st.text("aé /\u20ac-7", min_size=1, max_size=9), max_size=9))
def test_names_come_back(names: list[str]) -> None:
    assert decode_names(encode_names(names)) == names


@pytest.mark.parametrize("data", ["", "AAAA", "%"])
def test_columns_that_were_altered_are_refused(data: str) -> None:
    with pytest.raises(AlteredError, match="verify the ledger"):
        decode_columns({"a": {"dtype": "<f8", "shape": [1], "data": data}})
