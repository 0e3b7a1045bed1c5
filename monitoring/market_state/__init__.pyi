from .bar_checks import MAX_AHEAD_DAYS as MAX_AHEAD_DAYS, BarChecks as BarChecks
from .bar_updates import BARS as BARS, Correction as Correction, apply_bars as apply_bars
from .exogenous import (
    ExogenousUpdate as ExogenousUpdate,
    apply_exogenous as apply_exogenous,
    first_open as first_open,
    from_records as from_records,
    is_better as is_better,
    step_open as step_open,
    steps_near as steps_near,
    to_records as to_records,
)
from .live_market import LiveMarket as LiveMarket, first_names as first_names
from .messages import (
    BarResult as BarResult,
    BarsRequest as BarsRequest,
    BarsResponse as BarsResponse,
)
from .state import Clock as Clock, LiveMarketState as LiveMarketState
from .steps import (
    QUOTE_SERIES_WIDTH as QUOTE_SERIES_WIDTH,
    Counting as Counting,
    StepRule as StepRule,
)

__all__ = [
    "BARS",
    "MAX_AHEAD_DAYS",
    "QUOTE_SERIES_WIDTH",
    "BarChecks",
    "BarResult",
    "BarsRequest",
    "BarsResponse",
    "Clock",
    "Correction",
    "Counting",
    "ExogenousUpdate",
    "LiveMarket",
    "LiveMarketState",
    "StepRule",
    "apply_bars",
    "apply_exogenous",
    "first_names",
    "first_open",
    "from_records",
    "is_better",
    "step_open",
    "steps_near",
    "to_records",
]
