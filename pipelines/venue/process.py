"""The simulated venue as a child process of ``margincast run``."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager

from market.core.errors import ConfigError
from pipelines.config.config import Config
from pipelines.jobs.workers import end_with_parent, stop_signals
from serving.telemetry.logs.records import LogSettings, configure_logs

STOP_SECONDS = 5.0
"""Time after which a venue that was stopped is killed."""

_LOG = logging.getLogger("margincast.venue")


def check_venue(config: Config) -> None:
    """Refuse a configuration whose market cannot go on beside the endpoint.

    Raises
    ------
    ConfigError
        ``speed`` is above 0, and bars come from files, the clock is the wall's, or a request needs
        a key or TLS.
    """
    if config.simulate.speed == 0.0:
        return
    serving = config.serving
    problems = [
        (bool(config.market.bars), "[market] bars is set: only a simulated market goes on"),
        (serving.clock != "market", f'[serving] clock is "{serving.clock}": give "market"'),
        (serving.auth != "off", f'[serving] auth is "{serving.auth}": the venue has no key'),
        (serving.tls_cert is not None, "[serving] tls_cert is set: the venue speaks plain HTTP"),
    ]
    for wrong, why in problems:
        if wrong:
            raise ConfigError(
                f"simulate.speed is {config.simulate.speed:g} and {why}; or set speed to 0"
            )


@contextmanager
def venue_beside(config: Config) -> Iterator[None]:
    """The simulated venue in a process of its own while the block runs; none at speed 0.

    It ends with the block, and by itself where this process is killed.
    """
    if config.simulate.speed == 0.0:
        yield
        return
    process = multiprocessing.get_context("spawn").Process(
        target=_work, args=(config,), name="simulated-venue", daemon=True
    )
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join(STOP_SECONDS)
        if process.is_alive():
            _LOG.error("the simulated venue did not stop within %g s: killed", STOP_SECONDS)
            process.kill()
            process.join()


def _work(config: Config) -> None:
    """The body of the process."""
    from pipelines.venue.venue import run_venue

    configure_logs(LogSettings(config.logging.format, config.logging.level))
    end_with_parent()
    with stop_signals() as stop:
        run_venue(config, stop)
