from .account_requirement import Collateral as Collateral, Requirement as Requirement
from .book_symbols import BookSymbols as BookSymbols
from .case_batch import flatten as flatten
from .case_portfolio import (
    CollateralBalance as CollateralBalance,
    History as History,
    Holding as Holding,
    Portfolio as Portfolio,
    Underlying as Underlying,
    check_position as check_position,
    portfolio_from as portfolio_from,
)
from .portfolio_batch import (
    CollateralBalances as CollateralBalances,
    Expiries as Expiries,
    InstrumentTable as InstrumentTable,
    Portfolios as Portfolios,
    Underlyings as Underlyings,
    row_entries as row_entries,
    row_sums as row_sums,
)
from .requirement import compute_requirement as compute_requirement

__all__ = [
    "BookSymbols",
    "Collateral",
    "CollateralBalance",
    "CollateralBalances",
    "Expiries",
    "History",
    "Holding",
    "InstrumentTable",
    "Portfolio",
    "Portfolios",
    "Requirement",
    "Underlying",
    "Underlyings",
    "check_position",
    "compute_requirement",
    "flatten",
    "portfolio_from",
    "row_entries",
    "row_sums",
]
