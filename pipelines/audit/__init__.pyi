from .archive import archive_ledger as archive_ledger, back_up_ledger as back_up_ledger
from .heads import publish_heads as publish_heads, write_heads_file as write_heads_file
from .replay import replay_record as replay_record
from .verify import VerifyOptions as VerifyOptions, verify_ledger as verify_ledger

__all__ = [
    "VerifyOptions",
    "archive_ledger",
    "back_up_ledger",
    "publish_heads",
    "replay_record",
    "verify_ledger",
    "write_heads_file",
]
