from .commands import CommandLog as CommandLog
from .context import (
    AccountView as AccountView,
    ControlContext as ControlContext,
    ControlOutcome as ControlOutcome,
)
from .control_state import ControlState as ControlState
from .override import Override as Override

__all__ = [
    "AccountView",
    "CommandLog",
    "ControlContext",
    "ControlOutcome",
    "ControlState",
    "Override",
]
