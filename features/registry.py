"""Every feature, once. Contract tests, documentation and benchmarks are driven from here.

To add one: write a file with a factory beside its relatives and put a line here.
"""

from __future__ import annotations

import hashlib
import json

from features.account.adv_share import adv_share
from features.account.book_mean import book_mean
from features.account.book_return import book_return
from features.account.book_volatility import book_volatility
from features.account.concentration import concentration
from features.account.distance import distance
from features.account.headroom_share import headroom_share
from features.account.market_exposure import market_exposure
from features.account.moments import FIRST_VOLATILITY
from features.account.net_share import net_share
from features.account.prior import prior_logit
from features.correlation.market_correlation import market_correlation
from features.correlation.mean_correlation import mean_correlation
from features.definition import AccountFeature, CrossFeature, MarketFeature
from features.liquidity.amihud import amihud_illiquidity
from features.liquidity.average_daily_volume import average_daily_volume
from features.liquidity.corwin_schultz import corwin_schultz_spread
from features.liquidity.volume_zscore import volume_zscore
from features.volatility.ewma import ewma_volatility
from features.volatility.garman_klass import garman_klass_volatility
from features.volatility.parkinson import parkinson_volatility
from features.volatility.realised import realised_volatility
from features.volatility.trailing_return import trailing_return
from market.history import MAX_GAP_HOURS

WARM_UP_HOURS = 168
"""History a symbol needs before anything is said about it."""

STALE_INTERVALS = 2
"""Data are stale once the newest bar closed more than so many intervals ago."""

CORRELATION_HALF_LIFE_HOURS = 72.0

MARKET_FEATURES: tuple[MarketFeature, ...] = (
    ewma_volatility(12),
    ewma_volatility(72),
    realised_volatility(6),
    realised_volatility(24),
    realised_volatility(168),
    parkinson_volatility(24),
    garman_klass_volatility(24),
    trailing_return(24),
    amihud_illiquidity(24),
    corwin_schultz_spread(24),
    volume_zscore(168),
    average_daily_volume(168),
)

CROSS_FEATURES: tuple[CrossFeature, ...] = (
    mean_correlation(),
    market_correlation(),
)

MARKET_COLUMNS: tuple[str, ...] = (
    *(f.name for f in MARKET_FEATURES),
    *(f.name for f in CROSS_FEATURES),
)
"""Columns of the market feature array, in order."""

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
    "amihud_illiquidity_24h",
    "corwin_schultz_spread_24h",
    "volume_zscore_168h",
    "mean_correlation",
)
"""Market columns whose average over a book, weighted by notional, is an account feature."""

HORIZONS = (1, 8, 24)

ACCOUNT_FEATURES: tuple[AccountFeature, ...] = (
    *(prior_logit(hours) for hours in HORIZONS),
    *(distance(i, name) for i, name in enumerate(VOLATILITIES)),
    *(book_volatility(i, name) for i, name in enumerate(VOLATILITIES)),
    *(
        book_mean(FIRST_VOLATILITY + i, name)
        for i, name in enumerate(BOOK_MEANS, len(VOLATILITIES))
    ),
    headroom_share(),
    net_share(),
    concentration(),
    adv_share(),
    book_return(),
    market_exposure(),
)

ACCOUNT_COLUMNS: tuple[str, ...] = tuple(f.name for f in ACCOUNT_FEATURES)


def prior_column(horizon: int) -> str:
    """Name of the structural prior's column for a horizon in hours."""
    return f"prior_logit_{horizon}h"


def registry_sha256() -> str:
    """SHA-256 over names, settings and formulas: what a model was trained on."""
    content = [
        [[f.name, f.formula, list(f.settings)] for f in MARKET_FEATURES],
        [[f.name, f.formula, [CORRELATION_HALF_LIFE_HOURS]] for f in CROSS_FEATURES],
        [[f.name, f.formula, list(f.params), f.monotone] for f in ACCOUNT_FEATURES],
        [list(PRIOR_VOLATILITIES), CROSS_VOLATILITY, ADV, MAX_GAP_HOURS],
    ]
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()
