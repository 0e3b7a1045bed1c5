"""HTML pages of one style, with no script and no outside reference; how figures are written."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

DASH, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"

_TEMPLATES = Path(__file__).with_name("templates")


def render_page(template: str, **values: Any) -> str:
    """A template filled with values; all text is escaped, and an unknown name is an error.

    References
    ----------
    Jinja documentation, "HTML escaping"; W3C, Web Content Accessibility Guidelines 2.2.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        num=number, pct=percent, signed=signed_percent, count=count, words=_words, short=_short
    )
    return environment.get_template(template).render(**values)


def number(value: float | None, digits: int = 4) -> str:
    """Some significant digits; a dash for what is undefined."""
    return DASH if value is None else f"{value:.{digits}g}"


def percent(value: float | None, digits: int = 2) -> str:
    """Per cent with so many places."""
    return DASH if value is None else f"{value:.{digits}%}"


def signed_percent(value: float | None, digits: int = 2) -> str:
    """Per cent with its sign, and a true minus."""
    return DASH if value is None else f"{value:+.{digits}%}".replace("-", MINUS)


def count(value: float | None) -> str:
    """A whole number with separators."""
    return DASH if value is None else f"{value:,.0f}"


def data_uri(svg: str) -> str:
    """The picture as a data address, which keeps its styles and ids to itself."""
    return f"data:image/svg+xml;base64,{b64encode(svg.encode()).decode()}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _short(sha: str | None) -> str:
    return DASH if not sha else sha[:12]
