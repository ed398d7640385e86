"""Today: every ticker's last close and forecast, and how far such forecasts could be trusted."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse
from numpy.typing import NDArray
from pydantic import Field

from stock_assets.market import calendar
from stock_assets.service.app_state import AppState, QueryParams, StateDep
from stock_assets.service.health import session_due, sessions_late
from stock_assets.service.pages import formatting
from stock_assets.service.pages.model_status import ModelStatus, find_model_status
from stock_assets.service.pages.rendering import address, render, ticker_address
from stock_assets.service.sparklines import WIDTH, sparklines
from stock_assets.storage.forecasts import last_predicted_session
from stock_assets.storage.serving.pages import newest_forecasts, recent_closes
from stock_assets.storage.serving.tickers import newest_session

SPARKLINE_SESSIONS = 60

# A forecast older than this is history, and its ticker has none.
_FORECAST_SESSIONS = 10

_COLUMNS = {
    "ticker": "Ticker",
    "close": "Last close",
    "forecast": "Forecast",
    "move": "Expected move",
    "interval": "Interval",
    "relative_mae": "relative MAE",
    "session": "Prices to",
}
SortKey = Literal["ticker", "close", "forecast", "move", "interval", "relative_mae", "session"]

router = APIRouter()


class TodayParams(QueryParams):
    """How the table is to be ordered, and which tickers it is to show."""

    sort: SortKey = "ticker"
    order: Literal["asc", "desc"] = "asc"
    q: Annotated[str, Field(max_length=32)] = ""


class Row(NamedTuple):
    """A row of the table, as it is written."""

    ticker: str
    address: str
    line: str
    line_said: str
    close: str
    forecast: str
    move: str
    direction: str
    moved_from: str
    interval: str
    low_x: int
    high_x: int
    forecast_x: int
    relative_mae: str
    session: str
    state: str


class Column(NamedTuple):
    """A heading of the table, the order it is in and the link that orders by it."""

    title: str
    key: str
    aria_sort: str
    address: str


@router.get("/")
def today(state: StateDep, query: Annotated[TodayParams, Query()]) -> HTMLResponse:
    """Answer with the page."""
    return today_page(state, query)


def today_page(state: AppState, query: TodayParams) -> HTMLResponse:
    """Make the page, or one that says how to begin where nothing is stored."""
    newest = newest_session(state.engine)
    if newest is None:
        return render("today_empty.html", state, page="today")
    standing, due = find_model_status(state), session_due(state.params, calendar.utc_now())
    everyone = find_everyone(state, standing, newest)
    wanted = query.q.strip().upper()
    shown = ordered(everyone[everyone.index.str.contains(wanted, regex=False)], query)
    scale = interval_scale(everyone)
    return render(
        "today.html",
        state,
        page="today",
        query=query,
        columns=columns(query),
        rows=written(shown, scale),
        scale=scale,
        tickers=len(everyone),
        newest=newest,
        standing=standing,
        made=headline(everyone),
        due=due,
        sessions_late=sessions_late(newest, due),
        late=int((everyone["behind"] != 0).sum()),
        width=WIDTH,
    )


def find_everyone(state: AppState, standing: ModelStatus, newest: date) -> pd.DataFrame:
    """Gather what is known of every ticker with a bar, a forecast or a place in the universe.

    Returns
    -------
    DataFrame
        Indexed by ticker, in alphabetical order: ``close``, ``session`` (of the newest bar),
        ``behind`` (sessions without a bar since; -1 with no bar), ``line``, ``low`` and ``high``
        (the lowest and highest close drawn); of the forecast ``as_of``, ``target``, ``from`` (the
        close it starts from), ``forecast``, ``move``, ``lower``, ``upper``, ``interval`` (its width
        as a fraction of ``from``), ``coverage``, ``version``; ``relative_mae``. Prices are in the
        shares of the ticker's newest bar. NaN, NaT and empty texts where nothing is known.
    """
    sessions = calendar.sessions(calendar.previous_session(newest, SPARKLINE_SESSIONS - 1), newest)
    closes, ratios = recent_closes(state.engine, sessions)
    # As stock_assets.market.adjustment has it, seen from the newest session.
    factor = ratios.cumprod(axis=1)
    shares = factor.div(factor.iloc[:, -1], axis=0)
    prices = _prices(closes, shares)
    forecasts = _forecasts(state, shares)
    universe = pd.Index(state.params.prices.tickers, dtype=object)
    tickers = prices.index.union(forecasts.index).union(universe)
    everyone = prices.join(forecasts, how="outer").reindex(tickers)
    scored = standing.window.tickers if standing.window else []
    errors = pd.Series({row["ticker"]: row["relative_mae"] for row in scored}, dtype=float)
    everyone["relative_mae"] = errors.reindex(tickers)
    everyone["behind"] = everyone["behind"].fillna(-1).astype(int)
    everyone["line"] = everyone["line"].fillna("")
    return everyone.rename_axis("ticker")


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
    as_of = last_predicted_session(state.engine) or calendar.HORIZON[1]
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
    }
    kept = found.rename(columns=names)[list(names.values())]
    prices = ["from", "forecast", "lower", "upper"]
    kept[prices] = kept[prices].mul(_shares_since(kept["as_of"], shares), axis=0)
    width = (kept["upper"] - kept["lower"]) / kept["from"]
    return kept.assign(move=kept["forecast"] / kept["from"] - 1, interval=width)


def _shares_since(as_of: pd.Series[Any], shares: pd.DataFrame) -> NDArray[np.float64]:
    """Give per ticker what makes its price of a session one in the shares of its newest bar."""
    column = shares.columns.searchsorted(as_of, side="right") - 1
    row = shares.index.get_indexer(as_of.index)
    found = shares.to_numpy()[row, column.clip(min=0)]
    return np.where(row >= 0, found, 1.0)


def ordered(everyone: pd.DataFrame, query: TodayParams) -> pd.DataFrame:
    """Order the table as asked; tickers of which nothing is known come last."""
    return everyone.sort_values(
        query.sort, ascending=query.order == "asc", na_position="last", kind="stable"
    )


def columns(query: TodayParams) -> list[Column]:
    """Give the headings, each with the link that orders by it, or turns the order round."""
    headings = []
    for key, title in _COLUMNS.items():
        sorted_now = query.sort == key
        turned = "desc" if sorted_now and query.order == "asc" else "asc"
        aria = {"asc": "ascending", "desc": "descending"}[query.order] if sorted_now else ""
        link = address("/", sort=key, order=turned, q=query.q or None)
        headings.append(Column(title, key, aria, link))
    return headings


def headline(everyone: pd.DataFrame) -> dict[str, Any] | None:
    """Say what most forecasts of the table are: as of when, for when, by which version."""
    made = everyone.dropna(subset=["as_of"])
    if made.empty:
        return None
    newest = made[made["as_of"] == made["as_of"].max()]
    return {
        "as_of": newest["as_of"].iloc[0].date(),
        "target": newest["target"].iloc[0].date(),
        "versions": sorted({int(version) for version in newest["version"]}),
        "coverage": float(newest["coverage"].iloc[0]),
        "tickers": len(newest),
    }


def written(shown: pd.DataFrame, scale: float) -> list[Row]:
    """Write the rows, column by column; pictures of intervals reach `scale` to either side."""
    places = _interval_places(shown, scale)
    stale = (shown["as_of"] < shown["session"]).tolist()
    starts = shown["from"].map(formatting.price).tolist()
    states = map(_state, shown["behind"], shown["as_of"].isna(), stale)
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
        *places.T.tolist(),
        shown["relative_mae"].map(formatting.number),
        shown["session"].map(formatting.day),
        states,
    )
    return [Row._make(row) for row in zip(*texts, strict=True)]


def _interval(lower: float, upper: float) -> str:
    return (
        formatting.NOTHING
        if lower != lower
        else f"{formatting.price(lower)} to {formatting.price(upper)}"
    )


def interval_scale(everyone: pd.DataFrame) -> float:
    """Give the change that the pictures of intervals reach to either side; nearly all fit in."""
    moves = np.abs(_interval_moves(everyone))
    known = moves[np.isfinite(moves)]
    return float(np.quantile(known, 0.98)) if known.size else 1.0


def _interval_places(shown: pd.DataFrame, scale: float) -> NDArray[np.int_]:
    """Place lower bound, upper bound and forecast, the close they start from mid-way."""
    reach = np.clip(np.nan_to_num(_interval_moves(shown)) / scale, -1, 1)
    return (WIDTH / 2 * (1 + reach)).round().astype(int)


def _interval_moves(rows: pd.DataFrame) -> NDArray[np.float64]:
    return rows[["lower", "upper", "forecast"]].div(rows["from"], axis=0).to_numpy(float) - 1


def _state(behind: int, unforecast: bool, stale: bool) -> str:
    if behind < 0:
        return f"no bar in {formatting.sessions(SPARKLINE_SESSIONS)}"
    if behind > 0:
        return f"late by {formatting.sessions(behind)}"
    if unforecast:
        return "not forecast"
    return "forecast is older" if stale else ""
