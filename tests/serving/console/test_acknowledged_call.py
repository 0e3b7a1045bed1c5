"""The page of a call whose hours run from its acknowledgement."""

from __future__ import annotations

import pytest

from margin.rules.ruleset import RuleSet, load_ruleset, ruleset_from_content
from serving.console.rendering import time
from tests.serving.console.pages import page, text
from tests.serving.enforcement_fixtures import Desk, desk

__all__ = ["desk"]

RUNS = "The hours of the call run from its acknowledgement"


@pytest.fixture
def ruleset() -> RuleSet:
    content = load_ruleset("linear-tiers").content()
    content["enforcement"] = {
        "maintenance_margin": {"call_hours": 2.0},
        "proactive": {"call_hours": 3.0},
        "deadlines_from": "acknowledgement",
        "acknowledgement_hours": 6.0,
    }
    return ruleset_from_content(content)


def test_an_acknowledgement_moves_the_deadline_that_the_page_shows(desk: Desk) -> None:
    before = desk.call()
    path = f"/v1/calls/{before['call_id']}"
    said = text(page(desk, "/call", id=before["call_id"]))
    assert RUNS in said
    assert f"Deadline {time(before['deadline'])} 8 h 0 min left" in said
    with desk.leading():
        assert desk.post(f"{path}/ack", {"reference": "<i>n-9"}, "venue").status_code == 200
        assert desk.post(f"{path}/ack", {}, "venue").status_code == 409
    after = desk.get(path)["call"]
    assert after["deadline"] < before["deadline"]
    said = text(page(desk, "/call", id=before["call_id"]))
    assert RUNS not in said
    assert f"Deadline {time(after['deadline'])} 2 h 0 min left" in said
    for kind, deadline in after["deadlines"].items():
        assert f"Deadline, {kind.replace('_', ' ')} {time(deadline)}" in said
    assert "acknowledgement by " in said
    assert "reference <i>n-9" in said
    assert f"Acknowledged {time(after['acknowledged_at'])}" in said
