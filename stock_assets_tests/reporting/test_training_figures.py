"""Figures of a dataset and of training: the numbers drawn are the numbers given."""

from __future__ import annotations

import numpy as np
import pandas as pd

from stock_assets.reporting.training_figures import training_figure, validity_figure
from stock_assets_tests.reporting.drawn import DAYS, traces


def test_training_figure_shows_the_losses() -> None:
    history = pd.DataFrame({"epoch": [1, 2], "train_loss": [3.0, 2.0], "validation_loss": [4.0, 5]})
    drawn = traces(training_figure([history]))
    assert list(drawn["training"]["y"]) == [3.0, 2.0]
    assert list(drawn["validation"]["y"]) == [4.0, 5.0]
    assert list(drawn["training"]["x"]) == [1, 2]


def test_training_figure_shows_every_member() -> None:
    histories = [
        pd.DataFrame({"epoch": [1, 2], "train_loss": loss, "validation_loss": loss + 1})
        for loss in range(8)
    ]
    drawn = traces(training_figure(histories))
    assert len(drawn) == 16
    for number, history in enumerate(histories, start=1):
        for name, column in (("training", "train_loss"), ("validation", "validation_loss")):
            assert list(drawn[f"{name}, member {number}"]["y"]) == list(history[column])
    first, second = (drawn[f"validation, member {number}"]["line"]["color"] for number in (1, 2))
    assert first != second


def test_masked_rows_are_drawn_by_session_and_ticker() -> None:
    valid = np.array([[True, False], [True, True], [False, True]])
    (cells,) = validity_figure(valid, pd.DatetimeIndex(DAYS[:3]), ["A", "B"])["data"]
    assert cells["x"] == [str(day) for day in DAYS[:3]]
    assert dict(zip(cells["y"], cells["z"], strict=True)) == {"A": [1, 1, 0], "B": [0, 1, 1]}
