"""Queries of the pages where several versions forecast one session."""

from __future__ import annotations

import pandas as pd
import pytest
from sqlalchemy import Engine

from stock_assets.market import calendar
from stock_assets.pipeline.forecasting import score_sessions
from stock_assets.storage.forecasts import save_performance, save_predictions
from stock_assets.storage.serving.pages import newest_forecast_of, scored_forecasts
from stock_assets_tests.storage.examples import DAYS, bars, forecasts, store_bars
from stock_assets_tests.storage.test_forecast_issues import AS_OF, move_clock


def test_all_horizons_of_a_ticker_are_of_the_version_that_forecast_last(engine: Engine) -> None:
    one = forecasts(DAYS[:1], "AB")
    save_predictions(engine, pd.concat([one, one.assign(horizon=2)]), DAYS[:1], 1)
    assert newest_forecast_of(engine, "A")["horizon"].tolist() == [1, 2]
    save_predictions(engine, forecasts(DAYS[:1], "A", version=2), DAYS[:1], 2)
    found = newest_forecast_of(engine, "A")
    assert found[["model_version", "horizon"]].to_numpy().tolist() == [[2, 1]]
    assert newest_forecast_of(engine, "B")["horizon"].tolist() == [1, 2]
    assert newest_forecast_of(engine, "C").empty


@pytest.mark.parametrize("live", [True, False])
def test_the_first_live_forecast_of_a_session_counts_else_the_last(
    engine: Engine, live: bool
) -> None:
    """Version 2 forecasts a session again that version 1 has forecast, perhaps live."""
    as_of = AS_OF if live else DAYS[0]
    target = calendar.next_session(as_of)
    for version in (1, 2):
        save_predictions(engine, forecasts([as_of], "A", version), [as_of], version)
        if live and version == 1:
            move_clock(engine, calendar.open_time(target))
    store_bars(engine, bars("A", [as_of, target]))
    save_performance(engine, score_sessions(engine, [target])[1], [target], "run")
    found = scored_forecasts(engine, "A", target, target, 1)
    assert found["model_version"].tolist() == ([1, 2] if live else [2, 1])
    assert found["issued"].tolist() == ["live" if live else "backfilled", "backfilled"]
