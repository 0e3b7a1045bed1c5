"""The rule floors of the add-on.

A floor is one file in this folder, one table ``[floors.<name>]`` in `margin.rules.floors` with a
key ``enabled``, and one line in `margin.floors.registry`.
"""

from margin.floors.registry import FLOORS, Floor, active_floors, floor_terms, largest_floor

__all__ = ["FLOORS", "Floor", "active_floors", "floor_terms", "largest_floor"]
