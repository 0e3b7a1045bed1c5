from .checks import (
    AHEAD_OF_BARS as AHEAD_OF_BARS,
    AHEAD_OF_CLOCK as AHEAD_OF_CLOCK,
    QuoteChecks as QuoteChecks,
)
from .filter_record import FilterRecord as FilterRecord, confirmed_payload as confirmed_payload
from .messages import (
    QuoteResult as QuoteResult,
    QuotesRequest as QuotesRequest,
    QuotesResponse as QuotesResponse,
)
from .quote_updates import (
    QUOTES as QUOTES,
    apply_quotes as apply_quotes,
    confirm_by_bars as confirm_by_bars,
)
from .vol_references import surface_level as surface_level

__all__ = [
    "AHEAD_OF_BARS",
    "AHEAD_OF_CLOCK",
    "QUOTES",
    "FilterRecord",
    "QuoteChecks",
    "QuoteResult",
    "QuotesRequest",
    "QuotesResponse",
    "apply_quotes",
    "confirm_by_bars",
    "confirmed_payload",
    "surface_level",
]
