"""The page of one decision shows its record, and the verdict of the API on its replay."""

from __future__ import annotations

import html
import shutil
from typing import Any

import numpy as np
import pytest
from sqlalchemy import delete, update

from ledger.packing import pack, pack_id
from ledger.schema import contents, records, writing
from margin.add_on.bounds import opening_requirement
from serving.console.rendering import money, number
from serving.console.views.accounts.decision import AMOUNTS
from serving.console.views.accounts.requirement import requirement_parts
from tests.endpoint_fixtures import Bundles, Endpoint, Serve

HOSTILE = "<b>'x'</b>/1"


@pytest.fixture
def endpoint(serve: Serve, champion: str) -> Endpoint:
    return serve()


def decide(endpoint: Endpoint, account: dict[str, Any], **changes: Any) -> dict[str, Any]:
    answer = endpoint.score({**account, **changes})
    assert answer.status_code == 200, answer.text
    decision_id = answer.json()["decisions"][0]["decision_id"]
    return dict(endpoint.client.get(f"/v1/decisions/{decision_id}").json())


def shown(endpoint: Endpoint, decision_id: str, **query: Any) -> str:
    answer = endpoint.client.get("/decision", params={"id": decision_id, **query})
    assert answer.status_code == 200, answer.text
    return html.unescape(answer.text)


def test_every_recorded_field_is_shown(endpoint: Endpoint, account: dict[str, Any]) -> None:
    recorded = decide(endpoint, account)
    page = shown(endpoint, recorded["decision_id"])
    for name in AMOUNTS:
        assert money(recorded[name]) in page, name
    for name in ("decision_id", "model", "ruleset", "chain", "hash", "requester"):
        assert recorded[name] in page, name
    for mark in recorded["marks"]:
        assert f'<th scope="row">{mark["instrument"]}</th><td>{number(mark["price"], 8)}' in page
    for reason in recorded["reasons"]:
        assert reason["text"] in page
    assert f'href="/account?id={recorded["account_id"]}"' in page
    assert 'name="replay" value="1"' in page
    assert page.index("within 1 h") < page.index("within 8 h") < page.index("within 24 h")


def test_a_replay_shows_verdict_and_waterfall(endpoint: Endpoint, account: dict[str, Any]) -> None:
    decision_id = decide(endpoint, account)["decision_id"]
    page = shown(endpoint, decision_id, replay="1")
    explained = endpoint.client.get(f"/v1/decisions/{decision_id}/explanation").json()
    assert explained["verdict"] == "equal"
    assert "it came out again to the last bit" in page
    for name, amount in requirement_parts(explained["explain"]):
        assert f'<th scope="row">{name}</th><td>{number(amount)}</td>' in page
    assert f"<td>{number(explained['explain']['total_requirement'])}</td>" in page


def test_a_replay_that_differs_names_the_fields_with_both_values(
    endpoint: Endpoint, account: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = decide(endpoint, account)
    # A calculation that asks for a cent more than the one on record.
    monkeypatch.setattr(
        "decisions.book_scoring.deposit_to_meet", lambda level, headroom: level * 0.0 + 0.01
    )
    page = shown(endpoint, recorded["decision_id"], replay="1")
    explained = endpoint.client.get(f"/v1/decisions/{recorded['decision_id']}/explanation").json()
    assert explained["verdict"] == "different"
    assert explained["differences"] == ["deposit_to_meet"]
    assert "no change on record explains it" in page
    assert '<th scope="row">deposit to meet</th>' in page
    assert f">{recorded['deposit_to_meet']!r}</td>" in page
    assert ">0.01</td>" in page


def test_a_replay_that_rounds_otherwise_is_no_alarm(
    endpoint: Endpoint, account: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = decide(endpoint, account)
    true = opening_requirement
    monkeypatch.setattr(
        "decisions.book_scoring.opening_requirement", lambda *given: np.nextafter(true(*given), 0.0)
    )
    page = shown(endpoint, recorded["decision_id"], replay="1")
    assert '<th scope="row">opening requirement</th>' in page
    assert "it agrees to twelve digits" in page
    assert "verify the ledger" not in page


def test_a_replay_without_its_bundle_says_so(
    serve: Serve, champion: str, bundles: Bundles, account: dict[str, Any]
) -> None:
    decision_id = decide(serve(), account)["decision_id"]
    bundles.promote(bundles.write(0.5))
    shutil.rmtree(bundles.root / champion)
    page = shown(serve(), decision_id, replay="1")
    assert f"cannot be made again: the decision was made with bundle {champion}" in page
    assert "is not there any more" in page
    assert "Total requirement" in page


def test_a_replay_without_its_market_says_so(endpoint: Endpoint, account: dict[str, Any]) -> None:
    decision_id = decide(endpoint, account)["decision_id"]
    market = endpoint.ledger.get_record(decision_id).payload["contents"]["market_sha256"]
    with writing(endpoint.ledger.engine) as connection:
        connection.execute(delete(contents).where(contents.c.sha256 == bytes.fromhex(market)))
    page = shown(endpoint, decision_id, replay="1")
    assert f"cannot be made again: content '{market}' is not in the ledger" in page


def test_an_altered_decision_is_named_and_not_shown(
    endpoint: Endpoint, account: dict[str, Any]
) -> None:
    decision_id = decide(endpoint, account)["decision_id"]
    with writing(endpoint.ledger.engine) as connection:
        wanted = records.c.id == pack_id(decision_id)
        connection.execute(update(records).where(wanted).values(payload=pack(b"{}")))
    answer = endpoint.client.get("/decision", params={"id": decision_id})
    assert answer.status_code == 404
    assert "nothing of it is shown, verify the ledger" in answer.text


def test_a_decision_without_a_model_says_why(serve: Serve, account: dict[str, Any]) -> None:
    endpoint = serve()
    recorded = decide(endpoint, account)
    page = shown(endpoint, recorded["decision_id"])
    assert recorded["degraded"] in page
    assert "Degraded:" in page


def test_hostile_ids_are_text(endpoint: Endpoint, account: dict[str, Any]) -> None:
    recorded = decide(endpoint, account, account_id=HOSTILE)
    answer = endpoint.client.get("/decision", params={"id": recorded["decision_id"]})
    assert "<b>" not in answer.text
    assert HOSTILE in html.unescape(answer.text)


def test_access_and_unknown_decisions(serve: Serve) -> None:
    endpoint = serve(auth="keys")
    client, read = endpoint.client, endpoint.key("read")
    away = client.get("/decision?id=x", follow_redirects=False)
    assert away.headers["location"] == "/login?next=%2Fdecision%3Fid%3Dx"
    assert client.get("/decision?id=x", headers=endpoint.key("score")).status_code == 403
    for query in ("id=x", "id=x&replay=1", "id=%3Cscript%3E"):
        missing = client.get(f"/decision?{query}", headers=read)
        assert missing.status_code == 404
        assert "<script>" not in missing.text
    assert client.get("/decision", headers=read).status_code in (400, 422)
