"""What the source of a struct says of its fields: the string below each."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from functools import cache
from itertools import pairwise

from msgspec import Struct


def field_texts(struct: type[Struct]) -> dict[str, str]:
    """The description of each field on one line; a field without one is left out.

    A string below a field is no constraint to msgspec and costs nothing when messages are decoded.
    Raises `OSError` where an installation lacks the source.
    """
    texts: dict[str, str] = {}
    for base in reversed(struct.__mro__):
        if issubclass(base, Struct) and base is not Struct:
            texts.update(_described(_classes(base.__module__)[base.__name__]))
    return texts


def title_of(struct: type[Struct]) -> str:
    """The name of a struct as words: ``AccountSummary`` is "Account summary".

    The endings In and Out, which tell a request's struct from an answer's, are left out.
    """
    name = re.sub(r"(?<=[a-z])(?:In|Out)$", "", struct.__name__)
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).capitalize()


@cache
def _classes(module: str) -> dict[str, list[ast.stmt]]:
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {node.name: node.body for node in tree.body if isinstance(node, ast.ClassDef)}


def _described(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for field, below in pairwise(body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
            and isinstance(below.value.value, str)
        ):
            yield field.target.id, " ".join(below.value.value.split())
