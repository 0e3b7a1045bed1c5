from .account_replay import AccountReplay as AccountReplay
from .states import State as State

__all__ = ["AccountReplay", "State"]
