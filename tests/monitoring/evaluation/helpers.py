"""A monitor on a small market: post bars, marks and accounts, and let it step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from ledger.records import Record
from ledger.store import Ledger
from margin.rules.history import RuleHistory
from margin.rules.ruleset import RuleSet
from market.core.clock import format_time
from market.sources.http import BarIn, QuoteIn, bar_updates, quote_updates
from models.bundle.bundle import load_bundle
from models.forecaster import Forecaster
from monitoring.book.account_store import AccountStore
from monitoring.book.messages import AccountUpdateIn, UpdateResult
from monitoring.champion import ChampionWatch
from monitoring.evaluation.monitor import BookMonitor, MonitorInputs
from monitoring.evaluation.record.evaluation_state import EVALUATION
from monitoring.evaluation.record.replay import EvaluationReplay, replay_evaluation
from monitoring.evaluation.state_engine import StateEngine
from monitoring.evaluation.triggers import TriggerRules
from monitoring.ledger_writer import LedgerWriter
from monitoring.rules_in_force import RulesInForce
from monitoring.shared_market import SharedMarket
from tests.endpoint_fixtures import Bundles, SmallMarket
from tests.monitoring.quote_helpers import CASH, start

COINS = ("BTCUSDT-PERP", "ETHUSDT-PERP")


@dataclass
class Watched:
    """A monitor with what it watches."""

    monitor: BookMonitor
    market: SharedMarket
    ledger: Ledger
    small: SmallMarket
    bundles: Bundles
    inputs: MonitorInputs
    rows: int

    def restart(self) -> None:
        """Start a monitor that knows what is recorded in place of this one."""
        self.monitor.close()
        self.monitor = BookMonitor(self.inputs)

    def settle(self, most: int = 500) -> None:
        """Step until nothing is to be done."""
        for _ in range(most):
            if not self.monitor.step():
                return
        raise AssertionError("the monitor never comes to rest")

    def records(self) -> list[Record]:
        return list(self.ledger.records(EVALUATION))

    def replay(self, record: Record, account: str | None = None) -> EvaluationReplay:
        def load(sha256: str) -> Forecaster:
            return Forecaster(load_bundle(self.bundles.root / sha256))

        return replay_evaluation(self.ledger, record.id, load, account)

    def bars(self, row: int, factor: float = 1.0) -> None:
        """Post the bars of a row, their prices times a factor."""
        posted = [self.small.bar(row, column) for column in range(len(self.small.panel.symbols))]
        for bar in posted:
            for name in ("open", "high", "low", "close"):
                bar[name] *= factor
        bars = bar_updates([BarIn(**bar) for bar in posted], None).updates
        self.market.post("1h", bars, now=None, final=True)

    def post_elsewhere(self, row: int) -> None:
        """Post the bars of a row by another process: the monitor has them to catch up with."""
        live = start(self.small, self.rows)
        other = SharedMarket(live, self.ledger, LedgerWriter(self.ledger), CASH)
        other.recover(None)
        own, self.market = self.market, other
        try:
            self.bars(row)
        finally:
            self.market = own

    def marks(self, factor: float, seconds: int, symbol: str = COINS[0]) -> None:
        """Post a mark of a coin: its last close times a factor, after the newest close."""
        state = self.market.live.state
        close = state.newest_close
        assert close is not None
        spot = symbol.removesuffix("-PERP")
        price = float(state.mark[state.head.symbols.index(spot)]) * factor
        quote = {"instrument": symbol, "mark": price, "ts": format_time(close + seconds * 10**9)}
        quotes = quote_updates([msgspec.convert(quote, QuoteIn)], None).updates
        self.market.post_quotes(quotes, now=None)

    def update(self, *updates: dict[str, Any]) -> list[UpdateResult]:
        converted = [msgspec.convert(update, AccountUpdateIn) for update in updates]
        return AccountStore(self.ledger).apply(converted, 0, "test")


def snapshot(name: str, sequence: int, cash: float, **quantities: float) -> dict[str, Any]:
    """A snapshot of an account: quantities by coin, like BTC=0.1."""
    legs = [{"instrument": f"{c}USDT-PERP", "quantity": q} for c, q in quantities.items()]
    return {"account_id": name, "sequence": sequence, "snapshot": {"cash": cash, "positions": legs}}


def deltas(name: str, sequence: int, *changes: dict[str, Any]) -> dict[str, Any]:
    return {"account_id": name, "sequence": sequence, "deltas": list(changes)}


Watch = Callable[..., Watched]


def watched(
    small: SmallMarket,
    ruleset: RuleSet,
    bundles: Bundles,
    ledger: Ledger,
    rows: int = 250,
    engine: StateEngine | None = None,
) -> Watched:
    """A monitor whose market has the first rows of the small market."""
    live = start(small, rows)
    market = SharedMarket(live, ledger, LedgerWriter(ledger), CASH)
    market.recover(None)
    rules = RulesInForce(RuleHistory.constant(ruleset), live, "market")
    champion = ChampionWatch(bundles.root, rules.targets)
    triggers = TriggerRules(timer_seconds=3600.0)
    inputs = MonitorInputs(ledger, market, rules, champion, triggers, "market", engine=engine)
    return Watched(BookMonitor(inputs), market, ledger, small, bundles, inputs, rows)
