from . import (
    backtest as backtest,
    drift as drift,
    evaluation as evaluation,
    fitting as fitting,
    folds as folds,
    labels as labels,
    reports as reports,
    tuning as tuning,
)

__all__ = ["backtest", "drift", "evaluation", "fitting", "folds", "labels", "reports", "tuning"]
