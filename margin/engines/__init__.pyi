from . import historical as historical, scenario as scenario, standard as standard, tier as tier
from .base import Engine as Engine
from .equity_paths import (
    BookPaths as BookPaths,
    EquityPaths as EquityPaths,
    Extremes as Extremes,
    MarketPath as MarketPath,
    MarketStep as MarketStep,
    RowSpans as RowSpans,
)
from .margins import (
    Margins as Margins,
    Part as Part,
    RankedScenario as RankedScenario,
    total as total,
)
from .registry import (
    ENGINES as ENGINES,
    compute_margins as compute_margins,
    engine_names as engine_names,
    engine_of as engine_of,
    explain_margins as explain_margins,
    ruleset_type as ruleset_type,
    tables_of as tables_of,
)

__all__ = [
    "ENGINES",
    "BookPaths",
    "Engine",
    "EquityPaths",
    "Extremes",
    "Margins",
    "MarketPath",
    "MarketStep",
    "Part",
    "RankedScenario",
    "RowSpans",
    "compute_margins",
    "engine_names",
    "engine_of",
    "explain_margins",
    "historical",
    "ruleset_type",
    "scenario",
    "standard",
    "tables_of",
    "tier",
    "total",
]
