from . import market_state as market_state, quotes as quotes, recovery as recovery
from .champion import ChampionWatch as ChampionWatch
from .ledger_writer import LedgerWriter as LedgerWriter
from .readiness import health_errors as health_errors, health_warnings as health_warnings
from .rules_in_force import RulesInForce as RulesInForce

__all__ = [
    "ChampionWatch",
    "LedgerWriter",
    "RulesInForce",
    "health_errors",
    "health_warnings",
    "market_state",
    "quotes",
    "recovery",
]
