from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings, strategies as st

from market.accounts import account_tables
from market.accounts.account_files import (
    FOREVER,
    AccountHistory,
    Event,
    read_accounts,
    write_accounts,
)
from market.accounts.book import Account, Balance, Book, Position
from market.core.clock import HOUR, MINUTE, parse_time
from market.core.errors import DataError
from market.simulator.account_behaviour import AccountTrajectories
from market.simulator.population import Population, sample_population
from market.sources.base import AccountUpdates

T0 = parse_time("2025-01-01T00:00:00Z")
UTC_NS = pa.timestamp("ns", tz="UTC")


def positions(*rows: tuple[object, ...]) -> dict[str, pa.Array]:
    """Rows of (hours after T0, account, instrument, quantity[, entry price])."""
    return _columns(rows, ("instrument", "quantity", "entry_price"))


def collateral(*rows: tuple[object, ...]) -> dict[str, pa.Array]:
    return _columns(rows, ("asset", "amount"))


def _columns(rows: tuple[tuple[object, ...], ...], names: tuple[str, ...]) -> dict[str, pa.Array]:
    ts, account, *rest = zip(*rows, strict=True)
    times = [None if hour is None else T0 + int(float(str(hour)) * HOUR) for hour in ts]
    columns = {"ts": pa.array(times, UTC_NS), "account_id": pa.array(account, pa.string())}
    return columns | {name: pa.array(column) for name, column in zip(names, rest, strict=False)}


GOOD_POSITIONS = positions((0, "a", "BTCUSDT-PERP", 2.0))
GOOD_COLLATERAL = collateral((0, "a", "USD", 100.0))


def save(folder: Path, **files: dict[str, pa.Array]) -> Path:
    for name, columns in files.items():
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    return folder


def read(
    folder: Path, held: dict[str, pa.Array], kept: dict[str, pa.Array], **more: dict[str, pa.Array]
) -> AccountHistory:
    return read_accounts(save(folder, positions=held, collateral=kept, **more))


def accounts(book: Book) -> dict[str, Account]:
    """The readable form of a book."""
    return {
        name: Account(
            name,
            float(book.cash[i]),
            tuple(
                Position(
                    book.leg_instrument[leg],
                    float(book.leg_quantity[leg]),
                    None
                    if np.isnan(book.leg_entry_price[leg])
                    else float(book.leg_entry_price[leg]),
                )
                for leg in range(book.leg_start[i], book.leg_start[i + 1])
            ),
            tuple(
                Balance(book.balance_asset[b], float(book.balance_amount[b]))
                for b in range(book.balance_start[i], book.balance_start[i + 1])
            ),
        )
        for i, name in enumerate(book.account_ids)
    }


def test_latest_snapshot_at_or_before_t_is_the_whole_account(tmp_path: Path) -> None:
    history = read(
        tmp_path,
        positions(
            (2, "a", "ETHUSDT-PERP", -5.0, 3000.0),
            (0, "a", "BTCUSDT-PERP", 2.0, None),
            (0, "a", "SOLUSDT-PERP", 1.0, 190.0),
        ),
        collateral((0, "a", "USD", 100.0)),
    )
    first = Account(
        "a", 100.0, (Position("BTCUSDT-PERP", 2.0), Position("SOLUSDT-PERP", 1.0, 190.0))
    )
    assert accounts(history.book_at(T0)) == {"a": first}
    assert accounts(history.book_at(T0 + 2 * HOUR - 1)) == {"a": first}
    second = Account("a", 100.0, (Position("ETHUSDT-PERP", -5.0, 3000.0),))
    assert accounts(history.book_at(T0 + 2 * HOUR)) == {"a": second}


def test_deposit_does_not_flatten_the_positions_reported_before(tmp_path: Path) -> None:
    history = read(
        tmp_path,
        positions((0, "a", "BTCUSDT-PERP", 2.0)),
        collateral((0, "a", "USD", 100.0), (0.5, "a", "USD", 150.0)),
    )
    account = accounts(history.book_at(T0 + HOUR))["a"]
    assert account == Account("a", 150.0, (Position("BTCUSDT-PERP", 2.0),))


def test_zero_quantity_is_flat_and_cash_stays(tmp_path: Path) -> None:
    history = read(
        tmp_path,
        positions((0, "a", "BTCUSDT-PERP", 2.0), (1, "a", "BTCUSDT-PERP", 0.0)),
        collateral((0, "a", "USD", 100.0)),
    )
    assert accounts(history.book_at(T0 + HOUR)) == {"a": Account("a", 100.0)}


def test_account_unknown_by_t_is_absent_and_the_future_is_not_seen(tmp_path: Path) -> None:
    history = read(
        tmp_path,
        positions((0, "b", "BTCUSDT-PERP", 2.0), (5, "c", "BTCUSDT-PERP", 1.0)),
        collateral((2, "a", "USD", 7.0)),
    )
    assert len(history.book_at(T0 - 1)) == 0
    assert history.book_at(T0).account_ids == ("b",)
    assert history.book_at(T0 + 2 * HOUR).account_ids == ("a", "b")
    assert history.book_at(T0 + 9 * HOUR).account_ids == ("a", "b", "c")
    assert history.book_at(T0 + 9 * HOUR).cash.tolist() == [7.0, 0.0, 0.0]


def test_usd_is_cash_and_the_rest_is_collateral_for_the_rule_set_to_value(tmp_path: Path) -> None:
    history = read(
        tmp_path,
        GOOD_POSITIONS,
        collateral(
            (0, "a", "USDT", 30.0),
            (0, "a", "BTC", 0.5),
            (0, "a", "USD", -10.0),
            (0, "a", "ETH", 0.0),
        ),
    )
    account = accounts(history.book_at(T0))["a"]
    assert account.cash == -10.0
    assert account.collateral == (Balance("BTC", 0.5), Balance("USDT", 30.0))


def happened(history: AccountHistory) -> list[Event]:
    events = history.events
    return [
        Event(
            int(events.time[i]),
            history.account_ids[events.account[i]],
            events.kinds[events.kind[i]],
            float(events.amount[i]),
        )
        for i in range(len(events))
    ]


def test_ids_are_sorted_by_code_point_and_damaged_text_is_refused(tmp_path: Path) -> None:
    ids = ["b", "a", "Z", "ä", "z", "\uffff", "\U00010000", "10", "9"]
    history = read(
        tmp_path, positions(*((0, name, "BTCUSDT-PERP", 1.0) for name in ids)), GOOD_COLLATERAL
    )
    assert history.account_ids == tuple(sorted(ids))
    assert history.book_at(T0).account_ids == tuple(sorted(ids))

    broken = pa.Array.from_buffers(pa.binary(), 1, pa.array([b"\xff"]).buffers()).view(pa.string())
    with pytest.raises(DataError, match="'account_id' is damaged"):
        read(tmp_path, GOOD_POSITIONS | {"account_id": broken}, GOOD_COLLATERAL)


def test_closed_account_is_absent_until_a_new_snapshot(tmp_path: Path) -> None:
    events = _columns(((3, "a", "closed", 0.0), (1, "a", "deposit", 5.0)), ("kind", "amount"))
    history = read(
        tmp_path,
        positions((0, "a", "BTCUSDT-PERP", 2.0), (3, "a", "BTCUSDT-PERP", 0.0)),
        collateral((0, "a", "USD", 100.0), (6, "a", "USD", 40.0)),
        events=events,
    )
    assert history.book_at(T0 + 3 * HOUR - 1).account_ids == ("a",)
    assert len(history.book_at(T0 + 3 * HOUR)) == 0
    # Reopened: what was held before it closed does not come back.
    assert accounts(history.book_at(T0 + 6 * HOUR)) == {"a": Account("a", 40.0)}
    assert happened(history) == [
        Event(T0 + HOUR, "a", "deposit", 5.0),
        Event(T0 + 3 * HOUR, "a", "closed", 0.0),
    ]


def test_segments_begin_whenever_either_file_changes(tmp_path: Path) -> None:
    history = read(
        tmp_path,
        positions((0, "a", "BTCUSDT-PERP", 2.0), (4, "a", "BTCUSDT-PERP", 1.0)),
        collateral((1, "a", "USD", 9.0), (4, "a", "USD", 8.0), (2, "b", "USD", 3.0)),
    )
    segments = history.segments
    assert segments.account.tolist() == [0, 0, 0, 1]
    hours = [T0, T0 + HOUR, T0 + 4 * HOUR, T0 + 2 * HOUR]
    assert segments.begin.tolist() == hours
    assert segments.end.tolist() == [T0 + HOUR, T0 + 4 * HOUR, FOREVER, FOREVER]
    assert history.book_of(np.arange(4)).account_ids == ("a", "a", "a", "b")
    assert history.book_of(np.arange(4)).cash.tolist() == [0.0, 9.0, 8.0, 3.0]


SNAPSHOTS = st.lists(
    st.tuples(st.integers(0, 6), st.sampled_from("abc"), st.sampled_from("XYZ"), st.integers(0, 3)),
    min_size=1,
    max_size=25,
    unique_by=lambda row: row[:3],
)


@settings(max_examples=60)
@given(
    held=SNAPSHOTS,
    kept=SNAPSHOTS,
    closed=st.lists(st.tuples(st.integers(0, 6), st.sampled_from("abc")), max_size=3),
)
def test_book_equals_a_plain_search_of_the_rows(
    tmp_path_factory: pytest.TempPathFactory,
    held: list[tuple[int, str, str, int]],
    kept: list[tuple[int, str, str, int]],
    closed: list[tuple[int, str]],
) -> None:
    events = [(hour, account, "closed", 0.0) for hour, account in closed]
    more = {"events": _columns(tuple(events), ("kind", "amount"))} if events else {}
    history = read(tmp_path_factory.mktemp("files"), positions(*held), collateral(*kept), **more)
    for hour in range(-1, 8):
        expected = {}
        for account in "abc":
            void = max((h for h, a in closed if a == account and h <= hour), default=-1)

            def newest(rows: list[tuple[int, str, str, int]]) -> dict[str, int] | None:
                mine = [r for r in rows if r[1] == account and void < r[0] <= hour]  # noqa: B023
                last = max((r[0] for r in mine), default=None)
                return None if last is None else {r[2]: r[3] for r in mine if r[0] == last}

            legs, balances = newest(held), newest(kept)
            if legs is not None or balances is not None:
                expected[account] = Account(
                    account,
                    0.0,
                    tuple(Position(k, q) for k, q in sorted((legs or {}).items()) if q),
                    tuple(Balance(k, q) for k, q in sorted((balances or {}).items()) if q),
                )
        assert accounts(history.book_at(T0 + hour * HOUR)) == expected


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Paris"])
def test_any_time_unit_and_zone_is_the_same_instant(
    tmp_path: Path, unit: str, zone: str | None
) -> None:
    kind = pa.timestamp(unit, tz=zone)
    held = {**GOOD_POSITIONS, "ts": GOOD_POSITIONS["ts"].cast(pa.timestamp(unit, tz="UTC"))}
    held["ts"] = held["ts"].cast(pa.int64()).cast(kind)
    history = read(tmp_path, held, GOOD_COLLATERAL)
    assert history.positions.time.tolist() == [T0]


def test_dictionary_strings_integers_and_other_columns_are_accepted(tmp_path: Path) -> None:
    held = {
        **GOOD_POSITIONS,
        "account_id": GOOD_POSITIONS["account_id"].dictionary_encode(),
        "instrument": GOOD_POSITIONS["instrument"].cast(pa.large_string()),
        "quantity": pa.array([3], pa.int32()),
        "comment": pa.array([None], pa.null()),
    }
    account = accounts(read(tmp_path, held, GOOD_COLLATERAL).book_at(T0))["a"]
    assert account.positions == (Position("BTCUSDT-PERP", 3.0),)


def test_written_files_are_read_back(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "accounts"
    morning = Book.of(
        [
            Account("b", 5.0, (Position("BTCUSDT-PERP", -1.0, 90_000.0),)),
            Account("a", 1.0, (Position("ETHUSDT", 2.0),), (Balance("BTC", 0.25),)),
        ]
    )
    noon = Book.of([Account("b", 4.0)])
    events = [Event(T0 + MINUTE, "b", "withdrawal", -1.0)]
    written = write_accounts(
        folder, [AccountUpdates(T0, morning), AccountUpdates(T0 + HOUR, noon)], events
    )
    for history in (written, read_accounts(folder)):
        assert accounts(history.book_at(T0)) == accounts(morning)
        assert accounts(history.book_at(T0 + HOUR)) == {
            **accounts(morning),
            "b": Account("b", 4.0),
        }
        assert happened(history) == events


def test_sampled_accounts_are_written_and_read_back(tmp_path: Path) -> None:
    times = T0 + np.arange(400, dtype=np.int64) * HOUR
    prices = np.exp(np.random.default_rng(1).normal(size=(400, 2)))
    symbols = ("BTCUSDT", "ETHUSDT")
    lives = sample_population(
        Population.load("reference-v1"), 5, 7, times, prices, np.ones(prices.shape, bool)
    )
    history = write_accounts(
        tmp_path,
        AccountTrajectories.idle(lives).snapshots(symbols, times),
        [
            Event(int(times[lives.end_row[i]]), lives.account_id(i), "closed")
            for i in np.flatnonzero(lives.end_row < 400).tolist()
        ],
    )
    for row in (0, 100, 200, 399):
        assert accounts(history.book_at(int(times[row]))) == accounts(lives.book_at(row, symbols))


def test_nothing_is_written_that_cannot_be_read(tmp_path: Path) -> None:
    twice = Account("a", 1.0, (Position("X", 1.0), Position("X", 2.0)))
    with pytest.raises(DataError, match="repeats instrument 'X'"):
        write_accounts(tmp_path, [AccountUpdates(T0, Book.of([twice]))])
    assert not list(tmp_path.iterdir())


def test_snapshots_out_of_order_are_refused(tmp_path: Path) -> None:
    book = Book.of([Account("a", 1.0)])
    with pytest.raises(DataError, match="follows one at 2025-01-01T00:00:00Z"):
        write_accounts(tmp_path, [AccountUpdates(T0, book), AccountUpdates(T0, book)])


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere does not exist"):
        read_accounts(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["positions", "collateral"])
def test_missing_file_is_named(tmp_path: Path, name: str) -> None:
    save(tmp_path, positions=GOOD_POSITIONS, collateral=GOOD_COLLATERAL)
    (tmp_path / f"{name}.parquet").unlink()
    with pytest.raises(DataError, match=rf"{name}\.parquet does not exist"):
        read_accounts(tmp_path)


def test_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    save(tmp_path, collateral=GOOD_COLLATERAL)
    (tmp_path / "positions.parquet").write_text("ts,account_id")
    with pytest.raises(DataError, match=r"positions\.parquet cannot be read as parquet"):
        read_accounts(tmp_path)


@pytest.mark.parametrize("column", ["ts", "account_id", "instrument", "quantity"])
def test_missing_column_is_named(tmp_path: Path, column: str) -> None:
    held = {name: values for name, values in GOOD_POSITIONS.items() if name != column}
    with pytest.raises(DataError, match=rf"positions\.parquet lacks the column '{column}'"):
        read(tmp_path, held, GOOD_COLLATERAL)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("ts", pa.array([T0]), "column 'ts' is int64, expected a timestamp"),
        ("ts", pa.array([None], UTC_NS), "column 'ts' has 1 missing"),
        ("ts", pa.array([10**10], pa.timestamp("s")), "column 'ts' holds times that do not"),
        ("account_id", pa.array([7]), "column 'account_id' is int64, expected strings"),
        ("account_id", pa.array([None], pa.string()), "account_id is missing at row 0"),
        ("account_id", pa.array([""]), "account_id is missing at row 0"),
        ("instrument", pa.array([1.5]), "column 'instrument' is double, expected strings"),
        ("quantity", pa.array(["two"]), "column 'quantity' is string, expected numbers"),
        ("quantity", pa.array([True]), "column 'quantity' is bool, expected numbers"),
        ("quantity", pa.array([np.nan]), "quantity is nan at row 0"),
        ("quantity", pa.array([-np.inf]), "quantity is -inf at row 0"),
        ("quantity", pa.array([None], pa.float64()), "quantity is nan at row 0"),
        ("entry_price", pa.array([0.0]), "entry_price is 0.0 at row 0"),
        ("entry_price", pa.array([np.inf]), "entry_price is inf at row 0"),
        ("entry_price", pa.array(["x"]), "column 'entry_price' is string"),
    ],
)
def test_bad_position_is_refused_by_file_and_row(
    tmp_path: Path, column: str, values: pa.Array, message: str
) -> None:
    with pytest.raises(DataError) as refusal:
        read(tmp_path, {**GOOD_POSITIONS, column: values}, GOOD_COLLATERAL)
    assert "positions.parquet" in str(refusal.value)
    assert message in str(refusal.value)


def test_bad_collateral_and_events_are_refused_by_file(tmp_path: Path) -> None:
    bad = {**GOOD_COLLATERAL, "amount": pa.array([np.inf])}
    with pytest.raises(DataError, match=r"collateral\.parquet: amount is inf at row 0"):
        read(tmp_path, GOOD_POSITIONS, bad)
    events = _columns(((0, "a", None, 0.0), (1, "a", "closed", 0.0)), ("kind", "amount"))
    with pytest.raises(DataError, match=r"events\.parquet: kind is missing at row 0"):
        read(tmp_path, GOOD_POSITIONS, GOOD_COLLATERAL, events=events)


def test_first_of_several_repeated_rows_is_named(tmp_path: Path) -> None:
    held = positions(
        (1, "b", "BTCUSDT-PERP", 1.0),
        (0, "a", "BTCUSDT-PERP", 1.0),
        (1, "a", "BTCUSDT-PERP", 1.0),
        (1, "b", "BTCUSDT-PERP", 1.0),
        (0, "a", "BTCUSDT-PERP", 2.0),
    )
    with pytest.raises(DataError, match="row 3 repeats instrument 'BTCUSDT-PERP'"):
        read(tmp_path, held, GOOD_COLLATERAL)


def test_repeated_asset_is_refused(tmp_path: Path) -> None:
    kept = collateral((0, "a", "USD", 1.0), (0, "a", "USD", 1.0))
    with pytest.raises(DataError, match=r"collateral\.parquet: row 1 repeats asset 'USD'"):
        read(tmp_path, GOOD_POSITIONS, kept)


def test_too_many_rows_are_refused_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_tables, "MAX_ROWS", 1)
    held = positions((0, "a", "X", 1.0), (1, "a", "X", 1.0))
    with pytest.raises(DataError, match="has 2 rows; the limit is 1"):
        read(tmp_path, held, GOOD_COLLATERAL)


def test_files_without_rows_are_refused(tmp_path: Path) -> None:
    empty = {name: values[:0] for name, values in GOOD_POSITIONS.items()}
    kept = {name: values[:0] for name, values in GOOD_COLLATERAL.items()}
    with pytest.raises(DataError, match="hold no rows"):
        read(tmp_path, empty, kept)
    assert read(tmp_path, empty, GOOD_COLLATERAL).book_at(T0).cash.tolist() == [100.0]
