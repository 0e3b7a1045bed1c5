from .changes import apply_changes as apply_changes, trade_prices as trade_prices
from .messages import WhatIfRequest as WhatIfRequest, WhatIfResponse as WhatIfResponse
from .shocks import enter_before_shock as enter_before_shock, shock_market as shock_market
from .what_if_analysis import analyse as analyse, check_analysis as check_analysis

__all__ = [
    "WhatIfRequest",
    "WhatIfResponse",
    "analyse",
    "apply_changes",
    "check_analysis",
    "enter_before_shock",
    "shock_market",
    "trade_prices",
]
