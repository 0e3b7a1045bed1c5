"""Write a small ledger of this version's decisions as one JSON file, for later versions to read.

Run it from the root of a checkout of the version whose records are to be kept::

    PYTHONPATH=. python tests/decisions/ledgers/write_ledger.py NAME.json

The file holds every row of the tables ``records`` and ``contents`` as stored, and the files of the
bundle that the decisions name. A file that is in the repository is never written again: it shows
what that version recorded.
"""

from __future__ import annotations

import base64
import json
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from litestar.testing import TestClient
from sqlalchemy import select

from features.identity import digests_of
from features.registry import ACCOUNT_FEATURES
from features.state.market_state import MarketState
from ledger.chain import unpacked_row
from ledger.packing import unpack
from ledger.schema import contents, records
from ledger.store import Ledger
from margin.rules.history import RuleHistory
from margin.rules.ruleset import load_ruleset
from market.bars.history import MarketHistory
from market.bars.panel import BarPanel
from market.core.clock import DAY, HOUR, Interval, format_time
from market.simulator.simulated_market import simulate_bars
from models.bundle.bundle import bundle_files, write_bundle
from models.bundle.manifest import TrainingRecord
from models.bundle.pointer import promote
from models.bundle.schema import ModelSchema
from models.onnx.export import export
from models.trees.tree_table import TreeTable
from monitoring.market_state.live_market import LiveMarket
from serving.http.app import ServingSettings, create_app

FEATURES = (
    "prior_logit_1h",
    "prior_logit_8h",
    "prior_logit_24h",
    "distance_ewma_volatility_12h",
    "book_return",
    "herfindahl",
    "equity_share",
)
HORIZONS = (1, 8, 24)
COLUMNS = ("open", "high", "low", "close", "volume")


def stump(feature: int, threshold: float, left: float, right: float) -> TreeTable:
    """One tree with one split."""
    return TreeTable(
        n_features=len(FEATURES),
        tree_start=np.array([0, 3]),
        feature=np.array([feature, -1, -1], dtype=np.int32),
        threshold=np.array([threshold, 0.0, 0.0]),
        left=np.array([1, -1, -1], dtype=np.int32),
        right=np.array([2, -1, -1], dtype=np.int32),
        default_left=np.array([True, False, False]),
        value=np.array([(left + right) / 2.0, left, right]),
    )


def write_model(root: Path) -> str:
    """A bundle of one tree a horizon, promoted."""
    by_name = {feature.name: feature for feature in ACCOUNT_FEATURES}
    schema = ModelSchema.of_columns(
        features=FEATURES,
        monotone=tuple(by_name[name].monotone for name in FEATURES),
        horizons=HORIZONS,
        prior=FEATURES[:3],
        feature_digests=digests_of(FEATURES),
    )
    trees = {
        1: stump(3, 4.0, 0.5, -0.25),
        8: stump(3, 6.0, 0.5, -0.25),
        24: stump(4, 0.01, 0.25, -0.125),
    }
    calibration = dict.fromkeys(HORIZONS, (0.9, 0.1))
    record = TrainingRecord(
        training_data_sha256="1" * 64,
        ruleset_sha256=load_ruleset("linear-tiers").sha256,
        versions={"lightgbm": "none"},
        training={"span": ["2025-01-01T00:00:00Z", "2025-01-10T00:00:00Z"]},
    )
    files = bundle_files(
        model=export(schema, trees, calibration),
        schema=schema,
        trees=trees,
        calibration=calibration,
        record=record,
    )
    sha = write_bundle(root, files)
    promote(root, sha)
    return sha


class Run:
    """Endpoints over one ledger and one market, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.panel = simulate_bars(3, 9, 2, Interval.parse("1h"))
        self.started = len(self.panel) - 3
        self.bundles = folder / "bundles"
        self.bundles.mkdir()
        self.empty = folder / "empty"
        self.empty.mkdir()

    def live(self) -> LiveMarket:
        panel = self.panel
        head = BarPanel(
            panel.interval,
            panel.symbols,
            panel.opens[: self.started],
            panel.values[: self.started].copy(),
        )
        state = MarketState(head.symbols, head.interval)
        features = state.advance(head)
        mark = MarketHistory.from_panel(head).last_mark(-1)
        return LiveMarket(state, mark, features, head)

    def bars(self, row: int) -> dict[str, Any]:
        """The bars of one row as posted."""
        bars = [
            {
                "symbol": symbol,
                "ts": format_time(int(self.panel.opens[row])),
                **dict(zip(COLUMNS, self.panel.values[row, column].tolist(), strict=True)),
            }
            for column, symbol in enumerate(self.panel.symbols)
        ]
        return {"interval": "1h", "bars": bars}

    def client(self, ledger: Ledger, preset: str, *, model: bool) -> TestClient[Any]:
        root = self.bundles if model else self.empty
        settings = ServingSettings("127.0.0.1", 8000, root, "market", "off")
        rules = RuleHistory.constant(load_ruleset(preset))
        app = create_app(settings, ledger, rules, self.live())
        return TestClient(app, "http://127.0.0.1:8000")

    def record(self, ledger: Ledger) -> None:
        """Decisions of the presets, with a model and without, around bars and quotes."""
        spot = float(self.panel.values[self.started - 1, self.panel.symbols.index("BTCUSDT"), 3])
        close = int(self.panel.closes[self.started - 1])
        day = datetime.fromtimestamp((close + 30 * DAY) / 1e9, UTC)
        expiry = f"BTC-{day.day}{day:%b%y}".upper()
        call, put = f"{expiry}-{round(1.1 * spot)}-C", f"{expiry}-{round(0.9 * spot)}-P"
        book = {
            "linear-tiers": [
                account("two coins", 0.12 * spot, {"BTCUSDT-PERP": 1.0, "ETHUSDT-PERP": -4.0}),
                account("desk/7", 0.03 * spot, {"ETHUSDT-PERP": 12.0}, {"BTC": 0.125}),
            ],
            "derive-pmrm2": [account("strangle", 0.5 * spot, {call: -1.0, put: -1.0})],
            "emir-tiers": [account("clearing", 0.4 * spot, {"BTCUSDT-PERP": -2.0})],
            "binance-usdm": [account("whale", 40.0 * spot, {"BTCUSDT-PERP": 300.0})],
        }
        quotes = [
            {"instrument": "BTCUSDT-PERP", "ts": format_time(close), "mark": 1.002 * spot},
            {
                "instrument": expiry,
                "ts": format_time(close),
                "forward": 1.01 * spot,
                "rate": 0.02,
                "svi": dict(
                    zip(("a", "b", "rho", "m", "sigma"), (0.01, 0.08, -0.3, 0.0, 0.2), strict=True)
                ),
            },
        ]
        with self.client(ledger, "linear-tiers", model=True) as client:
            post(client, "/v1/score", accounts=book["linear-tiers"])
            post(client, "/v1/market/quotes", quotes=quotes)
            post(client, "/v1/market/bars", **self.bars(self.started))
            post(client, "/v1/score", accounts=book["linear-tiers"][:1])
        with self.client(ledger, "linear-tiers", model=False) as client:
            post(client, "/v1/score", accounts=book["linear-tiers"][:1])
            post(client, "/v1/score", accounts=book["linear-tiers"][:1])
        for preset in ("derive-pmrm2", "emir-tiers", "binance-usdm"):
            with self.client(ledger, preset, model=True) as client:
                post(client, "/v1/score", accounts=book[preset])
        with self.client(ledger, "derive-pmrm2", model=True) as client:
            post(client, "/v1/market/bars", **self.bars(self.started + 1))
            post(client, "/v1/score", accounts=book["derive-pmrm2"])
        with self.client(ledger, "emir-tiers", model=False) as client:
            post(client, "/v1/score", accounts=book["emir-tiers"])
        with self.client(ledger, "emir-ccp", model=True) as client:
            post(client, "/v1/score", accounts=[account("simulated", spot, {"BTCUSDT": -2.0})])
        late = [account("late", 0.12 * spot, {"BTCUSDT-PERP": 1.0, "ETHUSDT-PERP": -4.0})]
        with self.client(ledger, "linear-tiers", model=True) as client:
            # Ages at a decision time after the newest close; then a mark of a step that waits.
            later = close + 2 * HOUR + HOUR // 3
            post(client, "/v1/score", accounts=late, as_of=format_time(later))
            bars = self.bars(self.started + 2)
            bars["bars"] = [bar for bar in bars["bars"] if bar["symbol"] == "BTCUSDT"]
            post(client, "/v1/market/bars", **bars)
            later = close + 3 * HOUR + HOUR // 7
            post(client, "/v1/score", accounts=late, as_of=format_time(later))


def account(
    name: str, cash: float, positions: dict[str, float], collateral: dict[str, float] | None = None
) -> dict[str, Any]:
    return {
        "account_id": name,
        "cash": cash,
        "positions": [{"instrument": i, "quantity": q} for i, q in positions.items()],
        "collateral": [{"asset": a, "amount": q} for a, q in (collateral or {}).items()],
    }


def post(client: TestClient[Any], path: str, **body: Any) -> None:
    answer = client.post(path, json=body)
    problems = answer.json().get("errors") or [
        result for result in answer.json().get("results", []) if result["status"] != "applied"
    ]
    if answer.status_code != 200 or problems:
        raise SystemExit(f"{path}: {answer.status_code} {problems or answer.text}")


def dump(ledger: Ledger, bundle: Path) -> dict[str, Any]:
    """All rows with their texts, and the files of a bundle."""
    with ledger.engine.connect() as connection:
        every = connection.execute(select(records).order_by(records.c.chain, records.c.seq))
        rows = [unpacked_row(row._mapping) for row in every]
        shared = connection.execute(select(contents).order_by(contents.c.sha256))
        facts = [
            {
                "sha256": row.sha256.hex(),
                "kind": row.kind,
                "content": unpack(row.content).decode(),
            }
            for row in shared
        ]
    files = {
        path.name: base64.b64encode(path.read_bytes()).decode() for path in sorted(bundle.iterdir())
    }
    return {"records": rows, "contents": facts, "bundle": {bundle.name: files}}


def main(out: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder))
        sha = write_model(run.bundles)
        with Ledger(f"sqlite:///{folder}/ledger.db", chain="serving") as ledger:
            run.record(ledger)
            out.write_text(json.dumps(dump(ledger, run.bundles / sha), indent=0) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
