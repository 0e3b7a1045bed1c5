from .progress import Stages as Stages

__all__ = ["Stages"]
