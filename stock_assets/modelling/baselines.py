"""Forecasts that a model must beat: the last return undone, and a line through the last window.

Each baseline is a frame of forecast log returns: row t, as of session t, says how far the next
close lies from this one. They are made of adjusted closes and nothing else.
"""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view

from stock_assets.evaluation.metrics import persistence_forecasts, score_rows
from stock_assets.features.scaling import fit_scaler
from stock_assets.market import calendar
from stock_assets.market.adjustment import price_factor

Span = tuple[date, date]
"""First and last session, both included."""

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


def reversal(returns: pd.DataFrame) -> pd.DataFrame:
    """Forecast that the last session's return is undone; no change where it is not known.

    One-day reversal of single stocks: Jegadeesh 1990, "Evidence of predictable behavior of security
    returns", J. Finance 45.
    """
    return -returns.fillna(0.0)


def ridge(returns: pd.DataFrame, train: Span, validation: Span, window: int) -> pd.DataFrame:
    """Forecast with one ridge regression on the last `window` returns, shared by all tickers.

    Returns are divided by the root mean square of their ticker's training returns; a missing one
    counts as 0, its mean. The penalty is a multiple of the number of training rows and is the one
    of 0.01, 0.1, 1, 10 and 100 with the smallest squared error on the validation stretch. Nothing
    after the training stretch enters the fit, nothing after the validation stretch the choice.

    Parameters
    ----------
    returns : DataFrame
        From `session_returns`.
    train, validation : (date, date)
        Sessions at which the windows of each stretch end.
    window : int
        Returns that a forecast is made from.

    Returns
    -------
    DataFrame
        As `returns`; NaN in the first ``window - 1`` rows.

    Raises
    ------
    StockAssetsError
        No return is known up to the end of training.
    """
    from sklearn.linear_model import Ridge

    values = np.ascontiguousarray(returns)  # in one order, so that sums have the same bits
    seen = values[returns.index <= pd.Timestamp(train[1]), :, np.newaxis]
    scaler = fit_scaler(seen, np.isfinite(seen[..., 0]), "zero_mean")
    scaled = scaler.transform(values[..., np.newaxis])[..., 0]
    windows = sliding_window_view(np.nan_to_num(scaled), window, axis=0)
    ends, label = returns.index[window - 1 :], np.full(windows.shape[:2], np.nan, np.float32)
    label[:-1] = scaled[window:]
    known = np.isfinite(label) & np.isfinite(scaled[window - 1 :])
    learnt, held_back = (
        known & ((ends >= pd.Timestamp(first)) & (ends <= pd.Timestamp(last)))[:, np.newaxis]
        for first, last in (train, validation)
    )
    fits = [
        Ridge(alpha=shrinkage * learnt.sum()).fit(windows[learnt], label[learnt])
        for shrinkage in _SHRINKAGE
    ]
    errors = [np.square(fit.predict(windows[held_back]) - label[held_back]).mean() for fit in fits]
    best = fits[int(np.argmin(errors))]
    forecast = np.full_like(values, np.nan)
    flat = best.predict(windows.reshape(-1, window)).reshape(label.shape)
    forecast[window - 1 :] = scaler.inverse(flat[..., np.newaxis])[..., 0]
    return pd.DataFrame(forecast, returns.index, returns.columns)


def baseline_rows(rows: pd.DataFrame, forecast: pd.DataFrame) -> pd.DataFrame:
    """Score a baseline on the pairs that a model was scored on.

    Parameters
    ----------
    rows : DataFrame
        Scored forecasts with ``as_of_session``, as from
        :func:`stock_assets.evaluation.scoring.score_due`.
    forecast : DataFrame
        Forecast log returns, by as-of session and ticker.

    Raises
    ------
    StockAssetsError
        The baseline has no forecast of one of the pairs.
    """
    moves = forecast.melt(ignore_index=False, var_name="ticker", value_name="move")
    moves = moves.rename_axis("as_of_session").reset_index()
    own = rows[["as_of_session", "ticker"]].merge(moves, on=["as_of_session", "ticker"], how="left")
    predicted = rows["persistence"] * np.exp(own["move"].to_numpy())
    return score_rows(persistence_forecasts(rows).assign(predicted=predicted))
