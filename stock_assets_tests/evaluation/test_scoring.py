"""Scoring what came due: on one basis across splits and dividends, only what can be scored."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stock_assets.evaluation.scoring import score_due
from stock_assets.market import calendar
from stock_assets.market.bars import empty_bars, tidy
from stock_assets.market.sources.sample import load_sample

DAYS = calendar.sessions(date(2013, 1, 2), date(2013, 1, 18))


def bars(closes: list[float], ticker: str = "AAA", **events: dict[int, float]) -> pd.DataFrame:
    """Closes as traded of consecutive sessions; events by the number of their session."""
    columns = {
        name: [events.get(name, {}).get(row, 0.0) for row in range(len(closes))]
        for name in ("dividends", "stock_splits")
    }
    prices = dict.fromkeys(("open", "high", "low", "close"), closes)
    frame = {"ticker": ticker, "session": pd.to_datetime(DAYS[: len(closes)]), "volume": 1.0}
    return tidy(pd.DataFrame(frame | prices | columns))


def forecast(
    row: int, last_close: float, predicted: float, ticker: str = "AAA", ahead: int = 1
) -> pd.DataFrame:
    """A forecast as of session `row`, with an interval of 2 % to each side."""
    return pd.DataFrame(
        {
            "as_of_session": [pd.Timestamp(DAYS[row])],
            "target_session": [pd.Timestamp(DAYS[row + ahead])],
            "ticker": [ticker],
            "horizon": [ahead],
            "last_close": [last_close],
            "predicted_price": [predicted],
            "lower_price": [0.98 * predicted],
            "upper_price": [1.02 * predicted],
            "model_version": [3],
        }
    )


def test_a_forecast_is_compared_with_the_close_of_its_target() -> None:
    row = score_due(forecast(1, 101.0, 104.0), bars([100.0, 101.0, 103.0])).iloc[0]
    assert row["session"] == pd.Timestamp(DAYS[2])
    assert (row["actual"], row["predicted"], row["persistence"]) == (103.0, 104.0, 101.0)
    assert row["absolute_percentage_error"] == pytest.approx(1 / 103)
    assert row["persistence_absolute_error"] == 2.0
    assert (row["direction_hit"], row["covered"]) == (1.0, 1.0)


def test_a_ten_for_one_split_is_no_error_of_ninety_percent() -> None:
    traded = bars([500.0, 505.0, 51.0], stock_splits={2: 10.0})
    row = score_due(forecast(1, 505.0, 515.0), traded).iloc[0]
    assert row["actual"] == 51.0
    assert row["predicted"] == pytest.approx(51.5)
    assert row["persistence"] == pytest.approx(50.5)
    assert (row["lower"], row["upper"]) == pytest.approx((50.47, 52.53))
    assert row["absolute_percentage_error"] == pytest.approx(0.5 / 51)
    assert (row["direction_hit"], row["covered"]) == (1.0, 1.0)


def test_an_ex_dividend_day_is_no_fall() -> None:
    traded = bars([100.0, 100.0, 96.0], dividends={2: 4.0})
    row = score_due(forecast(1, 100.0, 101.0), traded).iloc[0]
    assert row["persistence"] == pytest.approx(96.0)
    assert row["predicted"] == pytest.approx(101 * 0.96)
    assert row["persistence_absolute_error"] == pytest.approx(0.0, abs=1e-12)


def test_a_split_and_a_dividend_of_one_day_are_both_taken_out() -> None:
    traded = bars([400.0, 400.0, 198.0], stock_splits={2: 2.0}, dividends={2: 2.0})
    row = score_due(forecast(1, 400.0, 400.0), traded).iloc[0]
    assert row["persistence"] == pytest.approx(198.0)
    assert row["absolute_error"] == pytest.approx(0.0, abs=1e-9)


def test_events_at_or_before_the_as_of_session_were_known() -> None:
    plain = bars([100.0, 101.0, 103.0])
    known = bars([1000.0, 101.0, 103.0], stock_splits={1: 10.0}, dividends={1: 1.0})
    made = forecast(1, 101.0, 104.0)
    pd.testing.assert_frame_equal(score_due(made, plain), score_due(made, known), rtol=1e-12)


def test_every_event_between_the_two_sessions_counts() -> None:
    traded = bars([600.0, 300.0, 100.0, 101.0], stock_splits={1: 2.0, 2: 3.0})
    row = score_due(forecast(0, 600.0, 606.0, ahead=3), traded).iloc[0]
    assert (row["predicted"], row["persistence"]) == pytest.approx((101.0, 100.0))


def test_a_forecast_of_three_sessions_is_scored_across_a_split_and_a_dividend() -> None:
    """A dividend on the second day, a split on the third; each counts from its day on."""
    traded = bars([100.0, 98.0, 24.5, 25.0], dividends={1: 2.0}, stock_splits={2: 4.0})
    made = pd.concat([forecast(0, 100.0, 100.0, ahead=ahead) for ahead in (1, 2, 3)])
    rows = score_due(made.iloc[::-1], traded).set_index("horizon")
    assert rows["session"].dt.date.tolist() == DAYS[1:4]
    assert rows["actual"].tolist() == [98.0, 24.5, 25.0]
    assert rows["predicted"].tolist() == pytest.approx([98.0, 24.5, 24.5])
    assert rows["persistence"].tolist() == pytest.approx([98.0, 24.5, 24.5])
    assert rows["absolute_error"].tolist() == pytest.approx([0.0, 0.0, 0.5], abs=1e-12)
    assert rows["covered"].tolist() == [1.0, 1.0, 0.0]


@settings(max_examples=10, deadline=None)
@given(
    st.sampled_from([0.1, 0.5, 1.5, 2.0, 3.0, 7.0, 10.0, 20.0]),
    st.floats(0.8, 1.25),
    st.floats(0.8, 1.25),
)
def test_a_split_changes_no_relative_score(ratio: float, move: float, guess: float) -> None:
    made = forecast(1, 100.0, 100.0 * guess)
    plain = score_due(made, bars([100.0, 100.0, 100.0 * move])).iloc[0]
    split = score_due(
        made, bars([100.0, 100.0, 100.0 * move / ratio], stock_splits={2: ratio})
    ).iloc[0]
    assert split["absolute_percentage_error"] == pytest.approx(
        plain["absolute_percentage_error"], abs=1e-9
    )
    for name in ("actual", "predicted", "persistence", "lower", "upper"):
        assert split[name] * ratio == pytest.approx(plain[name])


def real_forecasts(bars: pd.DataFrame) -> pd.DataFrame:
    """Forecasts of the next session as of every bar, a little above its close."""
    following = {day: calendar.next_session(day.date()) for day in bars["session"].unique()}
    return pd.DataFrame(
        {
            "as_of_session": bars["session"],
            "target_session": pd.to_datetime(bars["session"].map(following)),
            "ticker": bars["ticker"],
            "horizon": 1,
            "last_close": bars["close"],
            "predicted_price": bars["close"] * 1.001,
            "lower_price": bars["close"] * 0.98,
            "upper_price": bars["close"] * 1.02,
        }
    )


@settings(max_examples=4, deadline=None)
@given(st.dates(date(2012, 5, 25), date(2012, 8, 7)), st.dates(date(2012, 8, 9), date(2013, 3, 1)))
def test_a_score_does_not_depend_on_other_forecasts(first: date, last: date) -> None:
    """IBM's ex-date of 2012-08-08, after others of many years or of none."""
    sample = load_sample()
    day, ex_date = pd.Timestamp("2012-08-07"), pd.Timestamp("2012-08-08")
    assert sample.query("ticker == 'IBM' and session == @ex_date")["dividends"].item() > 0
    alone = sample[sample["session"].isin([day, ex_date])].reset_index(drop=True)
    single = score_due(real_forecasts(alone[alone["session"] == day]), alone)
    for start in (first, date(2000, 3, 1)):
        bars = sample[sample["session"].between(pd.Timestamp(start), pd.Timestamp(last))]
        ranged = score_due(real_forecasts(bars), bars.reset_index(drop=True))
        found = ranged[ranged["session"] == ex_date].reset_index(drop=True)
        pd.testing.assert_frame_equal(found, single, check_exact=True)


def test_each_ticker_has_its_own_events() -> None:
    traded = tidy(
        pd.concat(
            [
                bars([500.0, 505.0, 51.0], stock_splits={2: 10.0}),
                bars([20.0, 20.0, 21.0], "BBB", dividends={2: 1.0}),
            ]
        )
    )
    made = pd.concat([forecast(1, 20.0, 20.0, "BBB"), forecast(1, 505.0, 505.0)])
    rows = score_due(made, traded)
    assert rows["ticker"].tolist() == ["AAA", "BBB"]
    assert rows["persistence"].tolist() == pytest.approx([50.5, 19.0])


def test_what_has_no_close_yet_is_left_out() -> None:
    traded = tidy(pd.concat([bars([100.0, 101.0, 103.0]), bars([20.0, 20.0], "BBB")]))
    made = pd.concat([forecast(1, 101.0, 104.0), forecast(1, 20.0, 21.0, "BBB")])
    assert score_due(made, traded)["ticker"].tolist() == ["AAA"]
    assert score_due(made, empty_bars()).empty


def test_no_forecast_gives_no_row_but_every_column() -> None:
    traded = bars([100.0, 101.0, 103.0])
    none, some = (
        score_due(forecast(1, 1.0, 1.0).iloc[:0], traded),
        score_due(forecast(1, 101.0, 104.0), traded),
    )
    assert none.empty
    assert list(none.columns) == list(some.columns)


def test_forecasts_of_one_session_are_in_the_order_of_their_horizons() -> None:
    traded = bars([100.0, 101.0, 103.0, 102.0])
    made = pd.concat([forecast(3 - ahead, 100.0, 101.0, ahead=ahead) for ahead in (2, 3, 1)])
    rows = score_due(made, traded)
    assert rows["horizon"].tolist() == [1, 2, 3]
    assert rows["as_of_session"].dt.date.tolist() == DAYS[2::-1]


def test_rows_are_sorted_and_keep_other_columns() -> None:
    traded = bars([100.0, 101.0, 103.0, 102.0])
    made = pd.concat([forecast(row, 100.0, 101.0) for row in (2, 0, 1)], ignore_index=True)
    rows = score_due(made, traded)
    assert rows["session"].dt.date.tolist() == DAYS[1:4]
    assert rows["as_of_session"].dt.date.tolist() == DAYS[:3]
    assert rows["model_version"].tolist() == [3, 3, 3]
    assert not {"predicted_price", "last_close", "row", "origin_row"} & set(rows.columns)
    assert np.isfinite(rows["squared_error"]).all()
