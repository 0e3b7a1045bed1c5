from .black76 import (
    black76_greeks as black76_greeks,
    black76_price as black76_price,
    price as price,
)
from .normal import normal_cdf as normal_cdf, normal_pdf as normal_pdf

__all__ = ["black76_greeks", "black76_price", "normal_cdf", "normal_pdf", "price"]
