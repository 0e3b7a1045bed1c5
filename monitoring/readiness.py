"""Whether decisions can be made now, and what good ones lack."""

from __future__ import annotations

from collections.abc import Collection

from decisions.reasons import missing_inputs_reason, ruleset_expired_reason
from features.registry import STALE_INTERVALS, WARM_UP_HOURS
from features.state.snapshot import MarketSnapshot
from margin.rules.ruleset import RuleSet
from market.core.clock import format_time
from monitoring.champion import Champion
from monitoring.follower import Follower
from monitoring.ledger_writer import LedgerWriter
from monitoring.market_state.live_market import LiveMarket, first_names
from monitoring.market_state.state import LiveMarketState
from monitoring.rules_in_force import RulesInForce


def health_errors(
    state: LiveMarketState, rules: RulesInForce, writer: LedgerWriter, follower: Follower
) -> list[str]:
    """Why no rule floor can be computed on the market that the others have, or no decision
    recorded; empty where both can be."""
    marked = bool((state.mark > 0.0).any())
    no_mark = None if marked else "no symbol has a mark: no rule floor can be computed"
    errors = (no_mark, rules.health_error(), writer.health_error(), follower.health_error())
    return [error for error in errors if error]


def health_warnings(
    live: LiveMarket,
    snapshot: MarketSnapshot,
    ruleset: RuleSet,
    champion: Champion,
    now: int | None,
) -> list[str]:
    """What good decisions lack now; empty where nothing is.

    Parameters
    ----------
    live:
        The market.
    snapshot:
        The market at the decision time.
    ruleset:
        The rules in force.
    champion:
        The model that answers.
    now:
        Wall clock, nanoseconds; None: bars and quotes are the clock.
    """
    model = champion.model
    warnings = (
        champion.health_error,
        ruleset_expired_reason(ruleset, snapshot.as_of),
        _market_warning(snapshot),
        live.waiting_reason(now),
        _suspect_warning(live.state.suspect_prices),
        None if model is None else missing_inputs_reason(snapshot, model),
    )
    return [warning for warning in warnings if warning]


def _market_warning(snapshot: MarketSnapshot) -> str | None:
    close = int(snapshot.features.closes[0])
    if snapshot.as_of - close > STALE_INTERVALS * snapshot.interval.nanoseconds:
        return f"stale market data: the newest bar closed at {format_time(close)}"
    usable = snapshot.usable()
    if not usable.any():
        return f"warm-up: no symbol has {WARM_UP_HOURS} h of history and every feature yet"
    if not usable.all():
        symbols = snapshot.features.symbols
        unfit = [name for name, fit in zip(symbols, usable, strict=True) if not fit]
        count = f"{len(unfit)} of {len(symbols)}"
        return f"{count} symbols are stale or in warm-up: {first_names(unfit)}"
    return None


def _suspect_warning(suspects: Collection[tuple[str, float, int]]) -> str | None:
    """The prices that wait for confirmation."""
    if not suspects:
        return None
    prices = [f"{name} at {price:g} of {format_time(ts)}" for name, price, ts in suspects]
    return f"{len(prices)} suspect price(s) wait for confirmation: {first_names(prices)}"
