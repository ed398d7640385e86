"""What to ask a source for, and whether its answer agrees with what is stored.

A source changes its mind: it corrects late bars, and it re-bases a whole history when a split comes
or goes. Each request therefore overlaps with stored sessions. A correction of a bar is taken as a
revision. A disagreement on settled bars puts the whole history in doubt: it is asked for again, and
taken unless bars in a row differ from the stored ones by one factor, which no trade explains.
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
"""Relative difference of two closes beyond which they are not the same price."""
_FACTOR_TOLERANCE = 1e-3
_LEAST_FACTOR = 0.01


@dataclass(frozen=True)
class StoredHistory:
    """What is stored of a ticker.

    Attributes
    ----------
    first_session, last_session : date or None
        Of its bars; None while it has none.
    fetched_from : date
        The earliest day that a source was asked for.
    currency : str
        What its prices are in, an ISO 4217 code.
    """

    first_session: date | None
    last_session: date | None
    fetched_from: date
    currency: str


def fetch_starts(
    sessions: Sequence[date],
    held: Mapping[str, StoredHistory],
    recent: pd.DataFrame,
    prices: Prices,
) -> dict[str, date]:
    """Choose the session from which each ticker is asked for.

    Parameters
    ----------
    sessions : sequence of date
        Those whose bars are wanted, ascending.
    held : mapping of str to StoredHistory
        What is stored; a ticker that is not named, or was asked for from a later day than
        ``first_session``, gets its whole history.
    recent : DataFrame
        The stored bars of the newest ``healing_sessions`` sessions up to the last one wanted.
    prices : Prices
        The universe, and how far requests reach back: ``first_session``, ``overlap_sessions`` and
        ``healing_sessions``.

    Returns
    -------
    dict of str to date
        For the others: the first session wanted, the last one stored, or the
        first recent session without a bar, whichever is earliest, less the overlap.
    """
    window = healing_window(sessions[-1], prices)
    lacking = _first_days(gap_findings(recent, prices.tickers, window, listed_since(held)))
    return {
        ticker: _start(sessions[0], held[ticker], lacking.get(ticker), prices)
        if ticker in held and held[ticker].fetched_from <= prices.first_session
        else prices.first_session
        for ticker in prices.tickers
    }


def healing_window(last: date, prices: Prices) -> list[date]:
    """Give the newest sessions up to ``last`` of which missing bars are asked for again."""
    earliest = calendar.previous_session(last, prices.healing_sessions)
    return calendar.sessions(max(earliest, prices.first_session), last)


def listed_since(held: Mapping[str, StoredHistory]) -> dict[str, date]:
    """Give the session of each ticker's first bar, of those that have one."""
    return {name: known.first_session for name, known in held.items() if known.first_session}


def _start(wanted: date, known: StoredHistory, gap: date | None, prices: Prices) -> date:
    newest = known.last_session or prices.first_session
    earliest = min(day for day in (wanted, newest, gap) if day is not None)
    return max(calendar.previous_session(earliest, prices.overlap_sessions), prices.first_session)


def histories_to_refetch(
    fetch: Fetch, stored: pd.DataFrame, held: Mapping[str, StoredHistory]
) -> list[str]:
    """Name the tickers whose settled bars are no longer what they were.

    Parameters
    ----------
    fetch : Fetch
        What a source gave.
    stored : DataFrame
        The stored bars of the same tickers and days.
    held : mapping of str to StoredHistory
        What is stored. A ticker's newest bar is provisional: a source may still correct it.

    Returns
    -------
    list of str
        Tickers of which a stored bar is missing in the fetch, or has another close, sorted.
    """
    arrived = fetch.bars[["ticker", "session", "close"]]
    both = stored.merge(arrived, how="left", on=["ticker", "session"], suffixes=("", "_now"))
    answered = both["ticker"].isin(list(fetch.currencies))
    newest = both["ticker"].map({name: known.last_session for name, known in held.items()})
    settled = both["session"] < pd.to_datetime(newest)
    same = (both["close_now"] / both["close"] - 1.0).abs() <= CLOSE_TOLERANCE
    return sorted(both.loc[answered & settled & ~same, "ticker"].unique())


@dataclass(frozen=True)
class Rebasing:
    """How an answer disagrees with stored bars by a factor.

    Attributes
    ----------
    factor : float
        Fetched close over stored close, of the newest bars that disagree so.
    last : date
        The session of the newest of them.
    """

    factor: float
    last: date


def rebased_histories(whole: Fetch, stored: pd.DataFrame) -> dict[str, Rebasing]:
    """Find histories of which bars in a row differ from the stored ones by one factor.

    What traded does not change when a split is found, forgotten or corrected. A constant factor
    therefore means that the source shows a split that it has not applied to its prices, or not to
    all of them, has applied one that it does not show, or has changed its unit. Other splits and
    corrections in the same history do not hide it.

    Parameters
    ----------
    whole : Fetch
        Whole histories.
    stored : DataFrame
        The same tickers' stored bars, a bars frame.

    Returns
    -------
    dict of str to Rebasing
        Tickers of which two stored bars in a row, or more, disagree by the same factor.
    """
    both = stored.merge(whole.bars, on=["ticker", "session"], suffixes=("", "_now"))
    both["factor"] = both["close_now"] / both["close"]
    ticker, differs = both["ticker"], (both["factor"] - 1.0).abs() > _LEAST_FACTOR
    before = both["factor"].where(differs).groupby(ticker).shift()
    repeats = differs & ((both["factor"] / before - 1.0).abs() <= _FACTOR_TOLERANCE)
    repeated = repeats.groupby(ticker).shift(-1, fill_value=False)
    return {
        str(name): _newest_factor(rows) for name, rows in both[repeats | repeated].groupby("ticker")
    }


def _newest_factor(rows: pd.DataFrame) -> Rebasing:
    """Summarise one ticker's bars that disagree; they may do so by several factors."""
    newest = rows.iloc[-1]
    alike = (rows["factor"] / newest["factor"] - 1.0).abs() <= _FACTOR_TOLERANCE
    return Rebasing(rows.loc[alike, "factor"].median(), newest["session"].date())


def unrelated_histories(whole: Fetch, stored: pd.DataFrame) -> list[str]:
    """Name the tickers of which bars came, and bars are stored, but none of the same session."""
    common = set(whole.bars.loc[key_isin(whole.bars, stored), "ticker"])
    return sorted((set(whole.bars["ticker"]) & set(stored["ticker"])) - common)


def missing_bars(whole: Fetch, stored: pd.DataFrame) -> pd.DataFrame:
    """Find stored bars that whole histories no longer have.

    Returns
    -------
    DataFrame
        Rows of ``stored``, of the tickers that answered.
    """
    asked = stored[stored["ticker"].isin(list(whole.currencies))]
    return asked[~key_isin(asked, whole.bars)].reset_index(drop=True)


def key_isin(rows: pd.DataFrame, others: pd.DataFrame) -> pd.Series:
    """Tell whether each row's ticker and session are among those of other rows."""
    pair = ["ticker", "session"]
    there = pd.MultiIndex.from_frame(rows[pair]).isin(pd.MultiIndex.from_frame(others[pair]))
    return pd.Series(there, rows.index, dtype=bool)


def _first_days(rows: pd.DataFrame) -> dict[str, date]:
    """Give each ticker's first session among rows."""
    days: dict[str, date] = rows.groupby("ticker")["session"].min().dt.date.to_dict()
    return days


def drop_tickers(fetch: Fetch, reasons: Mapping[str, str]) -> Fetch:
    """Take tickers out of an answer; their reasons become failures."""
    named = list(reasons)
    return replace(
        fetch,
        bars=fetch.bars[~fetch.bars["ticker"].isin(named)].reset_index(drop=True),
        actions=fetch.actions[~fetch.actions["ticker"].isin(named)].reset_index(drop=True),
        failures=fetch.failures | dict(reasons),
        currencies={t: code for t, code in fetch.currencies.items() if t not in reasons},
    )


def replace_tickers(fetch: Fetch, again: Fetch, tickers: Sequence[str]) -> Fetch:
    """Put a second answer for some tickers in the place of the first one."""
    kept = drop_tickers(fetch, dict.fromkeys(tickers, "asked again"))
    return concat_fetches([kept, again], fetch.failures | again.failures)
