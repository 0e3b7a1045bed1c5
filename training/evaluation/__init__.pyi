from .attribution import ablation as ablation, mean_contributions as mean_contributions
from .bootstrap import (
    ece_quantile as ece_quantile,
    holm_adjusted as holm_adjusted,
    skill_interval as skill_interval,
    skill_interval_of_days as skill_interval_of_days,
    utc_day as utc_day,
)
from .comparison import Comparison as Comparison, compare as compare
from .evaluate import (
    BOOTSTRAP_SEED as BOOTSTRAP_SEED,
    FLOOR_BASELINE as FLOOR_BASELINE,
    MODEL as MODEL,
    PLAIN_MODELS as PLAIN_MODELS,
    Forecasts as Forecasts,
    baseline_columns as baseline_columns,
    forecast as forecast,
    forecasts_of as forecasts_of,
    model_columns as model_columns,
    plain_schema as plain_schema,
)
from .metrics import (
    clip_probability as clip_probability,
    log_loss_rows as log_loss_rows,
    log_loss_skill as log_loss_skill,
)
from .stress import STRESS_WINDOWS as STRESS_WINDOWS

__all__ = [
    "BOOTSTRAP_SEED",
    "FLOOR_BASELINE",
    "MODEL",
    "PLAIN_MODELS",
    "STRESS_WINDOWS",
    "Comparison",
    "Forecasts",
    "ablation",
    "baseline_columns",
    "clip_probability",
    "compare",
    "ece_quantile",
    "forecast",
    "forecasts_of",
    "holm_adjusted",
    "log_loss_rows",
    "log_loss_skill",
    "mean_contributions",
    "model_columns",
    "plain_schema",
    "skill_interval",
    "skill_interval_of_days",
    "utc_day",
]
