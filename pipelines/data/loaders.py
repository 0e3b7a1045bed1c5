"""Load what every verb needs from the configuration: market, features, rules and accounts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from features.state.market_state import MarketFeatures, MarketState
from features.state.point_in_time import advance_through
from ledger.store import Ledger
from margin.rules.history import RuleHistory, load_history as load_rule_history
from margin.rules.ruleset import RuleSet
from market.bars.exogenous_files import ExogenousSources, add_exogenous
from market.bars.history import MarketHistory, load_history
from market.bars.outlier_filter import OutlierFilter
from market.bars.recorded_rows import RecordedRows, RecordedSource
from market.core.arrays import Ints
from market.core.clock import DAY, END_OF_TIME, HOUR, Interval
from market.core.errors import DataError, RuleSetError
from market.sources.base import BarSource
from market.sources.parquet import BarFolder
from monitoring.recovery.recorded_steps import rows_known_at
from pipelines.config.config import Config

if TYPE_CHECKING:  # the endpoint reads bars from files and starts without the simulator
    from market.simulator.account_behaviour import AccountTrajectories
    from market.simulator.population import SampledAccounts
    from market.simulator.simulated_market import SimulatedMarket


@dataclass(frozen=True, slots=True)
class Market:
    """A market's history and its features at every close; `real` is False if it is simulated.

    `state` is the feature state before the last two bars, from which the endpoint starts: it
    applies the first of them and leaves the second open to corrections.
    """

    history: MarketHistory
    features: MarketFeatures
    state: MarketState
    real: bool


def read_history(config: Config, recorded: RecordedSource | None = None) -> MarketHistory:
    """The configured bars, or a simulated market if there are none, after the outlier filter.

    `recorded` reads rows of the ledger that go beside them (`monitoring.recovery.recorded_steps`).
    """
    interval = Interval.parse(config.market.interval)
    outlier_filter = outlier_filter_of(read_rule_history(config))
    if config.market.bars:
        sources: list[BarSource] = [
            BarFolder(entry.path, entry.kind) for entry in config.market.bars
        ]
        rows: RecordedRows | None = None

        def read_rows(
            symbols: Sequence[str], interval: Interval, grid: Ints
        ) -> RecordedRows | None:
            nonlocal rows
            rows = None if recorded is None else recorded(symbols, interval, grid)
            return rows

        history = load_history(sources, interval, config.market.symbols, outlier_filter, read_rows)
        exogenous = ExogenousSources(
            config.market.funding,
            config.market.open_interest,
            config.market.implied_vol,
            config.market.option_surface,
        )
        history = add_exogenous(history, exogenous)
        return history if rows is None else replace(history, bars=rows.with_exogenous(history.bars))
    panel = simulated_market(config).panel
    rows = None if recorded is None else recorded(panel.symbols, panel.interval, panel.opens)
    return MarketHistory.from_panel(panel, outlier_filter, rows)


def simulated_market(config: Config, later_days: int = 0) -> SimulatedMarket:
    """The simulated market before the outlier filter.

    With `later_days` it goes on for so many days after those of the configuration, whose bars are
    the same to the last bit.

    Raises
    ------
    DataError
        Symbols or files of exogenous series are configured without bars.
    ConfigError
        A coin whose trading is suspended is not simulated.
    """
    from market.simulator.market_parameters import MarketParameters
    from market.simulator.simulated_market import simulate_market

    for name in ("funding", "open_interest", "implied_vol", "option_surface"):
        if getattr(config.market, name):
            raise DataError(
                f"[market] {name} is set and [market] bars is empty; a simulated market makes its "
                f"own: leave {name} out, or give the folders of bars that it belongs to"
            )
    if config.market.symbols:
        raise DataError(
            "[market] symbols is set and [market] bars is empty; a simulated market takes "
            "[simulate] symbols, a number"
        )
    simulate, interval = config.simulate, Interval.parse(config.market.interval)
    parameters = (
        MarketParameters.read(simulate.path)
        if simulate.path
        else MarketParameters.load(simulate.parameters)
    )
    days = simulate.days + later_days
    market = simulate_market(simulate.seed, days, simulate.symbols, interval, parameters=parameters)
    if not simulate.halts:
        return market
    end = int(market.panel.closes[-1]) - later_days * DAY
    return market.halted({symbol: end - h * HOUR for symbol, h in simulate.halts.items()})


def read_market(config: Config, recorded: RecordedSource | None = None) -> Market:
    """The market with all its features; `recorded` as in `read_history`."""
    return with_features(read_history(config, recorded), real=bool(config.market.bars))


def with_features(history: MarketHistory, *, real: bool) -> Market:
    """A history with its features at every close."""
    state = MarketState(history.bars.symbols, history.bars.interval)
    earlier = advance_through(state, history.bars.rows(0, -2), history.corrections)
    start = state.copy()
    newest = advance_through(state, history.bars.rows(-2, None), history.corrections)
    return Market(history, earlier.append(newest), start, real)


def newest_close(config: Config, ledger: Ledger) -> int:
    """The newest close of the configured bars and of those of the ledger, in nanoseconds."""
    history = read_history(config, rows_known_at(ledger, END_OF_TIME - 1))
    return int(history.bars.closes[-1])


def read_rule_history(config: Config) -> RuleHistory:
    """The configured rules: one version, or those of a folder."""
    return load_rule_history(config.rules.path or config.rules.ruleset)


def read_rules(config: Config, market: Market) -> RuleSet:
    """The version of the configured rules in force at the end of the data.

    Raises
    ------
    RuleSetError
        The rules cannot be read, or none are in force then.
    """
    return read_rule_history(config).at(_end(config, market))


def read_label_rules(config: Config, market: Market) -> RuleSet:
    """The rules whose maintenance margin defines a margin call in training: those of
    ``[training]``, else those of ``[rules]``; the version in force at the end of the data.

    Raises
    ------
    RuleSetError
        The rules cannot be read, or none are in force then.
    """
    training = config.training
    if not training.ruleset:
        return read_rules(config, market)
    return load_rule_history(training.path or training.ruleset).at(_end(config, market))


def _end(config: Config, market: Market) -> int:
    last = int(market.history.bars.closes[-1])
    end = config.market.end_ns
    return last if end is None else min(last, end)


def describe_rules(ruleset: RuleSet) -> dict[str, str]:
    """Name, version, validity and digest of a rule set, for reports."""
    names = ("name", "version", "effective_from", "effective_to", "sha256")
    return {name: getattr(ruleset, name) for name in names}


def outlier_filter_of(rules: RuleHistory) -> OutlierFilter | None:
    """The one outlier filter of all versions: bars are filtered before a version is selected."""
    first, *others = rules.versions
    for other in others:
        if other.price_guard != first.price_guard:
            raise RuleSetError(
                f"versions {first.version!r} and {other.version!r} of rule set {first.name!r} have "
                "different tables [price_guard], but one outlier filter applies to all bars; give "
                "all versions the same table"
            )
    return first.price_guard.outlier_filter()


def usable(market: Market) -> npt.NDArray[np.bool_]:
    """Which symbols can be held and scored at each decision time, shape (T, S)."""
    fit: npt.NDArray[np.bool_] = market.features.usable(market.history.bars.interval)
    return fit & market.history.decidable()


def sample_accounts(config: Config, market: Market) -> SampledAccounts:
    """Accounts of the configured population over this market.

    Raises
    ------
    DataError
        Nothing can be sampled: the market is too short for the warm-up.
    """
    from market.simulator.population import Population, sample_population

    accounts = config.accounts
    sampled = sample_population(
        Population.load(accounts.population),
        accounts.count,
        accounts.seed,
        market.history.bars.closes,
        market.history.mark,
        usable(market),
    )
    if not len(sampled):
        raise DataError(
            f"no account can be sampled from {len(market.history.bars)} bars: every symbol needs "
            "168 hours of history first; give a longer market"
        )
    return sampled


def simulate_trajectories(
    config: Config, market: Market, accounts: SampledAccounts
) -> AccountTrajectories | None:
    """The behaviour of sampled accounts over time; None if the population has none."""
    from market.simulator.account_behaviour import simulate_behaviour
    from market.simulator.population import Population

    behaviour = Population.load(config.accounts.population).behaviour
    if behaviour is None:
        return None
    history = market.history
    return simulate_behaviour(
        accounts, behaviour, config.accounts.seed, history.bars.closes, history.mark
    )


def describe(config: Config, market: Market) -> Mapping[str, str]:
    """Which data are real and which are sampled, for every report."""
    sampled = config.accounts.path is None
    return {
        "prices": "real" if market.real else "simulated",
        "accounts": "sampled" if sampled else "files",
        "labels": "computed",
        "label_rules": config.training.ruleset or config.rules.ruleset,
        "population": config.accounts.population if sampled else "none",
        "event": config.training.event,
        "extremes": config.training.extremes,
        "book": config.training.book,
    }
