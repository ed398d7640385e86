"""Forecasts that a model must beat: the last return undone, and a line through the last window.

Each baseline is a frame of forecast log returns, indexed by horizon h and as-of session t: how far
the close h sessions later lies from that of session t. They are made of adjusted closes and nothing
else.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from stock_assets.evaluation.metrics import persistence_forecasts, score_rows
from stock_assets.features.scaling import fit_scaler
from stock_assets.market import calendar
from stock_assets.market.adjustment import price_factor

if TYPE_CHECKING:
    from sklearn.linear_model import Ridge

Span = tuple[date, date]
"""First and last session, both included."""

_INDEX = ["horizon", "as_of_session"]
_SHRINKAGE = (0.01, 0.1, 1.0, 10.0, 100.0)


def session_returns(bars: pd.DataFrame, first: date, last: date) -> pd.DataFrame:
    """Give the log return of every session, free of splits and dividends.

    Parameters
    ----------
    bars : DataFrame
        Bars as traded, sorted by ticker and session.
    first, last : date
        The span, both included.

    Returns
    -------
    DataFrame
        One row per session of the exchange, one column per ticker; NaN where the session or the
        one before it has no bar.
    """
    adjusted = bars.assign(close=bars["close"] * price_factor(bars, "adjusted"))
    closes = adjusted.pivot_table(index="session", columns="ticker", values="close")
    sessions = pd.DatetimeIndex(calendar.sessions(first, last), name="session")
    return closes.reindex(sessions).transform(np.log).diff()


def reversal(returns: pd.DataFrame, horizon: int) -> pd.DataFrame:
    """Forecast that the last session's return is undone in the next one, and no change after that.

    No change at all where the last return is not known. It is the one-day analogue of the monthly
    reversal of single stocks in Jegadeesh 1990, "Evidence of predictable behavior of security
    returns", J. Finance 45.

    Parameters
    ----------
    returns : DataFrame
        From `session_returns`.
    horizon : int
        The most sessions ahead to forecast.
    """
    return _by_horizon([-returns.fillna(0.0)] * horizon)


def ridge(
    returns: pd.DataFrame, train: Span, validation: Span, window: int, horizon: int
) -> pd.DataFrame:
    """Forecast with a ridge regression per horizon on the last `window` returns, for all tickers.

    Returns are divided by the root mean square of their ticker's training returns; a missing one
    counts as 0, its mean. The return over several sessions is learnt directly, as one number. The
    penalty is a multiple of the number of training rows and is the one of 0.01, 0.1, 1, 10 and 100
    with the smallest squared error on the validation segment. No session after the last label of
    the training segment enters the fit, none after the last of validation the choice.

    Parameters
    ----------
    returns : DataFrame
        From `session_returns`.
    train, validation : (date, date)
        Sessions at which the windows of each segment end.
    window : int
        Returns that a forecast is made from.
    horizon : int
        The most sessions ahead to forecast.

    Returns
    -------
    DataFrame
        NaN in the first ``window - 1`` rows of each horizon.

    Raises
    ------
    StockAssetsError
        No return is known up to the end of training.
    """
    values = np.ascontiguousarray(returns)  # in one order, so that sums have the same bits
    seen = values[returns.index <= pd.Timestamp(train[1]), :, np.newaxis]
    scaler = fit_scaler(seen, np.isfinite(seen[..., 0]), "zero_mean")
    scaled = scaler.transform(values[..., np.newaxis])[..., 0]
    windows = sliding_window_view(np.nan_to_num(scaled), window, axis=0)
    ends = pd.DatetimeIndex(returns.index[window - 1 :])
    forecasts = []
    for ahead in range(1, horizon + 1):
        label = np.full(windows.shape[:2], np.nan, np.float32)
        label[:-ahead] = sliding_window_view(scaled[window:], ahead, axis=0).sum(axis=-1)
        known = np.isfinite(label) & np.isfinite(scaled[window - 1 :])
        learnt, held_back = (
            known & _within(ends, span)[:, np.newaxis] for span in (train, validation)
        )
        line = _best_line(windows, label, learnt, held_back)
        forecast = np.full_like(values, np.nan)
        flat = line.predict(windows.reshape(-1, window)).reshape(label.shape)
        forecast[window - 1 :] = scaler.inverse(flat[..., np.newaxis])[..., 0]
        forecasts.append(pd.DataFrame(forecast, returns.index, returns.columns))
    return _by_horizon(forecasts)


def _by_horizon(forecasts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Join the forecasts of 1, 2, … sessions ahead."""
    horizons = range(1, len(forecasts) + 1)
    return pd.concat(dict(zip(horizons, forecasts, strict=True)), names=_INDEX)


def _within(ends: pd.DatetimeIndex, span: Span) -> NDArray[np.bool_]:
    """Which windows end in a segment."""
    first, last = pd.DatetimeIndex(span)
    inside: NDArray[np.bool_] = (ends >= first) & (ends <= last)
    return inside


def _best_line(
    windows: NDArray[np.float32],
    label: NDArray[np.float32],
    learnt: NDArray[np.bool_],
    held_back: NDArray[np.bool_],
) -> Ridge:
    """Fit a line per penalty on some (window, ticker) pairs, and choose on others."""
    from sklearn.linear_model import Ridge

    fits = [
        Ridge(alpha=shrinkage * learnt.sum()).fit(windows[learnt], label[learnt])
        for shrinkage in _SHRINKAGE
    ]
    errors = [np.square(fit.predict(windows[held_back]) - label[held_back]).mean() for fit in fits]
    return fits[int(np.argmin(errors))]


def baseline_rows(rows: pd.DataFrame, forecast: pd.DataFrame) -> pd.DataFrame:
    """Score a baseline on the triples that a model was scored on.

    Parameters
    ----------
    rows : DataFrame
        Scored forecasts with ``as_of_session``, as from
        :func:`stock_assets.evaluation.scoring.score_due`.
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
