"""Lists of forecasts: all, page by page, and the newest of each ticker."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from sqlalchemy import Engine, text

from stock_assets.storage.forecasts import save_predictions
from stock_assets.storage.serving.forecasts import (
    FORECAST_ORDER,
    ForecastFilter,
    list_forecasts,
    list_latest_forecasts,
)
from stock_assets_tests.storage.examples import DAYS, forecasts
from stock_assets_tests.tampering import tampering

EVERYTHING = 10_000


@pytest.fixture
def made(engine: Engine) -> Engine:
    """Two versions that overlap; C stops early; the older version forecast the newest day last."""
    save_predictions(engine, forecasts(DAYS[:6], "ABC"), DAYS[:6], 1)
    save_predictions(engine, forecasts(DAYS[4:9], "AB", version=2), DAYS[4:9], 2)
    last = forecasts(DAYS[8:9], "A", price=99.0)
    save_predictions(engine, last, DAYS[8:9], 1)
    ahead = forecasts(DAYS[:2], "A").assign(horizon=2)
    save_predictions(engine, pd.concat([forecasts(DAYS[:2], "ABC"), ahead]), DAYS[:2], 1)
    return engine


def keys(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in FORECAST_ORDER) for row in rows]


def stored(engine: Engine) -> pd.DataFrame:
    with engine.connect() as connection:
        return pd.read_sql(text("SELECT * FROM predictions"), connection)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("listed", [list_forecasts, list_latest_forecasts])
def test_pages_have_each_row_once_in_order(made: Engine, listed: Any, size: int) -> None:
    whole = listed(made, ForecastFilter(), EVERYTHING)
    walked: list[dict[str, Any]] = []
    while page := listed(made, ForecastFilter(), size, keys(walked)[-1] if walked else None):
        walked += page
    assert walked == whole
    assert keys(whole) == sorted(keys(whole), key=lambda key: (-key[0].toordinal(), *key[1:]))


def test_list_forecasts_returns_the_table(made: Engine) -> None:
    table = stored(made)
    assert len(table) > 20
    listed = pd.DataFrame(list_forecasts(made, ForecastFilter(), EVERYTHING))
    key = list(FORECAST_ORDER)
    pd.testing.assert_frame_equal(
        listed.sort_values(key, ignore_index=True), table.sort_values(key, ignore_index=True)
    )


def test_a_page_starts_after_a_deleted_row(made: Engine) -> None:
    whole = list_forecasts(made, ForecastFilter(), EVERYTHING)
    with tampering(made) as connection:
        connection.execute(text("DELETE FROM predictions WHERE ticker = 'A'"))
    left = [row for row in whole[5:] if row["ticker"] != "A"]
    assert list_forecasts(made, ForecastFilter(), EVERYTHING, keys(whole)[4]) == left


@pytest.mark.parametrize(
    "wanted",
    [
        ForecastFilter(),
        ForecastFilter(tickers=["A", "C"]),
        ForecastFilter(horizon=1),
        ForecastFilter(horizon=2),
        ForecastFilter(model_version=1),
        ForecastFilter(as_of_to=DAYS[5]),
        ForecastFilter(as_of_from=DAYS[6]),
        ForecastFilter(target_from=DAYS[3], target_to=DAYS[5]),
        ForecastFilter(tickers=["B"], model_version=2, as_of_to=DAYS[7]),
        ForecastFilter(tickers=["NONE"]),
    ],
)
def test_latest_forecasts_are_taken_from_the_filtered(made: Engine, wanted: ForecastFilter) -> None:
    table = stored(made)
    for name, compare in {
        "horizon": table["horizon"].eq,
        "model_version": table["model_version"].eq,
        "as_of_from": table["as_of_session"].ge,
        "as_of_to": table["as_of_session"].le,
        "target_from": table["target_session"].ge,
        "target_to": table["target_session"].le,
    }.items():
        if getattr(wanted, name) is not None:
            table = table[compare(getattr(wanted, name)).reindex(table.index)]
    if wanted.tickers:
        table = table[table["ticker"].isin(wanted.tickers)]
    order = ["as_of_session", "predicted_at", "model_version"]
    newest = table.sort_values(order).groupby("ticker").tail(1)
    key = ["ticker", "as_of_session", "model_version"]
    expected = table.merge(newest[key]).sort_values(["ticker", "horizon"], ignore_index=True)
    listed = list_latest_forecasts(made, wanted, EVERYTHING)
    found = pd.DataFrame(listed, columns=table.columns)
    found = found.sort_values(["ticker", "horizon"], ignore_index=True)
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)


def test_latest_forecasts_equal_the_view(made: Engine) -> None:
    with made.connect() as connection:
        view = connection.execute(text("SELECT * FROM latest_predictions")).mappings()
        seen = {(row["ticker"], row["horizon"]): dict(row) for row in view}
    listed = list_latest_forecasts(made, ForecastFilter(), EVERYTHING)
    assert seen == {(row["ticker"], row["horizon"]): row for row in listed}
    assert seen["A", 1]["model_version"] == 1  # it forecast the newest session last
    assert seen["C", 1]["as_of_session"] == DAYS[5]


def test_an_older_forecast_of_a_longer_horizon_is_not_among_the_latest(made: Engine) -> None:
    assert {1, 2} == set(stored(made).query("ticker == 'A'")["horizon"])
    listed = list_latest_forecasts(made, ForecastFilter(tickers=["A"]), EVERYTHING)
    assert [row["horizon"] for row in listed] == [1]
    (row,) = list_latest_forecasts(made, ForecastFilter(["A"], horizon=2), EVERYTHING)
    assert row["as_of_session"] == DAYS[1]


def test_without_forecasts_the_list_is_empty(engine: Engine) -> None:
    assert list_forecasts(engine, ForecastFilter(), EVERYTHING) == []
    assert list_latest_forecasts(engine, ForecastFilter(), EVERYTHING) == []
