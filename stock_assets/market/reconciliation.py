"""Which sessions to request from a source, and whether its answer agrees with the stored bars.

A source corrects late bars, and it re-bases a whole history when a split is added or removed. Each
request therefore overlaps with stored sessions. A correction of the newest bar is a revision. A
difference in an earlier bar makes the whole history doubtful: it is fetched again, and accepted
unless it has no session in common with the stored one, or consecutive bars differ from the stored
ones by one factor, which no trade explains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

import pandas as pd

from stock_assets.config import Prices
from stock_assets.market import calendar
from stock_assets.market.checks import gap_findings
from stock_assets.market.sources.base import Fetch, concat_fetches

CLOSE_TOLERANCE = 2e-4
"""Largest relative difference between two closes that count as equal."""
_FACTOR_TOLERANCE = 1e-3
_MIN_RELATIVE_CHANGE = 0.01


@dataclass(frozen=True)
class StoredHistory:
    """The stored history of a ticker.

    Attributes
    ----------
    first_session, last_session : date or None
        Of its bars; None without bars.
    fetched_from : date
        The first day of its earliest request.
    currency : str
        The currency of its prices, an ISO 4217 code.
    """

    first_session: date | None
    last_session: date | None
    fetched_from: date
    currency: str


def fetch_starts(
    sessions: Sequence[date],
    histories: Mapping[str, StoredHistory],
    recent: pd.DataFrame,
    prices: Prices,
) -> dict[str, date]:
    """Choose the first session to request of each ticker.

    Parameters
    ----------
    sessions : sequence of date
        The sessions to ingest, ascending.
    histories : mapping of str to StoredHistory
        The stored histories. A ticker without one, or first requested from a later day than
        ``prices.first_session``, is requested whole.
    recent : DataFrame
        The stored bars of the sessions in :func:`healing_window`.
    prices : Prices
        Uses the tickers, ``first_session``, ``overlap_sessions`` and ``healing_sessions``.

    Returns
    -------
    dict of str to date
        For the others: the first of the sessions, the last stored session or the first recent
        session without a bar, whichever is earliest, less the overlap.
    """
    window = healing_window(sessions[-1], prices)
    first_gaps = _first_days(gap_findings(recent, prices.tickers, window, listed_since(histories)))
    return {
        ticker: _start(sessions[0], histories[ticker], first_gaps.get(ticker), prices)
        if ticker in histories and histories[ticker].fetched_from <= prices.first_session
        else prices.first_session
        for ticker in prices.tickers
    }


def healing_window(last: date, prices: Prices) -> list[date]:
    """Return the newest sessions up to ``last`` whose missing bars are fetched again."""
    earliest = calendar.previous_session(last, prices.healing_sessions)
    return calendar.sessions(max(earliest, prices.first_session), last)


def listed_since(histories: Mapping[str, StoredHistory]) -> dict[str, date]:
    """Return the session of each ticker's first bar, if it has one."""
    return {name: known.first_session for name, known in histories.items() if known.first_session}


def _start(first: date, known: StoredHistory, gap: date | None, prices: Prices) -> date:
    newest = known.last_session or prices.first_session
    earliest = min(day for day in (first, newest, gap) if day is not None)
    return max(calendar.previous_session(earliest, prices.overlap_sessions), prices.first_session)


def histories_to_refetch(
    fetch: Fetch, stored: pd.DataFrame, histories: Mapping[str, StoredHistory]
) -> list[str]:
    """Find tickers whose settled bars differ from the stored ones.

    Parameters
    ----------
    fetch : Fetch
        A source's answer.
    stored : DataFrame
        The stored bars of the same tickers and days.
    histories : mapping of str to StoredHistory
        The stored histories. A ticker's newest bar is not settled: a source may still correct it.

    Returns
    -------
    list of str
        Tickers with a settled stored bar that is missing in the fetch or has another close, sorted.
    """
    arrived = fetch.bars[["ticker", "session", "close"]]
    both = stored.merge(arrived, how="left", on=["ticker", "session"], suffixes=("", "_now"))
    answered = both["ticker"].isin(list(fetch.currencies))
    newest = both["ticker"].map({name: known.last_session for name, known in histories.items()})
    settled = both["session"] < pd.to_datetime(newest)
    same = (both["close_now"] / both["close"] - 1.0).abs() <= CLOSE_TOLERANCE
    return sorted(both.loc[answered & settled & ~same, "ticker"].unique())


@dataclass(frozen=True)
class Rebasing:
    """A constant factor between a fetched history and the stored one.

    Attributes
    ----------
    factor : float
        Fetched close over stored close, of the newest bars that differ.
    last : date
        The session of the newest of these bars.
    """

    factor: float
    last: date


def rebased_histories(whole: Fetch, stored: pd.DataFrame) -> dict[str, Rebasing]:
    """Find histories whose consecutive bars differ from the stored ones by one factor.

    Prices as traded do not change when a split is added, removed or corrected. A constant factor
    therefore means that the source reports a split that it has not applied to all its prices, has
    applied one that it does not report, or has changed its unit. Other splits and corrections in
    the same history do not hide it.

    Parameters
    ----------
    whole : Fetch
        Whole histories.
    stored : DataFrame
        The same tickers' stored bars, a bars frame.

    Returns
    -------
    dict of str to Rebasing
        Tickers with at least two consecutive stored bars that differ by the same factor.
    """
    both = stored.merge(whole.bars, on=["ticker", "session"], suffixes=("", "_now"))
    both["factor"] = both["close_now"] / both["close"]
    ticker, differs = both["ticker"], (both["factor"] - 1.0).abs() > _MIN_RELATIVE_CHANGE
    before = both["factor"].where(differs).groupby(ticker).shift()
    repeats = differs & ((both["factor"] / before - 1.0).abs() <= _FACTOR_TOLERANCE)
    repeated = repeats.groupby(ticker).shift(-1, fill_value=False)
    return {
        str(name): _newest_factor(rows) for name, rows in both[repeats | repeated].groupby("ticker")
    }


def _newest_factor(rows: pd.DataFrame) -> Rebasing:
    """Summarise one ticker's bars that differ, possibly by several factors."""
    newest = rows.iloc[-1]
    alike = (rows["factor"] / newest["factor"] - 1.0).abs() <= _FACTOR_TOLERANCE
    return Rebasing(rows.loc[alike, "factor"].median(), newest["session"].date())


def unrelated_histories(whole: Fetch, stored: pd.DataFrame) -> list[str]:
    """Find tickers with fetched bars and stored bars, but no session in common."""
    common = set(whole.bars.loc[key_isin(whole.bars, stored), "ticker"])
    return sorted((set(whole.bars["ticker"]) & set(stored["ticker"])) - common)


def missing_bars(whole: Fetch, stored: pd.DataFrame) -> pd.DataFrame:
    """Find stored bars that are missing in whole histories.

    Returns
    -------
    DataFrame
        Rows of ``stored``, of the fetched tickers.
    """
    fetched = stored[stored["ticker"].isin(list(whole.currencies))]
    return fetched[~key_isin(fetched, whole.bars)].reset_index(drop=True)


def key_isin(rows: pd.DataFrame, others: pd.DataFrame) -> pd.Series:
    """Return whether each row's ticker and session occur in other rows."""
    pair = ["ticker", "session"]
    there = pd.MultiIndex.from_frame(rows[pair]).isin(pd.MultiIndex.from_frame(others[pair]))
    return pd.Series(there, rows.index, dtype=bool)


def _first_days(rows: pd.DataFrame) -> dict[str, date]:
    """Return each ticker's first session among rows."""
    days: dict[str, date] = rows.groupby("ticker")["session"].min().dt.date.to_dict()
    return days


def drop_tickers(fetch: Fetch, reasons: Mapping[str, str]) -> Fetch:
    """Remove tickers from an answer; their reasons become failures."""
    named = list(reasons)
    return replace(
        fetch,
        bars=fetch.bars[~fetch.bars["ticker"].isin(named)].reset_index(drop=True),
        actions=fetch.actions[~fetch.actions["ticker"].isin(named)].reset_index(drop=True),
        failures=fetch.failures | dict(reasons),
        currencies={t: code for t, code in fetch.currencies.items() if t not in reasons},
    )


def replace_tickers(fetch: Fetch, again: Fetch, tickers: Sequence[str]) -> Fetch:
    """Replace the answer for some tickers by a second one."""
    kept = drop_tickers(fetch, dict.fromkeys(tickers, "fetched again"))
    return concat_fetches([kept, again], fetch.failures | again.failures)
