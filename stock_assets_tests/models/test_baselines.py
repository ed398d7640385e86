"""Baselines: their forecasts, the sessions they use, and the triples they are scored on."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stock_assets.core.errors import StockAssetsError
from stock_assets.evaluation.metrics import persistence_forecasts, score_rows
from stock_assets.evaluation.scoring import score_due
from stock_assets.market import calendar
from stock_assets.market.adjustment import adjust
from stock_assets.models.baselines import baseline_rows, reversal, ridge, session_returns
from stock_assets_tests.models.bundles import FIRST, LAST, bundle, same_frame, sample_bars
from stock_assets_tests.storage.examples import bars as made_up_bars

WINDOW = 5
DAYS = pd.DatetimeIndex(calendar.sessions(date(2010, 1, 4), date(2012, 12, 31)), name="session")
TRAIN = (DAYS[30].date(), DAYS[500].date())
VALIDATION = (DAYS[510].date(), DAYS[600].date())


TESTED = np.arange(len(DAYS)) > 601 + WINDOW


def walk(seed: int = 0, follow: float = 0.0, tickers: int = 3) -> pd.DataFrame:
    """Return autoregressive log returns with coefficient `follow`; the scale differs by ticker."""
    noise = np.random.default_rng(seed).standard_normal((len(DAYS), tickers))
    for row in range(1, len(DAYS)):
        noise[row] += follow * noise[row - 1]
    sizes = 0.01 * np.arange(1, tickers + 1)
    return pd.DataFrame(sizes * noise, DAYS, [f"T{number}" for number in range(tickers)])


def fitted(returns: pd.DataFrame, horizon: int = 1) -> pd.DataFrame:
    """Return the ridge forecasts of a horizon."""
    return ridge(returns, TRAIN, VALIDATION, WINDOW, horizon).loc[horizon]


def test_session_returns_use_adjusted_closes() -> None:
    bars = sample_bars()
    returns = session_returns(bars, FIRST, LAST)
    assert list(returns.index.date) == calendar.sessions(FIRST, LAST)
    for ticker, own in adjust(bars, "adjusted", LAST).groupby("ticker"):
        closes = own.set_index("session")["close"]
        expected = np.log(closes).diff().reindex(returns.index)
        np.testing.assert_allclose(returns[ticker], expected, atol=1e-12)


def test_session_returns_ignore_splits_and_dividends() -> None:
    days = calendar.sessions(date(2013, 1, 2), date(2013, 1, 7))
    bars = made_up_bars("A", days).assign(
        close=[100.0, 10.0, 9.0, 9.0],
        stock_splits=[0.0, 10.0, 0.0, 0.0],
        dividends=[0.0, 0.0, 1.0, 0.0],
    )
    returns = session_returns(bars, days[0], days[-1])["A"]
    np.testing.assert_allclose(returns, [np.nan, 0, 0, 0], atol=1e-12)


def test_session_return_needs_both_bars() -> None:
    days = calendar.sessions(date(2013, 1, 2), date(2013, 1, 9))
    bars = made_up_bars("AB", days)
    gone = bars[(bars["ticker"] != "A") | (bars["session"] != pd.Timestamp(days[2]))]
    returns = session_returns(gone.reset_index(drop=True), days[0], days[-1])
    assert returns["A"].isna().tolist() == [True, False, True, True, False, False]
    assert returns["B"].isna().tolist() == [True, False, False, False, False, False]


def test_reversal_negates_the_last_return() -> None:
    returns = pd.DataFrame({"A": [np.nan, 0.01], "B": [-0.02, 0.0]}, DAYS[:2])
    assert reversal(returns, 1).to_numpy().tolist() == [[0.0, 0.02], [-0.01, 0.0]]


def test_reversal_forecasts_no_change_after_the_next_session() -> None:
    forecast = reversal(walk(), 3)
    for horizon in (1, 2, 3):
        pd.testing.assert_frame_equal(
            forecast.loc[horizon], -walk(), check_names=False, check_freq=False
        )


def test_ridge_learns_an_autoregression() -> None:
    returns = walk(follow=0.5)
    forecast = fitted(returns)
    for ticker in returns:
        known, said = returns[ticker][TESTED], forecast[ticker][TESTED]
        assert np.polyfit(known, said, 1)[0] == pytest.approx(0.5, abs=0.07)
        assert np.corrcoef(known, said)[0, 1] > 0.95


def test_ridge_forecasts_almost_no_change_on_noise() -> None:
    forecast = fitted(walk())
    assert float((forecast.std() / walk().std()).max()) < 0.1


@pytest.mark.parametrize("horizon", [1, 3])
def test_ridge_agrees_with_its_closed_form(horizon: int) -> None:
    returns = walk(follow=0.3)
    inside = [(days[0] <= DAYS.date) & (DAYS.date <= days[1]) for days in (TRAIN, VALIDATION)]
    seen = returns[DAYS.date <= TRAIN[1]]
    scaled = (returns / np.sqrt((seen**2).mean())).to_numpy()

    def pairs(chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ends = np.nonzero(chosen)[0]
        windows = [scaled[end - WINDOW + 1 : end + 1].T for end in ends]
        label = sum(scaled[ends + ahead] for ahead in range(1, horizon + 1))
        return np.concatenate(windows), label.ravel()

    inputs, label = pairs(inside[0])
    held_back, outcome = pairs(inside[1])
    centre, mean = inputs.mean(axis=0), label.mean()
    lines = []
    for shrinkage in (0.01, 0.1, 1, 10, 100):
        moments = (inputs - centre).T @ (inputs - centre)
        penalty = shrinkage * len(label) * np.eye(WINDOW)
        slope = np.linalg.solve(moments + penalty, (inputs - centre).T @ (label - mean))
        error = np.mean((outcome - mean - (held_back - centre) @ slope) ** 2)
        lines.append((error, slope))
    _, slope = min(lines, key=lambda line: line[0])
    expected = mean + (scaled[-WINDOW:].T - centre) @ slope
    last = fitted(returns, horizon).iloc[-1] / np.sqrt((seen**2).mean())
    np.testing.assert_allclose(last, expected, rtol=1e-4, atol=1e-6)


@settings(max_examples=8, deadline=None)
@given(st.integers(605, len(DAYS) - 2), st.floats(-0.5, 0.5), st.sampled_from([1, 4]))
def test_ridge_does_not_depend_on_later_returns(after: int, shock: float, horizon: int) -> None:
    returns = walk(follow=0.3)
    changed = returns.copy()
    changed.iloc[after + 1 :] += shock
    before, again = (fitted(own, horizon).iloc[: after + 1] for own in (returns, changed))
    assert before.to_numpy().tobytes() == again.to_numpy().tobytes()


def test_ridge_accepts_a_segment_shorter_than_the_horizon() -> None:
    few = (VALIDATION[0], DAYS[DAYS.get_loc(pd.Timestamp(VALIDATION[0])) + 1].date())
    forecast = ridge(walk(follow=0.5), TRAIN, few, WINDOW, 4)
    assert forecast.loc[4].iloc[WINDOW - 1 :].notna().all(axis=None)


def test_ridge_forecast_depends_only_on_its_window() -> None:
    returns = walk(follow=0.5)
    changed = returns.copy()
    changed.iloc[650] = 0.5
    differs = (fitted(changed).fillna(0) != fitted(returns).fillna(0)).any(axis=1)
    assert np.nonzero(differs)[0].tolist() == list(range(650, 650 + WINDOW))


def test_ridge_forecasts_tickers_absent_from_training() -> None:
    returns = walk(follow=0.5)
    returns.loc[DAYS[:602], "T2"] = np.nan
    forecast = fitted(returns)
    assert forecast.iloc[WINDOW - 1 :].notna().all(axis=None)
    assert np.corrcoef(returns["T2"][TESTED], forecast["T2"][TESTED])[0, 1] > 0.9


def test_ridge_has_no_forecast_without_a_complete_window() -> None:
    assert fitted(walk()).notna().all(axis=1).tolist() == [False] * 4 + [True] * (len(DAYS) - 4)


def test_ridge_without_training_returns_is_an_error() -> None:
    returns = walk()
    returns[TRAIN[1] >= DAYS.date] = np.nan
    with pytest.raises(StockAssetsError):
        fitted(returns)


HELD_OUT = calendar.sessions(date(2012, 11, 1), date(2012, 12, 31))
ROWS = score_due(bundle().forecast(sample_bars(), HELD_OUT), sample_bars())
RETURNS = session_returns(sample_bars(), FIRST, LAST)


def test_baseline_is_scored_on_the_triples_of_the_model() -> None:
    shuffled = ROWS.sample(frac=1, random_state=1)
    scored = baseline_rows(shuffled, reversal(RETURNS, 1))
    for name in ("session", "ticker", "actual", "persistence"):
        assert scored[name].tolist() == shuffled[name].tolist()
    for row, own in zip(shuffled.itertuples(), scored.itertuples(), strict=True):
        move = RETURNS.loc[row.as_of_session, row.ticker]
        assert own.predicted == pytest.approx(row.persistence * np.exp(-move))
    assert scored["covered"].isna().all()


def test_baseline_without_changes_is_persistence() -> None:
    idle = baseline_rows(ROWS, 0 * reversal(RETURNS, 1))
    assert same_frame(idle, score_rows(persistence_forecasts(ROWS)))


def test_each_horizon_is_scored_with_its_own_forecast() -> None:
    rows = score_due(bundle(horizon=3).forecast(sample_bars(), HELD_OUT), sample_bars())
    moves = 0 * reversal(RETURNS, 3)
    moves[:] = 0.01 * np.array(moves.index.get_level_values("horizon"))[:, np.newaxis]
    predicted = baseline_rows(rows, moves)["predicted"]
    np.testing.assert_allclose(predicted, rows["persistence"] * np.exp(0.01 * rows["horizon"]))


def test_triple_without_a_baseline_forecast_is_an_error() -> None:
    with pytest.raises(StockAssetsError, match="predicted price"):
        baseline_rows(ROWS, reversal(RETURNS, 1).drop(columns="IBM"))
