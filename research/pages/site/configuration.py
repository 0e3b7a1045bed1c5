"""The reference of the configuration, from the sections of `pipelines.config`.

Type and default come from the fields, the meaning from the docstring below each field.
"""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from pipelines.config.config import Config
from research.pages.markdown import table

_SHAPES = {"integer": "whole number", "number": "number", "boolean": "true or false"}
_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def configuration() -> str:
    """Markdown: one table a section, and one for each table inside a section."""
    parts = []
    for name, kind in sections():
        parts += [f"## [{name}] {{ #{anchor(name)} }}", _summary(kind)]
        rows = (
            (f"`{key}`", _type(kind, key), _default(field), description(kind, key))
            for key, field in kind.model_fields.items()
            if key not in _inner(kind)
        )
        parts.append(table(("key", "type", "default", "meaning"), rows))
    return "\n\n".join(parts)


def sections() -> Iterator[tuple[str, type[BaseModel]]]:
    """Every section with its dotted name, inner tables after the one that holds them.

    Tables of one kind under several keys are one section, ``….KEY``.
    """
    for name, field in Config.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _nested(name, field.annotation)


def anchor(name: str) -> str:
    """Anchor of a section on the page."""
    return name.replace(".", "-")


def description(kind: type[BaseModel], key: str) -> str:
    """What a key means; empty if nothing says it."""
    for owner in kind.__mro__:
        if issubclass(owner, BaseModel) and key in _docstrings(owner):
            return _docstrings(owner)[key]
    return kind.model_fields[key].description or ""


def _nested(name: str, kind: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    yield name, kind
    for key, inner in _inner(kind).items():
        yield from _nested(f"{name}.{key}", inner)
    for repeated in dict.fromkeys(_tables(kind).values()):
        if repeated not in _inner(kind).values():
            yield from _nested(f"{name}.KEY", repeated)
    for key, field in kind.model_fields.items():
        for listed in get_args(field.annotation):
            if isinstance(listed, type) and issubclass(listed, BaseModel):
                yield from _nested(f"{name}.{key}", listed)


def _inner(kind: type[BaseModel]) -> Mapping[str, type[BaseModel]]:
    """Tables inside a section with a section of their own, by key: those whose kind has one key."""
    tables = _tables(kind)
    return {key: inner for key, inner in tables.items() if list(tables.values()).count(inner) == 1}


def _tables(kind: type[BaseModel]) -> Mapping[str, type[BaseModel]]:
    """Tables inside a section, by key."""
    return {
        key: field.annotation
        for key, field in kind.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }


@cache
def _docstrings(kind: type[BaseModel]) -> Mapping[str, str]:
    """The docstrings below the fields that a class itself defines."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    if not isinstance(body, ast.ClassDef):
        return {}
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in zip(body.body, body.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


def _summary(kind: type[BaseModel]) -> str:
    """First sentence of a section's docstring, its double backticks as Markdown's."""
    first = inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0]
    return " ".join(first.replace("``", "`").split())


def _type(kind: type[BaseModel], key: str) -> str:
    return _shape(_schema(kind)["properties"][key])


@cache
def _schema(kind: type[BaseModel]) -> Any:
    return kind.model_json_schema()


def _shape(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        shapes = [_shape(each) for each in schema["anyOf"] if each.get("type") != "null"]
        return " or ".join(dict.fromkeys(shapes))
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return "one of " + ", ".join(f"`{json.dumps(each)}`" for each in schema["enum"])
    if "$ref" in schema:
        return "table"
    kind = schema.get("type")
    if kind == "array":
        return f"list of: {_shape(schema.get('items', {}))}"
    if kind == "object":
        values = schema.get("additionalProperties")
        return f"table of: {_shape(values)}" if isinstance(values, Mapping) else "table"
    if kind == "string":
        return "path" if schema.get("format") == "path" else "text"
    bounds = [f"{sign} {schema[bound]:,}" for bound, sign in _BOUNDS.items() if bound in schema]
    return ", ".join([_SHAPES.get(str(kind), "value"), *bounds])


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is PydanticUndefined:
        return "required"
    if value is None:
        return '`""`'
    if isinstance(value, Path):
        value = value.as_posix()
    if isinstance(value, BaseModel):
        pairs = value.model_dump(mode="json", exclude_defaults=True).items()
        return f"`{{ {', '.join(f'{key} = {json.dumps(each)}' for key, each in pairs)} }}`"
    if isinstance(value, Mapping) and not value:
        return "`{}`"
    return f"`{json.dumps(value, default=list)}`"
