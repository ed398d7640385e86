"""Ingestion: fetch bars from a source, check and reconcile them, store the valid ones.

When a whole history is fetched again is decided in :mod:`stock_assets.market.reconciliation`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

import pandas as pd
from sqlalchemy import Engine

from stock_assets import config
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.text import truncate
from stock_assets.market import calendar, checks, rules
from stock_assets.market.bars import PRICE_COLUMNS, empty_bars, tidy
from stock_assets.market.corporate_actions import no_actions
from stock_assets.market.reconciliation import (
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
    """The result of an ingestion.

    Attributes
    ----------
    bars : DataFrame
        The stored bars of the requested sessions and tickers.
    findings : DataFrame
        Broken rules, see :mod:`stock_assets.market.checks`.
    stored : StoredPrices
        What changed in the tables.
    healed : dict of date to int
        Number of new bars in sessions that were not requested.
    complete : list of str
        Tickers with a bar of the last session.
    late : list of str
        Listed tickers that did not fail and have no bar of the last session.
    failures : dict of str to str
        Tickers of which nothing was stored, with the reason.
    quarantined : int
        Bars put in quarantine.
    quarantined_sessions : frozenset of date
        Sessions with bars that are in quarantine after this run.
    """

    bars: pd.DataFrame
    findings: pd.DataFrame
    stored: StoredPrices
    healed: dict[date, int]
    complete: list[str]
    late: list[str]
    failures: dict[str, str]
    quarantined: int
    quarantined_sessions: frozenset[date]


def ingest(
    engine: Engine,
    source: PriceSource,
    prices: config.Prices,
    sessions: Sequence[date],
    dagster_run_id: str | None = None,
) -> Ingestion:
    """Store the bars of sessions, and missing bars of earlier ones.

    Valid bars are stored even if others fail. Repeating it changes nothing.

    Parameters
    ----------
    engine : Engine
        The ``stock_assets`` database.
    source : PriceSource
        The source to fetch from.
    prices : config.Prices
        The tickers, and how far requests reach back.
    sessions : sequence of date
        The requested sessions, ascending.
    dagster_run_id : str, optional
        The run to record.

    Raises
    ------
    StockAssetsError
        The source cannot answer at all.
    """
    apply_renames(engine, prices.renames, dagster_run_id)
    answer = _fetch(engine, source, prices, sessions)
    broken = checks.bar_findings(answer.fetch.bars)
    reported = _reported_earlier(broken, read_quarantine(engine), sessions)
    quarantined = quarantine(engine, answer.fetch.bars, broken, source.name, dagster_run_id)
    valid = replace(answer.fetch, bars=_exclude(answer.fetch.bars, broken))
    stored = store_prices(engine, valid, answer.starts, source.name, dagster_run_id)

    histories = stored_histories(engine)
    bars = read_bars(engine, sessions[0], sessions[-1], prices.tickers)
    requested = valid.bars["session"].dt.date.isin(sessions)
    changed = ~key_isin(valid.bars, _unchanged(valid.bars, answer.stored))
    series = checks.series_findings(valid.bars, prices.checks)
    findings = [
        answer.findings,
        broken[~reported],
        series[key_isin(series, valid.bars[requested | changed])],
        checks.gap_findings(bars, prices.tickers, sessions, listed_since(histories)),
    ]
    new = _exclude(valid.bars, answer.stored)
    healed = new.loc[~new["session"].dt.date.isin(sessions), "session"].dt.date.value_counts()
    complete = set(bars.loc[bars["session"].dt.date == sessions[-1], "ticker"])
    listed = {t for t, first in listed_since(histories).items() if first <= sessions[-1]}
    return Ingestion(
        bars=bars,
        findings=checks.with_severities(
            pd.concat(findings, ignore_index=True), prices.checks, valid.provisional
        ),
        stored=stored,
        healed={day: int(count) for day, count in healed.items()},
        complete=sorted(complete - valid.failures.keys()),
        late=sorted((listed & set(prices.tickers)) - complete - valid.failures.keys()),
        failures=valid.failures,
        quarantined=quarantined,
        quarantined_sessions=frozenset(read_quarantine(engine)["session"].dt.date),
    )


def arrival_error(
    ingestion: Ingestion, source: PriceSource, sessions: Sequence[date], share: float
) -> StockAssetsError | None:
    """Return an error if too few bars arrived: no answer must not look like a day without data.

    Too few means that a session has no bar, or that fewer than ``share`` of the listed tickers have
    a bar of the last session.
    """
    present = set(ingestion.bars["session"].dt.date)
    empty = next((session for session in sessions if session not in present), None)
    expected = len(ingestion.complete) + len(ingestion.late) + len(ingestion.failures)
    if empty is None and len(ingestion.complete) >= share * expected:
        return None
    problem = (
        f"no bar for {empty}"
        if empty is not None
        else f"a bar of {sessions[-1]} for {len(ingestion.complete)} of {expected} tickers, "
        f"fewer than prices.minimum_share ({share:.0%})"
    )
    reasons = [f"{ticker}: {reason}" for ticker, reason in ingestion.failures.items()]
    reasons += [f"{ticker}: no bar of {sessions[-1]} yet" for ticker in ingestion.late]
    listed = "; ".join(truncate(reasons, 3))
    return StockAssetsError(
        f"source {source.name} returned {problem}{': ' if listed else ''}{listed}",
        _remedy(ingestion, source),
    )


def _remedy(ingestion: Ingestion, source: PriceSource) -> str:
    if ingestion.failures:
        return "Check the network and prices.tickers in params.yaml, then run the partition again"
    if source.last_session:
        return (
            f"Its newest session is {source.last_session}: "
            "choose sessions that it has, or another source"
        )
    return "Run the partition again when the session's bars are published"


def _reported_earlier(
    broken: pd.DataFrame, quarantined: pd.DataFrame, sessions: Sequence[date]
) -> pd.Series:
    """Return which findings earlier runs have reported and that are final.

    A quarantined bar is fetched again as long as it is missing. The session before the requested
    ones was provisional when it was last reported.
    """
    final = broken["session"] < pd.Timestamp(calendar.previous_session(sessions[0]))
    return final & key_isin(broken, quarantined)


def _unchanged(bars: pd.DataFrame, stored: pd.DataFrame) -> pd.DataFrame:
    """Return the stored bars whose prices and volume equal those fetched."""
    both = stored.merge(bars, on=["ticker", "session"], suffixes=("", "_now"))
    same = (both[column] == both[f"{column}_now"] for column in (*PRICE_COLUMNS, "volume"))
    return both[pd.concat(list(same), axis="columns").all(axis="columns")]


@dataclass(frozen=True)
class _Answer:
    """The accepted part of a source's answer.

    Attributes
    ----------
    starts : dict of str to date
        The first day of each ticker's request.
    stored : DataFrame
        The bars of those tickers and days that were stored before.
    """

    fetch: Fetch
    starts: dict[str, date]
    stored: pd.DataFrame
    findings: pd.DataFrame


def _fetch(
    engine: Engine, source: PriceSource, prices: config.Prices, sessions: Sequence[date]
) -> _Answer:
    """Fetch from the last stored session on; fetch a history in doubt whole, and reject some."""
    last, histories = sessions[-1], stored_histories(engine)
    window = healing_window(last, prices)
    recent = read_bars(engine, window[0], last, prices.tickers)
    starts = fetch_starts(sessions, histories, recent, prices)
    fetch, stored = source.fetch(starts, last), _stored_since(engine, starts, last)
    other_currency = {
        ticker: f"its prices are in {now}, the stored ones in {histories[ticker].currency}; "
        f"if correct: stock-assets refetch {ticker}"
        for ticker, now in fetch.currencies.items()
        if ticker in histories and histories[ticker].currency != now
    }
    fetch = drop_tickers(fetch, other_currency)
    findings = [checks.history_findings(rules.CURRENCY_CHANGED, other_currency, last)]
    renames = prices.renames
    to_refetch = histories_to_refetch(fetch, _since_rename(stored, renames), histories)
    whole_starts = dict.fromkeys(to_refetch, prices.first_session)
    if to_refetch:
        whole_stored = _stored_since(engine, whole_starts, last)
        whole = _fetch_whole(source, whole_starts, last)
        accepted, found = _accept(whole, _since_rename(whole_stored, renames), last)
        fetch = replace_tickers(fetch, accepted, to_refetch)
        others = stored[~stored["ticker"].isin(to_refetch)]
        stored = pd.concat([others, whole_stored], ignore_index=True)
        findings.append(found)
    findings.append(checks.history_findings(rules.NO_ANSWER, fetch.failures, last))
    return _Answer(fetch, starts | whole_starts, stored, pd.concat(findings, ignore_index=True))


def _stored_since(engine: Engine, starts: Mapping[str, date], last: date) -> pd.DataFrame:
    """Read each ticker's stored bars from its start to the last session."""
    tickers_of: dict[date, list[str]] = {}
    for ticker, start in starts.items():
        tickers_of.setdefault(start, []).append(ticker)
    parts = [read_bars(engine, start, last, tickers) for start, tickers in tickers_of.items()]
    return tidy(pd.concat([empty_bars(), *parts]))


def _fetch_whole(source: PriceSource, starts: Mapping[str, date], last: date) -> Fetch:
    """Fetch whole histories; if the source cannot answer now, only these tickers fail."""
    try:
        return source.fetch(starts, last)
    except StockAssetsError as error:
        reason = f"its history changed and could not be fetched whole: {error.problem}"
        return Fetch(empty_bars(), no_actions(), failures=dict.fromkeys(starts, reason))


def _accept(whole: Fetch, stored: pd.DataFrame, last: date) -> tuple[Fetch, pd.DataFrame]:
    """Return the acceptable whole histories, and findings about the rejected ones.

    One that is re-based, or unrelated to the stored bars, is rejected.
    """
    rebased = {
        ticker: f"closes up to {by.last} are {by.factor:.4g} times the stored ones: a split "
        f"missing at the source? Nothing was stored; if correct: stock-assets refetch {ticker}"
        for ticker, by in rebased_histories(whole, stored).items()
    }
    unrelated = {
        ticker: "it has no stored session: does another company have the symbol now? "
        f"Nothing was stored; if correct: stock-assets refetch {ticker}"
        for ticker in unrelated_histories(whole, stored)
    }
    accepted = drop_tickers(whole, rebased | unrelated)
    missing = missing_bars(accepted, stored)
    shrunk = {
        str(ticker): f"{len(days)} stored bars are missing since {days.min():%Y-%m-%d}; they stay"
        for ticker, days in missing.groupby("ticker")["session"]
    }
    findings = [
        checks.history_findings(rules.HISTORY_REBASED, rebased, last),
        checks.history_findings(rules.HISTORY_UNRELATED, unrelated, last),
        checks.history_findings(rules.HISTORY_SHRANK, shrunk, last),
    ]
    return accepted, pd.concat(findings, ignore_index=True)


def _since_rename(bars: pd.DataFrame, renames: Sequence[config.Rename]) -> pd.DataFrame:
    """Return the bars under a ticker's present name: a source may lack the earlier ones."""
    since = {rename.new: pd.Timestamp(rename.first_session) for rename in renames}
    first = bars["ticker"].map(since).astype("datetime64[ns]")
    return bars[first.isna() | (bars["session"] >= first)]


def _exclude(bars: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """Return the bars whose ticker and session do not occur in other rows."""
    return bars[~key_isin(bars, others)].reset_index(drop=True)
