"""Start the endpoint: restore the market state, replay newer bars, listen on HTTP."""

from __future__ import annotations

import gc
import socket
import sys
from contextlib import suppress
from dataclasses import replace

from features.state.market_state import MarketState
from features.state.point_in_time import advance_through
from ledger.store import Ledger
from market.bars.history import MarketHistory
from market.core.clock import SECOND, format_time
from market.core.errors import ConfigError, DataError
from monitoring.market_state.live_market import LiveMarket
from monitoring.market_state.steps import StepRule
from monitoring.recovery.recorded_steps import rows_before_the_newest
from pipelines.config.config import Config
from pipelines.data.loaders import read_history, read_rule_history
from serving.http.app import create_app
from serving.settings import MAX_BODY_BYTES, MAX_HISTORY_BYTES, MAX_PAGE, ServingSettings

MARKET_STATE = "market_state.npz"
"""File beside the bundles with the state from which the endpoint starts."""


def live_market(config: Config, ledger: Ledger) -> LiveMarket:
    """The market as of its newest bar: from the saved state and later bars, or from all bars.

    Recorded bars, exogenous series and reference prices of older steps complete the files
    (`monitoring.recovery.recorded_steps`); `LiveMarket.recover` applies newer ones.
    """
    history = read_history(config, rows_before_the_newest(ledger))
    rule = StepRule(config.serving.step_quorum, config.serving.step_grace * SECOND)
    return market_of(history, _saved_state(config, history), rule)


def market_of(history: MarketHistory, state: MarketState, rule: StepRule) -> LiveMarket:
    """The live market at the end of a history, from a state before some of its bars.

    Raises
    ------
    DataError
        There are fewer than two bars, or they were neither loaded nor simulated.
    """
    bars = history.bars
    if len(bars) < 2:
        raise DataError(f"the endpoint needs two bars to start from, found {len(bars)}")
    done = 0
    if state.last_open is not None:
        done = int((state.last_open - int(bars.opens[0])) // bars.interval.nanoseconds) + 1
    features = advance_through(state, bars.rows(done, -1), history.corrections)
    end = history.end
    if end is None:
        raise DataError("the endpoint starts from bars that were loaded or simulated")
    recent = replace(bars.rows(-len(end.recent_bars), None), values=end.recent_bars)
    live = LiveMarket(
        state,
        history.last_mark(len(bars) - 2),
        features,
        recent=recent.rows(0, -1),
        outlier_filter=end.outlier_filter,
        filter_state=end.state,
        rule=rule,
        recorded=frozenset() if history.recorded is None else history.recorded.places,
    )
    # Unfiltered: the endpoint filters the newest step itself, which is still open to corrections.
    live.open_step(recent.rows(-1, None), end.mark)
    return live


def serving_settings(config: Config) -> ServingSettings:
    """Settings of the endpoint; a limit of 0 is the default one."""
    serving = config.serving
    return ServingSettings(
        serving.host,
        serving.port,
        serving.bundles,
        serving.clock,
        serving.auth,
        max_body_bytes=serving.max_body_bytes or MAX_BODY_BYTES,
        max_history_bytes=serving.max_history_bytes or MAX_HISTORY_BYTES,
        max_page=serving.max_page or MAX_PAGE,
        mark_max_age=config.market.mark_max_age_ns,
    )


def serve(config: Config) -> None:
    """Run the endpoint until a signal stops it.

    Raises
    ------
    ConfigError
        The address cannot be bound.
    MargincastError
        Bars, rules or ledger cannot be used.
    """
    import uvicorn

    settings = config.serving
    with (
        _listen(settings.host, settings.port) as listener,
        Ledger(config.ledger.url, chain="serving") as ledger,
    ):
        app = create_app(
            serving_settings(config),
            ledger,
            read_rule_history(config),
            live_market(config, ledger),
        )
        _log(f"listening on http://{settings.host}:{settings.port} (/docs)")
        gc.freeze()  # later collections skip what start-up made
        gc.enable()
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
        with suppress(KeyboardInterrupt):
            server.run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    """A bound TCP socket; bound first, because a port in use is the likeliest error."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # With the protocol named asyncio sets TCP_NODELAY; without it every response on a
        # kept-alive connection waits 40 ms for the acknowledgement of its first part.
        bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((host, port))
        except OSError:
            bound.close()
            raise
    except OSError as error:
        raise ConfigError(
            f"[serving] {host} port {port} cannot be listened on ({error.strerror}); stop what "
            "uses it or give another port"
        ) from error
    return bound


def _saved_state(config: Config, history: MarketHistory) -> MarketState:
    """The saved state of the last retraining if it fits these bars, else an empty one."""
    path = config.serving.bundles / MARKET_STATE
    fresh = MarketState(history.bars.symbols, history.bars.interval)
    if not path.exists():
        return fresh
    try:
        state = MarketState.load(path)
    except DataError as error:
        _log(f"{error}; computing from all bars")
        return fresh
    opens = history.bars.opens
    fits = (
        state.symbols == fresh.symbols
        and state.interval == fresh.interval
        and state.last_open is not None
        and int(opens[0]) <= state.last_open < int(opens[-2])
    )
    changed = None if history.recorded is None else history.recorded.first_change
    if not fits:
        _log(f"market state {path} is of other bars; computing from all bars")
        return fresh
    if changed is not None and changed <= (state.last_open or 0):
        _log(
            f"the ledger holds bars or quotes since {format_time(changed)} that market state "
            f"{path} does not include; computing from all bars"
        )
        return fresh
    return state


def _log(text: str) -> None:
    print(f"margincast: {text}", file=sys.stderr)  # noqa: T201
