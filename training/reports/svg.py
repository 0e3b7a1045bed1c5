"""A small drawing of two axes as SVG text: crisp at any size, no script, no outside reference.

Colours and fonts are attributes, so that a drawing looks the same inside a page and as a file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Literal

from market.core.errors import ModelError

INK, MUTED, GRID, FRAME = "#1f2933", "#52606d", "#e4e7eb", "#9aa5b1"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps a value to a place between two pixels, evenly or by its logarithm.

    Values outside [low, high] are placed on the nearer end.
    """

    low: float
    high: float
    begin: float
    end: float
    kind: Literal["linear", "log"] = "linear"

    def __post_init__(self) -> None:
        if not self.high > self.low or (self.kind == "log" and not self.low > 0.0):
            raise ModelError(
                f"a {self.kind} axis cannot run from {self.low!r} to {self.high!r}; expected "
                "rising ends, above 0 on a logarithmic one"
            )

    def __call__(self, value: float) -> float:
        inside = min(max(value, self.low), self.high)
        if self.kind == "log":
            share = math.log(inside / self.low) / math.log(self.high / self.low)
        else:
            share = (inside - self.low) / (self.high - self.low)
        return self.begin + share * (self.end - self.begin)

    def ticks(self, wanted: int = 5) -> list[float]:
        """Round values: powers of ten on a logarithmic axis, else steps of 1, 2 or 5."""
        if self.kind == "log":
            first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
            powers = [10.0**k for k in range(first, last + 1)]
            if len(powers) >= 2:
                return powers[:: math.ceil(len(powers) / wanted)]
        step = _round_step((self.high - self.low) / wanted)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [k * step for k in range(first, last + 1)]


@dataclass(slots=True)
class Drawing:
    """Axes of a picture and what is drawn into them, in drawing order.

    Attributes
    ----------
    title:
        Read out by screen readers in place of the picture.
    width, height:
        In pixels of its own; it is scaled to the room it gets.
    """

    title: str
    width: int = 340
    height: int = 260
    left: int = 52
    right: int = 22
    top: int = 26
    bottom: int = 44
    parts: list[str] = field(default_factory=list)

    def x_scale(self, low: float, high: float, kind: Literal["linear", "log"] = "linear") -> Scale:
        """Scale over the width of the axes."""
        return Scale(low, high, self.left, self.width - self.right, kind)

    def y_scale(self, low: float, high: float, kind: Literal["linear", "log"] = "linear") -> Scale:
        """Scale over the height of the axes, upwards."""
        return Scale(low, high, self.height - self.bottom, self.top, kind)

    def heading(self, text: str) -> None:
        """Title above the axes."""
        self.text(self.left, self.top - 9, text, size=13, weight=600)

    def axes(
        self,
        x: Scale | None,
        y: Scale,
        *,
        x_label: str = "",
        y_label: str = "",
        x_percent: bool = False,
        y_percent: bool = False,
    ) -> None:
        """Frame, grid, ticks and labels; without x only the upright axis."""
        bottom, right = self.height - self.bottom, self.width - self.right
        for value in y.ticks():
            at = y(value)
            self.line((self.left, at), (right, at), GRID)
            label = _tick(value, percent=y_percent)
            self.text(self.left - 6, at + 4, label, anchor="end", colour=MUTED)
        for value in x.ticks() if x is not None else ():
            at = x(value)  # type: ignore[misc]
            self.line((at, self.top), (at, bottom), GRID)
            label = _tick(value, percent=x_percent)
            self.text(at, bottom + 15, label, anchor="middle", colour=MUTED)
        self.line((self.left, bottom), (right, bottom), FRAME)
        self.line((self.left, self.top), (self.left, bottom), FRAME)
        if x_label:
            middle = (self.left + right) / 2
            self.text(middle, self.height - 8, x_label, anchor="middle", colour=MUTED, size=11.5)
        if y_label:
            middle = (self.top + bottom) / 2
            self.parts.append(
                f'<text transform="translate(11 {middle:.1f}) rotate(-90)" text-anchor="middle" '
                f'font-size="11.5" fill="{MUTED}">{escape(y_label)}</text>'
            )

    def line(self, a: Point, b: Point, colour: str, *, width: float = 1.0, dash: str = "") -> None:
        """A straight line between two pixels."""
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(
            f'<line x1="{a[0]:.1f}" y1="{a[1]:.1f}" x2="{b[0]:.1f}" y2="{b[1]:.1f}" '
            f'stroke="{colour}" stroke-width="{width:g}"{dashed}/>'
        )

    def path(
        self, points: Sequence[Point], colour: str, *, width: float = 1.8, dash: str = ""
    ) -> None:
        """Straight pieces through pixels."""
        if not points:
            return
        steps = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(
            f'<polyline points="{steps}" fill="none" stroke="{colour}" stroke-width="{width:g}" '
            f'stroke-linejoin="round"{dashed}/>'
        )

    def dot(self, at: Point, colour: str, *, hollow: bool = False, hint: str = "") -> None:
        """A point; `hint` shows when it is pointed at."""
        fill = "#ffffff" if hollow else colour
        title = f"<title>{escape(hint)}</title>" if hint else ""
        self.parts.append(
            f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="3.2" fill="{fill}" '
            f'stroke="{colour}" stroke-width="1.4">{title}</circle>'
        )

    def whisker(self, x: float, low: float, high: float, colour: str) -> None:
        """An upright interval with caps, in pixels."""
        self.line((x, low), (x, high), colour, width=1.3)
        for end in (low, high):
            self.line((x - 3, end), (x + 3, end), colour, width=1.3)

    def bar(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        """A filled bar, in pixels."""
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" '
            f'height="{height:.1f}" fill="{colour}"/>'
        )

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        anchor: Literal["start", "middle", "end"] = "start",
        colour: str = INK,
        size: float = 11,
        weight: int = 400,
        turn: int = 0,
    ) -> None:
        """Text at a pixel, turned by degrees."""
        turned = f' transform="rotate({turn} {x:.1f} {y:.1f})"' if turn else ""
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size:g}" '
            f'font-weight="{weight}" fill="{colour}"{turned}>{escape(text)}</text>'
        )

    def svg(self) -> str:
        """The picture as one element."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
            f'role="img" font-family="{escape(FONT)}"><title>{escape(self.title)}</title>'
            f"{''.join(self.parts)}</svg>"
        )


def _round_step(raw: float) -> float:
    power = 10.0 ** math.floor(math.log10(raw))
    return next(power * step for step in (1.0, 2.0, 5.0, 10.0) if power * step >= raw * 0.999)


def _tick(value: float, *, percent: bool) -> str:
    shown = 0.0 if abs(value) < 1e-12 else value
    if percent:
        return f"{shown * 100:.4g}%"
    return f"{shown:.4g}"
