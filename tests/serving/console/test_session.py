"""Signing in: what the cookie is, what it counts as, and whom it lets in."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import pytest
from hypothesis import given, strategies as st

from ledger.keys import Keys
from serving.console.routes import _own_path
from serving.console.session import COOKIE, is_secret, session_cookie, with_session
from serving.http.auth import FAILURES_PER_MINUTE
from tests.endpoint_fixtures import Endpoint, Serve

BODY = {"mode": "normal", "reason": "no fault"}


def secret_of(endpoint: Endpoint, *scopes: str) -> str:
    return Keys(endpoint.ledger).add_key(list(scopes))[1]


def ask(endpoint: Endpoint, path: str = "/v1/ruleset", **options: Any) -> Any:
    """A request that keeps no cookie of an answer and follows no redirect."""
    endpoint.client.cookies.clear()
    method = options.pop("method", "GET")
    return endpoint.client.request(method, path, follow_redirects=False, **options)


def cookie(secret: str, name: str = COOKIE) -> dict[str, str]:
    return {"Cookie": f"{name}={secret}"}


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def sign_in(endpoint: Endpoint, key: str, **options: Any) -> Any:
    return ask(endpoint, "/console/session", method="POST", json={"key": key}, **options)


def headers_of(pairs: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    scope: dict[str, Any] = {"headers": pairs}
    with_session(scope)
    return list(scope["headers"])


def test_a_key_signs_in_and_its_cookie_opens_what_the_key_opens(serve: Serve) -> None:
    endpoint = serve(auth="keys")
    secret = secret_of(endpoint, "read")
    answer = sign_in(endpoint, f"  {secret}\n")
    assert answer.status_code == 204
    assert answer.headers["set-cookie"] == f"{COOKIE}={secret}; Path=/; HttpOnly; SameSite=Strict"
    assert ask(endpoint, headers=cookie(secret)).status_code == 200
    assert ask(endpoint, headers=cookie(secret, "other")).status_code == 401
    refused = ask(endpoint, "/v1/admin/mode", method="POST", json=BODY, headers=cookie(secret))
    assert refused.status_code == 403, "the scopes are those of the key"


def test_the_cookie_is_secure_where_the_request_came_over_tls() -> None:
    assert session_cookie("k", secure=True).split("; ") == [
        f"__Host-{COOKIE}=k",
        "Path=/",
        "HttpOnly",
        "SameSite=Strict",
        "Secure",
    ]
    assert "Secure" not in session_cookie("k", secure=False)


def test_signing_in_over_tls_sets_a_secure_cookie(serve: Serve) -> None:
    endpoint = serve(auth="keys")
    secret = secret_of(endpoint, "read")
    answer = sign_in(endpoint, secret, headers={"Host": "127.0.0.1"})
    assert "Secure" not in answer.headers["set-cookie"]
    over_tls = endpoint.client.post("https://127.0.0.1/console/session", json={"key": secret})
    assert over_tls.headers["set-cookie"].startswith(f"__Host-{COOKIE}={secret}; ")
    assert "; Secure" in over_tls.headers["set-cookie"]


def test_over_tls_only_the_cookie_that_no_other_host_can_set_counts(serve: Serve) -> None:
    endpoint = serve(auth="keys")
    secret = secret_of(endpoint, "read")
    name = f"__Host-{COOKIE}"
    for scheme, own, other in (("https", name, COOKIE), ("http", COOKIE, name)):
        url = f"{scheme}://127.0.0.1:8000/v1/ruleset"
        assert ask(endpoint, url, headers=cookie(secret, own)).status_code == 200
        assert ask(endpoint, url, headers=cookie(secret, other)).status_code == 401
        planted = {"Cookie": f"{other}=mck_of_another; {own}={secret}"}
        assert ask(endpoint, url, headers=planted).status_code == 200


@pytest.mark.parametrize("header", ["Basic YWJj", "Bearer wrong", ""])
def test_the_cookie_counts_only_where_there_is_no_authorization(serve: Serve, header: str) -> None:
    endpoint = serve(auth="keys")
    secret = secret_of(endpoint, "read")
    answer = ask(endpoint, headers=cookie(secret) | {"Authorization": header})
    assert answer.status_code == 401
    assert ask(endpoint, headers=cookie("wrong") | bearer(secret)).status_code == 200


def test_a_wrong_key_is_401_and_sets_no_cookie(serve: Serve) -> None:
    endpoint = serve(auth="keys")
    for key in ("mck_a_b", "x", "Bearer"):
        answer = sign_in(endpoint, key)
        assert answer.status_code == 401
        assert "unknown or was revoked" in answer.json()["detail"]
        assert answer.json()["type"] == "urn:margincast:problem:unauthenticated"
        assert "set-cookie" not in answer.headers


def test_a_key_without_the_scope_read_does_not_sign_in(serve: Serve) -> None:
    endpoint = serve(auth="keys")
    answer = sign_in(endpoint, secret_of(endpoint, "score", "market"))
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("body", [{}, {"key": ""}, {"key": 1}, {"key": "k", "next": "/"}, [], None])
def test_a_sign_in_without_a_key_is_422(serve: Serve, body: Any) -> None:
    answer = ask(serve(auth="keys"), "/console/session", method="POST", json=body)
    assert answer.status_code == 422
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("key", ["a; Domain=x", "a\r\nSet-Cookie: b=c", "schlüssel", "a b", '"a"'])
def test_what_no_key_can_be_is_422_and_never_in_a_header(serve: Serve, key: str) -> None:
    answer = sign_in(serve(auth="keys"), key)
    assert answer.status_code == 422
    assert "no key has" in answer.json()["detail"]
    assert "set-cookie" not in answer.headers


@given(st.text())
def test_the_value_of_a_cookie_can_end_neither_it_nor_its_header(text: str) -> None:
    if is_secret(text):
        assert not re.search(r'[\s;,"\\\x00-\x1f]', text)
        assert headers_of([(b"cookie", f"{COOKIE}={text}".encode())])[-1] == (
            b"authorization",
            f"Bearer {text}".encode(),
        )


def test_guesses_are_held_up_as_those_of_the_api(serve: Serve) -> None:
    endpoint = serve(auth="keys")
    codes = [sign_in(endpoint, f"mck_a_{n}").status_code for n in range(FAILURES_PER_MINUTE + 5)]
    assert codes[: FAILURES_PER_MINUTE - 1] == [401] * (FAILURES_PER_MINUTE - 1)
    assert codes[-3:] == [429] * 3
    answer = sign_in(endpoint, "mck_a_b")
    assert int(answer.headers["retry-after"]) >= 1
    assert ask(endpoint, headers=cookie("mck_a_c")).status_code == 429, "cookies are counted too"
    assert ask(endpoint, headers=bearer("mck_a_c")).status_code == 429


def test_the_rate_of_a_key_holds_for_its_cookie(serve: Serve) -> None:
    endpoint = serve(auth="keys")
    secret = Keys(endpoint.ledger).add_key(["read"], rate_per_minute=2)[1]
    codes = [ask(endpoint, headers=cookie(secret)).status_code for _ in range(3)]
    assert codes == [200, 200, 429]


def test_signing_out_takes_the_cookie_back(serve: Serve) -> None:
    endpoint = serve(auth="keys")
    secret = secret_of(endpoint, "read")
    answer = ask(endpoint, "/console/session", method="DELETE", headers=cookie(secret))
    assert answer.status_code == 204
    name, *attributes = answer.headers["set-cookie"].split("; ")
    assert name == f"{COOKIE}="
    assert set(attributes) == {"Path=/", "HttpOnly", "SameSite=Strict", "Max-Age=0"}


def test_the_cookie_of_a_revoked_key_is_refused_at_once(serve: Serve) -> None:
    endpoint = serve(auth="keys")
    key_id, secret = Keys(endpoint.ledger).add_key(["read"])
    assert ask(endpoint, headers=cookie(secret)).status_code == 200
    Keys(endpoint.ledger).revoke(key_id)
    assert ask(endpoint, headers=cookie(secret)).status_code == 401
    page = ask(endpoint, "/accounts?sort=equity", headers=cookie(secret))
    assert page.status_code == 303
    assert page.headers["location"] == "/login?next=%2Faccounts%3Fsort%3Dequity&ended=1"
    assert "it expired or was revoked" in ask(endpoint, page.headers["location"]).text
    assert "it expired or was revoked" not in ask(endpoint, "/login").text


@pytest.mark.parametrize("origin", ["http://evil.example", "http://127.0.0.1:9999", "null"])
def test_pages_of_others_can_neither_sign_in_nor_command(serve: Serve, origin: str) -> None:
    endpoint = serve(auth="keys")
    secret = secret_of(endpoint, "read", "admin")
    foreign = {"Origin": origin}
    assert sign_in(endpoint, secret, headers=foreign).status_code == 403
    sent = cookie(secret) | foreign
    out = ask(endpoint, "/console/session", method="DELETE", headers=sent)
    command = ask(endpoint, "/v1/admin/mode", method="POST", json=BODY, headers=sent)
    assert (out.status_code, command.status_code) == (403, 403)


@pytest.mark.parametrize(
    "value",
    [
        b"\xff\xfe", b"=", b"a\x00b", b"a b", b"x" * 4_001, b"", b'"quoted"', b"\xc3\xa9",
    ],
)  # fmt: skip
def test_a_hostile_cookie_is_no_authorization(serve: Serve, value: bytes) -> None:
    sent = [(b"cookie", COOKIE.encode() + b"=" + value)]
    if value != b"=":
        assert headers_of(sent) == sent
    endpoint = serve(auth="keys")
    answer = ask(endpoint, headers=[("Cookie", COOKIE.encode() + b"=" + value)])
    assert answer.status_code == 401


@given(st.lists(st.binary(max_size=60), max_size=4))
def test_no_bytes_of_cookies_raise_or_give_two_authorizations(values: list[bytes]) -> None:
    found = headers_of([(b"cookie", COOKIE.encode() + b"=" + value) for value in values])
    assert sum(name == b"authorization" for name, _ in found) <= 1


def test_the_cookie_is_found_among_others() -> None:
    pairs = [(b"cookie", b"a=1; b"), (b"cookie", b"c=2;margincast_key=mck_1_2 ; d=3")]
    assert headers_of(pairs)[-1] == (b"authorization", b"Bearer mck_1_2")


@pytest.mark.parametrize(
    "path",
    [
        "//evil.example", "/\\evil.example", "https://evil.example", "evil.example", "",
        "/\t/evil.example", "/\n/evil.example", "\t//evil.example", "/a\\..\\\\evil.example",
        "javascript:alert(1)", "/\x00/evil.example", None,
    ],
)  # fmt: skip
def test_signing_in_leads_to_no_other_place(serve: Serve, path: str | None) -> None:
    assert _own_path(path) == "/"
    if path is not None:
        page = ask(serve(auth="keys"), f"/login?next={quote(path, safe='')}").text
        assert 'data-next="/"' in page


@given(st.text(alphabet="/\\\t\r\n .:@?#evil\x00é", max_size=12).map("/".__add__))
def test_a_path_to_go_on_to_stays_here_as_browsers_read_it(path: str) -> None:
    kept = _own_path(path)
    as_read = re.sub(r"[\t\r\n]", "", kept).replace("\\", "/")
    there = urljoin("http://here.example/login", as_read)
    assert urlsplit(there)[:2] == ("http", "here.example")


@pytest.mark.parametrize("path", ["/", "/accounts?sort=state&q=a%2Fb", "/account?id=é"])
def test_signing_in_leads_to_the_page_that_was_asked_for(serve: Serve, path: str) -> None:
    assert _own_path(path) == path
    answer = ask(serve(auth="keys"), "/?state=called&q=a%2Fb")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/login?next=%2F%3Fstate%3Dcalled%26q%3Da%252Fb"


def test_without_a_key_a_page_leads_to_sign_in_and_a_part_of_it_does_not(serve: Serve) -> None:
    endpoint = serve(auth="keys")
    page = ask(endpoint, "/")
    assert (page.status_code, page.headers["location"]) == (303, "/login")
    part = ask(endpoint, "/", headers={"X-Fragment": "figures"})
    assert part.status_code == 401
    assert part.headers["www-authenticate"].startswith("Bearer")
    assert part.headers["content-type"].startswith("text/html")
    assert "urn:margincast:problem:unauthenticated" in part.text


def test_a_key_without_read_sees_why_and_can_sign_out(serve: Serve) -> None:
    endpoint = serve(auth="keys")
    answer = ask(endpoint, "/", headers=cookie(secret_of(endpoint, "score")))
    assert answer.status_code == 403
    assert "has the scopes score; this needs read" in answer.text
    assert 'id="sign-out"' in answer.text


def test_the_page_names_the_key_and_offers_to_sign_out(serve: Serve) -> None:
    endpoint = serve(auth="keys")
    key_id, secret = Keys(endpoint.ledger).add_key(["read"])
    page = ask(endpoint, "/nowhere", headers=cookie(secret) | {"Accept": "text/html"}).text
    assert "no such route" in page
    assert 'id="sign-out"' in page
    by_header = ask(endpoint, "/", headers=bearer(secret)).text
    assert 'id="sign-out"' not in by_header, "there is no cookie to take back"
    signed_in = ask(endpoint, "/", headers=cookie(secret)).text
    assert f"{key_id} (read)" in signed_in
    assert 'id="sign-out"' in signed_in
    assert secret not in signed_in


def test_without_keys_nobody_is_asked_to_sign_in(serve: Serve) -> None:
    endpoint = serve()
    page = ask(endpoint, "/").text
    assert 'id="sign-out"' not in page
    assert "No sign-in, all rights" in page
    login = ask(endpoint, "/login?next=%2Faccounts")
    assert (login.status_code, login.headers["location"]) == (303, "/accounts")


def test_without_its_script_the_form_puts_no_key_into_an_address(serve: Serve) -> None:
    page = ask(serve(auth="keys"), "/login").text
    (form,) = re.findall(r"<form[^>]*>", page)
    assert 'method="post"' in form
    assert "<noscript>" in page


def test_a_script_gets_problems_and_no_pages(serve: Serve) -> None:
    endpoint = serve(auth="keys")
    for headers in ({}, cookie("mck_a_b"), cookie(secret_of(endpoint, "score"))):
        answer = ask(endpoint, "/console/verify", method="POST", json={}, headers=headers)
        assert answer.status_code == (403 if headers and "mck_a_b" not in str(headers) else 401)
        assert answer.headers["content-type"] == "application/problem+json"
