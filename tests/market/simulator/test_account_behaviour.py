from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings, strategies as st

from market.accounts.account_files import CLOSED, read_accounts, write_accounts
from market.core.clock import HOUR, parse_time
from market.simulator.account_behaviour import (
    DEPOSIT,
    KINDS,
    REDUCTION,
    WITHDRAWAL,
    AccountTrajectories,
    simulate_behaviour,
)
from market.simulator.behaviour_rates import Behaviour, Hazard
from market.simulator.population import Population, sample_population

START = parse_time("2025-01-01T01:00:00Z")
SYMBOLS = ("ADAUSDT", "BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT")
POPULATION = Population.load("behaving-v1")
NEVER = Hazard(rate=0.0, by_leverage=0.0, by_loss=0.0, by_gain=0.0)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def behaviour() -> Behaviour:
    assert POPULATION.behaviour is not None
    return POPULATION.behaviour


def only(**hazards: Hazard) -> Behaviour:
    """Behaviour in which nothing happens but what is named."""
    names = ("top_up", "withdrawal", "reduction", "closing")
    return msgspec.structs.replace(
        behaviour(), **{name: hazards.get(name, NEVER) for name in names}
    )


def hours(count: int) -> Ints:
    return START + np.arange(count, dtype=np.int64) * HOUR


def walk(rows: int, seed: int = 5, size: float = 0.01) -> Floats:
    steps = np.random.default_rng(seed).normal(0.0, size, (rows, len(SYMBOLS)))
    prices: Floats = 100.0 * np.exp(np.cumsum(steps, axis=0))
    return prices


def acted(
    mark: Floats, count: int = 300, seed: int = 7, how: Behaviour | None = None
) -> AccountTrajectories:
    times = hours(len(mark))
    accounts = sample_population(
        POPULATION, count, seed, times, mark, np.ones(mark.shape, dtype=bool)
    )
    return simulate_behaviour(accounts, how or behaviour(), seed, times, mark)


def actions(found: AccountTrajectories) -> list[tuple[str, int, int, float]]:
    return [
        (found.accounts.account_id(int(i)), int(r), int(k), float(a))
        for i, r, k, a in zip(found.account, found.row, found.kind, found.amount, strict=True)
    ]


def value(
    found: AccountTrajectories, account: int, row: int, cash: float, kept: float, mark: Floats
) -> Floats:
    """Equity and gross notional of an account at a row, from its legs."""
    accounts = found.accounts
    legs = slice(accounts.leg_start[account], accounts.leg_start[account + 1])
    price = mark[row, accounts.leg_symbol[legs]]
    held = kept * accounts.leg_quantity[legs]
    equity = cash + (held * (price - accounts.leg_entry_price[legs])).sum()
    return np.array([equity, np.abs(held * price).sum()])


def test_same_seed_acts_alike_and_another_does_not() -> None:
    mark = walk(400)
    assert actions(acted(mark)) == actions(acted(mark))
    assert actions(acted(mark)) != actions(acted(mark, seed=8))


@settings(max_examples=15)
@given(st.integers(170, 390), st.integers(0, 5))
def test_what_happens_never_depends_on_later_marks(row: int, seed: int) -> None:
    mark, other = walk(400, seed), walk(400, seed)
    other[row:] = walk(400, seed + 100)[row:] * 3.0
    before = [action for action in actions(acted(mark)) if action[1] < row]
    assert before == [action for action in actions(acted(other)) if action[1] < row]
    assert len(before) > 50


def test_a_longer_history_and_more_slots_keep_every_action() -> None:
    mark = walk(600)
    short = actions(acted(mark[:400]))
    many = {a for a in actions(acted(mark, count=500)) if a[0] < "s00300" and a[1] < 400}
    assert set(short) == many


def test_a_part_of_the_history_acts_as_the_whole_does() -> None:
    """Lives born after the part begins are the same: times enter the hash, not rows."""
    mark, skip = walk(700), 200
    times = hours(700)
    part = sample_population(
        POPULATION, 100, 7, times[skip:], mark[skip:], np.ones((500, len(SYMBOLS)), dtype=bool)
    )
    later = simulate_behaviour(part, behaviour(), 7, times[skip:], mark[skip:])
    born = {later.accounts.account_id(i) for i in range(len(later.accounts))}
    whole = [(n, r - skip, k, a) for n, r, k, a in actions(acted(mark, count=100)) if n in born]
    assert actions(later) == whole


def test_accounting_holds_at_every_action() -> None:
    """Equity moves by what is paid in or out and by nothing else; a cut sells every leg alike."""
    mark = walk(400, size=0.02)
    found = acted(mark)
    limit = behaviour().limits.leverage_limit
    cash, kept, seen = found.accounts.cash.copy(), np.ones(len(found.accounts)), set()
    for i, r, k, a, c, q in zip(
        found.account,
        found.row,
        found.kind,
        found.amount,
        found.cash,
        found.remaining_fraction,
        strict=True,
    ):
        equity, gross = value(found, i, r, cash[i], kept[i], mark)
        after, left = value(found, i, r, c, q, mark)
        kind = KINDS[k]
        seen.add(kind)
        if kind == DEPOSIT:
            assert a > 0.0
        if kind == WITHDRAWAL:
            assert a < 0.0
            assert left <= limit * after * (1.0 + 1e-9)
        if kind in (DEPOSIT, WITHDRAWAL):
            assert after - equity == pytest.approx(a)
            assert q == kept[i]
        if kind == REDUCTION:
            assert after == pytest.approx(equity)
            assert left - gross == pytest.approx(a)
            assert 0.05 <= 1.0 - q / kept[i] <= 0.85
        cash[i], kept[i] = c, q
    assert seen == set(KINDS)


def test_hazards_are_met_at_their_rate_and_grow_with_leverage_and_loss() -> None:
    """Counted against the formula: the exposure of every hour of every account, summed."""
    hazard = Hazard(rate=0.01, by_leverage=0.5, by_loss=1.5, by_gain=-1.0)
    mark = walk(500, size=0.005)
    found = acted(mark, count=250, how=only(reduction=hazard))
    expected = {True: 0.0, False: 0.0}
    happened = {True: 0, False: 0}
    at = {
        (int(i), int(r)): float(q)
        for i, r, q in zip(found.account, found.row, found.remaining_fraction, strict=True)
    }
    cash_at = {
        (int(i), int(r)): float(c)
        for i, r, c in zip(found.account, found.row, found.cash, strict=True)
    }
    for i in range(len(found.accounts)):
        cash, kept = 1.0, 1.0
        for row in range(found.accounts.opening_row[i] + 1, found.accounts.end_row[i]):
            equity, gross = value(found, i, row, cash, kept, mark)
            if equity <= 0.0:
                break
            leverage, change = gross / equity, equity - 1.0
            rate = 0.01 * (leverage / 5.0) ** 0.5
            rate *= np.exp(1.5 * max(0.0, -change) - min(max(0.0, change), 1.0))
            high = leverage > 5.0
            expected[high] += 1.0 - np.exp(-rate)
            happened[high] += (i, row) in at
            cash, kept = cash_at.get((i, row), cash), at.get((i, row), kept)
    for high in (True, False):
        assert abs(happened[high] - expected[high]) < 4.0 * np.sqrt(expected[high])
    assert min(happened.values()) > 80


def test_finer_decision_times_do_not_make_owners_busier() -> None:
    """A chance is of an hour: asked twice an hour, owners act as often."""
    hourly = walk(400, size=0.002)
    half = np.repeat(hourly, 2, axis=0)[1:]
    times = START + np.arange(len(half), dtype=np.int64) * (HOUR // 2)
    accounts = sample_population(POPULATION, 300, 7, times, half, np.ones(half.shape, dtype=bool))
    hazard = Hazard(rate=0.02, by_leverage=0.0, by_loss=0.0, by_gain=0.0)
    often = len(simulate_behaviour(accounts, only(reduction=hazard), 7, times, half).account)
    once = len(acted(hourly, how=only(reduction=hazard)).account)
    assert once > 800
    assert abs(often - once) < 4.0 * np.sqrt(often + once)


def test_an_account_without_equity_is_closed() -> None:
    mark = np.tile(walk(1), (200, 1))
    mark[100:] *= 0.4  # long books beyond 1.7 times equity are gone, short ones live
    found = acted(mark, how=only())
    assert set(found.kind) == {KINDS.index(CLOSED)}
    assert set(found.row) == {100}


def test_a_closed_life_ends_at_its_closing() -> None:
    found = acted(walk(400))
    closed = found.kind == KINDS.index(CLOSED)
    assert closed.any()
    assert np.array_equal(found.accounts.end_row[found.account[closed]], found.row[closed])
    last = dict(zip(found.account, found.row, strict=True))
    assert all(last[i] == r for i, r in zip(found.account[closed], found.row[closed], strict=True))


def test_missing_marks_hold_owners_still() -> None:
    mark = walk(400)
    mark[200:260] = np.nan
    times = hours(400)
    accounts = sample_population(POPULATION, 200, 7, times, mark, np.isfinite(mark))
    found = simulate_behaviour(accounts, behaviour(), 7, times, mark)
    assert not ((found.row >= 200) & (found.row < 260)).any()
    assert (found.row >= 260).any()


def test_nobody_acts_where_every_rate_is_zero() -> None:
    found = acted(walk(400, size=0.0005), how=only())
    assert not len(found.account)
    assert np.array_equal(
        found.accounts.end_row, AccountTrajectories.idle(found.accounts).accounts.end_row
    )


def test_files_hold_each_book_as_it_is_at_every_time(tmp_path: object) -> None:
    mark = walk(400)
    found, times = acted(mark, count=60), hours(400)
    history = write_accounts(
        tmp_path,  # type: ignore[arg-type]
        found.snapshots(SYMBOLS, times),
        found.events(times),
    )
    again = read_accounts(tmp_path)  # type: ignore[arg-type]
    assert again.account_ids == history.account_ids == found.history(SYMBOLS, times).account_ids
    accounts = found.accounts
    for row in (150, 240, 399):
        book = again.book_at(int(times[row]))
        assert book.account_ids == tuple(accounts.account_id(int(i)) for i in accounts.open_at(row))
        for n, account in enumerate(accounts.open_at(row)):
            own = (found.account == account) & (found.row <= row)
            cash = found.cash[own][-1] if own.any() else 1.0
            kept = found.remaining_fraction[own][-1] if own.any() else 1.0
            legs = slice(accounts.leg_start[account], accounts.leg_start[account + 1])
            mine = slice(book.leg_start[n], book.leg_start[n + 1])
            assert book.cash[n] == cash
            np.testing.assert_array_equal(
                book.leg_quantity[mine], accounts.leg_quantity[legs] * kept
            )


def test_events_carry_kinds_and_signed_amounts() -> None:
    times = hours(400)
    found = acted(walk(400))
    events = found.events(times)
    assert {event.kind for event in events} == set(KINDS)
    signs = {DEPOSIT: 1.0, WITHDRAWAL: -1.0, REDUCTION: -1.0, CLOSED: 0.0}
    assert all(np.sign(event.amount) == signs[event.kind] for event in events)
    closings = [event.account_id for event in events if event.kind == CLOSED]
    assert len(closings) == len(set(closings))


def test_reference_population_has_no_behaviour_and_keeps_its_digest() -> None:
    reference = Population.load("reference-v1")
    assert reference.behaviour is None
    assert reference.sha256 == "50013eb17173fc7d43e77f65f084eec7e3186b2b23e4548876892601f2b7b0a6"
