"""Files that pages load: their own style sheets and scripts, the chart library and Swagger UI."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from decisions.errors import NotFoundError
from ledger.canonical import sha256_hex

PREFIX = "/static/"
"""Beginning of the paths of assets; their answers may be cached for good."""

_OWN = Path(__file__).parent / "static"
_SWAGGER = ("swagger-ui.css", "swagger-ui-bundle.js")
_TYPES = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file that pages load.

    Attributes
    ----------
    path:
        Its path in the endpoint, which names its content: another content has another path.
    content_type:
        Its media type, without the character set.
    content:
        Its content.
    """

    path: str
    content_type: str
    content: bytes


@cache
def asset(name: str) -> Asset:
    """An asset by its name.

    Raises
    ------
    NotFoundError
        There is none of this name.
    """
    swagger = files("swagger_ui") / "static"
    sources = {"plotly.min.js": files("plotly") / "package_data" / "plotly.min.js"}
    sources |= {name: swagger / name for name in _SWAGGER}
    sources |= {path.name: path for path in _OWN.iterdir() if path.suffix in _TYPES}
    if name not in sources:
        raise NotFoundError(f"there is no asset {name!r}; the pages name those that there are")
    content = sources[name].read_bytes()
    kind = _TYPES[Path(name).suffix]
    return Asset(f"{PREFIX}{sha256_hex(content)[:16]}/{name}", kind, content)


@cache
def packed(name: str) -> bytes:
    """The content of an asset, compressed by gzip; half a second for the chart library."""
    return gzip.compress(asset(name).content, compresslevel=6, mtime=0)
