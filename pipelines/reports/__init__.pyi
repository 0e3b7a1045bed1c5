from .report import (
    backtest_tables as backtest_tables,
    bars_line as bars_line,
    console as console,
    drift_line as drift_line,
    drift_table as drift_table,
    evaluation_tables as evaluation_tables,
    facts as facts,
    retrain_tables as retrain_tables,
    show as show,
    write_json as write_json,
)
from .surface_report import surface_tables as surface_tables

__all__ = [
    "backtest_tables",
    "bars_line",
    "console",
    "drift_line",
    "drift_table",
    "evaluation_tables",
    "facts",
    "retrain_tables",
    "show",
    "surface_tables",
    "write_json",
]
