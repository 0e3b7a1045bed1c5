from . import (
    add_on as add_on,
    book as book,
    cases as cases,
    engines as engines,
    floors as floors,
    life_cycle as life_cycle,
    liquidation as liquidation,
    pricing as pricing,
    rules as rules,
    surface as surface,
    valuation as valuation,
    what_if as what_if,
)

__all__ = [
    "add_on",
    "book",
    "cases",
    "engines",
    "floors",
    "life_cycle",
    "liquidation",
    "pricing",
    "rules",
    "surface",
    "valuation",
    "what_if",
]
