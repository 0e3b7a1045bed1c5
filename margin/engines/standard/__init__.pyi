from .engine import StandardEngine as StandardEngine

__all__ = ["StandardEngine"]
