"""What stages say about themselves."""

from __future__ import annotations

import plotly.graph_objects as go

from stock_assets.defs.metadata import plots
from stock_assets.reporting.static_images import render_png
from stock_assets_tests.defs.running import images


def test_plots_are_the_images_of_the_figures_in_their_order() -> None:
    rising, falling = (
        go.Figure(go.Scatter(y=y, x=[1, 2]), {"title": title})
        for title, y in (("Rising", [1, 2]), ("Falling: below 0 is better", [2, 1]))
    )
    assert images(plots([rising, falling]).value) == {
        "Rising": render_png(rising),
        "Falling: below 0 is better": render_png(falling),
    }
    assert list(images(plots([falling, rising]).value)) == ["Falling: below 0 is better", "Rising"]


def test_without_a_figure_there_is_no_image() -> None:
    assert images(plots([]).value) == {}
