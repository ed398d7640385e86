"""From Yahoo into the tables: the real library, a Yahoo on this machine, the real database."""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Iterator
from datetime import date, datetime

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal
from sqlalchemy import Engine, text

from stock_assets.config import Checks, Prices
from stock_assets.config import Yahoo as YahooSettings
from stock_assets.core.errors import StockAssetsError
from stock_assets.ingestion import Ingestion, ingest, require_arrival
from stock_assets.market import calendar
from stock_assets.market.actions import actions_of
from stock_assets.market.adjustment import adjust
from stock_assets.market.sources.sample import load_sample
from stock_assets.market.sources.yahoo import YahooSource
from stock_assets.storage.database import engine_for
from stock_assets.storage.prices import read_bars, reset_fetch_start
from stock_assets.storage.quarantine import read_quarantine
from stock_assets.storage.tables import metadata
from stock_assets_tests.market import yahoo_faults as faults
from stock_assets_tests.market import yahoo_loopback
from stock_assets_tests.storage.examples import stored_actions

TICKERS = ["AAPL", "IBM", "MSFT"]
FIRST, LAST = date(2004, 10, 1), date(2005, 4, 29)
DIVIDEND = date(2004, 11, 15)  # MSFT, 3.08 a share
SPLIT = date(2005, 2, 28)  # AAPL, two for one
QUICK = YahooSettings(
    requests_per_second=1000.0,
    timeout_seconds=10.0,
    attempts=2,
    backoff_seconds=0.01,
    backoff_limit_seconds=0.02,
)
PRICES = Prices(source="yahoo", tickers=TICKERS, first_session=FIRST, yahoo=QUICK)


def traded(last: date = LAST, first: date = FIRST) -> pd.DataFrame:
    """What traded, of everyone."""
    bars = load_sample()
    wanted = bars["ticker"].isin(TICKERS) & bars["session"].between(
        pd.Timestamp(first), pd.Timestamp(last)
    )
    return bars[wanted].reset_index(drop=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[yahoo_loopback.Yahoo]:
    folder = tmp_path_factory.mktemp("yahoo")
    with yahoo_loopback.serve(traded(), evening(LAST), folder) as running, running.reached():
        yield running


@pytest.fixture
def yahoo(server: yahoo_loopback.Yahoo) -> yahoo_loopback.Yahoo:
    """The server, sound and all-knowing."""
    server.list_anew(traded())
    server.now = evening(LAST)
    return server


def evening(session: date) -> datetime:
    """When its bars are final."""
    return datetime.combine(session, datetime.min.time(), yahoo_loopback.NEW_YORK).replace(hour=18)


def source(yahoo: yahoo_loopback.Yahoo) -> YahooSource:
    return YahooSource(QUICK, now=lambda: yahoo.now)


def bring(
    engine: Engine, yahoo: yahoo_loopback.Yahoo, *days: date, prices: Prices = PRICES
) -> Ingestion:
    """Ingest sessions on the evening of the last one."""
    yahoo.now = max(yahoo.now, evening(days[-1]))
    return ingest(engine, source(yahoo), prices, list(days))


def seen(engine: Engine, yahoo: yahoo_loopback.Yahoo, session: date) -> Ingestion:
    """Ingest a session as of its own evening."""
    yahoo.now = evening(session)
    return ingest(engine, source(yahoo), PRICES, [session])


def stored(engine: Engine) -> pd.DataFrame:
    return read_bars(engine, FIRST, LAST)


def rows(engine: Engine, table: str) -> list[tuple[object, ...]]:
    """Content of a table, without the times at which rows were written."""
    names = [c.name for c in metadata.tables[table].columns if not c.name.endswith("_at")]
    with engine.connect() as connection:
        found = connection.execute(text(f"SELECT {', '.join(names)} FROM {table} ORDER BY 1, 2, 3"))
        return [tuple(row) for row in found]


def everything(engine: Engine) -> dict[str, list[tuple[object, ...]]]:
    """What is stored of prices, whoever stored it."""
    names = ("raw_stock_data", "corporate_actions", "instruments", "price_revisions")
    return {name: rows(engine, name) for name in names}


def rules(done: Ingestion) -> list[tuple[str, str, str]]:
    """Ticker, rule and severity of what was found."""
    return list(done.findings[["ticker", "rule", "severity"]].itertuples(index=False, name=None))


def empty(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text(f"TRUNCATE {', '.join(metadata.tables)} RESTART IDENTITY"))


def test_new_tickers_get_their_whole_history_in_one_request_each(
    engine: Engine, yahoo: yahoo_loopback.Yahoo
) -> None:
    done = bring(engine, yahoo, LAST)
    assert_frame_equal(stored(engine), traded(), check_exact=True)
    assert_frame_equal(stored_actions(engine), actions_of(traded()), check_exact=True)
    assert sorted(yahoo.charts) == TICKERS
    assert (done.complete, done.late, done.failures) == (TICKERS, [], {})
    assert sorted(done.healed) == calendar.sessions(FIRST, calendar.previous_session(LAST))
    assert rules(done) == []


def test_day_by_day_across_a_split_and_dividends_is_one_fresh_fetch_afterwards(
    engine: Engine, yahoo: yahoo_loopback.Yahoo
) -> None:
    for session in calendar.sessions(DIVIDEND, date(2005, 3, 4))[::3]:
        done = seen(engine, yahoo, session)
        assert rules(done) == []
        assert_frame_equal(stored(engine), traded(session), check_exact=True)
    seen(engine, yahoo, LAST)
    day_by_day = everything(engine)
    empty(engine)
    seen(engine, yahoo, LAST)
    assert everything(engine) == day_by_day
    assert day_by_day["price_revisions"] == []


def test_prices_as_of_a_session_are_those_a_person_saw_that_day(
    engine: Engine, yahoo: yahoo_loopback.Yahoo
) -> None:
    friday, monday = date(2005, 2, 25), SPLIT
    seen(engine, yahoo, monday)
    bars = stored(engine)
    yahoo.log.clear()

    def close(as_of: date, day: date) -> float:
        shown = adjust(bars, "split_adjusted", as_of).query("ticker == 'AAPL'")
        found: float = shown.loc[shown["session"] == pd.Timestamp(day), "close"].item()
        return found

    assert close(as_of=friday, day=friday) == 88.99
    assert close(as_of=monday, day=friday) == 88.99 / 2
    assert close(as_of=monday, day=monday) == 44.86
    assert yahoo.log == []  # nothing was asked for again
    assert_frame_equal(stored(engine), bars)


def test_a_session_again_changes_nothing(engine: Engine, yahoo: yahoo_loopback.Yahoo) -> None:
    bring(engine, yahoo, LAST)
    before = everything(engine)
    done = bring(engine, yahoo, LAST)
    assert everything(engine) == before
    assert (done.stored.bars.changed, done.stored.actions.changed, done.healed) == (0, 0, {})


def test_a_day_asks_each_ticker_once_for_the_newest_sessions(
    engine: Engine, yahoo: yahoo_loopback.Yahoo
) -> None:
    seen(engine, yahoo, calendar.previous_session(LAST))
    yahoo.log.clear()
    done = seen(engine, yahoo, LAST)
    assert sorted(yahoo.charts) == TICKERS
    assert done.stored.bars.inserted == 3


def test_a_ranged_backfill_is_one_request_per_ticker(
    engine: Engine, yahoo: yahoo_loopback.Yahoo
) -> None:
    bring(engine, yahoo, LAST)
    yahoo.log.clear()
    bring(engine, yahoo, *calendar.sessions(date(2005, 1, 3), LAST))
    assert sorted(yahoo.charts) == TICKERS


def test_a_bar_that_came_late_is_filled_by_a_later_run(
    engine: Engine, yahoo: yahoo_loopback.Yahoo
) -> None:
    day = date(2005, 4, 12)
    yahoo.always_answers("IBM", faults.without_prices(day.isoformat()))
    late = seen(engine, yahoo, day)
    assert (late.complete, late.late) == (["AAPL", "MSFT"], ["IBM"])
    assert rules(late) == [("IBM", "no bar", "warning")]
    seen(engine, yahoo, date(2005, 4, 26))  # Yahoo has not found it yet
    yahoo.recover()
    done = seen(engine, yahoo, LAST)
    assert day in done.healed
    assert_frame_equal(stored(engine), traded(), check_exact=True)


def test_a_dividend_whose_bar_is_missing_keeps_its_day(
    engine: Engine, yahoo: yahoo_loopback.Yahoo
) -> None:
    yahoo.always_answers("MSFT", faults.without_prices(DIVIDEND.isoformat()))
    seen(engine, yahoo, DIVIDEND)
    seen(engine, yahoo, date(2004, 11, 18))
    day_after = calendar.next_session(DIVIDEND)
    bars = stored(engine).query("ticker == 'MSFT' and dividends > 0")
    assert bars["session"].dt.date.tolist() == [day_after]
    yahoo.recover()
    seen(engine, yahoo, date(2004, 11, 30))
    assert_frame_equal(stored(engine), traded(date(2004, 11, 30)), check_exact=True)


def test_a_late_correction_is_a_revision(engine: Engine, yahoo: yahoo_loopback.Yahoo) -> None:
    bring(engine, yahoo, LAST)
    corrected = traded()
    newest = corrected["ticker"].eq("IBM") & corrected["session"].eq(pd.Timestamp(LAST))
    old = corrected.loc[newest, "close"].item()
    corrected.loc[newest, ["close", "volume"]] = [round(old - 0.01, 2), 1.0]
    yahoo.list_anew(corrected)
    done = bring(engine, yahoo, LAST)
    assert sorted(yahoo.charts) == TICKERS  # no doubt about the rest of its history
    assert done.stored.revisions == 2
    revised = [row[1:6] for row in rows(engine, "price_revisions")]
    assert ("IBM", LAST, "close", old, round(old - 0.01, 2)) in revised
    assert_frame_equal(stored(engine), corrected, check_exact=True)


def test_a_settled_bar_that_changed_brings_the_whole_history_again(
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


def test_a_ticker_in_doubt_that_cannot_be_asked_again_fails_alone(
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


def test_all_splits_that_yahoo_forgot_change_nothing(
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


def test_a_split_that_yahoo_forgot_changes_nothing_and_is_an_error(
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


def test_a_history_that_shrank_keeps_its_bars_and_is_told(
    engine: Engine, yahoo: yahoo_loopback.Yahoo
) -> None:
    bring(engine, yahoo, LAST)
    yahoo.list_anew(traded(first=date(2005, 4, 26)))
    done = bring(engine, yahoo, LAST)
    found = done.findings[done.findings["rule"] == "history shrank"]
    assert found["ticker"].tolist() == TICKERS
    gone = len(traded(date(2005, 4, 25))) // 3
    assert found["detail"].iloc[0] == f"{gone} stored bars are missing since 2004-10-01; they stay"
    assert_frame_equal(stored(engine), traded(), check_exact=True)


def test_a_symbol_that_another_company_has_now_is_refused(
    engine: Engine, yahoo: yahoo_loopback.Yahoo
) -> None:
    seen(engine, yahoo, date(2005, 4, 22))
    before = stored(engine)
    yahoo.list_anew(traded(first=date(2005, 4, 26)))
    done = bring(engine, yahoo, LAST)
    assert ("IBM", "history is unrelated", "error") in rules(done)
    assert "another company" in done.failures["IBM"]
    assert_frame_equal(stored(engine), before)


def test_another_currency_is_refused(engine: Engine, yahoo: yahoo_loopback.Yahoo) -> None:
    seen(engine, yahoo, calendar.previous_session(LAST))
    yahoo.always_answers("IBM", faults.meta(currency="EUR"))
    done = seen(engine, yahoo, LAST)
    assert ("IBM", "currency changed", "error") in rules(done)
    assert done.failures["IBM"].startswith("its prices are in EUR, the stored ones in USD")
    assert done.complete == ["AAPL", "MSFT"]


def test_a_history_that_is_right_after_all_is_taken_when_a_person_says_so(
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


def test_a_bar_that_breaks_a_rule_waits_in_quarantine(
    engine: Engine, yahoo: yahoo_loopback.Yahoo
) -> None:
    day = date(2005, 4, 26)
    broken = traded()
    wrong = broken["ticker"].eq("IBM") & broken["session"].eq(pd.Timestamp(day))
    broken.loc[wrong, "low"] = 500.0
    yahoo.list_anew(broken)
    done = bring(engine, yahoo, LAST)
    assert ("IBM", "low is above open or close", "error") in rules(done)
    (kept,) = read_quarantine(engine).itertuples()
    assert (kept.ticker, kept.session.date(), kept.low) == ("IBM", day, 500.0)
    assert_frame_equal(stored(engine), traded()[~wrong].reset_index(drop=True), check_exact=True)

    yahoo.list_anew(traded())
    bring(engine, yahoo, LAST)
    assert read_quarantine(engine).empty
    assert_frame_equal(stored(engine), traded(), check_exact=True)


def test_a_bar_that_stays_broken_is_an_error_until_it_is_settled_and_then_waits_in_silence(
    engine: Engine, yahoo: yahoo_loopback.Yahoo
) -> None:
    day = date(2005, 4, 12)
    broken = traded()
    wrong = broken["ticker"].eq("IBM") & broken["session"].eq(pd.Timestamp(day))
    broken.loc[wrong, "low"] = 500.0
    yahoo.list_anew(broken)
    told = [rules(seen(engine, yahoo, calendar.next_session(day, n))) for n in (1, 2, 9)]
    assert told == [[("IBM", "low is above open or close", "error")], [], []]
    assert ("IBM", "low is above open or close", "error") in rules(bring(engine, yahoo, day))
    assert len(read_quarantine(engine)) == 1


def test_the_bar_of_this_evening_may_be_out_of_order_without_stopping_anyone(
    engine: Engine, yahoo: yahoo_loopback.Yahoo
) -> None:
    odd = traded()
    newest = odd["ticker"].eq("IBM") & odd["session"].eq(pd.Timestamp(LAST))
    odd.loc[newest, "close"] = odd.loc[newest, "high"] + 0.08
    yahoo.list_anew(odd)
    done = bring(engine, yahoo, LAST)
    assert ("IBM", "high is below open or close", "warning") in rules(done)
    assert done.late == ["IBM"]


@pytest.mark.parametrize("fault", [faults.limited, faults.down, faults.cut, faults.delisted])
def test_one_ticker_that_fails_does_not_stop_the_others(
    engine: Engine, yahoo: yahoo_loopback.Yahoo, fault: faults.Fault
) -> None:
    seen(engine, yahoo, calendar.previous_session(LAST))
    yahoo.always_answers("IBM", fault)
    done = seen(engine, yahoo, LAST)
    assert done.complete == ["AAPL", "MSFT"]
    assert list(done.failures) == ["IBM"]
    assert rules(done) == [("IBM", "no answer", "warning"), ("IBM", "no bar", "warning")]
    with pytest.raises(StockAssetsError, match=r"for 2 of 3 tickers, fewer than .*80%.*IBM: "):
        require_arrival(done, source(yahoo), [LAST], 0.8)
    require_arrival(done, source(yahoo), [LAST], 0.6)
    yahoo.recover()
    seen(engine, yahoo, LAST)
    assert_frame_equal(stored(engine), traded(), check_exact=True)


def test_a_jump_is_told_and_stored(engine: Engine, yahoo: yahoo_loopback.Yahoo) -> None:
    fallen = traded()
    newest = fallen["ticker"].eq("IBM") & fallen["session"].eq(pd.Timestamp(LAST))
    fallen.loc[newest, ["open", "high", "low", "close"]] *= 0.5
    yahoo.list_anew(fallen)
    done = bring(engine, yahoo, LAST)
    assert rules(done) == [("IBM", "jump without a corporate action", "warning")]
    strict = PRICES.model_copy(
        update={"checks": Checks(severities={"jump without a corporate action": "error"})}
    )
    again = bring(engine, yahoo, LAST, prices=strict)
    assert rules(again) == [("IBM", "jump without a corporate action", "error")]
    assert done.complete == again.complete == TICKERS


def test_what_was_odd_once_is_not_told_again_by_later_sessions(
    engine: Engine, yahoo: yahoo_loopback.Yahoo
) -> None:
    before = calendar.previous_session(LAST)
    quiet = traded()
    quiet.loc[quiet["ticker"].eq("IBM") & quiet["session"].eq(pd.Timestamp(before)), "volume"] = 0.0
    yahoo.list_anew(quiet)
    assert rules(seen(engine, yahoo, before)) == [("IBM", "zero volume", "warning")]
    assert rules(seen(engine, yahoo, LAST)) == []


SESSIONS = calendar.sessions(date(2005, 2, 1), date(2005, 3, 31))
visits = st.lists(
    st.tuples(
        st.sampled_from(SESSIONS),  # the newest session wanted
        st.integers(0, 30),  # how many before it
        st.integers(0, 15),  # how many sessions later it is asked for
        st.sampled_from([None, *TICKERS]),  # who fails
    ),
    max_size=5,
)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(visits)
def test_whatever_the_order_overlap_and_interruption_the_tables_end_the_same(
    engine: Engine,
    yahoo: yahoo_loopback.Yahoo,
    visits: list[tuple[date, int, int, str | None]],
) -> None:
    empty(engine)
    for last, span, delay, failing in visits:
        yahoo.now = evening(calendar.next_session(last, delay) if delay else last)
        if failing:
            yahoo.always_answers(failing, faults.delisted)
        ingest(
            engine,
            source(yahoo),
            PRICES,
            calendar.sessions(calendar.previous_session(last, span + 1), last),
        )
        yahoo.recover()
    seen(engine, yahoo, LAST)
    assert_frame_equal(stored(engine), traded(), check_exact=True)
    assert_frame_equal(stored_actions(engine), actions_of(traded()), check_exact=True)
    assert rows(engine, "price_revisions") == []


def _visit(url: str, moment: datetime, session: date) -> None:
    """Ingest a session, in a process that may be killed."""
    ingest(engine_for(url), YahooSource(QUICK, now=lambda: moment), PRICES, [session])


@pytest.mark.slow
def test_killed_fifty_times_nothing_is_lost_doubled_or_half(
    engine: Engine, yahoo: yahoo_loopback.Yahoo
) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    address = engine.url.render_as_string(hide_password=False)
    chance = random.Random(20050228)
    sessions = calendar.sessions(date(2005, 1, 18), LAST)
    truth = traded()
    killed = finished = 0
    patience = 1.2  # seconds, which find their own measure: some visits end, most are killed
    while killed < 50:
        session = sessions[min(killed + finished, len(sessions) - 1)]
        yahoo.now = evening(session)
        visit = context.Process(target=_visit, args=(address, yahoo.now, session))
        visit.start()
        visit.join(chance.uniform(0.0, patience))
        visit.kill()
        visit.join()
        patience *= 1.1 if visit.exitcode else 0.8
        killed, finished = killed + (visit.exitcode != 0), finished + (visit.exitcode == 0)
        held = stored(engine)
        expected = truth.merge(held[["ticker", "session"]], on=["ticker", "session"])
        assert_frame_equal(held, expected, check_exact=True)
    assert finished > 0
    seen(engine, yahoo, LAST)
    assert_frame_equal(stored(engine), truth, check_exact=True)
    assert_frame_equal(stored_actions(engine), actions_of(truth), check_exact=True)
    assert rows(engine, "price_revisions") == []
