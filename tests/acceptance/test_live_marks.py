"""Live marks move every figure of a decision, under every rule set, and say where they come from.

One story is played on one endpoint for each rule set, and its decisions are looked at one by one:

    closed    the newest bar has just closed
    fallen    ten minutes later perpetual and spot are both quoted about a third lower
    reopened  the bar of that hour has closed a little above the marks
    outdated  quotes of before that close are posted afterwards
    tied      marks are quoted for the very time of that close
    silent    five hours and a half on, nothing but another coin has been quoted
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest

# Classes of conftest.py, which no test can import, are Any here.
Endpoint: TypeAlias = Any
Venue: TypeAlias = Any
Decisions: TypeAlias = Mapping[str, dict[str, Any]]

PERP, SPOT = "BTCUSDT-PERP", "BTCUSDT"
AGREED = 1.001
"""The spot mark over that of the perpetual: they agree, and a test can tell them apart."""


@dataclass(frozen=True)
class Story:
    """What was decided at each stage."""

    closed: Decisions
    statuses: list[str]
    fallen: Decisions
    fallen_as_of: str
    from_files: Decisions
    bar_statuses: list[str]
    reopened: Decisions
    older_status: str
    outdated: Decisions
    tied: Decisions
    silent: Decisions
    silent_readiness: dict[str, Any]
    entry: float
    perp: float
    spot: float
    close: float
    tied_perp: float


def book(entry: float) -> list[dict[str, Any]]:
    """Accounts in one coin: thin long and short, rich, with spot, with collateral, empty."""

    def account(name: str, quantity: float, cash: float, **rest: Any) -> dict[str, Any]:
        position = {"instrument": PERP, "quantity": quantity, "entry_price": entry}
        return {
            "account_id": name,
            "cash": cash * entry,
            "positions": [position],
            "collateral": [],
            **rest,
        }

    holding = {"instrument": SPOT, "quantity": 0.5, "entry_price": entry}
    return [
        account("long", 1.0, 0.11),
        account("short", -1.0, 0.11),
        account("rich", 1.0, 0.75),
        account("spot", 0.0, 0.5, positions=[holding]),
        account("pledged", 0.01, 0.5, collateral=[{"asset": "BTC", "amount": 0.2}]),
        account("flat", 0.0, 1.0, positions=[]),
    ]


@pytest.fixture(scope="module")
def story(
    served: Endpoint, account_files: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Story:
    entry = served.market.closes[SPOT]
    accounts = book(entry)
    perp = round(entry * 0.655, 1)
    spot, close = perp * AGREED, perp * 1.02
    closed = served.score(*accounts)

    moment = served.at(minutes=10)
    statuses = served.marks(moment, BTCUSDT_PERP=perp, BTCUSDT=spot)
    if "suspect" in statuses:
        again = served.marks(moment, BTCUSDT_PERP=perp, BTCUSDT=spot)
        statuses = [
            "applied" if after in {"applied", "duplicate"} else before
            for before, after in zip(statuses, again, strict=True)
        ]
    fallen = served.score(*accounts)
    fresh = [{**account, "account_id": f"file-{account['account_id']}"} for account in accounts]
    served.score(*fresh)
    folder = account_files(tmp_path_factory.mktemp("accounts"), served.at(), fresh)
    from_files = served.score_files(folder, moment)

    bar_statuses = served.bars(*served.quiet_bars(0, BTCUSDT=close))
    reopened = served.score(*accounts)

    (older_status, _) = served.marks(served.at(minutes=5), BTCUSDT_PERP=entry, BTCUSDT=entry)
    served.marks(served.at(minutes=30), BTCUSDT_PERP=perp * 0.98, BTCUSDT=spot * 0.98)
    outdated = served.score(*accounts)

    tied_perp = close * 1.01
    served.marks(served.at(hours=1), BTCUSDT_PERP=tied_perp, BTCUSDT=tied_perp * AGREED)
    tied = served.score(*accounts)

    served.marks(served.at(hours=6.5), ETHUSDT=served.market.closes["ETHUSDT"])
    silent = served.score(*accounts)
    return Story(
        closed=closed,
        statuses=statuses,
        fallen=fallen,
        fallen_as_of=moment,
        from_files={name.removeprefix("file-"): row for name, row in from_files.items()},
        bar_statuses=bar_statuses,
        reopened=reopened,
        older_status=older_status,
        outdated=outdated,
        tied=tied,
        silent=silent,
        silent_readiness=served.get("/health/ready"),
        entry=entry,
        perp=perp,
        spot=spot,
        close=close,
        tied_perp=tied_perp,
    )


def equity(account_id: str, entry: float, mark: float) -> float:
    """Cash and the profit of one perpetual position, restated."""
    (account,) = [a for a in book(entry) if a["account_id"] == account_id]
    value: float = account["cash"]
    for position in account["positions"]:
        assert position["instrument"] == PERP
        value += position["quantity"] * (mark - entry)
    return value


def opening_requirement(decision: Mapping[str, Any]) -> float:
    """What new risk must meet: max(IM, MM + clamp(model's level, floor, max(floor, cap)))."""
    model, floor, cap = (decision[name] for name in ("model_add_on", "floor", "cap"))
    level = floor if model is None else min(max(model, floor), max(floor, cap))
    required: float = max(decision["initial_margin"], decision["maintenance_margin"] + level)
    return required


def mark_of(decision: Mapping[str, Any], instrument: str) -> dict[str, Any]:
    """The one entry of an instrument among the marks of a decision."""
    (mark,) = [mark for mark in decision["marks"] if mark["instrument"] == instrument]
    return dict(mark)


def close_to(value: float) -> Any:
    return pytest.approx(value, rel=1e-9, abs=1e-6)


def test_two_sources_that_agree_are_applied(story: Story) -> None:
    assert story.statuses == ["applied", "applied"]
    assert {decision["as_of"] for decision in story.fallen.values()} == {story.fallen_as_of}


@pytest.mark.parametrize("account", ["long", "short", "rich"])
def test_equity_follows_a_quoted_mark(story: Story, account: str) -> None:
    assert story.closed[account]["equity"] == close_to(equity(account, story.entry, story.entry))
    assert story.fallen[account]["equity"] == close_to(equity(account, story.entry, story.perp))


def test_an_account_that_is_bankrupt_at_the_marks_is_not_shown_solvent(story: Story) -> None:
    decision = story.fallen["long"]
    assert decision["equity"] < 0.0
    assert decision["headroom"] < 0.0
    assert decision["deposit_to_meet"] > -decision["equity"]


@pytest.mark.parametrize("account", ["long", "short", "rich"])
def test_margins_follow_a_quoted_mark(story: Story, venue: Venue, account: str) -> None:
    quantity = -1.0 if account == "short" else 1.0
    for stage, perp, spot in (
        ("closed", story.entry, story.entry),
        ("fallen", story.perp, story.spot),
        ("reopened", story.close, story.close),
    ):
        initial, maintenance = venue.margins(SPOT, quantity, perp, spot)
        if venue.name == "linear-tiers":
            assert (initial, maintenance) == (0.04 * perp, 0.02 * perp)
        decision = getattr(story, stage)[account]
        assert (stage, decision["initial_margin"]) == (stage, close_to(initial))
        assert (stage, decision["maintenance_margin"]) == (stage, close_to(maintenance))


@pytest.mark.parametrize("account", ["long", "short", "rich", "spot", "pledged"])
def test_headroom_requirement_and_deposit_add_up(story: Story, account: str) -> None:
    for decisions in (story.closed, story.fallen, story.reopened, story.tied):
        decision = decisions[account]
        assert decision["headroom"] == close_to(decision["equity"] - decision["maintenance_margin"])
        assert decision["total_requirement"] == close_to(
            decision["maintenance_margin"] + decision["add_on"]
        )
        missing = max(0.0, decision["add_on"] - decision["headroom"])
        assert missing - 1e-6 <= decision["deposit_to_meet"] <= missing + 0.01 + 1e-6


def test_floors_follow_a_quoted_mark(story: Story) -> None:
    """A floor on a notional n is linear in it or, where impact counts, grows with n to 3/2."""
    before, after = story.closed["rich"]["floor"], story.fallen["rich"]["floor"]
    fall = story.perp / story.entry
    assert before > 0.0
    assert before * fall**1.5 * 0.98 <= after <= before * fall * 1.02


def test_the_distances_that_the_model_sees_follow_a_quoted_mark(story: Story) -> None:
    before, after = story.closed["rich"], story.fallen["rich"]
    assert before["degraded"] is None
    assert after["degraded"] is None
    fraction_before = before["headroom"] / before["maintenance_margin"]
    fraction_after = after["headroom"] / after["maintenance_margin"]
    assert fraction_after < fraction_before
    assert after["probability"]["24"] >= before["probability"]["24"]
    thin = story.fallen["long"]["probability"]["24"]
    assert thin >= after["probability"]["24"]
    assert thin > story.closed["rich"]["probability"]["24"]


@pytest.mark.parametrize("stage", ["closed", "fallen", "reopened", "tied"])
@pytest.mark.parametrize("account", ["long", "short", "rich", "spot", "pledged", "flat"])
def test_the_opening_requirement_follows_from_margins_level_floor_and_cap(
    story: Story, account: str, stage: str
) -> None:
    decision = getattr(story, stage)[account]
    assert decision["opening_requirement"] == close_to(opening_requirement(decision))
    low, high = decision["floor"], max(decision["floor"], decision["cap"])
    assert low - 1e-9 <= decision["add_on"] <= high + 1e-9


def test_spot_positions_follow_the_mark_of_their_symbol(story: Story) -> None:
    moved = story.fallen["spot"]["equity"] - story.closed["spot"]["equity"]
    assert moved == close_to(0.5 * (story.spot - story.entry))
    assert mark_of(story.fallen["spot"], SPOT)["price"] == story.spot


def test_collateral_follows_the_mark_of_its_coin(story: Story) -> None:
    """Collateral counts with a share of its price: what it brings moves as the price does."""

    def brought(decisions: Decisions, mark: float) -> float:
        value: float = decisions["pledged"]["equity"]
        return value - 0.5 * story.entry - 0.01 * (mark - story.entry)

    before = brought(story.closed, story.entry)
    after = brought(story.fallen, story.perp)
    assert -1e-6 <= before <= 0.2 * story.entry + 1e-6
    assert after == close_to(before * story.spot / story.entry)


def test_a_decision_names_price_source_and_age_of_its_marks(story: Story) -> None:
    for stage, price, source in (
        ("closed", story.entry, "bar"),
        ("fallen", story.perp, "quote"),
        ("reopened", story.close, "bar"),
    ):
        for account in ("long", "short", "rich"):
            mark = mark_of(getattr(story, stage)[account], PERP)
            assert (stage, mark["source"], mark["price"]) == (stage, source, price)
            assert mark["age_seconds"] == 0.0
            assert not mark.get("stale", False)
    assert story.closed["flat"]["marks"] == []


def test_a_newer_close_takes_over_from_a_mark(story: Story) -> None:
    assert set(story.bar_statuses) == {"applied"}
    assert story.reopened["long"]["equity"] == close_to(equity("long", story.entry, story.close))


def test_a_quote_older_than_the_close_changes_nothing(story: Story) -> None:
    assert story.older_status == "late"
    for account in ("long", "short", "rich", "spot", "pledged"):
        before, after = story.reopened[account], story.outdated[account]
        for name in ("equity", "headroom", "initial_margin", "maintenance_margin", "floor"):
            assert after[name] == before[name]
        assert after["marks"] == before["marks"]


def test_at_the_same_time_the_mark_counts_before_the_close(story: Story) -> None:
    decision = story.tied["long"]
    assert decision["equity"] == close_to(equity("long", story.entry, story.tied_perp))
    assert mark_of(decision, PERP) | {"price": None} == {
        **mark_of(story.fallen["long"], PERP),
        "price": None,
    }
    assert mark_of(decision, PERP)["price"] == story.tied_perp


def test_a_stale_price_is_named_in_the_decision_and_in_readiness(story: Story) -> None:
    for account in ("long", "short", "rich"):
        decision = story.silent[account]
        mark = mark_of(decision, PERP)
        assert mark["price"] in {story.close, story.tied_perp}
        assert mark["age_seconds"] == 5.5 * 3600.0
        assert mark["stale"] is True
        named = [
            reason
            for reason in decision["reasons"]
            if "stale" in json.dumps(reason) and "BTCUSDT" in json.dumps(reason)
        ]
        assert named, [reason["text"] for reason in decision["reasons"]]
    readiness = story.silent_readiness
    assert readiness["status"] == "degraded"
    assert any("stale" in reason for reason in readiness["reasons"]), readiness


@pytest.mark.parametrize("account", ["long", "short", "rich", "spot", "pledged"])
def test_account_files_are_valued_at_the_recorded_quotes_as_over_http(
    story: Story, account: str
) -> None:
    row, decision = story.from_files[account], story.fallen[account]
    for name in (
        "equity",
        "initial_margin",
        "maintenance_margin",
        "headroom",
        "floor",
        "cap",
        "model_add_on",
        "opening_requirement",
    ):
        assert row[name] == pytest.approx(decision[name], rel=1e-12), name
    for hours in (1, 8, 24):
        assert row[f"p_{hours}"] == pytest.approx(decision["probability"][str(hours)], rel=1e-12)
    marks = row["marks"] if isinstance(row["marks"], list) else json.loads(row["marks"])
    assert [(mark["instrument"], mark["price"], mark["source"]) for mark in marks] == [
        (mark["instrument"], mark["price"], mark["source"]) for mark in decision["marks"]
    ]


def test_rulesets_list_names_every_rule_set_that_is_served(served: Endpoint, preset: str) -> None:
    listed = served.folder / "rulesets.json"
    if not listed.exists():
        from_verb = served.cli("rulesets", "list", "--json", listed)
        assert from_verb.code == 0, from_verb.err
    assert preset in json.dumps(json.loads(listed.read_text()))


def test_a_mark_within_the_band_counts_without_a_second_source(served: Endpoint) -> None:
    """The last look at this endpoint: a mark within the band counts at once, without agreement."""
    entry = served.market.closes["ETHUSDT"]
    account = {
        "account_id": "eth",
        "cash": entry,
        "positions": [{"instrument": "ETHUSDT-PERP", "quantity": 1.0, "entry_price": entry}],
        "collateral": [],
    }
    served.bars(*(bar for hours in range(1, 6) for bar in served.quiet_bars(hours)))
    for minutes, factor in ((31, 1.03), (32, 0.99), (33, 1.0)):
        moment = served.at(hours=6, minutes=minutes)
        assert served.marks(moment, ETHUSDT_PERP=entry * factor) == ["applied"]
        decision = served.decision(account)
        assert decision["equity"] == close_to(entry + entry * (factor - 1.0))
        assert mark_of(decision, "ETHUSDT-PERP") | {"price": 0.0} == {
            **mark_of(decision, "ETHUSDT-PERP"),
            "price": 0.0,
            "source": "quote",
            "age_seconds": 0.0,
        }
    assert math.isfinite(decision["floor"])
