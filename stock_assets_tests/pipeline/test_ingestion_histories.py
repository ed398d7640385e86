"""Histories that were corrected, rejected or quarantined when they were fetched again."""

from __future__ import annotations

from datetime import date

import pandas as pd
from pandas.testing import assert_frame_equal
from sqlalchemy import Engine

from stock_assets.market import calendar
from stock_assets.pipeline.ingestion import ingest
from stock_assets.storage.prices import reset_fetch_start
from stock_assets.storage.quarantine import read_quarantine
from stock_assets_tests.market import yahoo_faults as faults
from stock_assets_tests.market import yahoo_loopback
from stock_assets_tests.pipeline.ingested import (
    LAST,
    PRICES,
    TICKERS,
    bring,
    evening,
    everything,
    rows,
    rules,
    seen,
    source,
    stored,
    traded,
)


def test_ingest_records_a_corrected_newest_bar_as_revisions(
    engine: Engine, yahoo: yahoo_loopback.Yahoo
) -> None:
    bring(engine, yahoo, LAST)
    corrected = traded()
    newest = corrected["ticker"].eq("IBM") & corrected["session"].eq(pd.Timestamp(LAST))
    old = corrected.loc[newest, "close"].item()
    corrected.loc[newest, ["close", "volume"]] = [round(old - 0.01, 2), 1.0]
    yahoo.list_anew(corrected)
    done = bring(engine, yahoo, LAST)
    assert sorted(yahoo.charts) == TICKERS  # the history is not refetched
    assert done.stored.revisions == 2
    revised = [row[1:6] for row in rows(engine, "price_revisions")]
    assert ("IBM", LAST, "close", old, round(old - 0.01, 2)) in revised
    assert_frame_equal(stored(engine), corrected, check_exact=True)


def test_ingest_refetches_a_history_whose_settled_bar_changed(
    engine: Engine, yahoo: yahoo_loopback.Yahoo
) -> None:
    bring(engine, yahoo, LAST)
    corrected = traded()
    for day in (date(2005, 4, 26), date(2004, 12, 1)):  # one seen in the overlap, one long ago
        changed = corrected["ticker"].eq("IBM") & corrected["session"].eq(pd.Timestamp(day))
        corrected.loc[changed, "close"] = corrected.loc[changed, "high"]
    yahoo.list_anew(corrected)
    done = bring(engine, yahoo, LAST)
    assert sorted(yahoo.charts) == [*TICKERS[:2], "IBM", "MSFT"]
    assert done.stored.revisions == 2
    assert done.healed == {}  # revised, not new
    assert_frame_equal(stored(engine), corrected, check_exact=True)


def test_a_ticker_whose_refetch_fails_fails_alone(
    engine: Engine, yahoo: yahoo_loopback.Yahoo
) -> None:
    seen(engine, yahoo, calendar.previous_session(LAST))
    corrected = traded()
    settled = corrected["ticker"].eq("IBM") & corrected["session"].eq(pd.Timestamp(2005, 4, 26))
    corrected.loc[settled, "close"] = corrected.loc[settled, "high"]
    yahoo.list_anew(corrected)
    yahoo.answers("IBM", faults.sound, *[faults.dropped] * 2)
    done = seen(engine, yahoo, LAST)
    assert done.complete == ["AAPL", "MSFT"]
    assert "could not be fetched whole" in done.failures["IBM"]
    seen(engine, yahoo, LAST)
    assert_frame_equal(stored(engine), corrected, check_exact=True)


def test_ingest_rejects_a_history_without_its_splits(
    engine: Engine, yahoo: yahoo_loopback.Yahoo
) -> None:
    first, friday = date(2000, 3, 1), date(2005, 3, 4)  # AAPL was split in June 2000, too
    alone = PRICES.model_copy(update={"first_session": first, "tickers": ["AAPL"]})
    yahoo.list_anew(traded(first=first))
    yahoo.now = evening(calendar.previous_session(friday))
    ingest(engine, source(yahoo), alone, [calendar.previous_session(friday)])
    before = everything(engine)

    def forget(result: dict[str, dict[str, object]]) -> None:
        result["events"]["splits"] = {}

    yahoo.always_answers("AAPL", faults.edited(forget))
    yahoo.now = evening(friday)
    done = ingest(engine, source(yahoo), alone, [friday])
    assert ("AAPL", "history was re-based", "error") in rules(done)
    assert everything(engine) == before


def test_ingest_rejects_a_history_without_its_newest_split(
    engine: Engine, yahoo: yahoo_loopback.Yahoo
) -> None:
    seen(engine, yahoo, date(2005, 3, 3))
    before = stored(engine)

    def forget(result: dict[str, dict[str, object]]) -> None:
        result["events"]["splits"] = {}

    yahoo.always_answers("AAPL", faults.edited(forget))
    done = seen(engine, yahoo, date(2005, 3, 4))
    assert ("AAPL", "history was re-based", "error") in rules(done)
    assert "are 0.5 times the stored ones" in done.failures["AAPL"]
    kept = stored(engine).query("session <= '2005-03-03'").reset_index(drop=True)
    assert_frame_equal(kept, before, check_exact=True)
    assert done.complete == ["IBM", "MSFT"]


def test_ingest_keeps_the_bars_of_a_history_that_shrank(
    engine: Engine, yahoo: yahoo_loopback.Yahoo
) -> None:
    bring(engine, yahoo, LAST)
    yahoo.list_anew(traded(first=date(2005, 4, 26)))
    done = bring(engine, yahoo, LAST)
    found = done.findings[done.findings["rule"] == "history shrank"]
    assert found["ticker"].tolist() == TICKERS
    gone = len(traded(date(2005, 4, 25))) // 3
    assert found["detail"].iloc[0] == f"{gone} stored bars are missing since 2004-11-01; they stay"
    assert_frame_equal(stored(engine), traded(), check_exact=True)


def test_ingest_rejects_the_history_of_another_company(
    engine: Engine, yahoo: yahoo_loopback.Yahoo
) -> None:
    seen(engine, yahoo, date(2005, 4, 22))
    before = stored(engine)
    yahoo.list_anew(traded(first=date(2005, 4, 26)))
    done = bring(engine, yahoo, LAST)
    assert ("IBM", "history is unrelated", "error") in rules(done)
    assert "another company" in done.failures["IBM"]
    assert_frame_equal(stored(engine), before)


def test_ingest_rejects_another_currency(engine: Engine, yahoo: yahoo_loopback.Yahoo) -> None:
    seen(engine, yahoo, calendar.previous_session(LAST))
    yahoo.always_answers("IBM", faults.meta(currency="EUR"))
    done = seen(engine, yahoo, LAST)
    assert ("IBM", "currency changed", "error") in rules(done)
    assert done.failures["IBM"].startswith("its prices are in EUR, the stored ones in USD")
    assert done.complete == ["AAPL", "MSFT"]


def test_reset_fetch_start_accepts_a_rejected_history(
    engine: Engine, yahoo: yahoo_loopback.Yahoo
) -> None:
    bring(engine, yahoo, LAST)
    doubled = traded()
    prices = ["open", "high", "low", "close"]
    doubled[prices] = doubled[prices].mask(
        doubled["ticker"].eq("IBM"), (doubled[prices] * 2).round(2)
    )
    yahoo.list_anew(doubled)
    assert list(bring(engine, yahoo, LAST).failures) == ["IBM"]
    assert reset_fetch_start(engine, ["IBM", "NEW"]) == ["IBM"]
    done = bring(engine, yahoo, LAST)
    assert done.failures == {}
    assert done.stored.revisions == 4 * len(doubled.query("ticker == 'IBM'"))
    assert done.healed == {}
    assert_frame_equal(stored(engine), doubled, check_exact=True)


def with_broken_bar(day: date) -> pd.DataFrame:
    """Return the bars with one of IBM whose low of 500 is above its other prices."""
    broken = traded()
    wrong = broken["ticker"].eq("IBM") & broken["session"].eq(pd.Timestamp(day))
    broken.loc[wrong, "low"] = 500.0
    return broken


def test_ingest_quarantines_a_broken_bar_until_a_valid_one_arrives(
    engine: Engine, yahoo: yahoo_loopback.Yahoo
) -> None:
    day = date(2005, 4, 26)
    broken = with_broken_bar(day)
    yahoo.list_anew(broken)
    done = bring(engine, yahoo, LAST)
    assert ("IBM", "low is above open or close", "error") in rules(done)
    (kept,) = read_quarantine(engine).itertuples()
    assert (kept.ticker, kept.session.date(), kept.low) == ("IBM", day, 500.0)
    assert_frame_equal(
        stored(engine), traded()[broken["low"] != 500.0].reset_index(drop=True), check_exact=True
    )

    yahoo.list_anew(traded())
    bring(engine, yahoo, LAST)
    assert read_quarantine(engine).empty
    assert_frame_equal(stored(engine), traded(), check_exact=True)


def test_ingest_reports_a_broken_bar_until_it_is_settled(
    engine: Engine, yahoo: yahoo_loopback.Yahoo
) -> None:
    day = date(2005, 4, 12)
    broken = with_broken_bar(day)
    yahoo.list_anew(broken)
    found = [rules(seen(engine, yahoo, calendar.next_session(day, n))) for n in (1, 2, 9)]
    assert found == [[("IBM", "low is above open or close", "error")], [], []]
    assert ("IBM", "low is above open or close", "error") in rules(bring(engine, yahoo, day))
    assert len(read_quarantine(engine)) == 1
