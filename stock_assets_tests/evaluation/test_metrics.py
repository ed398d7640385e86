"""Scores: what each number means, checked against scikit-learn, SciPy and their own laws."""

from __future__ import annotations

import json
from dataclasses import asdict, astuple

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import (
    mean_absolute_error,
    mean_absolute_percentage_error,
    root_mean_squared_error,
)

from stock_assets.core.errors import StockAssetsError
from stock_assets.evaluation.metrics import (
    Metrics,
    block_coverage,
    by_ticker,
    persistence_forecasts,
    score_rows,
    summarise,
    undefined_as_none,
    weekly_coverage,
)

law = settings(max_examples=12, deadline=None)

DAYS = pd.bdate_range("2013-01-02", periods=5)


def forecast_frame(rows: list[tuple[int, str, float, float, float]]) -> pd.DataFrame:
    """Rows of (day number, ticker, actual, predicted, persistence)."""
    frame = pd.DataFrame(rows, columns=["day", "ticker", "actual", "predicted", "persistence"])
    frame.insert(0, "session", DAYS[frame.pop("day")])
    return frame.assign(horizon=1)


moves = st.floats(-0.2, 0.2).map(lambda move: round(move, 4))
forecasts = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from("ABC"), moves, moves, st.integers(100, 100_000)),
    min_size=1,
    max_size=30,
).map(
    lambda rows: forecast_frame(
        [
            (day, ticker, close / 100 * (1 + actual), close / 100 * (1 + predicted), close / 100)
            for day, ticker, actual, predicted, close in rows
        ]
    )
)


def metrics_of(frame: pd.DataFrame) -> Metrics:
    return summarise(score_rows(frame))


@pytest.fixture
def two_forecasts() -> pd.DataFrame:
    """A rise of 100 to 110 forecast as 104, and a fall of 10 to 9 forecast as 11."""
    return forecast_frame([(0, "A", 110.0, 104.0, 100.0), (1, "B", 9.0, 11.0, 10.0)])


def test_every_score_of_two_forecasts_worked_by_hand(two_forecasts: pd.DataFrame) -> None:
    metrics = metrics_of(two_forecasts.assign(lower=[90.0, 10.0], upper=[120.0, 12.0]))
    assert (metrics.forecasts, metrics.sessions) == (2, 2)
    assert metrics.mae == pytest.approx((6 + 2) / 2)
    assert metrics.rmse == pytest.approx(np.sqrt((36 + 4) / 2))
    assert metrics.mape == pytest.approx((6 / 110 + 2 / 9) / 2)
    assert metrics.relative_mae == pytest.approx((6 / 100 + 2 / 10) / (10 / 100 + 1 / 10))
    assert metrics.direction_accuracy == 0.5
    assert metrics.base_rate_up == 0.5
    assert metrics.ic == pytest.approx(-1.0)
    assert metrics.rank_ic == pytest.approx(-1.0)
    assert metrics.coverage == 0.5


def test_score_rows_adds_the_errors_of_each_row(two_forecasts: pd.DataFrame) -> None:
    first = score_rows(two_forecasts.assign(lower=90.0, upper=104.0)).iloc[0]
    assert first["absolute_error"] == 6
    assert first["squared_error"] == 36
    assert first["absolute_percentage_error"] == 6 / 110
    assert first["persistence_absolute_error"] == 10
    assert first["direction_hit"] == 1
    assert first["covered"] == 0


@law
@given(forecasts)
def test_errors_agree_with_scikit_learn(frame: pd.DataFrame) -> None:
    metrics = metrics_of(frame)
    actual, predicted = frame["actual"], frame["predicted"]
    assert metrics.mae == pytest.approx(mean_absolute_error(actual, predicted))
    assert metrics.rmse == pytest.approx(root_mean_squared_error(actual, predicted))
    assert metrics.mape == pytest.approx(mean_absolute_percentage_error(actual, predicted))


@law
@given(forecasts)
def test_ic_agrees_with_scipy(frame: pd.DataFrame) -> None:
    predicted = (frame["predicted"] / frame["persistence"] - 1).round(9)
    actual = (frame["actual"] / frame["persistence"] - 1).round(9)
    assume(min(predicted.std(ddof=0), actual.std(ddof=0)) > 1e-6)
    metrics = metrics_of(frame)
    assert metrics.ic == pytest.approx(pearsonr(predicted, actual).statistic, abs=1e-9)
    assert metrics.rank_ic == pytest.approx(spearmanr(predicted, actual).statistic, abs=1e-9)


@law
@given(forecasts)
def test_persistence_has_relative_mae_one_no_direction_and_no_ic(frame: pd.DataFrame) -> None:
    assume((frame["actual"] != frame["persistence"]).any())
    metrics = metrics_of(persistence_forecasts(frame))
    assert metrics.relative_mae == 1
    undefined = [metrics.direction_accuracy, metrics.ic, metrics.rank_ic, metrics.coverage]
    assert np.isnan(undefined).all()


@law
@given(forecasts)
def test_a_perfect_forecast_has_no_error_and_every_direction(frame: pd.DataFrame) -> None:
    assume((frame["actual"] != frame["persistence"]).any())
    metrics = metrics_of(frame.assign(predicted=frame["actual"]))
    assert metrics.mae == metrics.rmse == metrics.mape == metrics.relative_mae == 0
    assert metrics.direction_accuracy == 1


@law
@given(forecasts)
def test_always_up_scores_the_base_rate(frame: pd.DataFrame) -> None:
    assume((frame["actual"] != frame["persistence"]).any())
    metrics = metrics_of(frame.assign(predicted=frame["persistence"] * 2))
    assert metrics.direction_accuracy == metrics.base_rate_up


def test_the_base_rate_is_of_the_forecasts_that_have_a_direction() -> None:
    rises = [(day, "A", 11.0, 10.0, 10.0) for day in range(3)]
    metrics = metrics_of(
        forecast_frame([*rises, (3, "B", 9.0, 9.5, 10.0), (4, "B", 11.0, 9.5, 10.0)])
    )
    assert (metrics.direction_accuracy, metrics.base_rate_up) == (0.5, 0.5)


@law
@given(forecasts, st.integers(0, 99))
def test_the_order_of_rows_changes_nothing(frame: pd.DataFrame, seed: int) -> None:
    shuffled = frame.sample(frac=1, random_state=seed)
    expected, found = astuple(metrics_of(frame)), astuple(metrics_of(shuffled))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@law
@given(forecasts, st.floats(0.01, 100))
def test_scaling_one_tickers_prices_leaves_relative_scores(
    frame: pd.DataFrame, factor: float
) -> None:
    scaled = frame.copy()
    scaled.loc[scaled["ticker"] == "A", ["actual", "predicted", "persistence"]] *= factor
    before, after = metrics_of(frame), metrics_of(scaled)
    assert after.mape == pytest.approx(before.mape)
    assert after.relative_mae == pytest.approx(before.relative_mae, nan_ok=True)


@law
@given(forecasts)
def test_summaries_per_ticker_add_up_to_the_whole(frame: pd.DataFrame) -> None:
    rows = score_rows(frame)
    tickers, whole = by_ticker(rows), summarise(rows)
    assert list(tickers["ticker"]) == sorted(set(frame["ticker"]))
    assert tickers["forecasts"].sum() == whole.forecasts
    assert np.average(tickers["mae"], weights=tickers["forecasts"]) == pytest.approx(whole.mae)
    first = tickers.iloc[0].to_dict()
    alone = rows[rows["ticker"] == first.pop("ticker")]
    assert first == pytest.approx(asdict(summarise(alone)), nan_ok=True)


@law
@given(forecasts)
def test_scoring_scored_rows_again_changes_nothing(frame: pd.DataFrame) -> None:
    rows = score_rows(frame)
    pd.testing.assert_frame_equal(score_rows(rows), rows)


def test_an_interval_needs_both_bounds(two_forecasts: pd.DataFrame) -> None:
    frame = two_forecasts.assign(lower=[90.0, np.nan], upper=[np.nan, 12.0])
    assert score_rows(frame)["covered"].isna().all()


def test_rounding_is_no_move() -> None:
    rows = score_rows(forecast_frame([(0, "A", 10.0 * (1 + 1e-15), 11.0, 10.0)]))
    assert rows["actual"].item() != 10.0
    assert np.isnan(rows["direction_hit"].item())


@pytest.mark.parametrize(("actual", "predicted"), [(10.0, 11.0), (11.0, 10.0), (10.0, 10.0)])
def test_a_move_of_zero_has_no_direction(actual: float, predicted: float) -> None:
    row = score_rows(forecast_frame([(0, "A", actual, predicted, 10.0)])).iloc[0]
    assert np.isnan(row["direction_hit"])


def test_flat_prices_leave_relative_mae_and_directions_undefined() -> None:
    metrics = metrics_of(forecast_frame([(0, "A", 10.0, 11.0, 10.0), (1, "A", 10.0, 9.0, 10.0)]))
    assert np.isnan([metrics.relative_mae, metrics.base_rate_up, metrics.ic]).all()
    assert metrics.mae == 1


def test_a_forecast_of_one_return_for_all_has_no_ic() -> None:
    closes = np.array([33.3, 71.7, 12.9, 57.1])
    predicted, actual = np.exp(np.log(closes) + 0.01), closes * [1.1, 0.9, 1.2, 1.0]
    frame = forecast_frame([(0, "A", *row) for row in zip(actual, predicted, closes, strict=True)])
    assert (predicted / closes).std() > 0, "they differ by rounding alone"
    assert np.isnan([metrics_of(frame).ic, metrics_of(frame).rank_ic]).all()


def test_coverage_counts_only_forecasts_with_an_interval(two_forecasts: pd.DataFrame) -> None:
    frame = two_forecasts.assign(lower=[110.0, np.nan], upper=[110.0, np.nan])
    assert score_rows(frame)["covered"].tolist() == pytest.approx([1.0, np.nan], nan_ok=True)
    assert metrics_of(frame).coverage == 1
    assert np.isnan(metrics_of(two_forecasts).coverage)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("actual", np.nan),
        ("predicted", np.inf),
        ("persistence", np.nan),
        ("actual", 0.0),
        ("persistence", 0.0),
    ],
)
def test_a_price_that_cannot_be_scored_is_an_error(
    two_forecasts: pd.DataFrame, column: str, value: float
) -> None:
    two_forecasts.loc[1, column] = value
    with pytest.raises(StockAssetsError, match=f"of B for 2013-01-03 has {value} as its {column}"):
        score_rows(two_forecasts)


def test_undefined_figures_are_none_in_json(two_forecasts: pd.DataFrame) -> None:
    plain = undefined_as_none(asdict(metrics_of(two_forecasts)))
    assert plain["coverage"] is None
    assert plain["forecasts"] == 2
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain


def test_nothing_to_summarise_is_an_error(two_forecasts: pd.DataFrame) -> None:
    with pytest.raises(StockAssetsError, match="no scored forecast"):
        summarise(score_rows(two_forecasts).iloc[:0])


def test_weekly_coverage_starts_a_week_on_monday() -> None:
    friday, monday = pd.Timestamp("2013-01-04"), pd.Timestamp("2013-01-07")
    days = pd.Series([friday, friday, monday, monday + pd.Timedelta(days=3)])
    rows = pd.DataFrame({"session": days, "covered": [1.0, 0.0, 1.0, np.nan]})
    assert weekly_coverage(rows).to_dict() == {friday: 0.5, monday: 1.0}


def test_block_coverage_is_the_share_of_each_whole_block() -> None:
    covered = np.array([[1.0, 0.0], [np.nan, 1.0], [1.0, 1.0], [0.0, 0.0], [1.0, 1.0]])
    assert block_coverage(covered, 2).tolist() == pytest.approx([2 / 3, 0.5])
