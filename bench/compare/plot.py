"""Draws ratios with their spread as SVG, on a logarithmic scale. Pure."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from bench.compare.results import Spread

_LABELS, _SCALE, _LINE, _MARGIN = 420, 460, 20, 30
_COLOURS = ("#2a78b5", "#d98032", "#5a9e4b")
_TICKS = (0.25, 0.5, 1, 2, 5, 10, 20, 50, 100, 200)


@dataclass(frozen=True, slots=True)
class Bar:
    """One ratio: a line of the plot."""

    title: str
    against: str
    ratio: Spread


def draw(bars: Sequence[Bar]) -> str:
    """Return the plot; bars right of 1 are better than the other server."""
    width, height = _LABELS + _SCALE + 2 * _MARGIN, _LINE * (len(bars) + 3)
    inner = "\n".join(_elements(bars))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
        f'font-size="12">\n<rect width="100%" height="100%" fill="white"/>\n{inner}\n</svg>\n'
    )


def _elements(bars: Sequence[Bar]) -> Iterator[str]:
    ends = [value for bar in bars for value in (bar.ratio.least, bar.ratio.most)]
    low, high = min([0.5, *ends]), max([2.0, *ends])
    names = list(dict.fromkeys(bar.against for bar in bars))

    def x(value: float) -> float:
        return _LABELS + _MARGIN + _SCALE * math.log(value / low) / math.log(high / low)

    bottom = _LINE * (len(bars) + 2)
    for tick in _TICKS:
        if low <= tick <= high:
            colour = "#888" if tick == 1 else "#ddd"
            yield f'<line x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{_LINE}" y2="{bottom - 14}" stroke="{colour}"/>'
            yield f'<text x="{x(tick):.1f}" y="{bottom}" text-anchor="middle">{tick:g}×</text>'
    for place, name in enumerate(names):
        start, colour = _LABELS + _MARGIN + 150 * place, _COLOURS[place % 3]
        yield f'<text x="{start}" y="14" fill="{colour}">against {escape(name)}</text>'
    shown = ""
    for number, bar in enumerate(bars, 1):
        y, colour = _LINE * number + 14, _COLOURS[names.index(bar.against) % 3]
        if bar.title != shown:
            yield f'<text x="{_LABELS + _MARGIN - 8}" y="{y}" text-anchor="end">{escape(bar.title)}</text>'
            shown = bar.title
        left, right = sorted((x(1.0), x(bar.ratio.median)))
        size = f'width="{right - left:.1f}" height="11"'
        yield f'<rect x="{left:.1f}" y="{y - 10}" {size} fill="{colour}" opacity="0.6"/>'
        middle = y - 4.5
        yield (
            f'<line x1="{x(bar.ratio.least):.1f}" x2="{x(bar.ratio.most):.1f}" y1="{middle}" y2="{middle}" '
            f'stroke="black" stroke-width="1.5"/>'
        )
