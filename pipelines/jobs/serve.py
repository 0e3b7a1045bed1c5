"""Start the endpoint: restore the market state, replay newer bars, listen on HTTP."""

from __future__ import annotations

import gc
import logging
import socket
from collections.abc import Callable
from dataclasses import replace

from litestar import Litestar

from features.state.market_state import MarketState
from features.state.point_in_time import advance_through
from ledger.store import Ledger
from market.bars.history import MarketHistory
from market.core.clock import SECOND, format_time
from market.core.errors import DataError
from monitoring.market_state.live_market import LiveMarket
from monitoring.market_state.steps import StepRule
from monitoring.recovery.recorded_steps import rows_before_the_newest
from monitoring.recovery.recovery import market_chain
from monitoring.struct_types import prepare_struct_types
from pipelines.config.access_section import JwtConfig
from pipelines.config.config import Config
from pipelines.data.loaders import read_history, read_rule_history
from pipelines.jobs.telemetry import start_telemetry
from pipelines.jobs.workers import WorkerPlace, decision_chain, listen, serve_with_workers
from pipelines.registry.rule_adoption import check_rules
from serving.http.app import create_app
from serving.http.connections.limits import MAX_PENDING_BYTES, ConnectionLimits
from serving.http.security.tls import Certificate
from serving.http.server import Transport, run_server
from serving.http.starting import StartingApplication
from serving.settings import (
    MAX_BODY_BYTES,
    MAX_HISTORY_BYTES,
    MAX_PAGE,
    MAX_WHAT_IF_ACCOUNTS,
    JwtSettings,
    ServingSettings,
)
from serving.telemetry.telemetry import Telemetry

_LOG = logging.getLogger("margincast.serve")

MARKET_STATE = "market_state.npz"
"""File beside the bundles with the state from which the endpoint starts."""


def live_market(config: Config, ledger: Ledger) -> LiveMarket:
    """The market as of its newest bar: from the saved state and later bars, or from all bars.

    Recorded bars, exogenous series and reference prices of older steps complete the files
    (`monitoring.recovery.recorded_steps`); `LiveMarket.recover` applies newer ones.
    """
    # Before anything is read: what others append meanwhile is followed, not taken for history.
    head = market_chain(ledger).head()
    history = read_history(config, rows_before_the_newest(ledger))
    rule = StepRule(config.serving.step_quorum, config.serving.step_grace * SECOND)
    live = market_of(history, _saved_state(config, history), rule)
    live.history_head = head
    return live


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
        call_seconds=serving.call_seconds,
        what_if_calls=serving.what_if_calls,
        what_if_accounts=serving.what_if_accounts or MAX_WHAT_IF_ACCOUNTS,
        hosts=serving.hosts,
        origins=serving.origins,
        rate_per_minute=serving.rate_per_minute,
        metrics_auth=serving.metrics_auth,
        jwt=_jwt_settings(serving.jwt),
        answers_days=config.ledger.answers_days,
        monitoring=config.monitoring.enabled,
    )


def connection_limits(config: Config) -> ConnectionLimits:
    """Limits of connections; a limit of 0 is the default one."""
    serving = config.serving
    return ConnectionLimits(
        max_connections=serving.max_connections,
        head_seconds=serving.head_seconds,
        body_seconds=serving.body_seconds,
        idle_seconds=serving.idle_seconds,
        write_seconds=serving.write_seconds,
        max_pending_bytes=serving.max_pending_bytes or MAX_PENDING_BYTES,
        drain_seconds=serving.drain_seconds,
        stop_seconds=serving.stop_seconds,
    )


def _jwt_settings(jwt: JwtConfig) -> JwtSettings | None:
    if jwt.key_file is None:
        return None
    return JwtSettings(
        jwt.issuer,
        jwt.audience,
        jwt.key_file,
        is_jwks=jwt.jwks is not None,
        scope_claim=jwt.scope_claim,
        leeway=jwt.leeway,
    )


def transport(config: Config) -> Transport:
    """How requests come in: with TLS or without, by which proxies, within which limits.

    Raises
    ------
    ConfigError
        Certificate or key cannot be used.
    """
    serving = config.serving
    certificate = None
    if serving.tls_cert is not None and serving.tls_key is not None:
        certificate = Certificate(serving.tls_cert, serving.tls_key)
    return Transport(certificate, serving.proxies, connection_limits(config))


def serve(config: Config) -> None:
    """Run the endpoint until a signal stops it; with several workers if so configured.

    It listens first and answers for its health while the rest starts, see
    `serving.http.starting`.

    Raises
    ------
    ConfigError
        The address cannot be bound.
    WorkerError
        A worker could not start, or workers died too often.
    RuleSetError
        A rule version needs ``margincast promote --rules``, see `pipelines.registry.rule_adoption`.
    MargincastError
        Bars, rules or ledger cannot be used.
    """
    from pipelines.jobs.monitor import monitor_child  # which starts from this module's market

    prepare_struct_types()
    serving = config.serving
    check_rules(config)
    if serving.workers > 1:
        transport(config)  # refused here, in one line, and not by each worker
        with monitor_child(config) as start_monitor:
            serve_with_workers(config, answer, start_monitor)
        return
    secured = transport(config)
    # Bound first, because a port in use is the likeliest error.
    with listen(serving.host, serving.port) as listener:
        address = f"{secured.scheme}://{serving.host}:{serving.port}"

        telemetry = start_telemetry(config)
        chain = decision_chain(serving)
        with (
            monitor_child(config) as start_monitor,
            Ledger(config.ledger.url, chain=chain) as ledger,
        ):

            def started() -> None:
                _LOG.info("listening on %s (/docs)", address)
                start_monitor()

            starting = StartingApplication(
                lambda: _application(config, ledger, telemetry), started, telemetry
            )
            run_server(starting, listener, lambda: None, secured, telemetry)
        if starting.error is not None:
            raise starting.error


def answer(
    config: Config, listener: socket.socket, place: WorkerPlace, started: Callable[[], None]
) -> None:
    """Run one of several processes of the endpoint on a bound socket until a signal stops it.

    It listens once it can answer: until then the others get its calls.

    Parameters
    ----------
    config:
        The configuration.
    listener:
        The socket.
    place:
        Where it writes, and the sockets that it serves for others.
    started:
        Called once it listens.
    """
    prepare_struct_types()
    telemetry = start_telemetry(config, place.metrics)
    with Ledger(config.ledger.url, chain=place.chain) as ledger:
        app = _application(config, ledger, telemetry)
        run_server(app, listener, started, transport(config), telemetry, place.lent)


def _application(config: Config, ledger: Ledger, telemetry: Telemetry) -> Litestar:
    """The application, ready to answer."""
    rules, live = read_rule_history(config), live_market(config, ledger)
    app = create_app(serving_settings(config), ledger, rules, live, telemetry)
    gc.freeze()  # later collections skip what start-up made
    gc.enable()
    return app


def _saved_state(config: Config, history: MarketHistory) -> MarketState:
    """The saved state of the last retraining if it fits these bars, else an empty one."""
    path = config.serving.bundles / MARKET_STATE
    fresh = MarketState(history.bars.symbols, history.bars.interval)
    if not path.exists():
        return fresh
    try:
        state = MarketState.load(path)
    except DataError as error:
        _LOG.warning("%s; computing from all bars", error)
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
        _LOG.info("market state %s is of other bars; computing from all bars", path)
        return fresh
    if changed is not None and changed <= (state.last_open or 0):
        _LOG.info(
            "the ledger holds bars or quotes since %s that market state %s does not include; "
            "computing from all bars",
            format_time(changed),
            path,
        )
        return fresh
    return state
