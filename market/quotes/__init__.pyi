from .option_chain import VENUES as VENUES, YEAR as YEAR, OptionChain as OptionChain
from .option_chain_files import read_option_chain as read_option_chain
from .quote_filter import (
    GOOD as GOOD,
    SOURCE_INTERVALS as SOURCE_INTERVALS,
    FilterInputs as FilterInputs,
    Kind as Kind,
    QuoteVerdict as QuoteVerdict,
    TimedPrice as TimedPrice,
    filter_quote as filter_quote,
    within as within,
)
from .quote_store import (
    SURFACE as SURFACE,
    UNCONFIRMED as UNCONFIRMED,
    QuoteField as QuoteField,
    QuoteStore as QuoteStore,
    QuoteStoreBuilder as QuoteStoreBuilder,
    Status as Status,
    expiry_end as expiry_end,
    expiry_of_option as expiry_of_option,
    restore_quotes as restore_quotes,
)
from .quotes import (
    ExpiryQuote as ExpiryQuote,
    InstrumentQuote as InstrumentQuote,
    QuoteBoard as QuoteBoard,
)

__all__ = [
    "GOOD",
    "SOURCE_INTERVALS",
    "SURFACE",
    "UNCONFIRMED",
    "VENUES",
    "YEAR",
    "ExpiryQuote",
    "FilterInputs",
    "InstrumentQuote",
    "Kind",
    "OptionChain",
    "QuoteBoard",
    "QuoteField",
    "QuoteStore",
    "QuoteStoreBuilder",
    "QuoteVerdict",
    "Status",
    "TimedPrice",
    "expiry_end",
    "expiry_of_option",
    "filter_quote",
    "read_option_chain",
    "restore_quotes",
    "within",
]
