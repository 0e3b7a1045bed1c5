from .bundle import (
    DRAFT_PREFIX as DRAFT_PREFIX,
    Bundle as Bundle,
    bundle_files as bundle_files,
    load_bundle as load_bundle,
    remove_unfinished as remove_unfinished,
    write_bundle as write_bundle,
)
from .manifest import TrainingRecord as TrainingRecord, parse_manifest as parse_manifest
from .pointer import (
    CHAMPION as CHAMPION,
    PREVIOUS as PREVIOUS,
    promote as promote,
    read_pointer as read_pointer,
)
from .schema import (
    ModelSchema as ModelSchema,
    canonical_json as canonical_json,
    is_sha256 as is_sha256,
)

__all__ = [
    "CHAMPION",
    "DRAFT_PREFIX",
    "PREVIOUS",
    "Bundle",
    "ModelSchema",
    "TrainingRecord",
    "bundle_files",
    "canonical_json",
    "is_sha256",
    "load_bundle",
    "parse_manifest",
    "promote",
    "read_pointer",
    "remove_unfinished",
    "write_bundle",
]
