"""Levels of one account over time: those that replays and the followed state have, with limits."""

from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy import delete, select, update

from ledger.chain import extend
from ledger.packing import pack, unpack
from ledger.records import Entry
from ledger.schema import records
from ledger.store import Ledger
from margin.add_on.bounds import BINDINGS
from margin.life_cycle.states import States
from margin.rules.ruleset import RuleSet
from monitoring.evaluation.passes.levels import LevelColumns
from monitoring.evaluation.record.account_levels import (
    AccountLevel,
    AccountLevels,
    account_levels,
)
from monitoring.evaluation.record.column_codec import (
    decode_columns,
    decode_row,
    encode_columns,
    encode_names,
    find_name,
)
from monitoring.evaluation.record.evaluation_state import (
    CHAIN,
    EVALUATION,
    level_block,
    restore,
    state_block,
)
from monitoring.evaluation.record.model_pass_records import ReadLimits
from tests.endpoint_fixtures import Bundles, SmallMarket
from tests.monitoring.evaluation.helpers import Watched, snapshot, watched

HORIZONS = (1, 8, 24)
MODEL = "model"
PATIENT = ReadLimits(seconds=60.0)


@pytest.fixture
def w(
    market: SmallMarket, ruleset: RuleSet, bundles: Bundles, champion: str, ledger: Ledger
) -> Watched:
    made = watched(market, ruleset, bundles, ledger)
    made.update(snapshot("a", 1, 5_000.0, BTC=0.2), snapshot("a/b", 1, 9_000.0, ETH=-1.0))
    made.settle()
    return made


def levels(w: Watched, name: str, limits: ReadLimits = PATIENT) -> AccountLevels:
    return account_levels(w.ledger, name, lambda _: HORIZONS, limits)


def advance(w: Watched, bars: int, first: int = 0) -> None:
    """Post bars, and marks after each that move levels, and let the monitor settle."""
    for row in range(first, first + bars):
        w.bars(w.rows + row, 1.0 + 0.01 * row)
        w.settle()
        w.marks(1.05, 60)
        w.settle()


def alter(ledger: Ledger, seq: int) -> None:
    """Change the amounts of a recorded block behind the ledger's back."""
    place = (records.c.chain == CHAIN) & (records.c.seq == seq)
    with ledger.engine.begin() as connection:
        text = unpack(connection.execute(select(records.c.payload).where(place)).scalar_one())
        changed = text.replace(b'"evaluated":', b'"evaluated": ')
        assert changed != text
        connection.execute(update(records).where(place).values(payload=pack(changed)))


def test_levels_are_those_of_the_state_after_each_model_pass(w: Watched) -> None:
    advance(w, 3)
    found = levels(w, "a/b")
    expected = []
    for record in reversed(w.records()):
        if record.payload["pass"] != MODEL:
            continue
        if find_name(record.payload["columns"], "a/b") is None:
            continue
        state = restore(w.ledger, record.seq)
        row = state.index["a/b"]
        kept = state.levels
        assert kept.as_of[row] == record.as_of
        probability = dict(zip(HORIZONS, kept.probability[row].tolist(), strict=True))
        binding = BINDINGS[int(kept.binding[row])]
        expected.append((record.seq, record.as_of, binding, float(kept.amount[row]), probability))
    assert [(o.seq, o.as_of, o.binding, o.add_on, o.probability) for o in found.levels] == expected
    assert len(expected) >= 4
    assert len({one.add_on for one in found.levels}) > 1
    assert (found.ended, found.altered) == ("first", ())
    assert all(w.replay(r).verdict == "equal" for r in w.records() if r.payload["pass"] == MODEL)


def test_a_pass_over_some_accounts_counts_for_these_alone(w: Watched) -> None:
    before = len(levels(w, "a").levels)
    w.update(snapshot("a", 2, 4_000.0, BTC=0.25))
    w.settle()
    record = next(r for r in reversed(w.records()) if r.payload["pass"] == MODEL)
    assert record.payload["whole"] is False
    assert levels(w, "a").levels[0].seq == record.seq
    assert len(levels(w, "a").levels) == before + 1
    assert record.seq not in [one.seq for one in levels(w, "a/b").levels]


def test_an_account_that_joined_later_has_levels_since(w: Watched) -> None:
    advance(w, 1)
    before = len(w.records())
    at = w.records()[-1].seq
    newest_whole = next(
        r for r in reversed(w.records()) if r.payload["pass"] == MODEL and r.payload["whole"]
    )
    assert levels(w, "late").ended == "joined"
    w.update(snapshot("late", 1, 100.0, BTC=0.01))
    w.settle()
    assert len(w.records()) > before
    found = levels(w, "late")
    assert [one.seq > at for one in found.levels] == [True]
    assert (found.ended, found.joined_after) == ("joined", newest_whole.as_of)


def test_passes_without_a_model_have_no_figures(
    market: SmallMarket, ruleset: RuleSet, bundles: Bundles, ledger: Ledger
) -> None:
    w = watched(market, ruleset, bundles, ledger)
    w.update(snapshot("a", 1, 5_000.0, BTC=0.2))
    w.settle()
    (one,) = levels(w, "a").levels
    assert (one.binding, one.add_on, one.probability) == ("fallback", None, {})
    assert one.no_forecast == "no model"
    w.monitor.close()
    bundles.promote(bundles.write())
    w = watched(market, ruleset, bundles, ledger)
    w.settle()
    newest, oldest = levels(w, "a").levels
    assert (oldest, newest.no_forecast) == (one, None)
    assert set(newest.probability) == set(HORIZONS)
    assert newest.add_on is not None


def test_horizons_that_nobody_knows_are_not_guessed(w: Watched, champion: str) -> None:
    answers: list[tuple[int, ...] | None] = [None, (1, 8)]
    for answer in answers:
        found = account_levels(w.ledger, "a", {champion: answer}.__getitem__, PATIENT)
        assert found.levels[0].no_forecast == "unknown bundle"
        assert found.levels[0].probability == {}
        assert found.levels[0].add_on is not None


def test_an_account_with_a_problem_keeps_its_level_and_shows_none(w: Watched) -> None:
    w.update(snapshot("odd", 1, 100.0, NOPE=1.0))
    w.settle()
    (newest,) = levels(w, "odd").levels
    assert (newest.binding, newest.add_on, newest.no_forecast) == (None, None, "not scored")


def test_an_altered_record_is_named_and_left_out(w: Watched) -> None:
    advance(w, 2)
    whole = levels(w, "a").levels
    seq = whole[1].seq
    alter(w.ledger, seq)
    found = levels(w, "a")
    assert found.levels == (whole[0], *whole[2:])
    (altered,) = found.altered
    assert (altered.seq, altered.as_of) == (seq, whole[1].as_of)
    assert "does not match its hash" in altered.detail


def test_missing_records_are_named(w: Watched) -> None:
    advance(w, 1)
    whole = levels(w, "a").levels
    gone = [1, whole[0].seq]
    with w.ledger.engine.begin() as connection:
        connection.execute(delete(records).where(records.c.chain == CHAIN, records.c.seq.in_(gone)))
    found = levels(w, "a")
    assert [one.seq for one in found.altered] == [
        seq for seq in sorted(gone, reverse=True) if seq < w.records()[-1].seq
    ]
    assert all("missing" in one.detail for one in found.altered)


@pytest.mark.parametrize(
    ("limits", "ended", "count"),
    [
        (ReadLimits(passes=2, seconds=60.0), "passes", 2),
        (ReadLimits(stored_bytes=1, seconds=60.0), "size", 1),
        (ReadLimits(seconds=0.0), "time", 1),
    ],
)
def test_what_is_reached_first_ends_it(
    w: Watched, limits: ReadLimits, ended: str, count: int
) -> None:
    advance(w, 2)
    found = levels(w, "a", limits)
    assert (found.ended, len(found.levels)) == (ended, count)
    assert found.levels == levels(w, "a").levels[:count]


def test_so_many_records_are_looked_at(w: Watched) -> None:
    advance(w, 2)
    newest = w.records()[-1].seq
    found = levels(w, "a", ReadLimits(records=4, seconds=60.0))
    assert found.ended == "records"
    expected = [one for one in levels(w, "a").levels if one.seq > newest - 4]
    assert list(found.levels) == expected


def test_there_may_be_no_evaluation(ledger: Ledger) -> None:
    assert account_levels(ledger, "a", lambda _: HORIZONS) == AccountLevels((), (), 0, "first")


def test_blocks_are_read_from_either_database(either_ledger: Ledger) -> None:
    one = LevelColumns.none(2, 3)
    one.amount[1], one.as_of[1], one.binding[1] = 7.5, 99, BINDINGS.index("model")
    one.probability[1] = (0.25, 0.5, 0.75)
    rules = state_block(["a", "b"], States.healthy(2), np.zeros(2, dtype=np.bool_))
    shared = {"model": "m", "whole": False}
    blocks = [("rules", rules), (MODEL, level_block(["a", "b"], one)), ("rules", rules)]
    entries = [
        Entry(kind=EVALUATION, payload={"columns": block, "pass": which, **shared}, as_of=99)
        for which, block in blocks
    ]
    with either_ledger.transaction() as connection:
        extend(connection, CHAIN, entries)
    found = account_levels(either_ledger, "b", lambda _: HORIZONS, PATIENT)
    expected = AccountLevel(2, 99, MODEL, 7.5, {1: 0.25, 8: 0.5, 24: 0.75}, None)
    assert found == AccountLevels((expected,), (), 1, "first")


def test_rows_and_names_are_those_of_the_decoded_columns() -> None:
    names = ["b", "ab", "a", "\N{LATIN SMALL LETTER U WITH DIAERESIS}/x", "a b"]
    columns = {
        "names": encode_names(names),
        "one": np.array([1.5, np.pi, -0.0, 2.0**60, 3.0]),
        "many": np.arange(15, dtype=np.float32).reshape(5, 3),
        "none": np.empty((5, 0)),
    }
    encoded = encode_columns(columns)
    decoded = decode_columns(encoded)
    for row, name in enumerate(names):
        assert find_name(encoded, name) == row
        one, many, none = decode_row(encoded, ("one", "many", "none"), row)
        assert (one, many, none) == (decoded["one"][row], decoded["many"][row].tolist(), [])
    assert find_name(encoded, "x") is None
    assert find_name(encode_columns({"names": encode_names([])}), "x") is None
