"""The history of levels on the page of an account: the figures that the API answered each time."""

from __future__ import annotations

import html
from typing import Any

import pytest
from sqlalchemy import update

from ledger.schema import records
from monitoring.evaluation.record.evaluation_state import CHAIN
from monitoring.evaluation.record.model_pass_records import ReadLimits
from serving.console.rendering import number
from serving.console.views.accounts import levels as view
from tests.endpoint_fixtures import Serve
from tests.monitoring.evaluation.helpers import snapshot
from tests.serving.enforcement_fixtures import Desk, desk

__all__ = ["desk"]

MODEL = "model"
HOSTILE = '<script>"a/b"</script>'


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine reads as far as an idle one."""
    monkeypatch.setattr(view, "LIMITS", ReadLimits(seconds=60.0))


def shown(desk: Desk, name: str, **query: Any) -> str:
    answer = desk.endpoint.client.get(
        "/account", params={"id": name, "history": "1", **query}, headers=desk.key("read")
    )
    assert answer.status_code == 200, answer.text
    return html.unescape(answer.text)


def evaluation(desk: Desk) -> dict[str, Any]:
    return dict(desk.get("/v1/accounts/calm")["evaluation"])


def moved(desk: Desk, sequence: int, cash: float) -> dict[str, Any]:
    """What the API answers once the monitor has looked at a change of the account."""
    desk.watched.update(snapshot("calm", sequence, cash, BTC=0.5))
    desk.watched.settle()
    return evaluation(desk)


def test_the_figures_are_those_that_the_api_answered(desk: Desk) -> None:
    steps = [evaluation(desk), moved(desk, 2, 2_000.0), moved(desk, 3, 1_500.0)]
    page = shown(desk, "calm")
    assert "its newest 3 model passes that hold it" in page
    assert "No older pass is on record." in page
    section = page.split('id="levels"')[1].split('id="history"')[0]
    for step in steps:
        for value in step["probability"].values():
            assert f"<td>{number(value)}</td>" in section
        assert f"<td>{number(step['add_on'])}</td>" in section
    assert "Calibrated probability of a call" in section
    assert "Add-on level" in section
    assert "Gaps:" not in section
    assert "History of decisions" in page


def test_it_is_read_on_demand_and_not_for_parts(desk: Desk) -> None:
    client, headers = desk.endpoint.client, desk.key("read")
    plain = client.get("/account", params={"id": "calm"}, headers=headers).text
    assert "Show the levels of the newest evaluations" in plain
    assert "Add-on level" not in plain
    asked = shown(desk, "calm", prices="1")
    assert "Show the levels of the newest evaluations" not in asked
    part = client.get(
        "/account",
        params={"id": "calm", "history": "1"},
        headers=headers | {"X-Fragment": "standing"},
    )
    assert part.status_code == 200
    assert "Add-on level" not in part.text
    assert 'name="history"' in shown(desk, "calm").split('id="prices"')[1].split("</form>")[0]


def test_an_altered_record_is_named_and_leaves_a_gap(desk: Desk) -> None:
    moved(desk, 2, 2_000.0)
    middle = next(
        record for record in reversed(desk.watched.records()) if record.payload["pass"] == MODEL
    )
    moved(desk, 3, 1_500.0)
    with desk.endpoint.ledger.engine.begin() as connection:
        place = (records.c.chain == CHAIN) & (records.c.seq == middle.seq)
        connection.execute(update(records).where(place).values(payload=b"\x00noise"))
    page = shown(desk, "calm")
    assert "Nothing is drawn from records that cannot be relied on" in page
    assert f"record {middle.seq} of chain '{CHAIN}'" in page
    assert "its newest 2 model passes" in page
    table = page.split("<figcaption>Add-on level")[1].split("</figure>")[0]
    assert table.count("<td>\N{EN DASH}</td>") == 1


def test_an_account_newer_than_the_passes_and_a_hostile_id(desk: Desk) -> None:
    desk.watched.update(snapshot(HOSTILE, 1, 10.0, BTC=0.1))
    answer = desk.endpoint.client.get(
        "/account", params={"id": HOSTILE, "history": "1"}, headers=desk.key("read")
    )
    assert answer.status_code == 200
    assert '<script>"a' not in answer.text
    assert "it joined after the newest one over the whole book" in answer.text
    desk.watched.settle()
    page = shown(desk, HOSTILE)
    assert "at one model pass" in page
    assert "does not hold the account" in page


def test_an_account_without_figures_has_gaps(desk: Desk) -> None:
    desk.watched.update(snapshot("odd", 1, 10.0, NOPE=1.0))
    desk.watched.settle()
    page = shown(desk, "odd")
    assert "the account could not be valued" in page
    assert "1 pass set no level" in page
    assert "No pass has a probability of this account." in page


def test_without_an_evaluation_it_says_so(serve: Serve) -> None:
    endpoint = serve()
    sent = snapshot("alone", 1, 100.0, BTC=0.01)
    answer = endpoint.client.post("/v1/accounts/updates", json={"updates": [sent]})
    assert answer.status_code == 200, answer.text
    page = endpoint.client.get("/account", params={"id": "alone"})
    assert "No evaluation of the live book is on record" in page.text
    assert "no monitor runs beside this endpoint" in page.text
    asked = endpoint.client.get("/account", params={"id": "alone", "history": "1"})
    assert "No sound record of a model pass was found" in asked.text
