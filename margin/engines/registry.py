"""The registry of engines: a new engine is one `register` line at the end of this module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import cast

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from margin.book.portfolio_batch import Portfolios
from margin.engines.base import Engine
from margin.engines.historical.engine import HistoricalEngine
from margin.engines.margins import Margins, Part, RankedScenario
from margin.engines.scenario.engine import ScenarioEngine
from margin.engines.standard.engine import StandardEngine
from margin.engines.tier.engine import TierEngine
from margin.rules.floors import check_emir
from margin.rules.ruleset import RuleSet
from market.core.errors import RuleSetError

_ENGINES: dict[str, Engine] = {}
ENGINES: Mapping[str, Engine] = MappingProxyType(_ENGINES)
"""By the table that they read, in the order of their registration."""

_QUIET = np.errstate(over="ignore", invalid="ignore")
"""Readers check figures: one that leaves float64 becomes an error of its account."""


def register(engine: Engine) -> Callable[[], None]:
    """Make the rule sets of an engine loadable.

    Returns
    -------
    A function that takes the engine out again.

    Raises
    ------
    RuleSetError
        The name of its table is taken.
    """
    if engine.table in ENGINES or hasattr(RuleSet, engine.table):
        raise RuleSetError(
            f"engine {engine.name!r} reads the table [{engine.table}], a name that is taken; "
            "give its table another one"
        )
    _ENGINES[engine.table] = engine

    def unregister() -> None:
        del _ENGINES[engine.table]

    return unregister


def engine_names() -> tuple[str, ...]:
    """Values that ``engine`` of a rule set can have."""
    return tuple(dict.fromkeys(engine.name for engine in ENGINES.values()))


def tables_of(name: str) -> tuple[str, ...]:
    """Tables that the engines of a name read."""
    return tuple(engine.table for engine in ENGINES.values() if engine.name == name)


def engine_of(ruleset: RuleSet) -> Engine:
    """The engine of a rule set; raises `RuleSetError` where it is not registered any more."""
    engine = ENGINES.get(ruleset.table)
    if engine is None:
        raise RuleSetError(
            f"rule set {ruleset.name!r} has the table [{ruleset.table}], which no engine reads; "
            "register its engine, see margin.engines.registry"
        )
    return engine


@_QUIET
def compute_margins(portfolios: Portfolios, ruleset: RuleSet) -> Margins:
    """Margins of N portfolios under a rule set, see `Engine.margins`."""
    return engine_of(ruleset).margins(portfolios, ruleset)


@_QUIET
def explain_margins(
    portfolios: Portfolios, account: int, ruleset: RuleSet, count: int
) -> tuple[tuple[Part, ...], tuple[RankedScenario, ...] | None]:
    """Parts and worst scenarios of one portfolio under a rule set, see `Engine.explain`."""
    return engine_of(ruleset).explain(portfolios, account, ruleset, count)


def ruleset_type() -> type[RuleSet]:
    """`RuleSet` with the tables of all engines as optional fields: what rule sets decode to."""
    return _ruleset_type(tuple(ENGINES.values()))


@lru_cache(maxsize=8)
def _ruleset_type(known: tuple[Engine, ...]) -> type[RuleSet]:
    tables = [(engine.table, engine.rules | UnsetType, UNSET) for engine in known]
    made = msgspec.defstruct(
        RuleSet.__name__,
        tables,
        bases=(RuleSet,),
        module=RuleSet.__module__,
        namespace={"__post_init__": _check},
        frozen=True,
        forbid_unknown_fields=True,
        eq=False,
    )
    return cast(type[RuleSet], made)


def _check(ruleset: RuleSet) -> None:
    """Raise ValueError unless a rule set has its engine's table alone, and what it claims holds."""
    RuleSet.__post_init__(ruleset)
    present = [table for table in ENGINES if getattr(ruleset, table, UNSET) is not UNSET]
    expected = tables_of(ruleset.engine)
    if len(present) != 1 or present[0] not in expected:
        raise ValueError(
            f"engine {ruleset.engine!r} with the tables of {present or 'no engine'}; give the "
            f"table [{'] or ['.join(expected)}] and no other engine's"
        )
    if ruleset.regulation == "emir":
        check_emir(ruleset.floors, engine_of(ruleset).emir_measures(ruleset))


register(TierEngine())
register(ScenarioEngine())
register(StandardEngine())
register(HistoricalEngine())
