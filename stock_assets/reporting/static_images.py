"""A Plotly figure as a small image, for pages that show images and run no script."""

from __future__ import annotations

import io
import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from plotly.graph_objects import Figure

_INCHES, _PIXELS_PER_INCH, _COLOURS = (7.2, 3.4), 100, 64
_NAMES = 12
"""At most so many along an axis."""

_POINTS_PER_PIXEL = 72 / _PIXELS_PER_INCH
_DASHES = {None: "-", "solid": "-", "dot": ":", "dash": "--", "dashdot": "-."}


def render_png(figure: Figure) -> bytes:
    """Render a figure with Matplotlib: Plotly's own way to an image needs a browser.

    Drawn are lines and markers, the fill between a line and the one before it, bars and horizontal
    bars, titles and the legend; over dates, numbers or names. A trace that appears only when its
    name is clicked is left out. Where a value is undefined there is a gap.

    Returns
    -------
    bytes
        A PNG of 720 x 340 pixels with an opaque white ground, readable on light and dark pages.
        Equal figures give equal bytes, by the same versions of Matplotlib and Pillow.

    Raises
    ------
    ValueError
        For a kind of trace that is not drawn here.
    """
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(_INCHES, _PIXELS_PER_INCH, facecolor="white", layout="constrained")
    axes = canvas.subplots()
    axes.grid(color="#e4e7eb")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    shown = [trace for trace in figure.data if trace.visible in (None, True)]
    for before, trace in pairwise([None, *shown]):
        _draw(axes, trace, before)
    _label(axes, figure.layout)
    return _png(canvas)


def _png(canvas: Canvas) -> bytes:
    """Encode with a palette, a third of the size of full colour."""
    from PIL import Image

    drawn, image = io.BytesIO(), io.BytesIO()
    canvas.savefig(drawn, format="png")
    pixels = Image.open(drawn).convert("RGB")
    pixels.quantize(_COLOURS, dither=Image.Dither.NONE).save(image, format="png", optimize=True)
    return image.getvalue()


def _draw(axes: Axes, trace: Any, before: Any) -> None:
    if trace.type == "bar":
        _draw_bars(axes, trace)
    elif trace.type == "scatter":
        _draw_line(axes, trace)
        if trace.fill == "tonexty":
            _fill(axes, trace, before)
    else:
        raise ValueError(f"a trace of the kind {trace.type} cannot be drawn as an image")


def _draw_line(axes: Axes, trace: Any) -> None:
    # Plotly's own rule for a trace that does not say how it is drawn.
    mode = trace.mode or ("lines+markers" if len(trace.x) < 20 else "lines")
    width = 2 if trace.line.width is None else trace.line.width
    axes.plot(
        np.asarray(trace.x),
        _numbers(trace.y),
        label=None if trace.fill else _name(trace),
        color=_colour(trace.line.color or trace.marker.color),
        linestyle=_DASHES[trace.line.dash] if "lines" in mode else "",
        linewidth=width * _POINTS_PER_PIXEL,
        marker="o" if "markers" in mode else "",
        markersize=(trace.marker.size or 6) * _POINTS_PER_PIXEL,
    )


def _fill(axes: Axes, trace: Any, before: Any) -> None:
    axes.fill_between(
        np.asarray(trace.x),
        _numbers(trace.y),
        _numbers(before.y),
        label=_name(trace),
        facecolor=_colour(trace.fillcolor),
        linewidth=0,
    )


def _draw_bars(axes: Axes, trace: Any) -> None:
    color = _colour(trace.marker.color)
    if trace.orientation == "h":
        axes.barh(np.asarray(trace.y), _numbers(trace.x), label=_name(trace), color=color)
    else:
        axes.bar(np.asarray(trace.x), _numbers(trace.y), label=_name(trace), color=color)


def _label(axes: Axes, layout: Any) -> None:
    """Write the title, the names of the axes and the legend."""
    from matplotlib.category import StrCategoryLocator
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.ticker import MaxNLocator

    # Without parse_math=False the text between two dollars would be a formula.
    axes.set_title(layout.title.text or "", fontsize=10, loc="left", parse_math=False)
    axes.set_xlabel(layout.xaxis.title.text or "", fontsize=9, parse_math=False)
    axes.set_ylabel(layout.yaxis.title.text or "", fontsize=9, parse_math=False)
    axes.tick_params(labelsize=8)
    axes.xaxis.get_offset_text().set_fontsize(8)
    locator = axes.xaxis.get_major_locator()
    if isinstance(locator, AutoDateLocator):
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    if isinstance(locator, StrCategoryLocator):  # hundreds of names would lie on each other
        axes.xaxis.set_major_locator(MaxNLocator(_NAMES, integer=True))
    _, names = axes.get_legend_handles_labels()
    if len(names) > 1 and layout.showlegend is not False:
        axes.figure.legend(loc="outside lower center", ncols=6, fontsize=8, frameon=False)


def _name(trace: Any) -> str | None:
    """Give what the legend calls a trace, None where it is not to be there."""
    return None if trace.showlegend is False else trace.name


def _numbers(values: Any) -> np.ndarray:
    return np.asarray(values, dtype=float)


def _colour(css: str | None) -> str | tuple[float, ...] | None:
    """Give a colour as Matplotlib writes it, which has no ``rgba()``; None is the next free one."""
    if css is None or not css.startswith("rgb"):
        return css
    red, green, blue, *opacity = map(float, re.findall(r"[\d.]+", css))
    return (red / 255, green / 255, blue / 255, *opacity)
