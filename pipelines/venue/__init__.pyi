from .clock import AcceleratedClock as AcceleratedClock
from .endpoint import Endpoint as Endpoint, RefusedError as RefusedError
from .process import check_venue as check_venue, venue_beside as venue_beside
from .simulated_feed import SimulatedFeed as SimulatedFeed
from .venue import SimulatedVenue as SimulatedVenue, run_venue as run_venue

__all__ = [
    "AcceleratedClock",
    "Endpoint",
    "RefusedError",
    "SimulatedFeed",
    "SimulatedVenue",
    "check_venue",
    "run_venue",
    "venue_beside",
]
