"""A ticker: prices, scored forecasts, rolling errors and the lineage of the newest forecast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import pandas as pd
from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse

from stock_assets.config.prices import TICKER
from stock_assets.evaluation.metrics import pooled_scores, roll_terms, sum_terms
from stock_assets.market import calendar
from stock_assets.market.adjustment import adjust, price_factor
from stock_assets.reporting import price_figures, score_figures
from stock_assets.reporting.charts import Chart
from stock_assets.service.api.lineage import TickerLineage, ticker_lineage
from stock_assets.service.app_state import AppState, QueryParams, StateDep
from stock_assets.service.pages.model_status import find_production, find_takeovers
from stock_assets.service.pages.rendering import render, ticker_address
from stock_assets.service.problems import unknown_ticker
from stock_assets.storage.prices import read_bars
from stock_assets.storage.serving.lineage import find_forecast
from stock_assets.storage.serving.pages import newest_forecast_of, scored_forecasts
from stock_assets.storage.serving.paging import records

RANGES = {"1M": 21, "3M": 63, "1Y": 252, "All": None}
"""Sessions shown for each range."""

TABLE_ROWS = 60
"""Newest rows of the tables below the figures."""

_FORECAST_PRICES = ("last_close", "predicted_price", "lower_price", "upper_price")
_SCORED_PRICES = ("actual", "predicted", "persistence", "lower", "upper")

router = APIRouter()


class TickerParams(QueryParams):
    """Range of the figures."""

    range: Literal["1M", "3M", "1Y", "All"] = "3M"


@router.get("/ticker/{ticker}")
def ticker(state: StateDep, ticker: str, query: Annotated[TickerParams, Query()]) -> HTMLResponse:
    """Render the page.

    Raises
    ------
    HTTPException
        404: no bar of the ticker is stored.
    """
    bars = find_bars(state, ticker)
    last = bars["session"].iloc[-1].date()
    seen = adjust(bars, "split_adjusted", last)
    shown = seen.tail(RANGES[query.range] or len(seen))
    first = shown["session"].iloc[0].date()
    forecasts = on_newest_basis(
        newest_forecast_of(state.engine, ticker), bars, "as_of_session", _FORECAST_PRICES
    )
    window = state.params.monitoring.window_sessions
    reach = calendar.previous_session(first, window) if RANGES[query.range] else first
    known = on_newest_basis(
        scored_forecasts(state.engine, ticker, reach, last, horizon=1),
        *(bars, "session", _SCORED_PRICES),
    )
    scored = known[known["session"] >= pd.Timestamp(first)].drop_duplicates("session")
    errors = [row for row in rolling_errors(known, window) if row["session"] >= first]
    return render(
        "ticker.html",
        state,
        page="ticker",
        production=find_production(state),
        ticker=ticker,
        chosen=query.range,
        ranges={label: ticker_address(ticker, range=label) for label in RANGES},
        bars=shown,
        last_bar=shown.iloc[-1],
        before=seen["close"].iloc[-2] if len(seen) > 1 else None,
        prices=price_figures.price_figure(shown, forecasts),
        candles=len(shown) <= price_figures.MAX_CANDLES,
        forecasts=list(forecasts.itertuples()),
        outcomes=price_figures.forecast_figure(scored) if len(scored) else None,
        scored=scored,
        errors=error_figure(errors, find_takeovers(state)) if errors else None,
        newest_errors=_errors_of(scored, errors),
        error_rows=errors[:TABLE_ROWS],
        price_rows=list(shown.tail(TABLE_ROWS).iloc[::-1].itertuples()),
        scored_rows=list(scored.tail(TABLE_ROWS).iloc[::-1].itertuples()),
        window=window,
        nominal=forecasts["coverage"].max() if len(forecasts) else state.params.forecast.coverage,
        lineage=find_lineage(state, ticker, forecasts),
    )


def find_bars(state: AppState, name: str) -> pd.DataFrame:
    """Read all bars of a ticker, as traded, the oldest first.

    Raises
    ------
    HTTPException
        404: no bar is stored.
    """
    if TICKER.fullmatch(name):
        bars = read_bars(state.engine, *calendar.SPAN, [name])
        if not bars.empty:
            return bars
    raise unknown_ticker(state.engine, name)


def error_figure(errors: list[dict[str, Any]], marks: Sequence[score_figures.Mark]) -> Chart:
    """Draw the rolling error of a ticker and of persistence, with marks."""
    lines = {"mape": "model", "persistence_mape": "persistence"}
    return score_figures.score_figure(errors, lines, {}, marks)


def _errors_of(scored: pd.DataFrame, errors: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the errors at the newest session of the model whose forecast of it counts."""
    if scored.empty:
        return None
    newest = scored.iloc[-1]
    at = newest["session"].date(), newest["model_version"]
    return next(row for row in errors if (row["session"], row["model_version"]) == at)


def rolling_errors(scored: pd.DataFrame, window: int) -> list[dict[str, Any]]:
    """Score a ticker over the newest sessions of each version up to each session, newest first.

    Parameters
    ----------
    scored : DataFrame
        Its scored forecasts, one per session and version; columns of ``model_performance_log``.
    window : int
        Scored sessions of a version that make one figure; fewer at its beginning.

    Returns
    -------
    list of dict
        ``session``, ``model_version`` and the columns of
        :func:`stock_assets.evaluation.metrics.pooled_scores`.
    """
    if scored.empty:
        return []
    scores = [
        pooled_scores(roll_terms(sum_terms(rows, rows["session"]), window, len(rows))).assign(
            model_version=rows["model_version"].iloc[0]
        )
        for _, rows in scored.groupby(["model_version", "dataset_run_id"], dropna=False)
    ]
    frame = pd.concat(scores).reset_index()
    newest_first = frame.sort_values(["session", "model_version"], ascending=False)
    return records(newest_first.assign(session=newest_first["session"].dt.date))


def on_newest_basis(
    rows: pd.DataFrame, bars: pd.DataFrame, day: str, prices: Sequence[str]
) -> pd.DataFrame:
    """Express prices in the shares of the newest bar, as the candles are.

    Parameters
    ----------
    rows : DataFrame
        Forecasts of one ticker, scored ones or not.
    bars : DataFrame
        All bars of that ticker, as traded, the oldest first.
    day : str
        Column with the session whose shares a row is in.
    prices : sequence of str
        Columns with prices.
    """
    factor = price_factor(bars, "split_adjusted")
    shares = pd.Series((factor / factor.iloc[-1]).to_numpy(), index=bars["session"])
    scale = shares.reindex(rows[day], method="ffill").to_numpy()
    return rows.assign(**{name: rows[name] * scale for name in prices})


def find_lineage(state: AppState, name: str, forecasts: pd.DataFrame) -> TickerLineage | None:
    """Trace the newest forecast of a ticker to the bars in its window; None without one."""
    if forecasts.empty:
        return None
    newest = forecasts.iloc[0]
    found = find_forecast(
        state.engine,
        newest["as_of_session"].date(),
        name,
        int(newest["horizon"]),
        int(newest["model_version"]),
    )
    return None if found is None else ticker_lineage(state, found)
