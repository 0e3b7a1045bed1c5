"""Every feature, once. Contract tests, documentation and benchmarks are driven from here.

To add one: write a file with a factory beside its relatives and put a line here.
"""

from __future__ import annotations

from features.account.adv_share import adv_share
from features.account.aggregates import FIRST_VOLATILITY
from features.account.book_funding import book_funding
from features.account.book_mean import book_mean
from features.account.book_return import book_return
from features.account.book_volatility import book_volatility
from features.account.collateral_share import collateral_share
from features.account.concentration import concentration
from features.account.delta_share import delta_share
from features.account.distance import distance
from features.account.equity_share import equity_share
from features.account.gamma_share import gamma_share
from features.account.headroom_share import headroom_share
from features.account.market_exposure import market_exposure
from features.account.net_share import net_share
from features.account.prior import prior_logit
from features.account.shock_distance import shock_distance
from features.account.vega_share import vega_share
from features.account.wrong_way_share import wrong_way_share
from features.definition import AccountFeature, CrossFeature, MarketFeature
from features.market.correlation.absorption_ratio import absorption_ratio
from features.market.correlation.correlation_shift import correlation_shift
from features.market.correlation.market_beta import market_beta
from features.market.correlation.market_correlation import market_correlation
from features.market.correlation.mean_correlation import mean_correlation
from features.market.liquidity.amihud import amihud_illiquidity
from features.market.liquidity.average_daily_volume import average_daily_volume
from features.market.liquidity.basis import basis
from features.market.liquidity.corwin_schultz import corwin_schultz_spread
from features.market.liquidity.edge import edge_spread
from features.market.liquidity.funding import funding_rate
from features.market.liquidity.kyle_lambda import kyle_lambda
from features.market.liquidity.open_interest_change import open_interest_change
from features.market.liquidity.open_interest_days import open_interest_days
from features.market.liquidity.roll import roll_spread
from features.market.liquidity.turnover import relative_turnover
from features.market.liquidity.volume_zscore import volume_zscore
from features.market.volatility.downside import downside_volatility
from features.market.volatility.drawdown import drawdown
from features.market.volatility.ewma import ewma_volatility
from features.market.volatility.garman_klass import garman_klass_volatility
from features.market.volatility.implied import implied_volatility
from features.market.volatility.jump_share import jump_share
from features.market.volatility.long_run import long_volatility
from features.market.volatility.parkinson import parkinson_volatility
from features.market.volatility.realised import realised_volatility
from features.market.volatility.return_zscore import return_zscore
from features.market.volatility.rogers_satchell import rogers_satchell_volatility
from features.market.volatility.seasonality import hour_of_week_seasonality
from features.market.volatility.skew import skew_25d
from features.market.volatility.smile_curvature import smile_curvature
from features.market.volatility.stressed import stressed_volatility
from features.market.volatility.term_slope import atm_term_slope
from features.market.volatility.trailing_return import trailing_return
from features.market.volatility.variance_risk_premium import variance_risk_premium
from features.market.volatility.volatility_of_volatility import volatility_of_volatility
from features.market.volatility.yang_zhang import yang_zhang_volatility

WARM_UP_HOURS = 168
"""History a symbol needs before anything is said about it."""

STALE_INTERVALS = 2
"""Data are stale once the newest bar closed more than so many intervals ago."""

CORRELATION_HALF_LIFE_HOURS = 72.0
FAST_CORRELATION_HALF_LIFE_HOURS = 12.0

MARKET_FEATURES: tuple[MarketFeature, ...] = (
    ewma_volatility(3),
    ewma_volatility(12),
    ewma_volatility(72),
    realised_volatility(1),
    realised_volatility(6),
    realised_volatility(24),
    realised_volatility(168),
    parkinson_volatility(24),
    garman_klass_volatility(24),
    rogers_satchell_volatility(24),
    yang_zhang_volatility(24),
    long_volatility(),
    stressed_volatility(168),
    downside_volatility(24),
    jump_share(24),
    volatility_of_volatility(12, 168),
    drawdown(168),
    return_zscore(72),
    hour_of_week_seasonality(),
    trailing_return(24),
    amihud_illiquidity(24),
    kyle_lambda(24),
    roll_spread(24),
    corwin_schultz_spread(24),
    edge_spread(24),
    volume_zscore(168),
    relative_turnover(24, 168),
    average_daily_volume(168),
    funding_rate(24),
    basis(24),
    open_interest_change(24),
    open_interest_days(168),
)

CROSS_FEATURES: tuple[CrossFeature, ...] = (
    mean_correlation("slow"),
    mean_correlation("fast"),
    correlation_shift(),
    absorption_ratio(),
    market_correlation(),
    market_beta(),
    implied_volatility(),
    variance_risk_premium(),
    skew_25d(),
    atm_term_slope(),
    smile_curvature(),
)

_ALL_OF_MARKET: tuple[MarketFeature | CrossFeature, ...] = (*MARKET_FEATURES, *CROSS_FEATURES)

MARKET_COLUMNS: tuple[str, ...] = tuple(f.name for f in _ALL_OF_MARKET)
"""Columns of the market feature array, in order."""

REQUIRED_COLUMNS: tuple[str, ...] = tuple(f.name for f in _ALL_OF_MARKET if not f.needs_context)
"""What a symbol needs to be scored; the others a market may lack."""

VOLATILITIES: tuple[str, ...] = tuple(f.name for f in MARKET_FEATURES if f.is_volatility)
"""Estimates under which a book's own volatility is taken."""

CROSS_VOLATILITY = "ewma_volatility_72h"
"""The volatility that goes with the correlation matrix: same weights, same half-life."""

ADV = "average_daily_volume_168h"

PRIOR_VOLATILITIES = (
    "ewma_volatility_12h",
    "ewma_volatility_72h",
    "realised_volatility_24h",
    "realised_volatility_168h",
)
"""Averaged (as variances) into the volatility of the structural prior."""

BOOK_MEANS: tuple[str, ...] = (
    "stressed_volatility_168h",
    "downside_volatility_24h",
    "jump_share_24h",
    "volatility_of_volatility_168h",
    "drawdown_168h",
    "return_zscore_72h",
    "hour_of_week_seasonality",
    "implied_volatility",
    "variance_risk_premium",
    "skew_25d",
    "atm_term_slope",
    "smile_curvature",
    "amihud_illiquidity_24h",
    "kyle_lambda_24h",
    "roll_spread_24h",
    "corwin_schultz_spread_24h",
    "edge_spread_24h",
    "volume_zscore_168h",
    "relative_turnover_24h",
    "basis_24h",
    "open_interest_change_24h",
    "open_interest_days_168h",
    "mean_correlation",
    "correlation_shift",
    "absorption_ratio",
)
"""Market columns whose average over a book, weighted by notional, is an account feature."""

_FAMILY = {f.name: f.family for f in _ALL_OF_MARKET}

CONTEXT_SOURCES: dict[str, str] = {
    **{f"book_{name}": name for name in BOOK_MEANS if name not in REQUIRED_COLUMNS},
    "book_funding": "funding_rate_24h",
}
"""Account features that a market may lack, with the market feature they come from."""

HORIZONS = (1, 8, 24)

ACCOUNT_FEATURES: tuple[AccountFeature, ...] = (
    *(prior_logit(hours) for hours in HORIZONS),
    *(distance(i, name) for i, name in enumerate(VOLATILITIES)),
    *(book_volatility(i, name) for i, name in enumerate(VOLATILITIES)),
    *(
        book_mean(FIRST_VOLATILITY + i, name, _FAMILY[name])
        for i, name in enumerate(BOOK_MEANS, len(VOLATILITIES))
    ),
    headroom_share(),
    equity_share(),
    shock_distance(),
    collateral_share(),
    wrong_way_share(),
    net_share(),
    concentration(),
    adv_share(),
    book_return(),
    book_funding(),
    market_exposure(),
    delta_share(),
    gamma_share(),
    vega_share(),
)

OPTION_FEATURES: tuple[str, ...] = ("delta_share", "gamma_share", "vega_share")
"""Account features that are 0 in every book without options: a population without any says
nothing of them."""

ACCOUNT_COLUMNS: tuple[str, ...] = tuple(f.name for f in ACCOUNT_FEATURES)


def prior_column(horizon: int) -> str:
    """Name of the structural prior's column for a horizon in hours."""
    return f"prior_logit_{horizon}h"
