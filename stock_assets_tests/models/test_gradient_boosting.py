"""The gradient-boosted baseline: what it learns, and the sessions it uses."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest

from stock_assets.core.errors import StockAssetsError
from stock_assets.features.panel import Panel
from stock_assets.features.scaling import fit_scaler
from stock_assets.market import calendar
from stock_assets.models.baselines import gradient_boosting

DAYS = pd.DatetimeIndex(calendar.sessions(date(2010, 1, 4), date(2012, 12, 31)), name="session")
TRAIN = (DAYS[30].date(), DAYS[500].date())
VALIDATION = (DAYS[510].date(), DAYS[600].date())
TESTED = slice(610, len(DAYS) - 5)
TICKERS = ("A", "B", "C")


def market(ahead: int = 1, strength: float = 1.0) -> tuple[Panel, pd.DataFrame]:
    """Return a panel of three features, and returns that step with the first one's sign."""
    random = np.random.default_rng(4)
    values = random.standard_normal((len(DAYS), 3, 3)).astype(np.float32)
    moves = random.standard_normal(values.shape[:2])
    moves[ahead:] += strength * np.sign(values[:-ahead, :, 0])
    returns = pd.DataFrame(0.01 * np.array([1.0, 2.0, 3.0]) * moves, DAYS, TICKERS)
    valid = np.ones(values.shape[:2], dtype=np.bool_)
    valid[:20] = False
    values[~valid] = np.nan
    close = 100.0 * np.exp(returns.cumsum().to_numpy())
    return Panel(DAYS, TICKERS, ("X", "Y", "Z"), values, valid, close), returns


def forecasts(panel: Panel, returns: pd.DataFrame, horizon: int = 1) -> pd.DataFrame:
    """Return the forecasts of a horizon."""
    scaler = fit_scaler(panel.values[30:501], panel.valid[30:501], "standard")
    found = gradient_boosting(panel, scaler, returns, TRAIN, VALIDATION, horizon)
    return found.loc[horizon]


@pytest.mark.parametrize("horizon", [1, 3])
def test_trees_learn_a_step_that_no_line_fits(horizon: int) -> None:
    panel, returns = market(horizon)
    found = forecasts(panel, returns, horizon)
    for number, ticker in enumerate(TICKERS):
        known = 0.01 * (number + 1) * np.sign(panel.values[TESTED, number, 0])
        assert np.polyfit(known, found[ticker].iloc[TESTED], 1)[0] == pytest.approx(1.0, abs=0.25)


def test_trees_forecast_almost_no_change_on_noise() -> None:
    panel, returns = market(strength=0.0)
    assert float((forecasts(panel, returns).std() / returns.std()).max()) < 0.1


def test_a_row_that_is_not_valid_has_no_forecast() -> None:
    panel, returns = market()
    panel.valid[700, 1] = False
    found = forecasts(panel, returns)
    assert np.array_equal(found.notna().to_numpy(), panel.valid)


@pytest.mark.parametrize("horizon", [1, 3])
def test_trees_do_not_depend_on_later_sessions(horizon: int) -> None:
    panel, returns = market(horizon)
    before = forecasts(panel, returns, horizon).iloc[:611]
    returns.iloc[601 + horizon :] += 0.5
    panel.values[611:] += 1.0
    again = forecasts(panel, returns, horizon).iloc[:611]
    assert before.to_numpy().tobytes() == again.to_numpy().tobytes()


def test_validation_labels_decide_the_number_of_trees_alone() -> None:
    """With reversed validation labels no tree helps, and one is left: the step is 5% of all."""
    panel, returns = market()
    returns.iloc[511:602] *= -1.0
    found = forecasts(panel, returns)
    known = np.sign(panel.values[TESTED, 0, 0])
    assert np.polyfit(0.01 * known, found["A"].iloc[TESTED], 1)[0] == pytest.approx(0.05, abs=0.01)


def test_trees_forecast_a_ticker_absent_from_training() -> None:
    panel, returns = market()
    returns.loc[DAYS[:602], "C"] = np.nan
    panel.valid[:602, 2] = False
    panel.values[:602, 2] = np.nan
    found = forecasts(panel, returns)
    known = np.sign(panel.values[TESTED, 2, 0])
    assert np.corrcoef(known, found["C"].iloc[TESTED])[0, 1] > 0.9


def test_trees_without_training_returns_are_an_error() -> None:
    panel, returns = market()
    returns[TRAIN[1] >= DAYS.date] = np.nan
    with pytest.raises(StockAssetsError):
        forecasts(panel, returns)
