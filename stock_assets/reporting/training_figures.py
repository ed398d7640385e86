"""Figures of a dataset and of training on it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stock_assets.reporting import charts
from stock_assets.reporting.charts import Chart


def validity_figure(
    valid: NDArray[np.bool_], sessions: pd.DatetimeIndex, tickers: Sequence[str]
) -> Chart:
    """Draw which rows (session, ticker) of a panel are masked; `valid` has shape (T, N)."""
    cells = {
        "type": "heatmap",
        "x": charts.labels(sessions),
        "y": list(tickers),
        "z": valid.T.astype(int).tolist(),
        **{"zmin": 0, "zmax": 1, "showscale": False},
        "colorscale": [[0, charts.LIMIT], [1, charts.LINE]],
        "hovertemplate": "%{y}, %{x}<extra></extra>",
    }
    drawn = charts.figure([cells], title="Validity by session and ticker; masked rows are red")
    drawn["layout"] |= {"hovermode": "closest"}
    drawn["layout"]["yaxis"] |= {"type": "category", "autorange": "reversed"}
    return drawn


def training_figure(histories: Sequence[pd.DataFrame]) -> Chart:
    """Draw the training and validation loss of each epoch, of every member of an ensemble.

    Parameters
    ----------
    histories : sequence of DataFrame
        ``epoch``, ``train_loss``, ``validation_loss`` of each member; of one without an ensemble.
    """
    drawn = (
        ("train_loss", "training", cycle((charts.INK, *charts.OTHERS)), "dot"),
        ("validation_loss", "validation", cycle((charts.MODEL, *charts.OTHERS)), "solid"),
    )
    lines = [
        charts.line(
            history["epoch"],
            history[column],
            name if len(histories) == 1 else f"{name}, member {number}",
            next(colours),
            dash,
        )
        | {"mode": "lines+markers"}
        for number, history in enumerate(histories, start=1)
        for column, name, colours, dash in drawn
    ]
    title = "Training curves: loss by epoch"
    return charts.figure(lines, "loss, scaled target", title=title, dates=False)
