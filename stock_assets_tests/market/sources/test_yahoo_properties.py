"""For any splits and dividends, the source returns prices as traded."""

from __future__ import annotations

from datetime import date, datetime, time

import numpy as np
import pandas as pd
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from stock_assets.core.errors import StockAssetsError
from stock_assets.market import calendar
from stock_assets.market.adjustment import event_factor
from stock_assets.market.bars import tidy
from stock_assets.market.corporate_actions import attach, tidy_actions
from stock_assets_tests.market.yahoo_loopback import NEW_YORK

SESSIONS = calendar.sessions(date(2019, 11, 1), date(2020, 4, 30))
RATIOS = (1.5, 2.0, 3.0, 4.0, 10.0, 20.0, 0.5, 0.1)


@st.composite
def histories(draw):
    """Bars and actions as traded; some actions on days without a bar.

    No dividend is as large as the close before it.
    """
    count = draw(st.integers(8, 60))
    sessions = SESSIONS[:count]
    numbers = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    middle = draw(st.sampled_from([1.5, 30.0, 400.0, 3000.0]))
    close = np.round(middle * np.exp(np.cumsum(numbers.normal(0.0, 0.02, count))), 2)
    bars = pd.DataFrame({"session": sessions, "close": close, "ticker": "ACME"})
    bars["open"] = np.round(close * numbers.uniform(0.98, 1.02, count), 2)
    bars["high"] = np.round(bars[["open", "close"]].max(axis=1) * 1.01, 2)
    bars["low"] = np.round(bars[["open", "close"]].min(axis=1) * 0.99, 2)
    # Yahoo's volumes are whole numbers after a division by each later reverse split, too.
    bars["volume"] = 1000.0 * numbers.integers(1, 10**6, count)
    days = st.sampled_from(sessions)
    splits = draw(st.dictionaries(days, st.sampled_from(RATIOS), max_size=3))
    paid = draw(
        st.dictionaries(days, st.integers(1, 200).map(lambda cents: cents / 100), max_size=6)
    )
    actions = tidy_actions(
        pd.DataFrame(
            [("ACME", day, "split", ratio) for day, ratio in splits.items()]
            + [("ACME", day, "dividend", cash) for day, cash in paid.items()],
            columns=["ticker", "ex_date", "kind", "value"],
        )
    )
    halted = draw(st.sets(days, max_size=4)) - {sessions[0], sessions[-1]}
    kept = bars[~bars["session"].isin(list(halted))]
    traded = attach(tidy(kept.assign(dividends=0.0, stock_splits=0.0)), actions)
    try:
        event_factor(traded, "adjusted")
    except StockAssetsError:
        reject()
    return traded, actions


def evening(session):
    return datetime.combine(session, time(18), NEW_YORK)


few = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@few
@given(histories(), st.data())
def test_a_fetch_at_any_moment_is_what_traded_by_then(yahoo, source, history, data):
    bars, actions = history
    yahoo.list_anew(bars, actions)
    last = data.draw(st.sampled_from(bars["session"].dt.date.tolist()))
    start = data.draw(st.sampled_from([day for day in bars["session"].dt.date if day <= last]))
    yahoo.now = evening(last)
    fetch = source.fetch({"ACME": start}, last)
    assert fetch.failures == {}
    span = (pd.Timestamp(start), pd.Timestamp(last))
    known = actions[actions["ex_date"].between(*span)].reset_index(drop=True)
    assert_frame_equal(fetch.actions, known, check_exact=True)
    traded = bars[bars["session"].between(*span)].reset_index(drop=True)
    columns = [name for name in bars if name not in ("dividends", "stock_splits")]
    assert_frame_equal(fetch.bars[columns], traded[columns], check_exact=True)
    assert_frame_equal(fetch.bars, attach(traded, known), check_exact=True)


@few
@given(histories(), st.data())
def test_a_range_is_the_same_whenever_it_is_fetched(yahoo, source, history, data):
    bars, actions = history
    yahoo.list_anew(bars, actions)
    sessions = bars["session"].dt.date.tolist()
    last = data.draw(st.sampled_from(sessions))
    yahoo.now = evening(last)
    then = source.fetch({"ACME": sessions[0]}, last)
    yahoo.now = evening(data.draw(st.sampled_from([day for day in sessions if day >= last])))
    later = source.fetch({"ACME": sessions[0]}, last)
    assert_frame_equal(then.bars, later.bars, check_exact=True)
