from .engine import ScenarioEngine as ScenarioEngine
from .grid import Grid as Grid
from .revaluation import Option as Option, Rows as Rows, fill_values as fill_values
from .rules import ScenarioRules as ScenarioRules

__all__ = ["Grid", "Option", "Rows", "ScenarioEngine", "ScenarioRules", "fill_values"]
