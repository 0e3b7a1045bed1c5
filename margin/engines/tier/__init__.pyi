from .engine import TierEngine as TierEngine
from .rules import Bracket as Bracket, Brackets as Brackets

__all__ = ["Bracket", "Brackets", "TierEngine"]
