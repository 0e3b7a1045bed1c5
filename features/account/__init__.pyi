from .book_averages import (
    book_funding as book_funding,
    book_mean as book_mean,
    book_return as book_return,
    concentration as concentration,
    market_exposure as market_exposure,
)
from .bounded_shares import (
    collateral_share as collateral_share,
    equity_share as equity_share,
    headroom_share as headroom_share,
    wrong_way_share as wrong_way_share,
)
from .distance import shock_distance as shock_distance
from .exposure_shares import (
    book_volatility as book_volatility,
    delta_share as delta_share,
    gamma_share as gamma_share,
    net_share as net_share,
    vega_share as vega_share,
)
from .frame import (
    AccountRows as AccountRows,
    LegGreeks as LegGreeks,
    compute_aggregates as compute_aggregates,
    compute_features as compute_features,
    set_headroom as set_headroom,
)
from .prior import first_passage as first_passage, prior_logit as prior_logit

__all__ = [
    "AccountRows",
    "LegGreeks",
    "book_funding",
    "book_mean",
    "book_return",
    "book_volatility",
    "collateral_share",
    "compute_aggregates",
    "compute_features",
    "concentration",
    "delta_share",
    "equity_share",
    "first_passage",
    "gamma_share",
    "headroom_share",
    "market_exposure",
    "net_share",
    "prior_logit",
    "set_headroom",
    "shock_distance",
    "vega_share",
    "wrong_way_share",
]
