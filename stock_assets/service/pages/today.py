"""Today: the last close and forecast of each ticker, and the accuracy of recent forecasts."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse
from numpy.typing import NDArray
from pydantic import Field

from stock_assets.evaluation.forecast_issues import issued_text
from stock_assets.evaluation.production_rule import PERSISTENCE_NAME, PERSISTENCE_VERSION
from stock_assets.market import calendar
from stock_assets.service.app_state import AppState, QueryParams, StateDep
from stock_assets.service.health import session_due, sessions_late
from stock_assets.service.pages import formatting
from stock_assets.service.pages.model_status import ModelStatus, find_model_status
from stock_assets.service.pages.rendering import address, render, ticker_address
from stock_assets.service.sparklines import WIDTH, sparklines
from stock_assets.storage.forecasts import last_predicted_session
from stock_assets.storage.serving.freshness import read_freshness
from stock_assets.storage.serving.pages import newest_forecasts, recent_closes

SPARKLINE_SESSIONS = 60

# Older forecasts are not shown.
_FORECAST_SESSIONS = 10

_COLUMNS = {
    "ticker": "Ticker",
    "close": "Last close",
    "forecast": "Forecast",
    "move": "Expected move",
    "interval": "Interval",
    "relative_mae": "Relative MAE",
    "session": "Last session",
}
SortKey = Literal["ticker", "close", "forecast", "move", "interval", "relative_mae", "session"]

router = APIRouter()


class TodayParams(QueryParams):
    """Order and search of the table."""

    sort: SortKey = "ticker"
    order: Literal["asc", "desc"] = "asc"
    q: Annotated[str, Field(max_length=32)] = ""


class Row(NamedTuple):
    """A row of the table, formatted."""

    ticker: str
    address: str
    line: str
    line_label: str
    close: str
    forecast: str
    move: str
    direction: str
    forecast_from: str
    interval: str
    low_x: int
    high_x: int
    forecast_x: int
    relative_mae: str
    session: str
    status: str


class Column(NamedTuple):
    """A column heading, its current order and the link that sorts by it."""

    title: str
    key: str
    aria_sort: str
    address: str


@router.get("/")
def today(state: StateDep, query: Annotated[TodayParams, Query()]) -> HTMLResponse:
    """Render the page, or the first steps when no prices are stored."""
    newest = read_freshness(state.engine).newest_session
    if newest is None:
        return render("today_empty.html", state, page="today")
    status, due = find_model_status(state), session_due(state.params, calendar.utc_now())
    tickers = read_tickers(state, status, newest)
    search = query.q.strip().upper()
    shown = sort_rows(tickers[tickers.index.str.contains(search, regex=False)], query)
    scale = interval_scale(tickers)
    return render(
        "today.html",
        state,
        page="today",
        query=query,
        columns=columns(query),
        rows=format_rows(shown, scale),
        scale=scale,
        tickers=len(tickers),
        newest=newest,
        status=status,
        production=status.production,
        newest_forecasts=summarize_forecasts(tickers),
        due=due,
        sessions_late=sessions_late(newest, due),
        late=int((tickers["behind"] != 0).sum()),
        width=WIDTH,
    )


def read_tickers(state: AppState, status: ModelStatus, newest: date) -> pd.DataFrame:
    """Read prices, forecasts and scores of all tickers, stored or in the universe.

    Returns
    -------
    DataFrame
        Indexed by ticker, in alphabetical order: ``close``, ``session`` (of the newest bar),
        ``behind`` (sessions without a bar since; -1 with no bar), ``line``, ``low`` and ``high``
        (the lowest and highest close drawn); of the forecast ``as_of``, ``target``, ``from`` (the
        close it starts from), ``forecast``, ``move``, ``lower``, ``upper``, ``interval`` (its width
        as a fraction of ``from``), ``coverage``, ``version``, ``issued``; ``relative_mae``. Prices
        are in the shares of the ticker's newest bar. Unknown values are NaN, NaT or empty.
    """
    sessions = calendar.sessions(calendar.previous_session(newest, SPARKLINE_SESSIONS - 1), newest)
    closes, ratios = recent_closes(state.engine, sessions)
    # Split adjustment as of the newest session, as in stock_assets.market.adjustment.
    factor = ratios.cumprod(axis=1)
    shares = factor.div(factor.iloc[:, -1], axis=0)
    prices = _prices(closes, shares)
    forecasts = _forecasts(state, shares)
    universe = pd.Index(state.params.prices.tickers, dtype=object)
    names = prices.index.union(forecasts.index).union(universe)
    tickers = prices.join(forecasts, how="outer").reindex(names)
    scored = status.window.tickers if status.window else []
    errors = pd.Series({row["ticker"]: row["relative_mae"] for row in scored}, dtype=float)
    tickers["relative_mae"] = errors.reindex(names)
    tickers["behind"] = tickers["behind"].fillna(-1).astype(int)
    tickers["line"] = tickers["line"].fillna("")
    return tickers.rename_axis("ticker")


def _prices(closes: pd.DataFrame, shares: pd.DataFrame) -> pd.DataFrame:
    traded = closes.to_numpy()
    comparable = traded * shares.to_numpy()
    last = traded.shape[1] - 1 - np.isfinite(traded)[:, ::-1].argmax(axis=1)
    return pd.DataFrame(
        {
            "close": np.take_along_axis(traded, last[:, None], axis=1)[:, 0],
            "session": closes.columns.to_numpy()[last],
            "behind": closes.shape[1] - 1 - last,
            "line": sparklines(comparable),
            "low": np.nanmin(comparable, axis=1),
            "high": np.nanmax(comparable, axis=1),
        },
        index=closes.index,
    )


def _forecasts(state: AppState, shares: pd.DataFrame) -> pd.DataFrame:
    as_of = last_predicted_session(state.engine) or calendar.SPAN[1]
    first = calendar.previous_session(as_of, _FORECAST_SESSIONS)
    found = newest_forecasts(state.engine, first, horizon=1).set_index("ticker")
    names = {
        "as_of_session": "as_of",
        "target_session": "target",
        "last_close": "from",
        "predicted_price": "forecast",
        "predicted_return": "move",
        "lower_price": "lower",
        "upper_price": "upper",
        "coverage": "coverage",
        "model_version": "version",
        "issued": "issued",
    }
    kept = found.rename(columns=names)[list(names.values())]
    prices = ["from", "forecast", "lower", "upper"]
    kept[prices] = kept[prices].mul(_shares_since(kept["as_of"], shares), axis=0)
    width = (kept["upper"] - kept["lower"]) / kept["from"]
    return kept.assign(move=kept["forecast"] / kept["from"] - 1, interval=width)


def _shares_since(as_of: pd.Series[Any], shares: pd.DataFrame) -> NDArray[np.float64]:
    """Return the factor per ticker from the shares of `as_of` to those of its newest bar."""
    column = shares.columns.searchsorted(as_of, side="right") - 1
    row = shares.index.get_indexer(as_of.index)
    found = shares.to_numpy()[row, column.clip(min=0)]
    return np.where(row >= 0, found, 1.0)


def sort_rows(tickers: pd.DataFrame, query: TodayParams) -> pd.DataFrame:
    """Sort the table; unknown values come last."""
    return tickers.sort_values(
        query.sort, ascending=query.order == "asc", na_position="last", kind="stable"
    )


def columns(query: TodayParams) -> list[Column]:
    """Return the headings, each with the link that sorts by it or reverses the order."""
    headings = []
    for key, title in _COLUMNS.items():
        sorted_now = query.sort == key
        order = "desc" if sorted_now and query.order == "asc" else "asc"
        aria = {"asc": "ascending", "desc": "descending"}[query.order] if sorted_now else ""
        link = address("/", sort=key, order=order, q=query.q or None)
        headings.append(Column(title, key, aria, link))
    return headings


def summarize_forecasts(tickers: pd.DataFrame) -> dict[str, Any] | None:
    """Describe the newest forecasts: sessions, versions, count, and how they were issued."""
    made = tickers.dropna(subset=["as_of"])
    if made.empty:
        return None
    newest = made[made["as_of"] == made["as_of"].max()]
    return {
        "as_of": newest["as_of"].iloc[0].date(),
        "target": newest["target"].iloc[0].date(),
        "models": _models({int(version) for version in newest["version"]}),
        "coverage": float(newest["coverage"].iloc[0]),
        "tickers": len(newest),
        "issued": issued_text(newest["issued"]),
    }


def _models(versions: set[int]) -> str:
    """Name the versions of forecasts."""
    trained = [str(number) for number in sorted(versions - {PERSISTENCE_VERSION})]
    names = [f"model version {', '.join(trained)}"] if trained else []
    return " and ".join(names + [PERSISTENCE_NAME] * (PERSISTENCE_VERSION in versions))


def format_rows(shown: pd.DataFrame, scale: float) -> list[Row]:
    """Format the rows, column by column; interval images span `scale` to either side."""
    positions = _interval_positions(shown, scale)
    stale = (shown["as_of"] < shown["session"]).tolist()
    starts = shown["from"].map(formatting.price).tolist()
    statuses = map(_status, shown["behind"], shown["as_of"].isna(), stale)
    texts = (
        shown.index,
        map(ticker_address, shown.index),
        shown["line"],
        map(
            "{} to {}".format,
            shown["low"].map(formatting.price),
            shown["high"].map(formatting.price),
        ),
        shown["close"].map(formatting.price),
        shown["forecast"].map(formatting.price),
        shown["move"].map(formatting.change),
        shown["move"].map(formatting.direction),
        (start if old else "" for start, old in zip(starts, stale, strict=True)),
        map(_interval, shown["lower"], shown["upper"]),
        *positions.T.tolist(),
        shown["relative_mae"].map(formatting.number),
        shown["session"].map(formatting.day),
        statuses,
    )
    return [Row._make(row) for row in zip(*texts, strict=True)]


def _interval(lower: float, upper: float) -> str:
    return (
        formatting.UNKNOWN
        if lower != lower
        else f"{formatting.price(lower)} to {formatting.price(upper)}"
    )


def interval_scale(tickers: pd.DataFrame) -> float:
    """Return the span of the interval images; 98% of the bounds fit in."""
    moves = np.abs(_interval_moves(tickers))
    known = moves[np.isfinite(moves)]
    return float(np.quantile(known, 0.98)) if known.size else 1.0


def _interval_positions(shown: pd.DataFrame, scale: float) -> NDArray[np.int_]:
    """Return the pixels of bounds and forecast; the last close is in the middle."""
    reach = np.clip(np.nan_to_num(_interval_moves(shown)) / scale, -1, 1)
    return (WIDTH / 2 * (1 + reach)).round().astype(int)


def _interval_moves(rows: pd.DataFrame) -> NDArray[np.float64]:
    return rows[["lower", "upper", "forecast"]].div(rows["from"], axis=0).to_numpy(float) - 1


def _status(behind: int, no_forecast: bool, stale: bool) -> str:
    if behind < 0:
        return f"no bar in {formatting.sessions(SPARKLINE_SESSIONS)}"
    if behind > 0:
        return f"late by {formatting.sessions(behind)}"
    if no_forecast:
        return "no forecast"
    return "older forecast" if stale else ""
