from .backup import back_up as back_up
from .heads import read_heads as read_heads, write_heads as write_heads
from .heads_series import (
    KeptHeads as KeptHeads,
    read_kept_heads as read_kept_heads,
    write_next_heads as write_next_heads,
)
from .signing import Signer as Signer, Verifier as Verifier, make_key_pair as make_key_pair

__all__ = [
    "KeptHeads",
    "Signer",
    "Verifier",
    "back_up",
    "make_key_pair",
    "read_heads",
    "read_kept_heads",
    "write_heads",
    "write_next_heads",
]
