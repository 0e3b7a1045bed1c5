from .bar_cleaning import is_possible as is_possible, load_bars as load_bars
from .daily_closes import DailyCloses as DailyCloses, empty_daily_closes as empty_daily_closes
from .exogenous_files import ExogenousSources as ExogenousSources, add_exogenous as add_exogenous
from .filtered_bars import RECENT_ROWS as RECENT_ROWS, Corrections as Corrections
from .history import MarketHistory as MarketHistory, load_history as load_history
from .outlier_filter import (
    DEFAULT_CASH_BAND as DEFAULT_CASH_BAND,
    DEFAULT_HARD_BAND as DEFAULT_HARD_BAND,
    DEFAULT_VOL_BAND as DEFAULT_VOL_BAND,
    MAX_GAP_HOURS as MAX_GAP_HOURS,
    OutlierFilter as OutlierFilter,
    Verdicts as Verdicts,
    filter_bars as filter_bars,
    is_rejected as is_rejected,
    new_state as new_state,
)
from .panel import EXOGENOUS_WIDTH as EXOGENOUS_WIDTH, BarPanel as BarPanel
from .quality import FAULTS as FAULTS
from .recorded_rows import (
    RecordedRows as RecordedRows,
    RecordedSource as RecordedSource,
    RecordedUse as RecordedUse,
)

__all__ = [
    "DEFAULT_CASH_BAND",
    "DEFAULT_HARD_BAND",
    "DEFAULT_VOL_BAND",
    "EXOGENOUS_WIDTH",
    "FAULTS",
    "MAX_GAP_HOURS",
    "RECENT_ROWS",
    "BarPanel",
    "Corrections",
    "DailyCloses",
    "ExogenousSources",
    "MarketHistory",
    "OutlierFilter",
    "RecordedRows",
    "RecordedSource",
    "RecordedUse",
    "Verdicts",
    "add_exogenous",
    "empty_daily_closes",
    "filter_bars",
    "is_possible",
    "is_rejected",
    "load_bars",
    "load_history",
    "new_state",
]
