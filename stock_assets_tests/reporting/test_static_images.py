"""Images of figures: small, opaque, the same each time, and true to the data."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from PIL import Image

from stock_assets.reporting.static_images import render_png

RED, BLUE = "#ff0000", "rgb(0, 0, 255)"
MOST_BYTES = 25_000
DAYS = pd.date_range("2013-01-01", periods=63, freq="B")


def image(figure: go.Figure) -> Image.Image:
    with Image.open(io.BytesIO(render_png(figure))) as opened:
        opened.load()
    return opened


def ink(figure: go.Figure, colour: Sequence[int]) -> np.ndarray:
    """Where the image has a colour, or nearly: (rows, columns) of bool."""
    pixels = np.asarray(image(figure).convert("RGB"), dtype=int)
    return np.abs(pixels - np.asarray(colour)).max(axis=2) < 40


def red(*traces: object) -> np.ndarray:
    return ink(go.Figure(traces), (255, 0, 0))


def line(y: Sequence[float | None], x: object = None, **settings: object) -> go.Scatter:
    return go.Scatter(
        x=np.arange(len(y)) if x is None else x, y=y, line={"color": RED}, name="line", **settings
    )


def test_an_image_is_a_png_of_known_size_on_an_opaque_white_ground() -> None:
    made = image(go.Figure(line([1.0, 2.0])))
    assert (made.format, made.size) == ("PNG", (720, 340))
    assert "transparency" not in made.info
    corners = [(0, 0), (719, 0), (0, 339), (719, 339)]
    assert {made.convert("RGB").getpixel(corner) for corner in corners} == {(255, 255, 255)}


def test_busy_figures_stay_small() -> None:
    rng = np.random.default_rng(1)
    paths = rng.normal(size=(6, 63)).cumsum(axis=1)
    lines = [go.Scatter(x=DAYS, y=path, name=f"model {i}") for i, path in enumerate(paths)]
    trials = [
        go.Scatter(x=np.arange(30), y=np.exp(-np.arange(30) / 9) * rng.lognormal(size=30))
        for _ in range(100)
    ]
    long = go.Scatter(x=pd.bdate_range("2000-03-01", "2013-03-01"), y=rng.normal(size=3393))
    for figure in (go.Figure(lines), go.Figure(trials), go.Figure(long)):
        assert len(render_png(figure)) < MOST_BYTES


def test_equal_figures_give_equal_bytes_and_other_data_other_bytes() -> None:
    first, again, other = (go.Figure(line(y)) for y in ([1, 3, 2], [1, 3, 2], [1, 3, 2.5]))
    assert render_png(first) == render_png(again)
    assert render_png(first) != render_png(other)
    one, two = go.Figure(line([1, 2])), go.Figure([line([1, 2]), line([2, 1])])
    assert render_png(one) != render_png(two)


def test_titles_and_names_are_written() -> None:
    plain = go.Figure(line([1, 2]))
    for told in ({"title": "A"}, {"xaxis_title": "B"}, {"yaxis_title": "C"}):
        assert render_png(go.Figure(plain).update_layout(**told)) != render_png(plain)
    named, unnamed = (
        go.Figure([line([1, 2]), line([2, 1])], {"showlegend": shown}) for shown in (None, False)
    )
    assert render_png(named) != render_png(unnamed)


def test_dollars_are_dollars_and_no_formula() -> None:
    assert image(go.Figure(line([1.0]), {"title": r"from $\frac to $2", "yaxis_title": "$, $"}))


def test_a_rising_line_rises_and_ends_where_its_data_end() -> None:
    rows, columns = np.nonzero(red(line([0.0, 1.0])))
    assert np.corrcoef(rows, columns)[0, 1] < -0.99
    half, _ = np.nonzero(red(line([0.0, 0.5, None]), go.Scatter(x=[0, 2], y=[1, 0])).T)
    assert half.max() < 0.6 * columns.max()


def test_an_undefined_value_is_a_gap() -> None:
    whole, gap = red(line([1.0] * 30)), red(line([1.0] * 10 + [np.nan] * 10 + [1.0] * 10))
    assert not np.diff(np.flatnonzero(whole.any(axis=0))).max() > 1
    assert np.diff(np.flatnonzero(gap.any(axis=0))).max() > 100


@pytest.mark.parametrize("lying", [False, True])
def test_a_bar_twice_as_long_has_twice_the_ink(lying: bool) -> None:
    names, lengths = ["first", "second"], [1.0, 2.0]
    settings = (
        {"x": lengths, "y": names, "orientation": "h"} if lying else {"x": names, "y": lengths}
    )
    found = red(go.Bar(marker={"color": RED}, **settings))
    shares = found[::-1] if lying else found.T  # horizontal bars begin at the bottom
    middle = len(np.trim_zeros(shares.any(axis=1))) // 2 + np.flatnonzero(shares.any(axis=1))[0]
    assert shares[middle:].sum() == pytest.approx(2 * shares[:middle].sum(), rel=0.05)


def test_the_fill_lies_between_a_line_and_the_one_before() -> None:
    edge = {"mode": "lines", "line": {"width": 0}}
    upper = go.Scatter(x=DAYS, y=np.full(63, 2.0), showlegend=False, **edge)
    lower = go.Scatter(
        x=DAYS, y=np.full(63, 1.0), fill="tonexty", fillcolor="rgba(255, 0, 0, 1)", **edge
    )
    ends = go.Scatter(x=DAYS[:2], y=[0.0, 4.0], line={"color": BLUE})
    band, span = red(upper, lower, ends), ink(go.Figure([upper, lower, ends]), (0, 0, 255))
    height, all_of_it = (np.ptp(np.flatnonzero(drawn.any(axis=1))) for drawn in (band, span))
    assert height == pytest.approx(all_of_it / 4, abs=3)


def test_a_trace_that_waits_for_a_click_is_not_drawn() -> None:
    assert not red(line([1, 2], visible="legendonly"), go.Scatter(x=[0], y=[1])).any()


@pytest.mark.parametrize(
    "days",
    [DAYS[:5], list(DAYS[:5].date), [date(2013, 1, 1) + timedelta(days=n) for n in range(5)]],
)
def test_dates_are_laid_out_by_the_calendar(days: Sequence[object]) -> None:
    numbers = red(line([1, 2, 3, 4, 9]))
    dated = red(line([1, 2, 3, 4, 9], days))
    assert np.ptp(np.flatnonzero(dated.any(axis=0))) == pytest.approx(
        np.ptp(np.flatnonzero(numbers.any(axis=0))), rel=0.03
    )


@pytest.mark.parametrize(
    ("y", "x"),
    [([], None), ([], DAYS[:0]), ([np.nan, None], None), ([np.nan, np.nan], DAYS[:2])],
)
def test_nothing_to_draw_is_an_empty_image(y: Sequence[float | None], x: object) -> None:
    bars = go.Bar(x=[] if x is None else x, y=[] if x is None else y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not red(line(y, x), bars).any()
        assert image(go.Figure()).size == (720, 340)


def test_of_hundreds_of_names_some_are_written() -> None:
    """Below the axis there is more white than ink, however many names there are."""
    names = [f"TICKER{number}" for number in range(400)]
    drawn = image(go.Figure(line([1.0] * 400, names))).convert("L")
    below = np.asarray(drawn)[-24:, 100:] < 200
    assert 0 < below.any(axis=0).mean() < 0.9


def test_a_single_point_can_be_seen() -> None:
    assert red(line([1.0])).any()
    assert red(line([1.0], DAYS[:1])).any()


def test_a_kind_of_trace_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="pie cannot be drawn"):
        render_png(go.Figure(go.Pie(values=[1, 2])))
