from .spans import Tracing as Tracing

__all__ = ["Tracing"]
