from .live_enforcement import LiveEnforcement as LiveEnforcement

__all__ = ["LiveEnforcement"]
