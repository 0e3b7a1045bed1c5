from .distances import (
    ks_distance as ks_distance,
    missing_share as missing_share,
    stability_index as stability_index,
)
from .reference_file import (
    BINS as BINS,
    REFERENCE_FILE as REFERENCE_FILE,
    ReferenceFile as ReferenceFile,
    bin_numbers as bin_numbers,
    read_reference_file as read_reference_file,
    score_column as score_column,
)

__all__ = [
    "BINS",
    "REFERENCE_FILE",
    "ReferenceFile",
    "bin_numbers",
    "ks_distance",
    "missing_share",
    "read_reference_file",
    "score_column",
    "stability_index",
]
