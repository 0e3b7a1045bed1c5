from .ledger_upgrade import Upgraded as Upgraded, upgrade as upgrade

__all__ = ["Upgraded", "upgrade"]
