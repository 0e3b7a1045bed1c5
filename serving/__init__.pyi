from . import admission as admission, http as http, schemas as schemas, telemetry as telemetry
from .service import Service as Service
from .settings import (
    MAX_BODY_BYTES as MAX_BODY_BYTES,
    MAX_HISTORY_BYTES as MAX_HISTORY_BYTES,
    MAX_PAGE as MAX_PAGE,
    ServingSettings as ServingSettings,
)

__all__ = [
    "MAX_BODY_BYTES",
    "MAX_HISTORY_BYTES",
    "MAX_PAGE",
    "Service",
    "ServingSettings",
    "admission",
    "http",
    "schemas",
    "telemetry",
]
