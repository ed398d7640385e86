"""Queries of the pages where several versions forecast one session."""

from __future__ import annotations

import pandas as pd
from sqlalchemy import Engine

from stock_assets.storage.forecasts import save_predictions
from stock_assets.storage.serving.pages import newest_forecast_of
from stock_assets_tests.storage.examples import DAYS, forecasts


def test_all_horizons_of_a_ticker_are_of_the_version_that_forecast_last(engine: Engine) -> None:
    one = forecasts(DAYS[:1], "AB")
    save_predictions(engine, pd.concat([one, one.assign(horizon=2)]), DAYS[:1], 1)
    assert newest_forecast_of(engine, "A")["horizon"].tolist() == [1, 2]
    save_predictions(engine, forecasts(DAYS[:1], "A", version=2), DAYS[:1], 2)
    found = newest_forecast_of(engine, "A")
    assert found[["model_version", "horizon"]].to_numpy().tolist() == [[2, 1]]
    assert newest_forecast_of(engine, "B")["horizon"].tolist() == [1, 2]
    assert newest_forecast_of(engine, "C").empty
