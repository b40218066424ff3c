"""The plot of `scoring.py`: time and memory by the number of vectors, as plain SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

WIDTH, HEIGHT = 860, 400
TOP, BOTTOM = 56, 336
PANELS = ((70, 410), (500, 840))
WAYS = {"evaluate": "evaluate", "rerank": "re-rank and evaluate"}
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #333; }
.title { font-weight: 600; }
.grid { stroke: #ddd; }
.paper { fill: #fff; }
.evaluate { stroke: #0b6e99; fill: #0b6e99; }
.rerank { stroke: #c2571a; fill: #c2571a; }
.matrix { stroke: #777; stroke-dasharray: 5 4; }
polyline { fill: none !important; stroke-width: 2; }
text.evaluate, text.rerank { stroke: none; }
@media (prefers-color-scheme: dark) {
  text { fill: #ddd; }
  .grid { stroke: #444; }
  .paper { fill: #16181c; }
  .evaluate { stroke: #5cc1ea; fill: #5cc1ea; }
  .rerank { stroke: #ff9d5c; fill: #ff9d5c; }
  .matrix { stroke: #999; }
}
"""

Point = tuple[float, float]


def draw_growth(growth: Mapping[str, Mapping[str, Any]]) -> str:
    """Draw two panels with logarithmic axes: seconds, and MiB besides the vectors."""
    sizes = sorted(map(int, growth))
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        "<title>Time and memory of scoring and re-ranking by the number of vectors</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}"/>',
    ]
    for panel, (key, title) in enumerate((("seconds", "seconds"), ("extra_mib", "MiB"))):
        series: dict[str, list[Point]] = {
            way: [(size, max(growth[str(size)][way][key], 1e-3)) for size in sizes] for way in WAYS
        }
        if key == "extra_mib":
            series["matrix"] = [(size, 4 * size**2 / 2**20) for size in sizes]
        lines += draw_panel(PANELS[panel], title, series)
    return "\n".join([*lines, draw_legend(), "</svg>"]) + "\n"


def draw_panel(
    edges: tuple[int, int], title: str, series: Mapping[str, Sequence[Point]]
) -> list[str]:
    """Draw grid, labels and one line for each series."""
    left, right = edges
    points = [point for line in series.values() for point in line]
    across = find_range([x for x, _ in points])
    upwards = find_range([y for _, y in points])

    def place(value: float, span: tuple[float, float], start: float, end: float) -> float:
        share = (math.log10(value) - span[0]) / (span[1] - span[0])
        return round(start + share * (end - start), 1)

    lines = [f'<text class="title" x="{left}" y="{TOP - 12}">{title}</text>']
    for tick in list_ticks(upwards):
        y = place(tick, upwards, BOTTOM, TOP)
        lines.append(f'<path class="grid" d="M{left} {y}H{right}"/>')
        lines.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{tick:,g}</text>')
    for tick in list_ticks(across):
        x = place(tick, across, left, right)
        lines.append(f'<path class="grid" d="M{x} {TOP}V{BOTTOM}"/>')
        lines.append(f'<text x="{x}" y="{BOTTOM + 18}" text-anchor="middle">{word(tick)}</text>')
    for name, line in series.items():
        marks = [(place(x, across, left, right), place(y, upwards, BOTTOM, TOP)) for x, y in line]
        path = " ".join(f"{x},{y}" for x, y in marks)
        lines.append(f'<polyline class="{name}" points="{path}"/>')
        if name in WAYS:
            lines += [f'<circle class="{name}" cx="{x}" cy="{y}" r="3.5"/>' for x, y in marks]
    return lines


def draw_legend() -> str:
    """Say what the lines and the axes are."""
    y = HEIGHT - 12
    return "\n".join(
        [
            f'<text x="{PANELS[0][0]}" y="20">vectors (queries and gallery, 2048 numbers each) '
            "against time, and memory besides the vectors</text>",
            f'<text class="evaluate" x="70" y="{y}">● {WAYS["evaluate"]}</text>',
            f'<text class="rerank" x="190" y="{y}">● {WAYS["rerank"]}</text>',
            f'<text x="500" y="{y}">- - one N x N matrix of float32</text>',
        ]
    )


def find_range(values: Sequence[float]) -> tuple[float, float]:
    """Give a range of powers of ten around the values, a little wider than they are."""
    low, high = math.log10(min(values)), math.log10(max(values))
    room = max(0.05, (high - low) * 0.05)
    return low - room, high + room


def list_ticks(span: tuple[float, float]) -> list[float]:
    """List 1, 2 and 5 times powers of ten, or the powers alone where they are many."""
    powers = range(math.floor(span[0]), math.ceil(span[1]) + 1)
    steps = (1,) if span[1] - span[0] > 2.5 else (1, 2, 5)
    ticks = [step * 10.0**power for power in powers for step in steps]
    return [tick for tick in ticks if span[0] <= math.log10(tick) <= span[1]]


def word(size: float) -> str:
    """Write 20000 as 20k."""
    return f"{size / 1000:g}k" if size >= 1000 else f"{size:g}"
