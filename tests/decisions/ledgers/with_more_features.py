"""Replay a kept ledger and serve its bundle in a version that has more features, and print how.

The registry is changed before anything else is imported: a volatility in the middle (which moves
the places of all that follow) and a market feature that every symbol needs, with its book mean.

    PYTHONPATH=. python tests/decisions/ledgers/with_more_features.py LEDGER_URL BUNDLE_FOLDER
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import msgspec

LINES = (
    ("    ewma_volatility(3),\n", "    ewma_volatility(3),\n    ewma_volatility(6),\n"),
    ("    volume_zscore(168),\n", "    volume_zscore(96),\n    volume_zscore(168),\n"),
)


def grow_registry() -> None:
    spec = importlib.util.find_spec("features.registry")
    assert spec is not None
    assert spec.origin is not None
    text = Path(spec.origin).read_text(encoding="utf-8")
    for line, more in LINES:
        assert text.count(line) == 1, line
        text = text.replace(line, more)
    module = importlib.util.module_from_spec(spec)
    sys.modules["features.registry"] = module
    exec(compile(text, spec.origin, "exec"), module.__dict__)  # noqa: S102 - our own text
    import features

    features.registry = module


def served(bundle: Path) -> list[dict[str, Any]]:
    """Decisions of a bundle on a simulated market of this version."""
    from decisions.decision import decide
    from features.state.market_state import MarketState
    from features.state.snapshot import MarketSnapshot
    from margin.rules.ruleset import load_ruleset
    from market.accounts.book import Account, Position
    from market.bars.history import MarketHistory
    from market.core.clock import Interval
    from market.simulator.simulated_market import simulate_bars
    from models.bundle.bundle import load_bundle
    from models.forecaster import Forecaster

    panel = simulate_bars(5, 9, 2, Interval.parse("1h"))
    features = MarketState(panel.symbols, panel.interval).advance(panel)
    history = MarketHistory.from_panel(panel)
    snapshot = MarketSnapshot.of_history(history, features, int(features.closes[-1]))
    price = float(snapshot.mark[panel.symbols.index("BTCUSDT")])
    book = [
        Account("a", 0.06 * price, (Position("BTCUSDT-PERP", 1.0),)),
        Account("b", 0.4 * price, (Position("BTCUSDT-PERP", -1.0), Position("ETHUSDT", 2.0))),
    ]
    model = Forecaster(load_bundle(bundle))
    answers = decide(book, snapshot, load_ruleset("linear-tiers"), model, {})
    plain: list[dict[str, Any]] = msgspec.to_builtins(answers, str_keys=True)
    return plain


def main(url: str, bundles: Path) -> None:
    from sqlalchemy import select

    from decisions.replay import replay
    from features import registry
    from ledger.packing import unpack_id
    from ledger.schema import records
    from ledger.store import Ledger
    from models.bundle.bundle import load_bundle
    from models.forecaster import Forecaster

    assert "ewma_volatility_6h" in registry.MARKET_COLUMNS
    assert "book_volume_zscore_96h" in registry.ACCOUNT_COLUMNS
    verdicts = {}
    with Ledger(url) as ledger:
        with ledger.engine.connect() as connection:
            ids = connection.execute(select(records.c.id).where(records.c.kind == "decision"))
            names = [unpack_id(name) for name in ids.scalars()]
        for name in names:
            found = replay(ledger, name, lambda sha: Forecaster(load_bundle(bundles / sha)))
            verdicts[name] = found.verdict
    decisions = [served(path) for path in sorted(bundles.iterdir())]
    sys.stdout.write(json.dumps({"verdicts": verdicts, "served": decisions}))


if __name__ == "__main__":
    grow_registry()
    main(sys.argv[1], Path(sys.argv[2]))
