from .amihud import amihud_illiquidity as amihud_illiquidity
from .corwin_schultz import corwin_schultz_spread as corwin_schultz_spread
from .edge import edge_spread as edge_spread
from .open_interest import (
    open_interest_change as open_interest_change,
    open_interest_days as open_interest_days,
)
from .perpetual import basis as basis, funding_rate as funding_rate
from .roll import roll_spread as roll_spread
from .turnover import relative_turnover as relative_turnover

__all__ = [
    "amihud_illiquidity",
    "basis",
    "corwin_schultz_spread",
    "edge_spread",
    "funding_rate",
    "open_interest_change",
    "open_interest_days",
    "relative_turnover",
    "roll_spread",
]
