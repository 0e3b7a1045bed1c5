"""The live book: the monitor on a ledger, from a posted mark or bar to what is on record.

Marks and bars are posted from another thread through a market of its own, as the endpoint does it.
The peers do the same to the same book on one core: `decide` in batches for full decisions, and
pandas for the requirement (notional, maintenance margin, equity by group).
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.measure import Result, median_seconds
from benchmarks.workloads.sample_book import POSITIONS, SYMBOLS, Sample, sample, write_model
from decisions.decision import decide
from features.state.market_state import MarketState
from ledger.canonical import canonical_bytes
from ledger.packing import pack
from ledger.store import Ledger
from margin.rules.history import RuleHistory
from margin.rules.ruleset import RuleSet, load_ruleset
from market.accounts.book import Book
from market.bars.history import MarketHistory
from market.core.clock import format_time
from market.sources.http import BarIn, QuoteIn, account_message, bar_updates, quote_updates
from models.bundle.bundle import load_bundle
from models.bundle.pointer import promote
from models.forecaster import Forecaster
from monitoring.book.account_store import AccountStore
from monitoring.book.messages import AccountUpdateIn, SnapshotIn
from monitoring.champion import ChampionWatch
from monitoring.evaluation.monitor import BookMonitor, MonitorInputs
from monitoring.evaluation.passes.second_core import SecondCore
from monitoring.evaluation.record.evaluation_state import EVALUATION
from monitoring.evaluation.triggers import TriggerRules
from monitoring.evaluation.view import BookView
from monitoring.ledger_writer import LedgerWriter
from monitoring.market_state.live_market import LiveMarket
from monitoring.rules_in_force import RulesInForce
from monitoring.shared_market import SharedMarket

ACCOUNTS, MARKS, BARS, LISTINGS = 100_000, 7, 2, 5
PEER_ACCOUNTS = 5_000
LEVERAGE = 5.0
_WAIT_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class _World:
    """A ledger with a book, and two markets on it: the monitor's, and that of who posts."""

    inputs: Sample
    ledger: Ledger
    posted: SharedMarket
    monitor: BookMonitor
    rules: RulesInForce


def run() -> Result:
    """Post marks and bars to a running monitor, and time what it does."""
    ruleset = load_ruleset("linear-tiers")
    inputs = sample(ACCOUNTS)
    with tempfile.TemporaryDirectory() as folder:
        bundles = Path(folder)
        sha256, _ = write_model(bundles, inputs, ruleset)
        promote(bundles, sha256)
        with Ledger(f"sqlite:///{folder}/ledger.db") as ledger:
            loaded = _timed(lambda: _load(ledger, inputs))
            world = _world(inputs, ledger, bundles, ruleset)
            figures = _measure(world)
            figures["load_book_over_the_ledger_seconds"] = loaded
            figures["restore_seconds"] = _restore(inputs, ledger, bundles, ruleset)
            figures |= _listings(world)
            sizes = _sizes(ledger)
        model = Forecaster(load_bundle(bundles / sha256))
        peers = _peers(world, model, figures)
    return Result(
        "monitoring",
        settings={
            "accounts": ACCOUNTS,
            "positions_per_account": POSITIONS,
            "symbols": SYMBOLS,
            "marks": MARKS,
            "bars": BARS,
            "note": "the monitor's loop with its second process on an SQLite ledger, model passes "
            "included; each time runs from the call that posts, over its commit, to the end of the "
            "pass or the commit of the levels and decisions. Peers: one core.",
        },
        medians={**figures, **sizes},
        ratios=peers,
    )


def _load(ledger: Ledger, inputs: Sample) -> None:
    """Give the accounts as snapshots, with the equity of the reference population."""
    store = AccountStore(ledger)
    accounts = _scaled(inputs.book).accounts()
    for begin in range(0, len(accounts), 10_000):
        updates = []
        for account in accounts[begin : begin + 10_000]:
            message = account_message(account)
            content = SnapshotIn(message.cash, message.positions, message.collateral)
            updates.append(AccountUpdateIn(account.account_id, 1, None, content))
        store.apply(updates, int(inputs.history.bars.closes[-1]), "bench")


def _scaled(book: Book) -> Book:
    """The book with readable ids and equities of 1,000 to some millions."""
    scale = np.exp(np.random.default_rng(5).normal(np.log(20_000.0), 1.5, len(book)))
    legs = np.repeat(scale, np.diff(book.leg_start))
    names = tuple(f"retail-{i:06d}" for i in range(len(book)))
    return Book(
        names,
        book.cash * scale,
        book.leg_start,
        book.leg_instrument,
        book.leg_quantity * legs,
        book.leg_entry_price,
        book.balance_start,
        book.balance_asset,
        book.balance_amount,
    )


def _live(inputs: Sample) -> LiveMarket:
    """A live market at the last bar but those that are posted."""
    panel = inputs.history.bars
    rows = len(panel) - BARS
    state = MarketState(panel.symbols, panel.interval)
    features = state.advance(panel.rows(0, rows))
    history = MarketHistory.from_panel(panel.rows(0, rows))
    return LiveMarket(state, history.last_mark(-1), features, panel.rows(0, rows))


def _market(inputs: Sample, ledger: Ledger) -> SharedMarket:
    market = SharedMarket(_live(inputs), ledger, LedgerWriter(ledger), frozenset({"USDT"}))
    market.recover(None)
    return market


def _world(inputs: Sample, ledger: Ledger, bundles: Path, ruleset: RuleSet) -> _World:
    market = _market(inputs, ledger)
    rules = RulesInForce(RuleHistory.constant(ruleset), market.live, "market")
    monitor = BookMonitor(
        MonitorInputs(
            ledger,
            market,
            rules,
            ChampionWatch(bundles, rules.targets),
            TriggerRules(timer_seconds=3_600.0),
            "market",
            None,
            SecondCore(bundles),
        )
    )
    return _World(inputs, ledger, _market(inputs, ledger), monitor, rules)


def _measure(world: _World) -> dict[str, float]:
    """Seconds from posts to evaluations, medians of several."""
    stop = threading.Event()
    thread = threading.Thread(target=world.monitor.run, args=(stop,))
    thread.start()
    try:
        times = world.monitor.times
        began = time.perf_counter()
        _await(lambda: times.model > began)
        figures = {"first_evaluation_seconds": time.perf_counter() - began}
        urgent, whole = [], []
        for k in range(MARKS):
            time.sleep(2.0)  # model passes of the mark before are over
            began = time.perf_counter()
            _post_mark(world, k)
            _await(lambda: times.rules > began)  # noqa: B023
            urgent.append(times.urgent - began)
            whole.append(times.rules - began)
        columns = world.monitor.columns
        if columns is None:
            raise SystemExit("the monitor lost its lease")
        bars, bar_rules = [], []
        for k in range(BARS):
            began = time.perf_counter()
            _post_bars(world, k)
            _await(lambda: times.rules > began)  # noqa: B023
            bar_rules.append(times.rules - began)
            _await(lambda: times.model > began)  # noqa: B023
            bars.append(times.model - began)
        began = time.perf_counter()
        figures |= {
            "mark_to_urgent_accounts_seconds": float(np.median(urgent)),
            "mark_to_urgent_accounts_worst_seconds": max(urgent),
            "mark_to_whole_book_seconds": float(np.median(whole)),
            "mark_to_whole_book_worst_seconds": max(whole),
            "bar_to_whole_book_seconds": float(np.median(bar_rules)),
            "bar_to_decisions_committed_seconds": float(np.median(bars)),
            "bar_to_decisions_committed_worst_seconds": max(bars),
            "urgent_accounts": float(columns.urgent().sum()),
        }
    finally:
        stop.set()
        thread.join()
    return figures


def _post_mark(world: _World, k: int) -> None:
    state = world.posted.live.state
    close = state.newest_close or 0
    price = float(state.mark[0]) * (1.0 + 0.002 * (k + 1) * (-1.0) ** k)
    quote = QuoteIn(
        f"{state.head.symbols[0]}-PERP", format_time(close + (k + 1) * 10**9), mark=price
    )
    world.posted.post_quotes(quote_updates([quote], None).updates, now=None)


def _post_bars(world: _World, k: int) -> None:
    panel = world.inputs.history.bars
    row = len(panel) - BARS + k
    ts = format_time(int(panel.opens[row]))
    bars = [
        BarIn(symbol, ts, *panel.values[row, column].tolist())
        for column, symbol in enumerate(panel.symbols)
    ]
    world.posted.post("1h", bar_updates(bars, None).updates, now=None, final=True)


def _restore(inputs: Sample, ledger: Ledger, bundles: Path, ruleset: RuleSet) -> float:
    """Seconds in which a monitor that starts has the book, its levels and its states."""
    world = _world(inputs, ledger, bundles, ruleset)

    def start() -> None:
        world.monitor.step()

    seconds = _timed(start)
    if world.monitor.columns is None:
        raise SystemExit("the monitor did not start")
    world.monitor.close()
    return seconds


def _listings(world: _World) -> dict[str, float]:
    """Seconds of what a page of the listing needs: a new view, and one that is kept."""
    view = BookView(world.ledger)
    ruleset = world.rules.now()
    first = _timed(
        lambda: view.at(world.posted.live.state.decision_snapshot(None, "market"), ruleset)
    )

    def page() -> None:
        snapshot = world.posted.live.state.decision_snapshot(None, "market")
        book = view.at(snapshot, ruleset)
        np.argsort(-book.deposit, kind="stable")[:500]

    def after_a_mark() -> float:
        _post_mark(world, MARKS + 1)
        return _timed(page)

    return {
        "listing_first_seconds": first,
        "listing_after_a_mark_seconds": after_a_mark(),
        "listing_kept_seconds": median_seconds(page, LISTINGS),
    }


def _sizes(ledger: Ledger) -> dict[str, float]:
    """Stored bytes of the records, an account and step."""
    found: dict[str, list[float]] = {"rules": [], "model": []}
    for record in ledger.records(EVALUATION):
        if record.payload["whole"]:
            size = len(pack(canonical_bytes(record.payload)))
            found[record.payload["pass"]].append(size / record.payload["accounts"])
    decisions = [len(pack(canonical_bytes(r.payload))) for r in ledger.records("decision")]
    return {
        "model_record_bytes_per_account": float(np.median(found["model"])),
        "rules_record_bytes_per_account": float(np.median(found["rules"])),
        "decisions_recorded": float(len(decisions)),
    }


def _peers(world: _World, model: Forecaster, figures: dict[str, float]) -> dict[str, float]:
    """The same work by other means over the work of the monitor."""
    snapshot = world.posted.live.state.decision_snapshot(None, "market")
    ruleset = world.rules.now()
    book = _scaled(world.inputs.book)
    accounts = book.take(np.arange(PEER_ACCOUNTS)).accounts()
    decide(accounts[:100], snapshot, ruleset, model, {})
    decided = _timed(lambda: decide(accounts, snapshot, ruleset, model, {}))
    frame = _frame(book)
    prices = dict(zip(snapshot.view().symbols, snapshot.view().mark.tolist(), strict=True))
    pandas_seconds = median_seconds(lambda: _by_pandas(frame, prices), 3)
    columns = world.monitor.book
    return {
        "decide_in_batches_over_bar_to_decisions": decided
        * (len(columns) / PEER_ACCOUNTS)
        / figures["bar_to_decisions_committed_seconds"],
        "pandas_over_mark_to_whole_book": pandas_seconds / figures["mark_to_whole_book_seconds"],
    }


def _frame(book: Book) -> pd.DataFrame:
    owner = np.repeat(np.arange(len(book)), np.diff(book.leg_start))
    return pd.DataFrame(
        {
            "account": owner,
            "symbol": [name.removesuffix("-PERP") for name in book.leg_instrument],
            "quantity": book.leg_quantity,
            "cash": book.cash[owner],
            "entry": book.leg_entry_price,
        }
    )


def _by_pandas(frame: pd.DataFrame, prices: dict[str, float]) -> pd.DataFrame:
    price = frame["symbol"].map(prices)
    notional = frame["quantity"] * price
    profit = frame["quantity"] * (price - frame["entry"].fillna(price))
    legs = pd.DataFrame({"account": frame["account"], "mm": notional.abs() * 0.02, "pnl": profit})
    return legs.groupby("account").sum()


def _await(done: Callable[[], bool]) -> None:
    deadline = time.perf_counter() + _WAIT_SECONDS
    while not done():
        if time.perf_counter() > deadline:
            raise SystemExit(f"the monitor did not answer within {_WAIT_SECONDS:g} s")
        time.sleep(0.002)


def _timed(job: Callable[[], object]) -> float:
    start = time.perf_counter()
    job()
    return time.perf_counter() - start
