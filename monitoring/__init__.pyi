from . import market_state as market_state, quotes as quotes, recovery as recovery
from .champion import ChampionWatch as ChampionWatch
from .follower import Follower as Follower
from .ledger_writer import LedgerWriter as LedgerWriter
from .readiness import health_errors as health_errors, health_warnings as health_warnings
from .recorded_models import RecordedModels as RecordedModels
from .rules_in_force import RulesInForce as RulesInForce
from .shared_market import NotFollowingError as NotFollowingError, SharedMarket as SharedMarket

__all__ = [
    "ChampionWatch",
    "Follower",
    "LedgerWriter",
    "NotFollowingError",
    "RecordedModels",
    "RulesInForce",
    "SharedMarket",
    "health_errors",
    "health_warnings",
    "market_state",
    "quotes",
    "recovery",
]
