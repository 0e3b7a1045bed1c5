"""A small market, a small model and an endpoint over them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from litestar.testing import TestClient

from decisions.book_scoring import PreviousAddOn
from decisions.levels_in_force import LevelsInForce
from features.identity import digests_of, market_columns_of
from features.registry import (
    ACCOUNT_FEATURES,
    HORIZONS,
    REQUIRED_COLUMNS,
    prior_column,
)
from features.state.market_state import MarketFeatures, MarketState
from ledger.keys import Keys
from ledger.store import Ledger
from margin.rules.history import RuleHistory
from margin.rules.ruleset import RuleSet, load_ruleset
from market.bars.history import MarketHistory
from market.bars.panel import BarPanel
from market.core.clock import Interval, format_time
from market.simulator.market_parameters import MarketParameters
from market.simulator.simulated_market import simulate_bars
from models.bundle.bundle import bundle_files, write_bundle
from models.bundle.manifest import TrainingRecord
from models.bundle.pointer import promote
from models.bundle.schema import ModelSchema
from models.onnx.export import export
from models.trees.tree_table import TreeTable
from monitoring.market_state.live_market import LiveMarket
from monitoring.market_state.steps import StepRule
from serving.http.app import ServingSettings, create_app

HOUR = Interval.parse("1h")
DAYS = 11


@dataclass(frozen=True)
class SmallMarket:
    """A simulated history: what a live market starts from."""

    panel: BarPanel
    history: MarketHistory
    state: MarketState
    features: MarketFeatures

    @classmethod
    def of(cls, panel: BarPanel) -> SmallMarket:
        state = MarketState(panel.symbols, panel.interval)
        features = state.advance(panel)
        return cls(panel, MarketHistory.from_panel(panel), state, features)

    def live(self, rule: StepRule | None = None) -> LiveMarket:
        """A live market of its own."""
        mark = self.history.last_mark(-1)
        return LiveMarket(self.state.copy(), mark, self.features, self.panel, rule=rule)

    def head(self, rows: int) -> SmallMarket:
        """The market as it was after some rows."""
        panel = self.panel
        opens, values = panel.opens[:rows], panel.values[:rows].copy()
        return SmallMarket.of(BarPanel(panel.interval, panel.symbols, opens, values))

    def bar(self, row: int, column: int) -> dict[str, Any]:
        """One bar as it is posted."""
        names = ("open", "high", "low", "close", "volume")
        values = self.panel.values[row, column].tolist()
        return {
            "symbol": self.panel.symbols[column],
            "ts": format_time(int(self.panel.opens[row])),
            **dict(zip(names, values, strict=True)),
        }

    def bars(self, rows: range) -> list[dict[str, Any]]:
        """All bars of some rows."""
        return [self.bar(row, column) for row in rows for column in range(len(self.panel.symbols))]


def steady() -> MarketParameters:
    """A market without moods: what is tested here must not hang on how rough its last days are."""
    assumed = MarketParameters.load("assumed")
    volatility = msgspec.structs.replace(assumed.volatility, slow_spread=0.0, fast_spread=0.35)
    regimes = msgspec.structs.replace(assumed.regimes, stress_share=0.0)
    return msgspec.structs.replace(assumed, volatility=volatility, regimes=regimes)


@pytest.fixture(scope="session")
def market() -> SmallMarket:
    return SmallMarket.of(simulate_bars(1, DAYS, 4, HOUR, parameters=steady()))


@pytest.fixture(scope="session")
def ruleset() -> RuleSet:
    return load_ruleset("linear-tiers")


@dataclass(frozen=True)
class Bundles:
    """A folder of bundles without trees: the structural prior, calibrated."""

    root: Path

    def write(
        self,
        intercept: float = 0.0,
        digest: str | None = None,
        *,
        with_context: bool = False,
        ruleset_sha256: str | None = None,
        horizons: tuple[int, ...] = HORIZONS,
    ) -> str:
        """Without what the market of these tests lacks, as a model that is trained on it is."""
        required = set(REQUIRED_COLUMNS)
        learned = [
            feature
            for feature in ACCOUNT_FEATURES
            if with_context or market_columns_of([feature.name]) <= required
        ]
        names = tuple(feature.name for feature in learned)
        schema = ModelSchema.of_columns(
            features=names,
            monotone=tuple(feature.monotone for feature in learned),
            horizons=horizons,
            prior=tuple(prior_column(hours) for hours in horizons),
            feature_digests=(digest,) * len(names) if digest else digests_of(names),
        )
        trees = {hours: TreeTable.empty(len(names)) for hours in horizons}
        calibration = dict.fromkeys(horizons, (1.0, intercept))
        record = TrainingRecord(
            training_data_sha256="1" * 64,
            ruleset_sha256=ruleset_sha256 or load_ruleset("linear-tiers").sha256,
            versions={"lightgbm": "none"},
            training={"span": ["2025-01-01T00:00:00Z", "2025-01-12T00:00:00Z"]},
            metrics={"1": {"auc": 0.9}},
        )
        files = bundle_files(
            model=export(schema, trees, calibration),
            schema=schema,
            trees=trees,
            calibration=calibration,
            record=record,
        )
        return write_bundle(self.root, files)

    def promote(self, sha: str) -> str:
        promote(self.root, sha)
        return sha


@pytest.fixture(scope="session")
def made_bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    bundles = Bundles(tmp_path_factory.mktemp("bundles"))
    return bundles.root, bundles.promote(bundles.write())


@pytest.fixture
def bundles(tmp_path: Path) -> Bundles:
    """An empty folder of bundles."""
    root = tmp_path / "bundles"
    root.mkdir()
    return Bundles(root)


@pytest.fixture
def champion(bundles: Bundles, made_bundles: tuple[Path, str]) -> str:
    """A sound champion in `bundles`."""
    source, sha = made_bundles
    shutil.copytree(source, bundles.root, dirs_exist_ok=True)
    return sha


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(f"sqlite:///{tmp_path}/ledger.db") as opened:
        yield opened


@pytest.fixture(params=["sqlite", "postgresql"])
def either_ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """A ledger in SQLite, then one in PostgreSQL: a folder whose ``ledger`` it is runs on both."""
    url = f"sqlite:///{tmp_path}/either.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    with Ledger(url) as opened:
        yield opened


@dataclass
class Endpoint:
    """A client, and what stands behind it."""

    client: TestClient[Any]
    live: LiveMarket
    ledger: Ledger
    market: SmallMarket

    def score(self, *accounts: dict[str, Any], **rest: Any) -> Any:
        return self.client.post("/v1/score", json={"accounts": list(accounts), **rest})

    def key(self, *scopes: str) -> dict[str, str]:
        """Headers with a fresh key."""
        _, secret = Keys(self.ledger).add_key(scopes)
        return {"Authorization": f"Bearer {secret}"}


Serve = Callable[..., Endpoint]


@pytest.fixture
def serve(
    market: SmallMarket, ruleset: RuleSet, bundles: Bundles, ledger: Ledger
) -> Iterator[Serve]:
    """Starts endpoints on the same folders, as restarts do."""
    with ExitStack() as stack:

        def start(
            at: SmallMarket = market,
            live: LiveMarket | None = None,
            rules: RuleHistory | None = None,
            **rest: Any,
        ) -> Endpoint:
            options: dict[str, Any] = {"clock": "market", "auth": "off"} | rest
            settings = ServingSettings("127.0.0.1", 8000, bundles.root, **options)
            moved = at.live() if live is None else live
            held = RuleHistory.constant(ruleset) if rules is None else rules
            app = create_app(settings, ledger, held, moved)
            client = stack.enter_context(
                TestClient(app, "http://127.0.0.1:8000", raise_server_exceptions=False)
            )
            return Endpoint(client, moved, ledger, at)

        yield start


@pytest.fixture
def account() -> dict[str, Any]:
    """A levered account in two coins."""
    return {
        "account_id": "acc-1",
        "cash": 3_000.0,
        "positions": [
            {"instrument": "BTCUSDT-PERP", "quantity": 0.1},
            {"instrument": "ETHUSDT-PERP", "quantity": -2.0},
        ],
    }


def levels_of(levels: LevelsInForce, *account_ids: str) -> dict[str, PreviousAddOn]:
    """The add-on in force of each account that has one."""
    found = levels.of(account_ids)
    return {name: one.level for name, one in found.items() if one.level is not None}
