"""Baseline forecasts: reversal, ridge regression on the last returns, and gradient-boosted trees.

A baseline is a frame of forecast log returns, indexed by horizon h and as-of session t: the return
from the close of session t to the close h sessions later. Reversal and ridge use adjusted closes
only, the trees the features of a panel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from stock_assets.evaluation.metrics import persistence_forecasts, score_rows
from stock_assets.features.panel import Panel
from stock_assets.features.scaling import Scaler, blocks, fit_scaler
from stock_assets.market import calendar
from stock_assets.market.adjustment import price_factor

if TYPE_CHECKING:
    from sklearn.linear_model import Ridge

Span = tuple[date, date]
"""First and last session, both included."""

_INDEX = ["horizon", "as_of_session"]
_PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)
_MOST_TREES = 100
_TREES_WITHOUT_IMPROVEMENT = 10


def session_returns(bars: pd.DataFrame, first: date, last: date) -> pd.DataFrame:
    """Compute the log return of every session, adjusted for splits and dividends.

    Parameters
    ----------
    bars : DataFrame
        Bars as traded, sorted by ticker and session.
    first, last : date
        First and last session.

    Returns
    -------
    DataFrame
        One row per session of the exchange, one column per ticker; NaN where the session or the
        previous one has no bar.
    """
    adjusted = bars.assign(close=bars["close"] * price_factor(bars, "adjusted"))
    closes = adjusted.pivot_table(index="session", columns="ticker", values="close")
    sessions = pd.DatetimeIndex(calendar.sessions(first, last), name="session")
    return closes.reindex(sessions).transform(np.log).diff()


def reversal(returns: pd.DataFrame, horizon: int) -> pd.DataFrame:
    """Forecast that the next session reverses the last return, and no change after that.

    A missing last return counts as 0. This is the one-day analogue of the monthly reversal of
    single stocks in Jegadeesh 1990, "Evidence of predictable behavior of security returns",
    J. Finance 45.

    Parameters
    ----------
    returns : DataFrame
        From `session_returns`.
    horizon : int
        Largest number of sessions ahead.
    """
    return _by_horizon([-returns.fillna(0.0)] * horizon)


def ridge(
    returns: pd.DataFrame, train: Span, validation: Span, window: int, horizon: int
) -> pd.DataFrame:
    """Forecast with a ridge regression per horizon on the last `window` returns, pooled by ticker.

    Returns are divided by the root mean square of the ticker's training returns; a missing return
    counts as 0. The regression predicts the return over all h sessions. Its penalty, relative to
    the number of training rows, is the one of 0.01, 0.1, 1, 10 and 100 with the smallest squared
    error in the validation segment. The fit uses no session after the last training label, and the
    choice none after the last validation label.

    Parameters
    ----------
    returns : DataFrame
        From `session_returns`.
    train, validation : (date, date)
        First and last window end of each segment.
    window : int
        Number of returns used as inputs.
    horizon : int
        Largest number of sessions ahead.

    Returns
    -------
    DataFrame
        NaN in the first ``window - 1`` rows of each horizon.

    Raises
    ------
    StockAssetsError
        There is no return up to the end of the train segment.
    """
    scaler, scaled = _scaled_returns(returns, train)
    windows = sliding_window_view(np.nan_to_num(scaled), window, axis=0)
    ends = pd.DatetimeIndex(returns.index[window - 1 :])
    forecasts = []
    for ahead in range(1, horizon + 1):
        label = _labels(scaled, ahead)[window - 1 :]
        known = np.isfinite(label) & np.isfinite(scaled[window - 1 :])
        fitted, validated = (known & _between(ends, span) for span in (train, validation))
        regression = _best_ridge(windows, label, fitted, validated)
        forecast = np.full_like(scaled, np.nan, dtype=np.float64)
        flat = regression.predict(windows.reshape(-1, window)).reshape(label.shape)
        forecast[window - 1 :] = scaler.inverse(flat[..., np.newaxis])[..., 0]
        forecasts.append(pd.DataFrame(forecast, returns.index, returns.columns))
    return _by_horizon(forecasts)


def gradient_boosting(
    panel: Panel,
    features: Scaler,
    returns: pd.DataFrame,
    train: Span,
    validation: Span,
    horizon: int,
) -> pd.DataFrame:
    """Forecast with gradient-boosted trees per horizon on the features of the as-of session.

    The trees are shared by all tickers. They predict the return over all h sessions, divided by the
    root mean square of the ticker's training returns, with scikit-learn's
    ``HistGradientBoostingRegressor`` (after Ke et al. 2017, "LightGBM", NeurIPS). Their number, at
    most 100, is the one with the smallest squared error in the validation segment; boosting stops
    after 10 trees without an improvement. The fit uses no session after the last training label,
    and the number of trees none after the last validation label.

    Parameters
    ----------
    panel : Panel
        The features, of the sessions of `returns`.
    features : Scaler
        Of the panel, fitted to training sessions.
    returns : DataFrame
        From `session_returns`. A ticker of the panel without returns is not trained on.
    train, validation : (date, date)
        First and last window end of each segment.
    horizon : int
        Largest number of sessions ahead.

    Returns
    -------
    DataFrame
        NaN where the panel is not valid.

    Raises
    ------
    StockAssetsError
        There is no return up to the end of the train segment.
    """
    returns = returns.reindex(panel.sessions, columns=panel.tickers)
    scaler, scaled = _scaled_returns(returns, train)

    def inputs(mask: NDArray[np.bool_], part: slice) -> NDArray[np.float32]:
        return features.transform(panel.values[part])[mask[part]]

    parts = list(blocks(len(scaled), panel.values[0].size))
    forecasts = []
    for ahead in range(1, horizon + 1):
        label = _labels(scaled, ahead)
        known = np.isfinite(label) & panel.valid
        fitted, validated = (
            (np.concatenate([inputs(mask, part) for part in parts]), label[mask])
            for mask in (known & _between(panel.sessions, span) for span in (train, validation))
        )
        predict = _boosted(fitted, validated)
        forecast = np.full(label.shape, np.nan)
        for part in parts:
            if panel.valid[part].any():
                forecast[part][panel.valid[part]] = predict(inputs(panel.valid, part))
        moves = scaler.inverse(forecast[..., np.newaxis])[..., 0]
        forecasts.append(pd.DataFrame(moves, returns.index, returns.columns))
    return _by_horizon(forecasts)


def _scaled_returns(returns: pd.DataFrame, train: Span) -> tuple[Scaler, NDArray[np.float32]]:
    """Divide returns by the root mean square of the ticker's returns up to the end of training."""
    values = np.ascontiguousarray(returns)  # a fixed memory order gives sums the same bits
    seen = values[returns.index <= pd.Timestamp(train[1]), :, np.newaxis]
    scaler = fit_scaler(seen, np.isfinite(seen[..., 0]), "zero_mean")
    return scaler, scaler.transform(values[..., np.newaxis])[..., 0]


def _labels(scaled: NDArray[np.float32], ahead: int) -> NDArray[np.float32]:
    """Return the sum of the `ahead` returns after each session; NaN where one is missing."""
    label = np.full_like(scaled, np.nan)
    label[:-ahead] = sliding_window_view(scaled[1:], ahead, axis=0).sum(axis=-1)
    return label


def _between(sessions: pd.DatetimeIndex, span: Span) -> NDArray[np.bool_]:
    """Flag the sessions of a span, (T, 1)."""
    first, last = map(pd.Timestamp, span)
    return np.asarray((first <= sessions) & (sessions <= last))[:, np.newaxis]


def _boosted(
    fitted: tuple[NDArray[np.float32], NDArray[np.float32]],
    validated: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> Callable[[NDArray[np.float32]], NDArray[np.float64]]:
    """Fit trees, choose their number on the validated rows, and return their prediction."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    trees = HistGradientBoostingRegressor(
        learning_rate=0.05,
        max_iter=_MOST_TREES,
        max_leaf_nodes=15,
        min_samples_leaf=100,
        early_stopping=True,
        n_iter_no_change=_TREES_WITHOUT_IMPROVEMENT,
        tol=0.0,
        random_state=0,  # of the sample that divides the features into bins
    ).fit(*fitted, X_val=validated[0], y_val=validated[1])
    best = max(int(np.argmax(trees.validation_score_)), 1)  # the first score is without a tree
    return lambda inputs: next(islice(trees.staged_predict(inputs), best - 1, None))


def _by_horizon(forecasts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Concatenate the forecasts of 1, 2, … sessions ahead."""
    horizons = range(1, len(forecasts) + 1)
    return pd.concat(dict(zip(horizons, forecasts, strict=True)), names=_INDEX)


def _best_ridge(
    windows: NDArray[np.float32],
    label: NDArray[np.float32],
    fitted: NDArray[np.bool_],
    validated: NDArray[np.bool_],
) -> Ridge:
    """Fit a regression per penalty; return the best on the validated (window, ticker) pairs."""
    from sklearn.linear_model import Ridge

    fits = [
        Ridge(alpha=penalty * fitted.sum()).fit(windows[fitted], label[fitted])
        for penalty in _PENALTIES
    ]
    errors = [np.square(fit.predict(windows[validated]) - label[validated]).mean() for fit in fits]
    return fits[int(np.argmin(errors))]


def baseline_rows(rows: pd.DataFrame, forecast: pd.DataFrame) -> pd.DataFrame:
    """Score a baseline on the (session, ticker, horizon) triples of a model.

    Parameters
    ----------
    rows : DataFrame
        Scored forecasts of the model from :func:`stock_assets.evaluation.scoring.score_due`.
    forecast : DataFrame
        Forecast log returns, by horizon, as-of session and ticker.

    Raises
    ------
    StockAssetsError
        The baseline has no forecast of one of the triples.
    """
    moves = forecast.melt(ignore_index=False, var_name="ticker", value_name="move")
    key = [*_INDEX, "ticker"]
    own = rows[key].merge(moves.reset_index(), on=key, how="left")
    predicted = rows["persistence"] * np.exp(own["move"].to_numpy())
    return score_rows(persistence_forecasts(rows).assign(predicted=predicted))
