"""A fresh endpoint over a simulated market, a small model and a ledger of its own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmarks.fuzz.caller import Caller
from benchmarks.fuzz.scene import Scene
from features.registry import (
    ACCOUNT_FEATURES,
    CONTEXT_SOURCES,
    HORIZONS,
    prior_column,
    registry_sha256,
)
from ledger.store import Ledger
from margin.ruleset import RuleSet, load_ruleset
from market.errors import DataError
from models.bundle import bundle_files, load_bundle, write_bundle
from models.forecaster import Forecaster
from models.manifest import TrainingRecord
from models.onnx_export import export
from models.pointer import CHAMPION, promote, read_pointer
from models.schema import ModelSchema
from models.trees import TreeTable
from pipelines.config import Config
from pipelines.inputs import read_rule_history
from pipelines.sections import RulesConfig, SimulateConfig
from pipelines.serve import live_market
from serving.app import ServingSettings, create_app
from serving.live_market import LiveMarket

SYMBOLS = 5
_DAYS, _DAYS_OF_HISTORY = 40, 400
"""Days of the simulated market, and those where the rule set simulates history."""

_INTERCEPT = -0.5
"""Of the calibration: such that levels lie between floor and cap."""


@dataclass
class Endpoint:
    """An endpoint and what stands behind it."""

    caller: Caller
    live: LiveMarket
    ledger: Ledger

    @property
    def newest_close(self) -> int:
        """Close of the newest bar."""
        newest = self.live.newest_close
        if newest is None:
            raise DataError("the market of a campaign begins with bars and has none; report this")
        return newest


@dataclass(frozen=True)
class World:
    """What the endpoints of a campaign have in common.

    Attributes
    ----------
    folder:
        Where bundles and ledgers are written.
    preset:
        The rule set.
    limit_seconds:
        Of a call.
    """

    folder: Path
    preset: str
    limit_seconds: float

    @cached_property
    def ruleset(self) -> RuleSet:
        """The rule set."""
        return load_ruleset(self.preset)

    @cached_property
    def config(self) -> Config:
        """Of the market that the endpoints start from."""
        history = self.ruleset.method == "simulation"
        return Config(
            simulate=SimulateConfig(
                seed=5, days=_DAYS_OF_HISTORY if history else _DAYS, symbols=SYMBOLS
            ),
            rules=RulesConfig(ruleset=self.preset),
        )

    @property
    def bundles(self) -> Path:
        """Folder of the bundles."""
        return self.folder / self.preset / "bundles"

    @cached_property
    def model(self) -> Forecaster:
        """The champion, for replays."""
        return Forecaster(load_bundle(self.bundles / self._promote()))

    def _promote(self) -> str:
        """Write the champion where there is none yet; its SHA-256."""
        known = read_pointer(self.bundles, CHAMPION)
        if known is not None:
            return known
        self.bundles.mkdir(parents=True, exist_ok=True)
        sha = write_bundle(self.bundles, _small_bundle(self.ruleset))
        promote(self.bundles, sha)
        return sha

    @contextmanager
    def endpoint(self) -> Iterator[Endpoint]:
        """An endpoint at the start of the market with an empty ledger."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        try:
            with (
                Ledger(f"sqlite:///{folder / 'ledger.db'}", chain="serving") as ledger,
                self.on_ledger(ledger) as endpoint,
            ):
                yield endpoint
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def on_ledger(self, ledger: Ledger) -> Iterator[Endpoint]:
        """An endpoint that starts on a ledger, as after a restart."""
        self._promote()
        live = live_market(self.config)
        settings = ServingSettings("127.0.0.1", 8_000, self.bundles, clock="market", auth="off")
        app = create_app(settings, ledger, read_rule_history(self.config), live)
        with Caller(app, self.limit_seconds) as caller:
            yield Endpoint(caller, live, ledger)

    def scene(self, endpoint: Endpoint, session: int) -> Scene:
        """What bodies may refer to at the start of a session."""
        moment = endpoint.live.moment
        symbols = moment.head.symbols
        newest = endpoint.newest_close
        collateral = self.ruleset.collateral
        weighted = collateral.weights or {}
        return Scene(
            symbols=symbols,
            marks=dict(zip(symbols, np.asarray(moment.mark).tolist(), strict=True)),
            interval=moment.interval,
            newest=newest,
            begun=newest,
            cash_assets=collateral.cash_assets,
            haircut_assets=tuple(sorted({*collateral.haircuts, *weighted})),
            options=self.ruleset.engine != "tier",
            one_underlying=self.ruleset.method == "scenario",
            session=session,
        )


def _small_bundle(ruleset: RuleSet) -> dict[str, bytes]:
    """A bundle without trees: the structural prior, calibrated."""
    learned = [feature for feature in ACCOUNT_FEATURES if feature.name not in CONTEXT_SOURCES]
    names = tuple(feature.name for feature in learned)
    schema = ModelSchema(
        features=names,
        monotone=tuple(feature.monotone for feature in learned),
        horizons=HORIZONS,
        prior=tuple(prior_column(hours) for hours in HORIZONS),
        features_sha256=registry_sha256(),
    )
    trees = {hours: TreeTable.empty(len(names)) for hours in HORIZONS}
    calibration = dict.fromkeys(HORIZONS, (1.0, _INTERCEPT))
    return bundle_files(
        model=export(schema, trees, calibration),
        schema=schema,
        trees=trees,
        calibration=calibration,
        record=TrainingRecord("1" * 64, ruleset.sha256, {"lightgbm": "none"}),
    )
