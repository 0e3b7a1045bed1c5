from .backtest import BacktestSettings as BacktestSettings
from .var_backtests import conditional_coverage as conditional_coverage, kupiec as kupiec

__all__ = ["BacktestSettings", "conditional_coverage", "kupiec"]
