from .audit.heads import read_heads as read_heads, write_heads as write_heads
from .canonical import (
    canonical_bytes as canonical_bytes,
    sha256_hex as sha256_hex,
    sha256_of as sha256_of,
)
from .contents import CanonicalContent as CanonicalContent
from .decisions import Draft as Draft
from .following import (
    ChainHead as ChainHead,
    ChainMovedError as ChainMovedError,
    SharedChain as SharedChain,
)
from .idempotency import (
    IdempotentAnswer as IdempotentAnswer,
    LedgerConflictError as LedgerConflictError,
)
from .keys import Keys as Keys
from .records import Entry as Entry, Record as Record, new_id as new_id
from .schema import database_errors as database_errors
from .store import Ledger as Ledger

__all__ = [
    "CanonicalContent",
    "ChainHead",
    "ChainMovedError",
    "Draft",
    "Entry",
    "IdempotentAnswer",
    "Keys",
    "Ledger",
    "LedgerConflictError",
    "Record",
    "SharedChain",
    "canonical_bytes",
    "database_errors",
    "new_id",
    "read_heads",
    "sha256_hex",
    "sha256_of",
    "write_heads",
]
