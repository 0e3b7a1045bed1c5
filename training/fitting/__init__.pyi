from .baselines import (
    BASELINES as BASELINES,
    ORACLE as ORACLE,
    predict_baselines as predict_baselines,
)
from .calibration import (
    fit_line as fit_line,
    fit_platt as fit_platt,
    platt_probability as platt_probability,
)
from .candidate import SEED as SEED, Candidate as Candidate, fit_candidate as fit_candidate
from .fit import PARAMETERS as PARAMETERS, Ensemble as Ensemble
from .kalman_calibration import QUARTER_DAYS as QUARTER_DAYS, fit_kalman_line as fit_kalman_line
from .logistic import separable as separable
from .oracle import (
    first_passage_probability as first_passage_probability,
    oracle_first_passage as oracle_first_passage,
    realised_book_volatility as realised_book_volatility,
    realised_squares as realised_squares,
)

__all__ = [
    "BASELINES",
    "ORACLE",
    "PARAMETERS",
    "QUARTER_DAYS",
    "SEED",
    "Candidate",
    "Ensemble",
    "first_passage_probability",
    "fit_candidate",
    "fit_kalman_line",
    "fit_line",
    "fit_platt",
    "oracle_first_passage",
    "platt_probability",
    "predict_baselines",
    "realised_book_volatility",
    "realised_squares",
    "separable",
]
