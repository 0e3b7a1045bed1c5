from .console import Console as Console

__all__ = ["Console"]
