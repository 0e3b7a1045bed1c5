"""A canvas for SVG pictures that can be read on light and on dark pages.

A picture has its own ground and follows the colour scheme of the reader by a media query, so it is
legible wherever it is shown. Coordinates are pixels from the top left corner.

Reference: W3C, "Scalable Vector Graphics (SVG) 2"; "Media Queries Level 5", prefers-color-scheme.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

Point = tuple[float, float]

_STYLE = """
.ground{fill:#fff}.box{fill:#f1f5f9;stroke:#64748b}.rule{fill:#e0ecff;stroke:#2563eb}
.model{fill:#fdf0d5;stroke:#b45309}.record{fill:#e3f4e8;stroke:#15803d}.bad{fill:#fde4e4;stroke:#b91c1c}
.line{stroke:#475569;fill:none}.thin{stroke:#94a3b8;fill:none}.curve{stroke:#2563eb;fill:none}
.warm{stroke:#b45309;fill:none}.head{fill:#475569}.dot{fill:#475569}
text{fill:#0f172a;font-family:system-ui,-apple-system,"Segoe UI",Roboto,Helvetica,Arial,sans-serif}
.small{fill:#475569}
@media(prefers-color-scheme:dark){
.ground{fill:#0f172a}.box{fill:#1e293b;stroke:#94a3b8}.rule{fill:#17305f;stroke:#7aa7ff}
.model{fill:#4a3410;stroke:#f5b95a}.record{fill:#153d24;stroke:#6fd08c}.bad{fill:#4d1c1c;stroke:#f29a9a}
.line{stroke:#cbd5e1}.thin{stroke:#64748b}.curve{stroke:#7aa7ff}.warm{stroke:#f5b95a}
.head{fill:#cbd5e1}.dot{fill:#cbd5e1}text{fill:#f1f5f9}.small{fill:#cbd5e1}}
"""


class Canvas:
    """Shapes and texts of one picture, in the order in which they are drawn."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self._size = (width, height)
        self._title = title
        self._parts: list[str] = []

    def box(
        self, at: Point, size: Point, lines: Sequence[str], kind: str = "box", heading: bool = True
    ) -> None:
        """A rounded rectangle with centred lines of text, the first one bold."""
        (x, y), (width, height) = at, size
        self._parts.append(
            f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" '
            'rx="7"/>'
        )
        top = y + height / 2 - 8.5 * (len(lines) - 1) + 4.5
        for i, line in enumerate(lines):
            first = heading and i == 0
            self.text((x + width / 2, top + 17 * i), line, bold=first, small=not first)

    def bar(self, at: Point, size: Point, kind: str) -> None:
        """A plain rectangle."""
        (x, y), (width, height) = at, size
        self._parts.append(
            f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
            f'height="{height:.1f}"/>'
        )

    def text(
        self, at: Point, text: str, anchor: str = "middle", bold: bool = False, small: bool = False
    ) -> None:
        """One line of text; `anchor` is start, middle or end."""
        weight = ' font-weight="600"' if bold else ""
        kind = ' class="small"' if small else ""
        self._parts.append(
            f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" text-anchor="{anchor}" '
            f'font-size="{13 if small else 14}"{weight}{kind}>{escape(text)}</text>'
        )

    def line(self, points: Sequence[Point], kind: str = "line", dashed: bool = False) -> None:
        """A line through points."""
        dashes = ' stroke-dasharray="5 4"' if dashed else ""
        at = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        width = 2.4 if kind in ("curve", "warm") else 1.5
        self._parts.append(
            f'<polyline class="{kind}" points="{at}" stroke-width="{width}"{dashes}/>'
        )

    def arrow(self, points: Sequence[Point], dashed: bool = False) -> None:
        """A line with a head at its last point; its last stretch is level or upright."""
        (x0, y0), (x, y) = points[-2:]
        dx, dy = (x > x0) - (x < x0), (y > y0) - (y < y0)
        self.line([*points[:-1], (x - 5 * dx, y - 5 * dy)], dashed=dashed)
        left = (x - 9 * dx - 5 * dy, y - 9 * dy - 5 * dx)
        right = (x - 9 * dx + 5 * dy, y - 9 * dy + 5 * dx)
        at = " ".join(f"{a:.1f},{b:.1f}" for a, b in ((x, y), left, right))
        self._parts.append(f'<polygon class="head" points="{at}"/>')

    def dot(self, at: Point) -> None:
        """A small disc."""
        self._parts.append(f'<circle class="dot" cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="4"/>')

    def svg(self) -> str:
        """The picture as a document."""
        width, height = self._size
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
                f'width="{width}" height="{height}" role="img">',
                f"<title>{escape(self._title)}</title>",
                f"<style>{_STYLE.strip()}</style>",
                f'<rect class="ground" width="{width}" height="{height}" rx="8"/>',
                *self._parts,
                "</svg>\n",
            ]
        )
