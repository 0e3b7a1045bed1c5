"""Cells of CSV files that people open in a spreadsheet.

Reference: OWASP, "CSV Injection".
"""

from __future__ import annotations

_COMPUTED = ("=", "+", "-", "@", "\t", "\r", "'")
"""Beginnings of a text that a spreadsheet would compute, and the apostrophe that prevents it."""


def csv_cell(value: object) -> object:
    """A value as the cell of a CSV file.

    A text that a spreadsheet would compute, as an account id may be one, or that begins with an
    apostrophe, gets an apostrophe before it: without that one it is the value. Floats are written
    as they read back, None is empty; numbers are never changed.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)
    return f"'{value}" if isinstance(value, str) and value.startswith(_COMPUTED) else value
