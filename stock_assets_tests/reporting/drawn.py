"""What the tests of figures share."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from stock_assets.evaluation.metrics import score_rows
from stock_assets.market.calendar import sessions
from stock_assets.reporting.charts import Chart

DAYS = sessions(date(2012, 12, 20), date(2013, 1, 10))


def assert_equal(drawn: Any, expected: Any) -> None:
    """Compare numbers that a figure holds rounded to six decimals."""
    np.testing.assert_allclose(
        np.asarray(drawn, dtype=float), np.asarray(expected, dtype=float), atol=1e-6
    )


def traces(figure: Chart) -> dict[str, Chart]:
    """Return the traces of a figure by name."""
    return {trace["name"]: trace for trace in figure["data"]}


def rows() -> pd.DataFrame:
    """Two tickers over thirty sessions, newest first."""
    days = pd.date_range("2013-01-01", periods=30, freq="B")
    frame = pd.DataFrame(
        {
            "session": np.repeat(days, 2),
            "ticker": ["AAA", "BBB"] * 30,
            "horizon": 1,
            "actual": np.linspace(100.0, 130.0, 60),
            "predicted": np.linspace(101.0, 131.0, 60),
            "persistence": np.linspace(98.0, 128.0, 60),
        }
    )
    frame = frame.assign(lower=frame["predicted"] - 3, upper=frame["predicted"] + 3)
    return score_rows(frame.iloc[::-1].reset_index(drop=True))
