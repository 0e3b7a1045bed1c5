"""A second process that scores chunks of a model pass beside the monitor."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from multiprocessing import connection
from pathlib import Path
from typing import NamedTuple

from features.state.snapshot import MarketSnapshot
from margin.rules.ruleset import RuleSet
from models.bundle.bundle import load_bundle
from models.forecaster import Forecaster
from monitoring.evaluation.passes.levels import LevelColumns
from monitoring.evaluation.passes.model_pass import ModelPassInput, score_levels

_LOG = logging.getLogger("margincast.monitor")


class PassMarket(NamedTuple):
    """Market, rules and SHA-256 of the bundle of a pass, as they are sent with each chunk."""

    snapshot: MarketSnapshot
    ruleset: RuleSet
    model: str | None


class SecondCore:
    """Scores chunks in a process of its own; it starts with the first one.

    Parameters
    ----------
    bundles:
        Folder of the bundles.
    """

    def __init__(self, bundles: Path) -> None:
        self._bundles = bundles
        self._pool: ProcessPoolExecutor | None = None

    def submit(self, chunk: ModelPassInput, market: PassMarket) -> Future[LevelColumns] | None:
        """Start to score a chunk; None where the process cannot be started.

        Parameters
        ----------
        chunk:
            The accounts.
        market:
            What it is scored on.
        """
        try:
            if self._pool is None:
                context = multiprocessing.get_context("spawn")
                self._pool = ProcessPoolExecutor(1, context, _end_with_parent)
            return self._pool.submit(_score, str(self._bundles), market, chunk)
        except (OSError, RuntimeError, BrokenProcessPool) as error:
            _LOG.warning("the second process of the monitor is not used: %s", error)
            self.close()
            return None

    def close(self) -> None:
        """End the process; a later chunk starts another one."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)


def _score(bundles: str, market: PassMarket, chunk: ModelPassInput) -> LevelColumns:
    model = None if market.model is None else _model(f"{bundles}/{market.model}")
    return score_levels(chunk, market.snapshot, market.ruleset, model)


@lru_cache(maxsize=1)
def _model(folder: str) -> Forecaster:
    return Forecaster(load_bundle(Path(folder)))


def _end_with_parent() -> None:
    """Leave signals to the monitor, and end when it is gone, however it ended."""
    for which in (signal.SIGTERM, signal.SIGINT):
        signal.signal(which, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(0)

    threading.Thread(target=watch, name="watch-monitor", daemon=True).start()
