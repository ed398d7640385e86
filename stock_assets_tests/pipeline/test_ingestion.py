"""From Yahoo into the tables: the real library, a Yahoo on this machine, the real database."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
from datetime import date, datetime

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal
from sqlalchemy import Engine

from stock_assets.config import Checks
from stock_assets.market import calendar
from stock_assets.market.adjustment import adjust
from stock_assets.market.checks import no_findings
from stock_assets.market.corporate_actions import actions_of
from stock_assets.market.sources.yahoo import YahooSource
from stock_assets.pipeline import ingestion
from stock_assets.pipeline.ingestion import Ingestion, arrival_error, ingest
from stock_assets.storage import prices as prices_store
from stock_assets.storage.database import engine_for
from stock_assets.storage.prices import StoredPrices
from stock_assets_tests.market import yahoo_faults as faults
from stock_assets_tests.market import yahoo_loopback
from stock_assets_tests.pipeline.ingested import (
    DIVIDEND,
    FIRST,
    LAST,
    PRICES,
    QUICK,
    SPLIT,
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
from stock_assets_tests.properties import SLOW_EXAMPLES
from stock_assets_tests.storage.examples import stored_actions
from stock_assets_tests.tampering import empty


def test_ingest_fetches_a_new_ticker_whole_in_one_request(
    engine: Engine, yahoo: yahoo_loopback.Yahoo
) -> None:
    done = bring(engine, yahoo, LAST)
    assert_frame_equal(stored(engine), traded(), check_exact=True)
    assert_frame_equal(stored_actions(engine), actions_of(traded()), check_exact=True)
    assert sorted(yahoo.charts) == TICKERS
    assert (done.complete, done.late, done.failures) == (TICKERS, [], {})
    assert sorted(done.healed) == calendar.sessions(FIRST, calendar.previous_session(LAST))
    assert rules(done) == []


def test_ingest_day_by_day_across_a_split_equals_one_fetch(
    engine: Engine, yahoo: yahoo_loopback.Yahoo
) -> None:
    days = [calendar.previous_session(DIVIDEND), DIVIDEND, calendar.previous_session(SPLIT), SPLIT]
    for session in (*days, calendar.next_session(SPLIT)):
        done = seen(engine, yahoo, session)
        assert rules(done) == []
        assert_frame_equal(stored(engine), traded(session), check_exact=True)
    seen(engine, yahoo, LAST)
    day_by_day = everything(engine)
    empty(engine)
    seen(engine, yahoo, LAST)
    assert everything(engine) == day_by_day
    assert day_by_day["price_revisions"] == []


def test_adjusted_prices_are_those_shown_on_the_as_of_session(
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
    assert yahoo.log == []  # no request
    assert_frame_equal(stored(engine), bars)


def test_ingest_repeated_changes_nothing(engine: Engine, yahoo: yahoo_loopback.Yahoo) -> None:
    bring(engine, yahoo, LAST)
    before = everything(engine)
    done = bring(engine, yahoo, LAST)
    assert everything(engine) == before
    assert (done.stored.bars.changed, done.stored.actions.changed, done.healed) == (0, 0, {})


def test_ingest_of_a_day_requests_each_ticker_once(
    engine: Engine, yahoo: yahoo_loopback.Yahoo
) -> None:
    seen(engine, yahoo, calendar.previous_session(LAST))
    yahoo.log.clear()
    done = seen(engine, yahoo, LAST)
    assert sorted(yahoo.charts) == TICKERS
    assert done.stored.bars.inserted == 3


def test_ingest_of_a_range_requests_each_ticker_once(
    engine: Engine, yahoo: yahoo_loopback.Yahoo
) -> None:
    bring(engine, yahoo, LAST)
    yahoo.log.clear()
    bring(engine, yahoo, *calendar.sessions(date(2005, 1, 3), LAST))
    assert sorted(yahoo.charts) == TICKERS


def test_ingest_fills_a_late_bar_in_a_later_run(
    engine: Engine, yahoo: yahoo_loopback.Yahoo
) -> None:
    day = date(2005, 4, 12)
    yahoo.always_answers("IBM", faults.without_prices(day.isoformat()))
    late = seen(engine, yahoo, day)
    assert (late.complete, late.late) == (["AAPL", "MSFT"], ["IBM"])
    assert rules(late) == [("IBM", "no bar", "warning")]
    seen(engine, yahoo, date(2005, 4, 26))  # still missing at Yahoo
    yahoo.recover()
    done = seen(engine, yahoo, LAST)
    assert day in done.healed
    assert_frame_equal(stored(engine), traded(), check_exact=True)


def test_ingest_keeps_the_ex_date_of_a_dividend_whose_bar_is_late(
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


def test_a_provisional_bar_out_of_order_is_a_warning(
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
    error = arrival_error(done, source(yahoo), [LAST], 0.8)
    assert re.search(r"for 2 of 3 tickers, fewer than .*80%.*IBM: ", str(error))
    assert arrival_error(done, source(yahoo), [LAST], 0.6) is None
    yahoo.recover()
    seen(engine, yahoo, LAST)
    assert_frame_equal(stored(engine), traded(), check_exact=True)


def test_arrival_needs_a_bar_of_every_session() -> None:
    before, yahoo_source = calendar.previous_session(LAST), YahooSource(QUICK)
    newest = traded(first=LAST)
    done = Ingestion(newest, no_findings(), StoredPrices(), {}, TICKERS, [], {}, 0, frozenset())
    assert arrival_error(done, yahoo_source, [LAST], 1.0) is None
    assert f"no bar for {before}" in str(arrival_error(done, yahoo_source, [before, LAST], 1.0))


def test_ingest_reports_and_stores_a_jump(engine: Engine, yahoo: yahoo_loopback.Yahoo) -> None:
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


def test_ingest_reports_a_finding_of_a_series_once(
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
        st.sampled_from(SESSIONS),  # the newest requested session
        st.integers(0, 30),  # how many before it
        st.integers(0, 15),  # how many sessions later it is fetched
        st.sampled_from([None, *TICKERS]),  # the ticker that fails
    ),
    max_size=5,
)


@settings(
    max_examples=SLOW_EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(visits)
def test_tables_do_not_depend_on_order_overlap_and_failures_of_runs(
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


KILL_POINTS = {
    "quarantine": ingestion,
    "merge_staged": prices_store,
    "release": prices_store,
    "_replace_actions": prices_store,
    "apply_actions": prices_store,
    "_merge_instruments": prices_store,
}
"""Functions called in this order between the fetch and the commit, and their modules."""


def _killed_at(point: str, url: str, moment: datetime, session: date) -> None:
    """Ingest a session in a process that is killed when it reaches a function."""
    setattr(KILL_POINTS[point], point, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    ingest(engine_for(url), YahooSource(QUICK, now=lambda: moment), PRICES, [session])


def test_ingest_killed_at_any_point_stores_nothing_and_can_be_repeated(
    engine: Engine, yahoo: yahoo_loopback.Yahoo
) -> None:
    seen(engine, yahoo, date(2005, 2, 25))
    before = everything(engine)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    address = engine.url.render_as_string(hide_password=False)
    for point in KILL_POINTS:
        visit = context.Process(
            target=_killed_at, args=(point, address, evening(SPLIT), SPLIT), name=point
        )
        visit.start()
        visit.join()
        assert visit.exitcode == -signal.SIGKILL
        assert everything(engine) == before
    seen(engine, yahoo, SPLIT)
    assert_frame_equal(stored(engine), traded(SPLIT), check_exact=True)
    assert rows(engine, "price_revisions") == []
