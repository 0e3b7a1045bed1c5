from .call import Call as Call, call_id as call_id
from .engine import CallEngine as CallEngine
from .memory import Memory as Memory

__all__ = ["Call", "CallEngine", "Memory", "call_id"]
