"""Bar charts as SVG, drawn here: bars of any number of parts on top of each other, with a title for each.

The classes of the parts give the colours (`realtime/overview.css`). The charts take the width that they are given, so
they hold no text: titles, scale and axis are HTML beside them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

#: Units of the drawing: the width for a bar with its gap, the width of the bar, and the height of the chart.
STEP, WIDTH, HEIGHT = 10, 8, 100


class Part(NamedTuple):
    """A part of a bar: its value, 0 or more, and its class."""

    value: float
    css: str


class Bar(NamedTuple):
    """A bar, with the text that is shown for it."""

    title: str
    parts: Sequence[Part]

    @property
    def value(self) -> float:
        return sum(part.value for part in self.parts)


def top_of(bars: Sequence[Bar]) -> float:
    """Return the value of the top of a chart: 1, 2 or 5 times a power of ten, and no bar is higher; 1 for no values."""
    highest = max((bar.value for bar in bars), default=0)
    if highest <= 0:
        return 1
    power: float = 10 ** math.floor(math.log10(highest))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= highest * 0.999_999)


def bar_chart(key: str, title: str, description: str, bars: Sequence[Bar]) -> SafeString:
    """Return a chart. `key` is unique on the page; title and description are for those who do not see it."""
    top = top_of(bars)
    drawn = format_html_join(
        "",
        "<g><title>{}</title>{}</g>",
        ((bar.title, _parts(number, bar, top)) for number, bar in enumerate(bars)),
    )
    return format_html(
        '<svg class="bars" role="img" aria-labelledby="{key}-title {key}-text" viewBox="0 0 {width} {height}" '
        'preserveAspectRatio="none"><title id="{key}-title">{title}</title><desc id="{key}-text">{text}</desc>'
        '<path class="grid" d="M0 0.5H{width}M0 50H{width}M0 99.5H{width}"/>{bars}</svg>',
        key=key,
        width=len(bars) * STEP,
        height=HEIGHT,
        title=title,
        text=description,
        bars=drawn,
    )


def _parts(number: int, bar: Bar, top: float) -> SafeString:
    rects, base = [], float(HEIGHT)
    for part in bar.parts:
        height = part.value / top * HEIGHT
        if part.value > 0:
            height = max(height, 1)  # little is not nothing
            base = max(base - height, 0)
            rects.append((part.css, number * STEP + 1, f"{base:.1f}", WIDTH, f"{height:.1f}"))
    if not rects:
        return SafeString("")
    return format_html_join("", '<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>', rects)


def strip(values: Sequence[float], text: str) -> SafeString:
    """Return a tiny chart of a row of values, which the text describes; none is drawn where all are 0."""
    top = max([*values, 1])
    path = "".join(
        f"M{number * 4} 20V{20 - max(value / top * 18, 2):.0f}h3V20z" for number, value in enumerate(values) if value
    )
    return format_html(
        '<svg class="strip" role="img" aria-label="{}" viewBox="0 0 {} 20"><path class="base" d="M0 19.5H{}"/>'
        '<path class="events" d="{}"/></svg>',
        text,
        len(values) * 4,
        len(values) * 4,
        path,
    )


def meter(value: float, top: float) -> SafeString:
    """Return a horizontal bar for a value out of `top`; the text beside it says the value."""
    part = min(max(value / top * 100, 1), 100) if top else 0
    return format_html(
        '<svg class="meter" aria-hidden="true" viewBox="0 0 100 4" preserveAspectRatio="none">'
        '<rect class="latency" x="0" y="0" width="{}" height="4"/></svg>',
        f"{part:.1f}",
    )
