from .engine import HistoricalEngine as HistoricalEngine
from .rules import SimulationRules as SimulationRules
from .scenarios import historical_scenarios as historical_scenarios

__all__ = ["HistoricalEngine", "SimulationRules", "historical_scenarios"]
