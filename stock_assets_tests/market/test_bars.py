"""What a bars frame is, which bars are impossible, and when two frames are the same."""

from __future__ import annotations

import subprocess
import sys
from datetime import date

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from stock_assets.market import calendar
from stock_assets.market.bars import (
    BAR_COLUMNS,
    PRICE_COLUMNS,
    RULES,
    content_digest,
    empty_bars,
    missing_bars,
    tidy,
    violations,
)
from stock_assets.market.sources.sample import load_sample


def sample(rows=6):
    return load_sample().groupby("ticker").head(rows // 3).head(rows).reset_index(drop=True)


def test_a_bars_frame_has_these_columns_and_dtypes():
    assert list(empty_bars()) == list(BAR_COLUMNS)
    for frame in (empty_bars(), sample()):
        assert frame.dtypes.astype(str).tolist() == ["object", "datetime64[ns]", *["float64"] * 7]


@settings(max_examples=40, deadline=None)
@given(order=st.permutations(range(6)), columns=st.permutations(BAR_COLUMNS))
def test_tidying_puts_rows_and_columns_in_their_order(order, columns):
    mixed = sample().iloc[list(order)][list(columns)].assign(note="left out")
    assert_frame_equal(tidy(mixed), sample())


def test_tidying_takes_plain_dates_and_whole_numbers():
    plain = sample().assign(
        session=lambda bars: bars["session"].dt.date,
        volume=lambda bars: bars["volume"].astype(int),
    )
    assert_frame_equal(tidy(plain), sample())


def test_tidying_leaves_its_argument_alone():
    mixed = sample().iloc[::-1]
    tidy(mixed)
    assert_frame_equal(mixed, sample().iloc[::-1])


def test_a_missing_column_is_an_error():
    with pytest.raises(KeyError, match="volume"):
        tidy(sample().drop(columns="volume"))


def test_a_time_zone_is_an_error():
    with pytest.raises(TypeError):
        tidy(sample().assign(session=lambda bars: bars["session"].dt.tz_localize("UTC")))


def test_good_bars_break_no_rule():
    assert violations(sample()).empty
    assert violations(empty_bars()).empty
    assert list(violations(empty_bars())) == ["ticker", "session", "rule", "detail"]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"open": np.nan}, "price is not a finite number"),
        ({"high": np.inf}, "price is not a finite number"),
        ({"low": 0.0}, "price is not positive"),
        ({"low": -1.0}, "price is not positive"),
        ({"low": 1e6, "high": 1e7}, "low is above open or close"),
        ({"high": 0.01}, "high is below open or close"),
        ({"volume": -1.0}, "volume is negative or not finite"),
        ({"volume": np.nan}, "volume is negative or not finite"),
        ({"dividends": -0.01}, "dividend is negative or not finite"),
        ({"dividends": np.nan}, "dividend is negative or not finite"),
        ({"stock_splits": -2.0}, "split is negative or not finite"),
        ({"stock_splits": np.inf}, "split is negative or not finite"),
        ({"session": pd.Timestamp("2000-07-04")}, "day is not a session of the exchange"),
        ({"session": pd.Timestamp("2000-03-04")}, "day is not a session of the exchange"),
        ({"session": pd.Timestamp("2000-03-06 16:00")}, "day is not a session of the exchange"),
    ],
)
def test_each_rule_catches_its_bar_and_no_other(change, rule):
    bars = sample()
    bars.loc[3, list(change)] = list(change.values())
    found = violations(bars)
    assert found["rule"].tolist() == [rule]
    assert found["ticker"].tolist() == [bars.loc[3, "ticker"]]
    assert found["session"].tolist() == [bars.loc[3, "session"]]
    name, value = next(iter(change.items()))
    assert f"{name} {value}" in found.loc[0, "detail"]


def test_both_bars_of_one_session_are_named():
    bars = pd.concat([sample(), sample().iloc[[2]]], ignore_index=True)
    found = violations(bars)
    assert found["rule"].tolist() == ["ticker has two bars of one session"] * 2


def test_every_rule_has_its_own_name():
    assert len({rule.name for rule in RULES}) == len(RULES)


def test_a_bar_may_break_several_rules():
    bars = sample()
    bars.loc[0, list(PRICE_COLUMNS)] = [-1.0, -3.0, 2.0, -1.0]
    assert set(violations(bars)["rule"]) == {
        "price is not positive",
        "low is above open or close",
        "high is below open or close",
    }


def test_a_bar_is_missing_only_after_the_first_one_of_its_ticker():
    sessions = calendar.sessions(date(2012, 5, 14), date(2012, 5, 25))
    bars = load_sample().query("session >= '2012-05-14' and session <= '2012-05-25'")
    lost = bars["ticker"].isin(["IBM", "FB"]) & bars["session"].ge("2012-05-23")
    tickers = ["AAPL", "FB", "IBM", "NEVER"]
    since = {ticker: date(2000, 3, 1) for ticker in ("AAPL", "IBM")} | {"FB": date(2012, 5, 18)}
    assert missing_bars(bars, tickers, sessions, since) == {}
    assert missing_bars(bars[~lost], tickers, sessions, since) == {"FB": 3, "IBM": 3}
    assert missing_bars(empty_bars(), tickers, sessions, since) == {"AAPL": 10, "FB": 6, "IBM": 10}
    assert missing_bars(bars[~lost], ["AAPL"], sessions, since) == {}


def test_a_digest_is_the_same_in_every_process():
    script = (
        "from stock_assets.market.bars import content_digest;"
        "from stock_assets.market.sources.sample import load_sample;"
        "print(content_digest(load_sample()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == content_digest(load_sample())


def test_a_digest_does_not_depend_on_the_index_or_on_how_numbers_are_kept():
    bars = sample()
    assert content_digest(bars.set_index(bars.index + 7)) == content_digest(bars)
    halves = pd.DataFrame({"at": pd.to_datetime(["2013-03-01"]), "value": [0.5]})
    other = halves.astype({"at": "datetime64[s]", "value": "float32"})
    assert content_digest(other) == content_digest(halves)


def test_a_digest_knows_one_nan_and_one_zero():
    plain = pd.DataFrame({"value": [0.0, np.nan]})
    odd_nan = np.array([0xFFF8000000000001], dtype=np.uint64).view(np.float64)[0]
    odd = pd.DataFrame({"value": [-0.0, odd_nan]})
    assert content_digest(odd) == content_digest(plain)


@settings(max_examples=40, deadline=None)
@given(row=st.integers(0, 5), column=st.sampled_from(BAR_COLUMNS))
def test_a_digest_changes_with_any_value(row, column):
    changed = sample()
    value = changed.loc[row, column]
    if column == "ticker":
        changed.loc[row, column] = f"{value}X"
    elif column == "session":
        changed.loc[row, column] = value + pd.Timedelta(1)
    else:
        changed.loc[row, column] = np.nextafter(value, np.inf)
    assert content_digest(changed) != content_digest(sample())


def test_a_digest_changes_with_names_rows_and_their_order():
    bars = sample()
    others = [
        bars.rename(columns={"open": "first"}),
        bars[list(BAR_COLUMNS)[::-1]],
        bars.iloc[::-1],
        bars.iloc[:-1],
        bars.drop(columns="dividends"),
        empty_bars(),
    ]
    assert len({content_digest(frame) for frame in [bars, *others]}) == len(others) + 1
