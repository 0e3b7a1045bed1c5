"""Pages as HTML: the templates, and how they show figures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from serving.console.assets import asset

_TEMPLATES = Path(__file__).parent / "templates"
_DASH = "\N{EN DASH}"
_WRITTEN_OUT = 1e15  # from there on figures have an exponent
_HIDDEN = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026"}


def render(template: str, context: Mapping[str, Any], fragment: str | None = None) -> bytes:
    """A page as HTML in UTF-8. All text in `context` is escaped.

    Parameters
    ----------
    template:
        File name of the template.
    context:
        What it names.
    fragment:
        Only this block of the template; None: the whole page.

    Raises
    ------
    KeyError
        The template has no such block.
    """
    page = environment().get_template(template)
    if fragment is None:
        return page.render(context).encode()
    given = page.new_context(dict(context))
    next(page.root_render_func(given), None)  # what the template imports stands in `given` then
    return "".join(page.blocks[fragment](given)).encode()


def has_fragment(template: str, fragment: str) -> bool:
    """Whether a template has a block of this name."""
    return fragment in environment().get_template(template).blocks


@cache
def environment() -> Environment:
    """The templates and their filters."""
    made = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters.update(
        money=money, percent=percent, number=number, count=count, time=time, as_json=as_json
    )
    made.globals["asset"] = lambda name: asset(name).path
    return made


def money(value: float | None) -> str:
    """An amount with thousands separated and two digits; from a million on without digits."""
    if value is None or not math.isfinite(value):
        return _DASH
    return f"{value:,.0f}" if abs(value) >= 1e6 else f"{value:,.2f}"


def percent(value: float | None, digits: int = 2) -> str:
    """A share as per cent; what is above 0 and rounds to 0 is shown as below the last digit."""
    if value is None or not math.isfinite(value):
        return _DASH
    least = 10.0**-digits
    if 0.0 < value * 100.0 < least:
        return f"<{least:.{digits}f}%"
    return f"{value * 100.0:.{digits}f}%"


def number(value: float | None, digits: int = 4) -> str:
    """A figure with so many significant digits, and with all those before the point."""
    if value is None or not math.isfinite(value):
        return _DASH
    if 10.0**digits - 0.5 <= abs(value) < _WRITTEN_OUT:
        return f"{value:,.0f}"
    return f"{value:,.{digits}g}"


def count(value: int | None) -> str:
    """A count with thousands separated."""
    return _DASH if value is None else f"{value:,d}"


def time(value: str | None) -> str:
    """An ISO time of UTC as date, hour and minute."""
    return _DASH if value is None else value[:16].replace("T", " ")


def as_json(value: object) -> Markup:
    """JSON that may stand in a ``<script type="application/json">``."""
    text = msgspec.json.encode(value).decode().translate(_HIDDEN)
    return Markup(text)  # noqa: S704  what could end the element is escaped above
