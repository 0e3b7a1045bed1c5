from .probe import Probe as Probe, Reading as Reading
from .routes import HealthRoutes as HealthRoutes

__all__ = ["HealthRoutes", "Probe", "Reading"]
