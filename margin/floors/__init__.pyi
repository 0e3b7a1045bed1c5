from .depth import half_spreads as half_spreads
from .liquidity import closing_costs as closing_costs
from .registry import (
    FLOORS as FLOORS,
    active_floors as active_floors,
    floor_terms as floor_terms,
    largest_floor as largest_floor,
)
from .term import FloorTerm as FloorTerm

__all__ = [
    "FLOORS",
    "FloorTerm",
    "active_floors",
    "closing_costs",
    "floor_terms",
    "half_spreads",
    "largest_floor",
]
