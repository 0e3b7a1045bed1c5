"""A fresh endpoint over a simulated market, a small model and a ledger of its own."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal
from unittest import mock

import numpy as np

from benchmarks.fuzz.caller import Caller
from benchmarks.fuzz.generators.scene import Scene
from features.identity import digests_of, market_columns_of
from features.registry import ACCOUNT_FEATURES, HORIZONS, REQUIRED_COLUMNS, prior_column
from ledger.keys import Keys
from ledger.store import Ledger
from margin.engines.registry import engine_of
from margin.engines.scenario.rules import ScenarioRules
from margin.rules.ruleset import RuleSet, load_ruleset
from market.core.clock import MINUTE
from market.core.errors import DataError
from models.bundle.bundle import bundle_files, load_bundle, write_bundle
from models.bundle.manifest import TrainingRecord
from models.bundle.pointer import CHAMPION, promote, read_pointer
from models.bundle.schema import ModelSchema
from models.forecaster import Forecaster
from models.onnx.export import export
from models.trees.tree_table import TreeTable
from monitoring.market_state.live_market import LiveMarket
from pipelines.config.config import Config
from pipelines.config.sections import RulesConfig, SimulateConfig
from pipelines.data.loaders import read_rule_history
from pipelines.jobs.serve import live_market
from serving.http.app import ServingSettings, create_app

SYMBOLS = 5
_DAYS, _DAYS_OF_HISTORY = 40, 400
"""Days of the simulated market, and those where the rule set simulates history."""

_INTERCEPT = -1.0
"""Of the calibration: such that levels lie between floor and cap."""


@dataclass(frozen=True)
class Mode:
    """How an endpoint is set up.

    Attributes
    ----------
    clock:
        As in ``[serving]``.
    keys:
        Whether requests need a key.
    champion:
        Whether there is a model.
    """

    clock: Literal["market", "wall"] = "market"
    keys: bool = False
    champion: bool = True


MODES = (*[Mode()] * 5, Mode(clock="wall"), Mode(keys=True), Mode(champion=False))
"""Modes of the sessions of one rule set, in turn."""


@dataclass
class WallClock:
    """A wall clock that is set by hand: sessions do not depend on when they run."""

    now: int

    def __call__(self) -> int:
        """Nanoseconds."""
        return self.now


@dataclass
class Endpoint:
    """An endpoint with its market, ledger and clock."""

    caller: Caller
    live: LiveMarket
    ledger: Ledger
    wall: WallClock
    mode: Mode

    @property
    def newest_close(self) -> int:
        """Close of the newest bar."""
        return _newest_close(self.live)


@dataclass(frozen=True)
class World:
    """Shared parts of the endpoints of a campaign.

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
        history = engine_of(self.ruleset).needs_daily_history
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
        champion = read_pointer(self.bundles, CHAMPION)
        if champion is not None:
            return champion
        self.bundles.mkdir(parents=True, exist_ok=True)
        sha = write_bundle(self.bundles, small_bundle(self.ruleset))
        promote(self.bundles, sha)
        return sha

    @contextmanager
    def endpoint(self, mode: Mode) -> Iterator[Endpoint]:
        """An endpoint at the start of the market with an empty ledger."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        try:
            with (
                Ledger(f"sqlite:///{folder / 'ledger.db'}", chain="serving") as ledger,
                self.on_ledger(ledger, mode) as endpoint,
            ):
                yield endpoint
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def on_ledger(self, ledger: Ledger, mode: Mode, now: int | None = None) -> Iterator[Endpoint]:
        """An endpoint that starts on a ledger, as after a restart at `now`."""
        self._promote()
        live = live_market(self.config, ledger)
        wall = WallClock(_newest_close(live) + 10 * MINUTE if now is None else now)
        settings = ServingSettings(
            "127.0.0.1",
            8_000,
            self.bundles if mode.champion else self.folder / "no bundles",
            clock=mode.clock,
            auth="keys" if mode.keys else "off",
        )
        with mock.patch.object(time, "time_ns", wall):
            app = create_app(settings, ledger, read_rule_history(self.config), live)
            with Caller(app, self.limit_seconds) as caller:
                if mode.keys:
                    _, secret = Keys(ledger).add_key(("admin",))
                    caller.headers["authorization"] = f"Bearer {secret}"
                yield Endpoint(caller, live, ledger, wall, mode)

    def scene(self, endpoint: Endpoint, session: int) -> Scene:
        """What bodies may refer to at the start of a session."""
        state = endpoint.live.state
        symbols = state.head.symbols
        newest = endpoint.newest_close
        collateral = self.ruleset.collateral
        weighted = collateral.weights or {}
        return Scene(
            symbols=symbols,
            marks=dict(zip(symbols, np.asarray(state.mark).tolist(), strict=True)),
            interval=state.interval,
            newest=newest,
            newest_update=newest,
            start_time=newest,
            cash_assets=collateral.cash_assets,
            haircut_assets=tuple(sorted({*collateral.haircuts, *weighted})),
            options=engine_of(self.ruleset).margins_options,
            one_underlying=isinstance(getattr(self.ruleset, self.ruleset.table), ScenarioRules),
            session=session,
        )


def _newest_close(live: LiveMarket) -> int:
    newest = live.newest_close
    if newest is None:
        raise DataError("the market of a campaign has no bar; expected those of its simulation")
    return newest


def small_bundle(ruleset: RuleSet, intercept: float = _INTERCEPT) -> dict[str, bytes]:
    """A bundle without trees: the structural prior, calibrated."""
    required = set(REQUIRED_COLUMNS)
    learned = [f for f in ACCOUNT_FEATURES if market_columns_of([f.name]) <= required]
    names = tuple(feature.name for feature in learned)
    schema = ModelSchema.of_columns(
        features=names,
        monotone=tuple(feature.monotone for feature in learned),
        horizons=HORIZONS,
        prior=tuple(prior_column(hours) for hours in HORIZONS),
        feature_digests=digests_of(names),
    )
    trees = {hours: TreeTable.empty(len(names)) for hours in HORIZONS}
    calibration = dict.fromkeys(HORIZONS, (1.0, intercept))
    return bundle_files(
        model=export(schema, trees, calibration),
        schema=schema,
        trees=trees,
        calibration=calibration,
        record=TrainingRecord("1" * 64, ruleset.sha256, {"lightgbm": "none"}),
    )
