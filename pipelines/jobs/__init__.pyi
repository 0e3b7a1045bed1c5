from . import fits as fits
from .backtest import backtest_bundle as backtest_bundle
from .drift import check_drift as check_drift
from .evaluate import evaluate_bundle as evaluate_bundle
from .life_cycle import run_life_cycle as run_life_cycle
from .run import print_addresses as print_addresses
from .score import degraded_line as degraded_line, score_book as score_book, unusable as unusable
from .serve import live_market as live_market

__all__ = [
    "backtest_bundle",
    "check_drift",
    "degraded_line",
    "evaluate_bundle",
    "fits",
    "live_market",
    "print_addresses",
    "run_life_cycle",
    "score_book",
    "unusable",
]
