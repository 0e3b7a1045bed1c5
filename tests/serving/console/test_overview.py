"""The overview, against the answers of the API for the same things."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from margin.floors.stressed_buffer import market_stress
from margin.life_cycle.states import State
from market.core.clock import HOUR, format_time
from market.core.errors import AlteredError
from monitoring.evaluation.record.book_totals import TOTALS, BookTotals
from serving.console.rendering import money, number, percent, time
from serving.console.views.overview import stress_level, thinned
from tests.endpoint_fixtures import Serve
from tests.monitoring.evaluation.helpers import snapshot
from tests.serving.console.pages import fragment, page, text
from tests.serving.enforcement_fixtures import Desk, desk

__all__ = ["desk"]


def rows_of(shown: str) -> list[str]:
    table = shown[shown.index('id="riskiest-title"') :]
    body = table[table.index("<tbody>") : table.index("</tbody>")]
    return [text(row) for row in body.split("<tr>")[1:]]


def test_states_and_calls_are_those_of_the_api(desk: Desk) -> None:
    shown = page(desk, "/")
    said = text(shown)
    whole = desk.get("/v1/accounts")
    assert f"Accounts {whole['total']}" in said
    for state in State:
        total = desk.get("/v1/accounts", state=state.label)["total"]
        assert (f'href="/accounts?state={state.label}"' in shown) == (total > 0)
        if total:
            assert f"{state.label.replace('_', ' ').capitalize()} {total}" in said
    call = desk.call()
    assert f"Open 1 {money(call['outstanding'])} outstanding" in said
    assert f"Market of {time(whole['as_of'])}" in said


def test_the_riskiest_are_those_that_are_not_called(desk: Desk) -> None:
    desk.watched.update(
        *(snapshot(f"more-{i:02}", 1, 30_000.0 + 900.0 * i, BTC=0.5) for i in range(14)),
        snapshot("<script>x", 1, 29_000.0, BTC=0.5),
    )
    desk.watched.settle()
    ranked = desk.get("/v1/accounts", sort="probability")["accounts"]
    wanted = [a for a in ranked if a["state"] in ("healthy", "warning") and a["probability"]][:10]
    assert len(wanted) == 10
    shown = page(desk, "/")
    assert "<script>x" not in shown
    found = rows_of(shown)
    assert len(found) == 10
    for row, account in zip(found, wanted, strict=True):
        chances = " ".join(percent(p) for p in account["probability"].values())
        amounts = " ".join(money(account[k]) for k in ("headroom", "add_on", "deposit_to_meet"))
        assert row == f"{account['account_id']} {account['state']} {chances} {amounts}"
    assert "desk/1" not in " ".join(found)


def test_the_chart_shows_the_recorded_totals(desk: Desk) -> None:
    w = desk.watched
    for row in range(3):
        w.bars(w.rows + row)
        w.settle()
    columns = w.monitor.columns
    assert columns is not None
    part = fragment(desk, "/", "requirement_part", hours=1).text
    figure = json.loads(re.search(r'class="figure">(.*?)</script>', part, re.DOTALL)[1])  # type: ignore[index]
    lines = {one["name"]: one for one in figure["data"]}
    assert lines["equity"]["y"][-1] == pytest.approx(float(columns.equity.sum()))
    total = float((columns.maintenance_margin + columns.add_on).sum())
    assert lines["total requirement"]["y"][-1] == pytest.approx(total)
    assert lines["equity"]["x"][-1] == format_time(w.monitor.state.newest["rules"].as_of)  # type: ignore[union-attr]
    assert len(lines["equity"]["x"]) == 2
    assert "last 1 h" in part


def test_a_span_before_the_first_totals_says_when_they_begin(desk: Desk) -> None:
    w = desk.watched
    for row in range(3):
        w.bars(w.rows + row)
        w.settle()
    first = next(iter(w.ledger.records(TOTALS)))
    begin = time(format_time(first.as_of or 0))
    said = text(fragment(desk, "/", "requirement_part", hours=720).text)
    assert f"The totals that are read begin at {begin}, later than the span" in said
    assert "The totals that are read" not in fragment(desk, "/", "requirement_part", hours=1).text


def test_altered_totals_leave_the_rest_of_the_page(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def altered(*_: object) -> None:
        raise AlteredError("totals 'x' were altered; verify the ledger")

    monkeypatch.setattr("monitoring.evaluation.record.book_totals.TotalsHistory.since", altered)
    said = text(page(desk, "/"))
    assert "cannot be shown: totals 'x' were altered; verify the ledger" in said
    assert "Model and data health" in said


def test_stress_has_the_figure_of_the_rules(desk: Desk) -> None:
    w = desk.watched
    live = desk.endpoint.live
    ratio = market_stress(live.snapshot(w.market.live.newest_close or 0).view())
    assert np.isfinite(ratio)
    said = text(page(desk, "/"))
    assert f"volatility is {number(ratio, 3)} times its long-run level" in said
    assert f"{stress_level(ratio).capitalize()} : volatility" in said


@pytest.mark.parametrize(
    ("ratio", "level"),
    [(0.0, "calm"), (0.75, "usual"), (1.49, "usual"), (1.5, "elevated"), (3.0, "severe")],
)
def test_levels_of_stress(ratio: float, level: str) -> None:
    assert stress_level(ratio) == level


def test_health_is_that_of_readiness(desk: Desk, champion: str) -> None:
    desk.watched.monitor.step()
    ready = desk.endpoint.client.get("/health/ready").json()
    said = text(page(desk, "/"))
    assert ready["status"] in said
    for reason in ready["reasons"]:
        assert reason in said
    assert f"Champion {champion[:12]}" in said
    assert "Challenger none" in said
    assert "Modes normal" in said


def test_without_a_book_or_a_model_the_page_says_so(serve: Serve) -> None:
    shown = serve().client.get("/").text
    said = text(shown)
    assert "No call is open" in said
    assert "No model answers" in said
    assert "Champion none" in said
    assert "No totals are recorded yet" in said
    assert "none: no monitor evaluates the book" in said


@pytest.mark.parametrize("hours", ["0", "-1", "99999", "x"])
def test_an_impossible_span_is_refused(serve: Serve, hours: str) -> None:
    assert serve().client.get("/", params={"hours": hours}).status_code in (400, 422)


def test_parts_are_answered_alone(desk: Desk) -> None:
    for name in ("figures", "requirement_part"):
        part = fragment(desk, "/", name)
        assert part.status_code == 200
        assert "<html" not in part.text
        assert "data-post" not in part.text


def test_long_histories_are_thinned() -> None:
    totals = [BookTotals(n * HOUR, 1, 1.0, 1.0, 1.0, float(n)) for n in range(1_000)]
    shown = thinned(totals, 100)
    assert 90 <= len(shown) <= 100
    assert shown[-1] == totals[-1]
    assert [one.as_of for one in shown] == sorted({one.as_of for one in shown})
    assert thinned(totals[:100], 100) == totals[:100]
