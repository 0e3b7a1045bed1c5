from .cut import (
    BlockCut as BlockCut,
    Fold as Fold,
    cut_blocks as cut_blocks,
    stress_folds as stress_folds,
)
from .day_totals import DayTotals as DayTotals
from .fold_report import (
    FoldResult as FoldResult,
    evaluate_fold as evaluate_fold,
    forecast_totals as forecast_totals,
)
from .skill_figures import pooled_tables as pooled_tables, skill_table as skill_table

__all__ = [
    "BlockCut",
    "DayTotals",
    "Fold",
    "FoldResult",
    "cut_blocks",
    "evaluate_fold",
    "forecast_totals",
    "pooled_tables",
    "skill_table",
    "stress_folds",
]
