"""Objects that name a key twice: found whatever they hold, and nothing else is."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, strategies as st

from serving.http.security.duplicate_keys import DuplicateKey, duplicate_key

KEYS = st.sampled_from(
    ["a", "b", "é", "😀", 'q"', "back\\slash", "\x1f", "", "aa", "\x7f", "߿", "￿"]
)


class Pairs(list[tuple[str, Any]]):
    """An object of JSON as it is written, repeated keys included."""


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(alphabet='{}[],:"\\ab\n', max_size=6),
    lambda inner: (
        st.lists(inner, max_size=4) | st.lists(st.tuples(KEYS, inner), max_size=12).map(Pairs)
    ),
    max_leaves=30,
)


def written(value: Any, ascii_only: bool) -> str:
    if isinstance(value, Pairs):
        inner = (
            f"{json.dumps(k, ensure_ascii=ascii_only)} : {written(v, ascii_only)}" for k, v in value
        )
        return "{" + " , ".join(inner) + "}"
    if isinstance(value, list):
        return "[" + ",".join(written(item, ascii_only) for item in value) + " ]"
    return json.dumps(value, ensure_ascii=ascii_only)


def repeats(text: str) -> bool:
    found: list[bool] = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        found.append(len({key for key, _ in pairs}) < len(pairs))

    json.loads(text, object_pairs_hook=look)
    return any(found)


@given(VALUES, st.booleans())
def test_finds_exactly_what_a_reader_that_keeps_all_pairs_finds(
    value: Any, ascii_only: bool
) -> None:
    text = written(value, ascii_only)
    assert (duplicate_key(text.encode()) is not None) == repeats(text)


@pytest.mark.parametrize(
    ("body", "key", "path"),
    [
        ('{"a":1,"a":2}', "a", "$"),
        ('{"accounts":[{"x":1},{"cash":1,"p":[],"cash":2}]}', "cash", "$.accounts[1]"),
        ('{"a":[[0,{"b":{"c":1,"\\u0063":2}}]]}', "c", "$.a[0][1].b"),
        ('{"\\ud83d\\ude00":1,"😀":2}', "😀", "$"),
        ('[{"n":{"x":{}, "y":"{\\"x\\":1,"}},{"z":{},"z":[]}]', "z", "$[1]"),
        ("{" + ",".join(f'"k{i % 500}":0' for i in range(501)) + "}", "k0", "$"),
    ],
)
def test_names_the_key_and_the_path_of_its_object(body: str, key: str, path: str) -> None:
    assert duplicate_key(body.encode()) == DuplicateKey(key, path)


def test_the_work_grows_with_the_body_alone() -> None:
    """Objects of a million keys, and arrays in arrays, cost no more a byte than others."""

    def seconds(body: bytes) -> float:
        start = time.process_time()
        assert duplicate_key(body) is None
        return time.process_time() - start

    duplicate_key(b"{}")
    small = json.dumps([{f"key{n}": 0 for n in range(8)}] * 5_000).encode()
    large = json.dumps({f"key{n}": 0 for n in range(400_000)}).encode()
    deep = b"[" * 200_000 + b"]" * 200_000
    pace = min(seconds(small) for _ in range(5)) / len(small)
    for body in (large, deep):
        assert seconds(body) / len(body) < 100 * pace
