"""Assets: what their paths promise, and how long their answers are kept."""

from __future__ import annotations

import gzip
import hashlib
import re
from importlib.resources import files
from pathlib import Path

import pytest

from decisions.errors import NotFoundError
from ledger.store import Ledger
from margin.rules.history import RuleHistory
from margin.rules.ruleset import RuleSet
from serving.console import assets
from serving.console.assets import asset, packed
from serving.http.app import create_app
from serving.http.connections import ConnectionLimits
from serving.http.security.response_headers import security_headers
from serving.settings import ServingSettings
from tests.endpoint_fixtures import Bundles, Serve, SmallMarket
from tests.serving.http.small_endpoint import Endpoint as OverSockets

OWN = Path(assets.__file__).parent / "static"
NAMES = [*sorted(path.name for path in OWN.iterdir()), "plotly.min.js"]
FOREVER = "public, max-age=31536000, immutable"


def content_of(name: str) -> bytes:
    if name == "plotly.min.js":
        return (files("plotly") / "package_data" / name).read_bytes()
    return (OWN / name).read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_the_path_of_an_asset_names_its_content(serve: Serve, name: str) -> None:
    content = content_of(name)
    digest = hashlib.sha256(content).hexdigest()[:16]
    assert asset(name).path == f"/static/{digest}/{name}"
    packed = serve().client.get(asset(name).path)
    assert packed.status_code == 200
    assert packed.content == content
    assert packed.headers["content-encoding"] == "gzip"
    plain = serve().client.get(asset(name).path, headers={"Accept-Encoding": "identity"})
    assert plain.content == content
    assert "content-encoding" not in plain.headers
    for answer in (packed, plain):
        assert answer.headers["cache-control"] == FOREVER
        assert answer.headers["vary"] == "Accept-Encoding"
        assert re.match(r"(text/(css|javascript); charset=utf-8|image/svg\+xml)$",
                        answer.headers["content-type"])  # fmt: skip


@pytest.mark.parametrize(
    ("accepted", "is_packed"),
    [
        ("gzip", True), ("br, GZIP;q=0.5, *;q=0", True), ("gzip; q=1.0", True),
        ("gzip;q=0.01", True), ("gzip;q=0", False), ("br,gzip; q=0.000", False),
        ("x-gzip", False), ("", False),
    ],
)  # fmt: skip
def test_an_asset_is_packed_for_clients_that_take_it(
    serve: Serve, accepted: str, is_packed: bool
) -> None:
    headers = {"Accept-Encoding": accepted}
    answer = serve().client.get(asset("icon.svg").path, headers=headers)
    assert ("content-encoding" in answer.headers) == is_packed
    assert answer.content == content_of("icon.svg")


def test_the_same_content_is_packed_into_the_same_bytes() -> None:
    first = packed("console.js")
    packed.cache_clear()
    assert packed("console.js") == first
    assert gzip.decompress(first) == content_of("console.js")


@pytest.mark.parametrize("path", [
    "/static/0000000000000000/console.js", "/static/x/none.js", "/static/x/..%2Fconsole.py",
    "/static/console.js", "/static/", "/static/a/b/c",
])  # fmt: skip
def test_what_is_no_asset_is_404_and_not_kept(serve: Serve, path: str) -> None:
    for accept in ("*/*", "text/html"):
        answer = serve().client.get(path, headers={"Accept": accept})
        assert answer.status_code == 404
        assert answer.headers["cache-control"] == "no-store"


def test_another_version_says_what_to_do(serve: Serve) -> None:
    answer = serve().client.get("/static/0000000000000000/console.js")
    assert "load the page again" in answer.text


def test_an_unknown_name_is_an_error_that_names_it() -> None:
    with pytest.raises(NotFoundError, match=r"no asset 'none\.js'"):
        asset("none.js")


def test_assets_need_no_key(serve: Serve) -> None:
    client = serve(auth="keys").client
    assert client.get(asset("console.css").path).status_code == 200
    assert client.get("/login").status_code == 200


def test_an_icon_is_found_where_browsers_look_for_it(serve: Serve) -> None:
    answer = serve(auth="keys").client.get("/favicon.ico")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/svg+xml"


def test_the_chart_library_has_the_style_that_the_script_keeps_out() -> None:
    (stated,) = re.findall(r'const mapStyles = "([0-9a-f]+)"', content_of("console.js").decode())
    library = content_of("plotly.min.js").decode()
    assert f'getElementById("{stated}")' in library
    assert '"plotly.js-style-"+' in library


def test_over_sockets_each_answer_has_the_policy_and_says_once_how_long_it_is_kept(
    market: SmallMarket, ruleset: RuleSet, bundles: Bundles, ledger: Ledger
) -> None:
    settings = ServingSettings("127.0.0.1", 8000, bundles.root, clock="market", auth="off")
    rules = RuleHistory.constant(ruleset)
    endpoint = OverSockets(
        ConnectionLimits(), lambda: create_app(settings, ledger, rules, market.live())
    )

    policy = dict(security_headers(tls=False))["Content-Security-Policy"].encode()

    def kept(path: str) -> list[bytes]:
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        head = endpoint.exchange(request.encode()).partition(b"\r\n\r\n")[0]
        policies = re.findall(rb"(?im)^content-security-policy: *([^\r]*)", head)
        assert policies == [policy], path
        return re.findall(rb"(?im)^cache-control: *([^\r]*)", head)

    try:
        assert kept(asset("console.js").path) == [FOREVER.encode()]
        for path in ("/static/0000000000000000/console.js", "/static/none", "/", "/x", "/?hours=0"):
            assert kept(path) == [b"no-store"], path
        assert kept("/v1/ruleset") == [b"no-store"]
    finally:
        endpoint.end()
