"""TOML that is read back as it was."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from margin.rules.ruleset import list_rulesets, load_ruleset, ruleset_from_content
from pipelines.rulesets.toml_text import toml_text

# TOML has 64-bit integers, and no text with lone surrogates.
TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
PLAIN = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
CONTENT = st.recursive(
    st.dictionaries(TEXT, PLAIN | st.lists(PLAIN, max_size=5), max_size=4),
    lambda inner: st.dictionaries(TEXT, inner | st.lists(inner, max_size=3), max_size=4),
    max_leaves=12,
)


@given(CONTENT)
def test_content_comes_back_to_the_last_bit(content: dict[str, Any]) -> None:
    assert tomllib.loads(toml_text(content)) == content


@pytest.mark.parametrize("name", list_rulesets())
def test_every_preset_can_be_written_and_keeps_its_identity(name: str) -> None:
    ruleset = load_ruleset(name)
    again = ruleset_from_content(tomllib.loads(toml_text(ruleset.content())))
    assert again.sha256 == ruleset.sha256


def test_nothing_else_is_taken() -> None:
    assert tomllib.loads(toml_text({"a": None, "b": {"c": [{"d": None, "e": 1}]}})) == {
        "b": {"c": [{"e": 1}]}
    }
    with pytest.raises(TypeError, match="set"):
        toml_text({"a": {1}})
