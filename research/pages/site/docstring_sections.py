"""An extension of Griffe that reads docstrings as this project writes them.

The parser of numpydoc's format wants a type before the text of a return value, and gives parameters
that are documented together the type of the first. Both are brought into its form: the type of a
return value is that of the signature, and ``a, b:``, or two errors on a line, become two entries
with the same text. A public name such as ```margincast.score``` becomes a link to its entry.

Reference: Griffe, "Extending Griffe"; numpydoc, "Docstring Standard".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import griffe

_SECTION = re.compile(r"^(\w[\w ]*)\n(-{3,})\n", re.MULTILINE)
_ERRORS = re.compile(r"^(\w+(?:, \w+)+)\n((?: .*\n|\n)*)", re.MULTILINE)
_PUBLIC = re.compile(r"(?<!`)`(margincast\.\w+)`(?!`)")
_TOGETHER = re.compile(r"^(\w+(?:, \w+)+):\n((?: .*\n|\n)*)", re.MULTILINE)


class DocstringSections(griffe.Extension):
    """Rewrites the docstrings of functions and classes as they are loaded."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called by Griffe for each function, class and attribute."""
        if obj.docstring is not None:
            returns = str(obj.returns or "") if isinstance(obj, griffe.Function) else ""
            obj.docstring.value = in_numpy_form(obj.docstring.value, returns)


def in_numpy_form(text: str, returns: str) -> str:
    """A docstring with one entry a parameter, and the type of the return value given."""
    first, *parts = _SECTION.split(_PUBLIC.sub(r"[`\1`][\1]", text) + "\n")
    return (first + "".join(_sections(parts, returns))).rstrip("\n")


def _sections(parts: list[str], returns: str) -> Iterator[str]:
    for title, line, content in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        if title in ("Parameters", "Attributes"):
            content = _TOGETHER.sub(lambda entry: _apart(entry, ":"), content)
        elif title == "Raises":
            content = _ERRORS.sub(lambda entry: _apart(entry, ""), content)
        elif title == "Returns" and returns:
            indented = re.sub(r"^(?=.)", "    ", content, flags=re.MULTILINE)
            content = f"{returns}\n{indented}"
        yield f"{title}\n{line}\n{content}"


def _apart(entry: re.Match[str], end: str) -> str:
    text = entry[2] if entry[2].endswith("\n") else f"{entry[2]}\n"
    return "".join(f"{name}{end}\n{text}" for name in entry[1].split(", "))
