"""Redaction: no credential of an address is left, and the rest of the text is."""

from __future__ import annotations

import string
from urllib.parse import quote

import pytest
from hypothesis import given, strategies as st

from market.core.redaction import display_address, display_host, redact, redact_all


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("sqlite:///var/mlflow.db", "sqlite:///var/mlflow.db"),
        ("postgresql://u:p@h:5432/d", "postgresql://u:***@h:5432/d"),
        ("postgresql://u:p/q:r@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u:p@q@h/d", "postgresql://u:***@h/d"),
        ("https://token@h/api/2.0", "https://***@h/api/2.0"),
        ("https://:token@h/", "https://:***@h/"),
        ("https://h/d?password=p&x=y", "https://h/d?***"),
        ("GET 'https://h/d?p=q' failed: a@b", "GET 'https://h/d?***' failed: a@b"),
        ("see https://h/x (u:v)", "see https://h/x (u:v)"),
        ("from a://u:p@h to b://v:q@k", "from a://u:***@h to b://v:***@k"),
        ("Path /a/b: 12:30, x@y", "Path /a/b: 12:30, x@y"),
    ],
)
def test_credentials_go_and_the_rest_stays(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert redact(shown) == shown


@given(
    st.text(string.ascii_letters + string.digits + "/:?#@!$&'()*+,;=[]%{}\"", min_size=1),
    st.sampled_from(["postgresql+psycopg", "https", "mysql"]),
    st.text(string.ascii_letters + "@:' ", max_size=20),
)
def test_no_password_survives_whatever_it_is_made_of_and_whatever_stands_around(
    password: str, scheme: str, around: str
) -> None:
    text = redact(f"{around} {scheme}://u:<{password}>@host/name {around}")
    assert f"<{password}>" not in text
    assert "host/name" in text


@given(st.text(min_size=8))
def test_password_of_a_known_address_is_hidden_wherever_it_stands(password: str) -> None:
    address = f"postgresql://u:{quote(password, safe='')}@host/name"
    assert password not in redact(f"driver said: {password!s} is wrong", address)
    assert quote(password, safe="") not in redact(f"{quote(password, safe='')}", address)


def test_reports_are_redacted_at_any_depth() -> None:
    report = {"a": [{"b": "x://u:p@h"}, 1, None], "c": ("x://u:p@h",)}
    assert redact_all(report) == {"a": [{"b": "x://u:***@h"}, 1, None], "c": ["x://u:***@h"]}


def test_address_that_is_none_is_shown_from_its_host_on() -> None:
    assert display_address("postgres//u:p@h/d") == "***@h/d"
    assert display_address("postgresql://u:p q@h/d") == "postgresql://u:***@h/d"
    assert display_address("var/mlruns") == "var/mlruns"


@pytest.mark.parametrize(
    ("webhook", "shown"),
    [
        ("https://hooks.example.com:8443/services/T0/secret", "https://hooks.example.com:8443/***"),
        ("https://u:secret@hooks.example.com/", "https://hooks.example.com/***"),
        ("https://hooks.example.com?secret", "https://hooks.example.com/***"),
        ("http://[::1]:80/secret", "http://[::1]:80/***"),
        ("https//secret", "***"),
        ("ftp://secret", "***"),
        ("", "***"),
    ],
)
def test_of_a_webhook_only_the_host_is_shown(webhook: str, shown: str) -> None:
    assert display_host(webhook) == shown
