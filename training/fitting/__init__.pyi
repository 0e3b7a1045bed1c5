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
from .hyperparameters import DEFAULTS as DEFAULTS, Hyperparameters as Hyperparameters
from .logistic import separable as separable
from .oracle import (
    first_passage_probability as first_passage_probability,
    oracle_first_passage as oracle_first_passage,
    realised_book_volatility as realised_book_volatility,
    realised_squares as realised_squares,
)
from .prior_fit import fit_prior as fit_prior
from .trees import Ensemble as Ensemble

__all__ = [
    "BASELINES",
    "DEFAULTS",
    "ORACLE",
    "SEED",
    "Candidate",
    "Ensemble",
    "Hyperparameters",
    "first_passage_probability",
    "fit_candidate",
    "fit_line",
    "fit_platt",
    "fit_prior",
    "oracle_first_passage",
    "platt_probability",
    "predict_baselines",
    "realised_book_volatility",
    "realised_squares",
    "separable",
]
