from .backtest import backtest_page as backtest_page
from .drift import drift_page as drift_page
from .evaluation import evaluation_page as evaluation_page

__all__ = ["backtest_page", "drift_page", "evaluation_page"]
