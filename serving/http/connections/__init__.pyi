from .limits import ConnectionLimits as ConnectionLimits

__all__ = ["ConnectionLimits"]
