from .account_marks import (
    AccountMarks as AccountMarks,
    TradePrice as TradePrice,
    trade_price as trade_price,
)
from .collateral import (
    CollateralValues as CollateralValues,
    collateral_values as collateral_values,
    price_collateral as price_collateral,
)
from .exposures import leg_exposures as leg_exposures
from .instrument_table import price_instruments as price_instruments
from .marks import (
    POST_IT as POST_IT,
    QUOTE_COIN as QUOTE_COIN,
    YEAR as YEAR,
    MarketMarks as MarketMarks,
    option_vol as option_vol,
    suspect_view as suspect_view,
)
from .view import MarketView as MarketView

__all__ = [
    "POST_IT",
    "QUOTE_COIN",
    "YEAR",
    "AccountMarks",
    "CollateralValues",
    "MarketMarks",
    "MarketView",
    "TradePrice",
    "collateral_values",
    "leg_exposures",
    "option_vol",
    "price_collateral",
    "price_instruments",
    "suspect_view",
    "trade_price",
]
