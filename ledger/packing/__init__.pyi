from .identifiers import (
    pack_id as pack_id,
    unpack_id as unpack_id,
    unpack_sha256 as unpack_sha256,
)
from .texts import MAX_TEXT_BYTES as MAX_TEXT_BYTES, pack as pack, unpack as unpack

__all__ = ["MAX_TEXT_BYTES", "pack", "pack_id", "unpack", "unpack_id", "unpack_sha256"]
