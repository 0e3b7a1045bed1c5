"""Whatever a configuration holds: it is read, or refused in plain lines without a traceback."""

from __future__ import annotations

import math
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from market.core.errors import ConfigError
from market.core.redaction import redact
from pipelines.cli.main import _error_line
from pipelines.config.config import Config, load_config

SECTIONS = sorted(Config.model_fields)
KEYS = sorted(
    {key for field in Config.model_fields.values() for key in type(field.default).model_fields}
)

ODD_TEXTS = [
    "",
    "a\0b",
    "sqlite:///a\0b",
    "postgresql+psycopg://u:p@h:notaport/db",
    "postgresql+psycopg://[::1/db",
    "sqlite://",
    "x" * 5_000,
    "~",
    "é☃\U0001f600",
    "../../..",
    "9999-12-31T23:59:59+99:99",
    "-1h",
    "1e400h",
]


def toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(c):08x}" for c in value) + '"'
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, float) and not math.isfinite(value):
        return {"inf": "inf", "-inf": "-inf"}.get(str(value), "nan")
    return str(value)


texts = st.one_of(
    st.sampled_from(ODD_TEXTS),
    st.text(st.characters(codec="utf-8"), max_size=20),
)
scalars = st.one_of(
    texts,
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(string.ascii_letters, min_size=1, max_size=5), inner, max_size=3),
    ),
    max_leaves=6,
)


def read_or_refuse(path: Path) -> ConfigError | None:
    try:
        load_config(path)
    except ConfigError as error:
        return error
    return None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.sampled_from(SECTIONS), st.sampled_from(KEYS), values)
def test_any_value_of_any_key_is_read_or_refused(
    tmp_path: Path, section: str, key: str, value: Any
) -> None:
    path = tmp_path / "odd.toml"
    path.write_text(f"[{section}]\n{key} = {toml(value)}\n", encoding="utf-8")
    error = read_or_refuse(path)
    if error is not None:
        assert all(len(line) < 2_000 for line in str(error).splitlines())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=300), st.text('[]{}="\\\n.#a1', max_size=60).map(str.encode)))
def test_any_bytes_are_read_or_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "odd.toml"
    path.write_bytes(data)
    read_or_refuse(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = " + "[" * 5_000 + "]" * 5_000, "nested too deeply"),
        ("x = " + "{a=" * 5_000 + "1" + "}" * 5_000, "nested too deeply"),
        ("[" + ".".join(["a"] * 500) + "]", "nested too deeply"),
        ("[serving]\nport = " + "9" * 5_000, "not TOML"),
        ("[serving]\nport = " + "9" * 4_000, "serving.port is 9999"),
        ('[ledger]\nurl = "sqlite:///a\\u0000b"', "ledger.url holds a null character"),
        ('[ledger]\nurl = "postgresql+psycopg://u:p@h:port/db"', "ledger.url"),
        ("x = 1\n" * 200_000, "bytes"),
    ],
)
def test_deep_huge_and_broken_files_are_refused_by_what_is_wrong(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "odd.toml"
    path.write_text(text)
    error = read_or_refuse(path)
    assert error is not None
    assert words in str(error)
    assert len(str(error)) < 2_000


@pytest.mark.parametrize("path", ["/", "/dev/zero", "/dev/null/x", "/proc/self/mem"])
def test_a_path_that_is_no_plain_file_is_refused(path: str) -> None:
    assert read_or_refuse(Path(path)) is not None


@pytest.mark.parametrize("text", ["[" * 5_000, "{" * 5_000, "9" * 5_000, "NaN", '"', "null"])
def test_any_variable_is_read_or_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    for key in ("SERVING__PORT", "MARKET__BARS", "TRAINING__HORIZONS", "LEDGER__URL", "LEDGER"):
        with monkeypatch.context() as patch:
            patch.setenv(f"MARGINCAST__{key}", text)
            read_or_refuse(Path("margincast.toml"))


def test_an_input_that_is_nested_too_deeply_is_one_line() -> None:
    line = _error_line(RecursionError("maximum recursion depth exceeded"))
    assert line is not None
    assert "nested too deeply" in line


def test_a_long_text_without_an_address_is_redacted_quickly() -> None:
    """A hundred thousand letters took minutes."""
    text = "x" * 100_000
    assert redact(text) == text
    hidden = redact(f"{text}://user:secret@host/db")
    assert "secret" not in hidden
