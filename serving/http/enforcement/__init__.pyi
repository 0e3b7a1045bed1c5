from .call_routes import CALL_ROUTES as CALL_ROUTES
from .control_routes import CONTROL_ROUTES as CONTROL_ROUTES
from .instruction_routes import INSTRUCTION_ROUTES as INSTRUCTION_ROUTES

__all__ = ["CALL_ROUTES", "CONTROL_ROUTES", "INSTRUCTION_ROUTES"]
