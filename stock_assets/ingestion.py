"""From a price source into the tables: ask, judge, reconcile, store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

import pandas as pd
from sqlalchemy import Engine

from stock_assets import config
from stock_assets.config import RuleName
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.text import truncate
from stock_assets.market import calendar, checks
from stock_assets.market.actions import no_actions
from stock_assets.market.bars import PRICE_COLUMNS, empty_bars, tidy
from stock_assets.market.reconciliation import (
    StoredHistory,
    drop_tickers,
    fetch_starts,
    healing_window,
    histories_to_refetch,
    key_isin,
    listed_since,
    missing_bars,
    rebased_histories,
    replace_tickers,
    unrelated_histories,
)
from stock_assets.market.sources.base import Fetch, PriceSource
from stock_assets.storage.prices import StoredPrices, read_bars, store_prices, stored_histories
from stock_assets.storage.quarantine import quarantine, read_quarantine
from stock_assets.storage.renames import apply_renames


@dataclass(frozen=True)
class Ingestion:
    """What a run brought in.

    Attributes
    ----------
    bars : DataFrame
        The bars that are stored now, of the sessions and tickers that were wanted.
    findings : DataFrame
        What the checks found, see :mod:`stock_assets.market.checks`.
    stored : StoredPrices
        What storing did.
    healed : dict of date to int
        Sessions beside those wanted that got bars, and how many.
    late : list of str
        Listed tickers that answered, yet have no bar of the last session wanted.
    failures : dict of str to str
        Tickers of which nothing was taken, with the reason.
    complete : list of str
        Tickers that have their bar of the last session.
    quarantined : int
        Bars that were kept apart.
    """

    bars: pd.DataFrame
    findings: pd.DataFrame
    stored: StoredPrices
    healed: dict[date, int]
    complete: list[str]
    late: list[str]
    failures: dict[str, str]
    quarantined: int


def ingest(
    engine: Engine,
    source: PriceSource,
    prices: config.Prices,
    sessions: Sequence[date],
    dagster_run_id: str | None = None,
) -> Ingestion:
    """Bring the bars of sessions in, with whatever is missing before them.

    What is sound is stored, whatever else failed. Doing it again changes nothing.

    Parameters
    ----------
    engine : Engine
        The ``stock_assets`` database.
    source : PriceSource
        Whom to ask.
    prices : config.Prices
        The universe, and how far requests reach back.
    sessions : sequence of date
        The sessions wanted, ascending.
    dagster_run_id : str, optional
        The run that this belongs to.

    Raises
    ------
    StockAssetsError
        The source cannot answer at all.
    """
    apply_renames(engine, prices.renames, dagster_run_id)
    held = stored_histories(engine)
    asked = _plan(engine, prices, sessions, held)
    answer = _ask(engine, source, prices, held, asked, sessions[-1])
    broken = checks.bar_findings(answer.fetch.bars)
    known = _told_before(broken, read_quarantine(engine), sessions)
    sound = replace(answer.fetch, bars=_except(answer.fetch.bars, broken))
    quarantined = quarantine(engine, answer.fetch.bars, broken, source.name, dagster_run_id)
    stored = store_prices(engine, sound, answer.asked, source.name, dagster_run_id)

    new = _except(sound.bars, answer.stored)
    wanted = sound.bars["session"].dt.date.isin(sessions)
    told = wanted | ~key_isin(sound.bars, _unchanged(sound.bars, answer.stored))
    odd = checks.series_findings(sound.bars, prices.checks)
    now_held = stored_histories(engine)
    bars = read_bars(engine, sessions[0], sessions[-1], prices.tickers)
    found = [
        answer.findings,
        broken[~known],
        odd[key_isin(odd, sound.bars[told])],
        checks.gap_findings(bars, prices.tickers, sessions, listed_since(now_held)),
    ]
    findings = pd.concat(found, ignore_index=True)
    return Ingestion(
        bars=bars,
        findings=checks.with_severities(findings, prices.checks, sound.provisional),
        stored=stored,
        healed=_counts(new[~new["session"].dt.date.isin(sessions)]),
        failures=sound.failures,
        quarantined=quarantined,
        **_arrivals(bars, prices.tickers, sessions[-1], now_held, sound.failures),
    )


def _arrivals(
    bars: pd.DataFrame,
    tickers: Sequence[str],
    last: date,
    held: Mapping[str, StoredHistory],
    failures: Mapping[str, str],
) -> dict[str, list[str]]:
    """Tell whose bar of the last session is there, and who is late."""
    there = set(bars.loc[bars["session"].dt.date == last, "ticker"])
    since = listed_since(held)
    absent = (ticker for ticker in tickers if ticker not in there | failures.keys())
    return {
        "complete": sorted(there - failures.keys()),
        "late": [ticker for ticker in absent if ticker in since and since[ticker] <= last],
    }


def require_arrival(
    ingestion: Ingestion, source: PriceSource, sessions: Sequence[date], share: float
) -> None:
    """Fail when too little arrived: an empty answer never reads as "no new data".

    Raises
    ------
    StockAssetsError
        A session has no bar at all, or fewer than ``share`` of the listed tickers have their bar of
        the last one.
    """
    there = set(ingestion.bars["session"].dt.date)
    empty = next((session for session in sessions if session not in there), None)
    expected = len(ingestion.complete) + len(ingestion.late) + len(ingestion.failures)
    if empty is None and len(ingestion.complete) >= share * expected:
        return
    what = (
        f"no bar for {empty}"
        if empty is not None
        else f"a bar of {sessions[-1]} for {len(ingestion.complete)} of {expected} tickers, "
        f"fewer than prices.minimum_share ({share:.0%})"
    )
    reasons = [f"{ticker}: {reason}" for ticker, reason in ingestion.failures.items()]
    reasons += [f"{ticker}: no bar of {sessions[-1]} yet" for ticker in ingestion.late]
    told = "; ".join(truncate(reasons, 3))
    raise StockAssetsError(
        f"source {source.name} gave {what}{': ' if told else ''}{told}", _remedy(ingestion, source)
    )


def _remedy(ingestion: Ingestion, source: PriceSource) -> str:
    if ingestion.failures:
        return "Check the network and prices.tickers in params.yaml, then run the partition again"
    if source.last_session:
        return (
            f"Its newest session is {source.last_session}: "
            "choose sessions that it has, or another source"
        )
    return "Run the partition again when the session's bars are out"


def _plan(
    engine: Engine,
    prices: config.Prices,
    sessions: Sequence[date],
    held: Mapping[str, StoredHistory],
) -> dict[str, date]:
    window = healing_window(sessions[-1], prices)
    recent = read_bars(engine, window[0], sessions[-1], prices.tickers)
    return fetch_starts(sessions, held, recent, prices)


def _stored(engine: Engine, asked: Mapping[str, date], last: date) -> pd.DataFrame:
    """Read the bars that may come again: of each ticker, since when it is asked for."""
    together: dict[date, list[str]] = {}
    for ticker, start in asked.items():
        together.setdefault(start, []).append(ticker)
    parts = [read_bars(engine, start, last, tickers) for start, tickers in together.items()]
    return tidy(pd.concat([empty_bars(), *parts]))


def _told_before(
    broken: pd.DataFrame, quarantined: pd.DataFrame, sessions: Sequence[date]
) -> pd.Series:
    """Tell which findings are of bars that earlier runs have reported.

    Such a bar is asked for again as long as it is missing. One of the session before those wanted
    was provisional when it was first seen.
    """
    earlier = broken["session"] < pd.Timestamp(calendar.previous_session(sessions[0]))
    return earlier & key_isin(broken, quarantined)


def _unchanged(bars: pd.DataFrame, stored: pd.DataFrame) -> pd.DataFrame:
    """Find the stored bars that came again as they were."""
    both = stored.merge(bars, on=["ticker", "session"], suffixes=("", "_now"))
    same = (both[column] == both[f"{column}_now"] for column in (*PRICE_COLUMNS, "volume"))
    return both[pd.concat(list(same), axis="columns").all(axis="columns")]


@dataclass(frozen=True)
class _Answer:
    """What a source gave, as far as it is accepted.

    Attributes
    ----------
    asked : dict of str to date
        Since when each ticker was asked for.
    stored : DataFrame
        The bars of those tickers and days that were stored before.
    """

    fetch: Fetch
    asked: dict[str, date]
    stored: pd.DataFrame
    findings: pd.DataFrame


def _ask(
    engine: Engine,
    source: PriceSource,
    prices: config.Prices,
    held: Mapping[str, StoredHistory],
    asked: dict[str, date],
    last: date,
) -> _Answer:
    """Ask a source; ask again for whole histories that are in doubt; refuse what cannot be."""
    fetch, stored = source.fetch(asked, last), _stored(engine, asked, last)
    changed = {
        ticker: f"its prices are in {now}, those stored in {held[ticker].currency}; "
        f"if that is right: stock-assets refetch {ticker}"
        for ticker, now in fetch.currencies.items()
        if ticker in held and held[ticker].currency != now
    }
    fetch = drop_tickers(fetch, changed)
    found = [_told("currency changed", changed, last)]
    unsettled = histories_to_refetch(fetch, _same_company(stored, prices.renames), held)
    again = dict.fromkeys(unsettled, prices.first_session)
    if unsettled:
        histories = _stored(engine, again, last)
        whole = _fetch_again(source, again, last)
        settled, told = _settled(whole, _same_company(histories, prices.renames), last)
        fetch = replace_tickers(fetch, settled, unsettled)
        settled_before = stored[~stored["ticker"].isin(unsettled)]
        stored = pd.concat([settled_before, histories], ignore_index=True)
        found.append(told)
    found.append(_told("no answer", fetch.failures, last))
    return _Answer(fetch, asked | again, stored, pd.concat(found, ignore_index=True))


def _fetch_again(source: PriceSource, starts: Mapping[str, date], last: date) -> Fetch:
    """Ask once more for some tickers; if nobody answers now, it is they alone that have failed."""
    try:
        return source.fetch(starts, last)
    except StockAssetsError as error:
        reason = f"its whole history is in doubt and cannot be had: {error.problem}"
        return Fetch(empty_bars(), no_actions(), failures=dict.fromkeys(starts, reason))


def _settled(whole: Fetch, stored: pd.DataFrame, last: date) -> tuple[Fetch, pd.DataFrame]:
    """Refuse whole histories that are not those of the stored bars."""
    shifted = rebased_histories(whole, stored)
    factored = {
        ticker: f"some of its closes up to {by.last} are {by.factor:.6g} times those stored, which "
        "a split that its source forgot, or has not applied yet, would explain. Nothing of it was "
        f"taken; if it is right now: stock-assets refetch {ticker}"
        for ticker, by in shifted.items()
    }
    others = {
        ticker: "none of its bars is on a session of those stored: another company may have its "
        f"symbol now. Nothing of it was taken; if it is right: stock-assets refetch {ticker}"
        for ticker in unrelated_histories(whole, stored)
    }
    accepted = drop_tickers(whole, factored | others)
    gone = missing_bars(accepted, stored)
    shrunken = {
        str(ticker): f"{len(days)} stored bars are gone, from {days.min():%Y-%m-%d} on; they stay"
        for ticker, days in gone.groupby("ticker")["session"]
    }
    found = [
        _told("history was re-based", factored, last),
        _told("history is another one", others, last),
        _told("history shrank", shrunken, last),
    ]
    return accepted, pd.concat(found, ignore_index=True)


def _told(rule: RuleName, reasons: Mapping[str, str], session: date) -> pd.DataFrame:
    return checks.history_findings(rule, {t: (session, why) for t, why in reasons.items()})


def _same_company(bars: pd.DataFrame, renames: Sequence[config.Rename]) -> pd.DataFrame:
    """Bars since their ticker has its name: a source may not have the earlier ones under it."""
    since = {rename.new: pd.Timestamp(rename.first_session) for rename in renames}
    first = bars["ticker"].map(since).astype("datetime64[ns]")
    return bars[first.isna() | (bars["session"] >= first)]


def _except(bars: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """Bars whose ticker and session are not among those of other rows."""
    return bars[~key_isin(bars, others)].reset_index(drop=True)


def _counts(bars: pd.DataFrame) -> dict[date, int]:
    return {day: int(count) for day, count in bars["session"].dt.date.value_counts().items()}
