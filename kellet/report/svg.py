"""Small inline SVG drawings for report.html: an interval against its threshold, curves, a scatter.

Colours come from the page's style sheets by CSS class, so that one drawing serves light, dark and print. Every text
goes through ``escape``. Each drawing has a title, and most a description, for readers who do not see it.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

Point = tuple[float, float]


class Series(NamedTuple):
    """A curve or a cloud of dots: its legend, the CSS class of its colour, and its points."""

    name: str
    style: str
    points: Sequence[Point]


class Line(NamedTuple):
    """A straight line with a legend: a threshold, a fitted slope."""

    name: str
    style: str
    start: Point
    end: Point


class Bubble(NamedTuple):
    """A dot with an interval in both directions, a name beside it, and an area that shows a third quantity."""

    name: str
    style: str
    x: tuple[float, float, float]
    """Value, low, high."""
    y: tuple[float, float, float]
    area: float
    """Of any unit; the bubble with the largest area gets a radius of LARGEST pixels."""


LARGEST = 26.0
"""Pixels."""


class Axis:
    """Maps ``[low, high]`` to pixels ``[start, end]``, with round tick marks."""

    def __init__(self, values: Iterable[float], start: float, end: float, *, zero: bool = False) -> None:
        finite = [value for value in values if math.isfinite(value)] + ([0.0] if zero else [])
        low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
        if high - low < 1e-12 * max(1.0, abs(high)):
            low, high = low - 0.5 * max(1.0, abs(low)), high + 0.5 * max(1.0, abs(high))
        room = 0.05 * (high - low)
        self.low, self.high = (low if zero and low == 0 else low - room), high + room
        self.start, self.end = start, end

    def at(self, value: float) -> float:
        """Pixel of ``value``, clipped to the axis."""
        share = min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)
        return self.start + share * (self.end - self.start)

    def ticks(self, about: int = 6) -> list[float]:
        """Round values inside the range, about ``about`` of them."""
        raw = (self.high - self.low) / about
        power = 10.0 ** math.floor(math.log10(raw))
        step = power * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
        first = math.ceil(self.low / step)
        return [index * step for index in range(first, math.floor(self.high / step) + 1)]


def interval(
    value: float | None,
    ends: Sequence[float | None] | None,
    threshold: float,
    direction: str,
    passed: bool | None,
    label: str,
    *,
    mark: str = "",
    area: str = "good",
    domain: Sequence[float] = (),
) -> Markup:
    """Draw an interval as a whisker with a dot, its threshold as a line, the side of ``direction`` shaded (if any).

    ``mark`` is written at the threshold, ``area`` is the CSS class of the shading, and ``domain`` are values that the
    axis has to reach, so that several drawings share it.
    """
    width, height, middle = 300, 34 + 14 * bool(mark), 17
    low, high = (ends[0], ends[1]) if ends else (None, None)
    drawn = [item for item in (value, low, high) if item is not None]
    spread = max((abs(item - threshold) for item in drawn), default=1.0) or 1.0
    axis = Axis([*drawn, *domain, threshold, threshold - 0.25 * spread, threshold + 0.25 * spread], 4, width - 4)
    x = axis.at(threshold)
    side = (x, width - 4 - x) if direction == "above" else (4.0, x - 4)
    parts = [f'<line class="threshold" x1="{x:.1f}" x2="{x:.1f}" y1="2" y2="32"/>']
    if direction:
        shape = f'x="{side[0]:.1f}" y="5" width="{max(side[1], 0):.1f}" height="24" rx="3"'
        parts.insert(0, f'<rect class="{area}" {shape}/>')
    if mark:
        anchor = "mid" if 60 < x < width - 60 else "end" if x >= width - 60 else ""
        parts.append(f'<text class="tick {anchor}" x="{x:.1f}" y="45">{escape(mark)}</text>')
    style = {True: "pass", False: "fail", None: "open"}[passed]
    if value is not None and ends:
        left = axis.at(low) if low is not None else 4.0
        right = axis.at(high) if high is not None else width - 4.0
        parts.append(f'<line class="whisker {style}" x1="{left:.1f}" x2="{right:.1f}" y1="{middle}" y2="{middle}"/>')
        for end, tip, turn in ((low, left, 1), (high, right, -1)):
            if end is None:  # unbounded: an arrow in place of the cap
                parts.append(f'<path class="arrow {style}" d="M{tip + 7 * turn:.1f} 12L{tip:.1f} 17l{7 * turn} 5"/>')
            else:
                parts.append(f'<line class="whisker {style}" x1="{tip:.1f}" x2="{tip:.1f}" y1="11" y2="23"/>')
        parts.append(f'<circle class="dot {style}" cx="{axis.at(value):.1f}" cy="{middle}" r="5"/>')
    return _drawing(width, height, label, parts)


def curves(title: str, unit: str, series: Sequence[Series], lines: Sequence[tuple[str, str, float]] = ()) -> Markup:
    """Draw metrics over PPO iterations; ``lines`` are (name, style, level) drawn across."""
    width, height = 460, 240
    points = [point for one in series for point in one.points]
    keys = [(name, style, True) for name, style, _ in lines] + [(one.name, one.style, False) for one in series]
    legend, top = _legend(keys if len(keys) > 1 else [], width)
    x_axis = Axis([x for x, _ in points], 52, width - 12)
    y_axis = Axis([y for _, y in points] + [level for _, _, level in lines], height - 46, top, zero=True)
    parts = _grid(x_axis, y_axis, "iteration", unit)
    for _, style, level in lines:
        y = y_axis.at(level)
        parts.append(f'<line class="level {style}" x1="52" x2="{width - 12}" y1="{y:.1f}" y2="{y:.1f}"/>')
    for one in series:
        path = "L".join(f"{x_axis.at(x):.1f} {y_axis.at(y):.1f}" for x, y in one.points)
        parts.append(f'<path class="curve {one.style}" d="M{path}"/>')
    parts += legend
    ends = [f"{one.name} from {one.points[0][1]:.3g} to {one.points[-1][1]:.3g}" for one in series if one.points]
    levels = [f"{name} at {level:.3g}" for name, _, level in lines]
    return _drawing(width, height, f"{title} over iterations", parts, f"{'; '.join([*ends, *levels])} ({unit}).")


def scatter(title: str, x_name: str, y_name: str, series: Sequence[Series], lines: Sequence[Line]) -> Markup:
    """Draw one dot for each answer, and fitted lines over them."""
    width, height = 720, 420
    points = [point for one in series for point in one.points]
    legend, top = _legend([(one.name, one.style, False) for one in series], width)
    x_axis = Axis([x for x, _ in points], 52, width - 12, zero=True)
    y_axis = Axis([y for _, y in points], height - 46, top)
    parts = _grid(x_axis, y_axis, x_name, y_name)
    for one in series:
        path = "".join(f"M{x_axis.at(x):.0f} {y_axis.at(y):.0f}h0" for x, y in one.points)
        parts.append(f'<path class="cloud {one.style}" d="{path}"/>')
    for line in lines:
        (x1, y1), (x2, y2) = line.start, line.end
        ends = f'x1="{x_axis.at(x1):.1f}" y1="{y_axis.at(y1):.1f}" x2="{x_axis.at(x2):.1f}" y2="{y_axis.at(y2):.1f}"'
        parts += [f'<line class="halo" {ends}/>', f'<line class="fit {line.style}" {ends}/>']
    parts += legend
    clouds = [f"{one.name}: {len(one.points):,} answers, {_range(one.points, x_name, y_name)}" for one in series]
    return _drawing(width, height, title, parts, f"{'; '.join(clouds)}.")


def _range(points: Sequence[Point], x_name: str, y_name: str) -> str:
    (x1, x2), (y1, y2) = ((min(column), max(column)) for column in zip(*points, strict=True))
    return f"{x_name} {x1:.3g} to {x2:.3g}, {y_name} {y1:.3g} to {y2:.3g}"


def reliability(title: str, points: Sequence[tuple[float, float, float, float]]) -> Markup:
    """Draw the share of right predictions against confidence: (confidence, share, low, high), all in [0, 1].

    A calibrated model lies on the diagonal.
    """
    width, height = 460, 300
    x_axis, y_axis = Axis([0.5, 1.0], 52, width - 12), Axis([0.0, 1.0], height - 46, 34)
    parts = _grid(x_axis, y_axis, "confidence of the preference model", "share of pairs that it got right")
    start, end = (f"{x_axis.at(one):.1f} {y_axis.at(one):.1f}" for one in (0.5, 1.0))
    parts.append(f'<path class="threshold" d="M{start}L{end}"/>')
    parts += _whiskers(x_axis, y_axis, points)
    shares = [[100 * one for one in point] for point in points]
    texts = [f"at {c:.0f}% confidence {s:.0f}% [{low:.0f}, {high:.0f}] right" for c, s, low, high in shares]
    return _drawing(width, height, title, parts, f"{'; '.join(texts)}.")


def estimates(
    title: str, x_name: str, y_name: str, points: Sequence[tuple[float, float, float, float]], band: float
) -> Markup:
    """Draw estimates (x, value, low, high) along x; what lies within ``band`` of x = 0 is shaded."""
    width, height = 460, 260
    x_axis = Axis([x for x, *_ in points], 52, width - 12)
    y_axis = Axis([end for _, *ends in points for end in ends], height - 46, 34, zero=True)
    left, right = (max(52.0, min(width - 12.0, x_axis.at(end))) for end in (-band, band))
    shade = f'<rect class="good" x="{left:.1f}" y="34" width="{right - left:.1f}" height="{height - 80}"/>'
    zero = f'<line class="level limit" x1="52" x2="{width - 12}" y1="{y_axis.at(0):.1f}" y2="{y_axis.at(0):.1f}"/>'
    parts = [shade, *_grid(x_axis, y_axis, x_name, y_name), zero]
    parts += _whiskers(x_axis, y_axis, points)
    texts = [f"at {x:.3g} {value:.3g} [{low:.3g}, {high:.3g}]" for x, value, low, high in points]
    return _drawing(width, height, title, parts, f"{'; '.join(texts)}.")


def _whiskers(x_axis: Axis, y_axis: Axis, points: Sequence[tuple[float, float, float, float]]) -> list[str]:
    """A dot with its interval for each (x, value, low, high)."""
    parts = []
    for x_value, value, low, high in points:
        x = x_axis.at(x_value)
        ends = f'y1="{y_axis.at(low):.1f}" y2="{y_axis.at(high):.1f}"'
        parts.append(f'<line class="whisker plain" x1="{x:.1f}" x2="{x:.1f}" {ends}/>')
        parts.append(f'<circle class="dot plain" cx="{x:.1f}" cy="{y_axis.at(value):.1f}" r="5"/>')
    return parts


def bubbles(title: str, x_name: str, y_name: str, dots: Sequence[Bubble], front: Sequence[Point] = ()) -> Markup:
    """Draw one bubble for each of ``dots``; ``front`` are the points of a line below them."""
    width, height = 720, 420
    reach = [x for dot in dots for x in dot.x]
    x_axis = Axis([*reach, -0.05 * max(reach, default=1.0)], 60, width - 70)  # room for a bubble at 0
    y_axis = Axis([y for dot in dots for y in dot.y], height - 46, 34)
    parts = _grid(x_axis, y_axis, x_name, y_name)
    if len(front) > 1:
        path = "L".join(f"{x_axis.at(x):.1f} {y_axis.at(y):.1f}" for x, y in sorted(front))
        parts.append(f'<path class="front" d="M{path}"/>')
    most = max((dot.area for dot in dots), default=1.0) or 1.0
    names = []
    for dot in sorted(dots, key=lambda one: -one.area):  # small ones lie above large ones, and names above all
        (x, x1, x2), (y, y1, y2) = ([axis.at(v) for v in v3] for axis, v3 in ((x_axis, dot.x), (y_axis, dot.y)))
        radius = max(4.0, LARGEST * math.sqrt(max(dot.area, 0.0) / most))
        parts += [
            f'<circle class="bubble {dot.style}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"/>',
            f'<line class="whisker {dot.style}" x1="{x1:.1f}" x2="{x2:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>',
            f'<line class="whisker {dot.style}" x1="{x:.1f}" x2="{x:.1f}" y1="{y1:.1f}" y2="{y2:.1f}"/>',
        ]
        names.append(f'<text class="name over" x="{x + radius + 4:.1f}" y="{y - 6:.1f}">{escape(dot.name)}</text>')
    texts = "; ".join(f"{dot.name} at {dot.x[0]:.3g} and {dot.y[0]:.3g}, area {dot.area:.3g}" for dot in dots)
    return _drawing(width, height, f"{title}. {texts}", [*parts, *names])


def tick_text(value: float) -> str:
    """A tick's number without rounding noise: 0.3, not 0.30000000000000004."""
    return f"{value:.10g}" if abs(value) < 1e6 else f"{value:.2g}"


def _grid(x_axis: Axis, y_axis: Axis, x_name: str, y_name: str) -> list[str]:
    left, right, bottom, top = x_axis.start, x_axis.end, y_axis.start, y_axis.end
    parts = []
    for value in y_axis.ticks():
        y = y_axis.at(value)
        parts.append(f'<line class="grid" x1="{left:.0f}" x2="{right:.0f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick end" x="{left - 6:.0f}" y="{y + 4:.1f}">{tick_text(round(value, 10))}</text>')
    for value in x_axis.ticks():
        x = x_axis.at(value)
        parts.append(f'<text class="tick mid" x="{x:.1f}" y="{bottom + 16:.0f}">{tick_text(round(value, 10))}</text>')
    parts.append(f'<line class="axis" x1="{left:.0f}" x2="{right:.0f}" y1="{bottom:.0f}" y2="{bottom:.0f}"/>')
    parts.append(f'<text class="name mid" x="{(left + right) / 2:.0f}" y="{bottom + 36:.0f}">{escape(x_name)}</text>')
    parts.append(f'<text class="name" x="4" y="{top - 16:.0f}">{escape(y_name)}</text>')
    return parts


def _legend(keys: Sequence[tuple[str, str, bool]], width: int) -> tuple[list[str], int]:
    """Entries (name, CSS class, dashed) in as many rows as they need, and the top of the drawing below them."""
    parts, x, y = [], 150.0, 14
    for name, style, dashed in keys:
        if x > 150 and x + 23 + 6.6 * len(name) > width:
            x, y = 150.0, y + 16
        kind = "level" if dashed else "curve"
        parts.append(f'<line class="{kind} {style}" x1="{x:.0f}" x2="{x + 18:.0f}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="name" x="{x + 23:.0f}" y="{y + 4}">{escape(name)}</text>')
        x += 36 + 6.6 * len(name)
    return parts, y + 20


def _drawing(width: int, height: int, label: str, parts: Sequence[str], more: str = "") -> Markup:
    # Safe as Markup: the parts hold only numbers, CSS classes of this package and escaped text.
    texts = f"<title>{escape(label)}</title>" + (f"<desc>{escape(more)}</desc>" if more else "")
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return Markup(f'<svg {size} role="img">{texts}{"".join(parts)}</svg>')  # noqa: S704
