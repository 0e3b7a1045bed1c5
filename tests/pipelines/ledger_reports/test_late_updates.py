"""Updates that no pass by the rules records, and updates received late, are in the reports."""

from __future__ import annotations

from typing import Any

import pytest

from ledger.store import Ledger
from margin.rules.ruleset import RuleSet
from market.core.clock import HOUR, MINUTE, format_time
from pipelines.ledger_reports.kinds import make_report
from pipelines.ledger_reports.request import ReportRequest, Span
from tests.endpoint_fixtures import Bundles, SmallMarket
from tests.monitoring.evaluation.helpers import Watched, deltas, snapshot, watched

FIRST = 230


@pytest.fixture
def held(market: SmallMarket, ruleset: RuleSet, bundles: Bundles, ledger: Ledger) -> Watched:
    """An account so rich that no update changes its state, evaluated at one close."""
    w = watched(market, ruleset, bundles, ledger, FIRST)
    w.update(snapshot("c", 1, 1e6, BTC=0.1))
    w.settle()
    w.bars(FIRST)
    w.settle()
    return w


def close(w: Watched) -> int:
    found = w.market.live.state.newest_close
    assert found is not None
    return found


def report(w: Watched, kind: str, span: Span, account: str | None = None) -> dict[str, Any]:
    return make_report(w.ledger, kind, ReportRequest(span, account)).to_dict()


def equity(w: Watched, span: Span) -> tuple[float | None, float]:
    rows = report(w, "client-statement", span, "c")["tables"]["summary"]
    (row,) = [row for row in rows if row["figure"] == "equity"]
    return row["opening"], row["closing"]


def movements(w: Watched, span: Span) -> list[tuple[int, str]]:
    rows = report(w, "client-statement", span, "c")["tables"]["movements"]
    return [(row["sequence"], row["kind"]) for row in rows]


def deposit(w: Watched, sequence: int, amount: float, time: int) -> None:
    change = {"kind": "deposit", "asset": "USD", "amount": amount}
    w.update(deltas("c", sequence, change) | {"ts": format_time(time)})


def test_an_update_that_only_a_model_pass_recorded_is_in_the_book(held: Watched) -> None:
    span = Span(close(held) - HOUR, close(held))
    before = report(held, "daily-margin", span)
    held.update(snapshot("c", 2, 1e6, BTC=2.0))
    held.settle()
    newest = held.records()[-1].payload
    assert (newest["pass"], newest["book"]["seq"]) == ("model", 2)
    after = report(held, "daily-margin", span)
    assert (before["head_accounts_seq"], after["head_accounts_seq"]) == (1, 2)
    (old,), (new,) = (made["tables"]["by_account"] for made in (before, after))
    assert new["gross_notional"] == pytest.approx(20.0 * old["gross_notional"])
    assert new["maintenance_margin"] > 10.0 * old["maintenance_margin"]
    shares = report(held, "concentration", span)["tables"]["by_account"]
    assert shares[0]["gross_notional"] == pytest.approx(new["gross_notional"])


def test_a_payment_at_the_close_after_the_bar_is_in_one_statement(held: Watched) -> None:
    middle = close(held)
    deposit(held, 2, 777_777.0, middle)
    held.settle()
    for row in (FIRST + 1, FIRST + 2):
        held.bars(row)
        held.settle()
    first, second = Span(middle - HOUR, middle), Span(middle, close(held))
    assert movements(held, first)[-1:] == [(2, "deposit")]
    assert movements(held, second) == []
    assert equity(held, first)[1] == equity(held, second)[0]
    assert equity(held, first)[1] > 1_700_000.0


def test_payments_that_hold_earlier_than_they_come_are_in_the_next_statement(held: Watched) -> None:
    start, middle = close(held) - HOUR, close(held) + 31 * MINUTE
    deposit(held, 2, 500.0, middle - MINUTE)  # before the cut, evaluated after it
    held.bars(FIRST + 1)
    held.settle()
    deposit(held, 3, 700.0, start + MINUTE)  # reported an hour late
    held.bars(FIRST + 2)
    held.settle()
    first, second = Span(start, middle), Span(middle, close(held))
    both = Span(start, second.end)
    assert movements(held, second) == [(2, "deposit"), (3, "deposit")]
    assert movements(held, first) + movements(held, second) == movements(held, both)
    assert equity(held, first)[1] == equity(held, second)[0]
    assert movements(held, Span(second.end, second.end + HOUR)) == []
