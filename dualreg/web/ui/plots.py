"""Plots: bars in SVG, made on the server, which stand beside the table of the same numbers."""

from collections.abc import Sequence
from typing import NamedTuple

#: In units of the drawing, which is scaled to the page.
_WIDTH, _HEIGHT, _GAP = 720, 160, 0.2


class Bar(NamedTuple):
    """A bar of a plot, in units of the drawing."""

    x: float
    y: float
    width: float
    height: float


class Plot(NamedTuple):
    """A plot.

    Attributes:
        bars: Empty if all numbers are 0.
        first, last: The names of the first and the last bar.
        top: The largest number, as people read it.
    """

    width: int
    height: int
    bars: Sequence[Bar]
    first: str
    last: str
    top: str


def bars(points: Sequence[tuple[str, float, str]]) -> Plot:
    """Return the plot of numbers.

    Args:
        points: At least one: the name, the number, and this as people read it.
    """
    most = max(number for _, number, _ in points)
    step, shown = _WIDTH / len(points), points if most > 0 else ()
    drawn = [_bar(place * step, step, number / most) for place, (_, number, _) in enumerate(shown)]
    top = next(text for _, number, text in points if number == most)
    return Plot(_WIDTH, _HEIGHT, drawn, points[0][0], points[-1][0], top)


def _bar(x: float, step: float, part: float) -> Bar:
    height = round(part * _HEIGHT, 2)
    return Bar(round(x, 2), round(_HEIGHT - height, 2), round(step * (1 - _GAP), 2), height)
