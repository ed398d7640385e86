"""Which bars break a rule, which are missing, and how serious each finding is."""

from __future__ import annotations

import math
from datetime import date

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from stock_assets.config import Checks, load_params
from stock_assets.core.errors import StockAssetsError
from stock_assets.market import calendar
from stock_assets.market.bars import BAR_COLUMNS, PRICE_COLUMNS, empty_bars
from stock_assets.market.checks import (
    bar_findings,
    gap_findings,
    history_findings,
    no_findings,
    rules_of,
    series_findings,
    with_severities,
)
from stock_assets.market.rules import BAR_RULES, CURRENCY_CHANGED, HISTORY_SHRANK
from stock_assets.market.sources.sample import load_sample
from stock_assets_tests.market.examples import SESSIONS, few_bars, names, series

# One bar


def test_real_bars_break_no_rule():
    assert bar_findings(load_sample()).empty
    assert bar_findings(empty_bars()).empty


def test_all_findings_have_the_same_columns_and_dtypes():
    bars = few_bars().assign(volume=0.0)
    kinds = [
        no_findings(),
        bar_findings(bars),
        bar_findings(bars.assign(volume=-1.0)),
        series_findings(bars, Checks()),
        series_findings(empty_bars(), Checks()),
        gap_findings(empty_bars(), ["IBM"], SESSIONS, {"IBM": SESSIONS[0]}),
        gap_findings(empty_bars(), [], [], {}),
        history_findings(HISTORY_SHRANK, {}, SESSIONS[3]),
        history_findings(HISTORY_SHRANK, {"IBM": "3 bars are missing"}, SESSIONS[3]),
        with_severities(no_findings(), Checks(), None),
    ]
    for findings in [*kinds, pd.concat(kinds, ignore_index=True)]:
        assert {name: str(dtype) for name, dtype in findings.dtypes.items()} == {
            "ticker": "object",
            "session": "datetime64[ns]",
            "rule": "object",
            "severity": "object",
            "detail": "object",
        }


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
        ({"session": pd.NaT}, "day is not a session of the exchange"),
    ],
)
def test_each_rule_catches_its_bar_and_no_other(change, rule):
    bars = few_bars()
    bars.loc[3, list(change)] = list(change.values())
    found = bar_findings(bars)
    assert found["rule"].tolist() == [rule]
    assert found["severity"].tolist() == ["error"]
    assert found["ticker"].tolist() == [bars.loc[3, "ticker"]]
    assert found["session"].equals(bars["session"].iloc[[3]].reset_index(drop=True))
    name, value = next(iter(change.items()))
    assert f"{name} {value}" in found.loc[0, "detail"]


def test_both_bars_of_one_session_are_findings():
    bars = pd.concat([few_bars(), few_bars().iloc[[2]]])
    found = bar_findings(bars)
    assert found["rule"].tolist() == ["ticker has two bars of one session"] * 2


def test_a_bar_may_break_several_rules():
    bars = few_bars()
    bars.loc[[0, 4], list(PRICE_COLUMNS)] = [-1.0, -3.0, 2.0, -1.0]
    found = bar_findings(bars)
    broken = ["price is not positive", "low is above open or close", "high is below open or close"]
    assert found["rule"].tolist() == [rule for rule in broken for _ in range(2)]
    assert found["session"].tolist() == bars.loc[[0, 4], "session"].tolist() * 3


NUMBERS = st.sampled_from([-math.inf, -1.0, 0.0, 1.0, 2.0, 3.0, math.inf, math.nan])


def plainly_broken(bar):
    """The rules of one bar in plain Python."""
    prices = [bar.open, bar.high, bar.low, bar.close]
    body = [price for price in (bar.open, bar.close) if not math.isnan(price)]
    return {
        "price is not a finite number": not all(map(math.isfinite, prices)),
        "price is not positive": any(price <= 0 for price in prices),
        "low is above open or close": any(bar.low > price for price in body),
        "high is below open or close": any(bar.high < price for price in body),
        "volume is negative or not finite": not 0 <= bar.volume < math.inf,
        "dividend is negative or not finite": not 0 <= bar.dividends < math.inf,
        "split is negative or not finite": not 0 <= bar.stock_splits < math.inf,
    }


@settings(max_examples=25)
@given(st.lists(st.tuples(*[NUMBERS] * 7), min_size=1, max_size=8))
def test_the_rules_hold_for_any_numbers(rows):
    bars = few_bars(9).head(len(rows))
    bars.loc[:, list(BAR_COLUMNS[2:])] = rows
    expected = {
        (bar.ticker, f"{bar.session:%Y-%m-%d}", rule)
        for bar in bars.itertuples()
        for rule, broken in plainly_broken(bar).items()
        if broken
    }
    found = names(bar_findings(bars))
    assert set(found) == expected
    assert len(found) == len(expected)


@settings(max_examples=30)
@given(
    st.permutations(range(8)),
    st.lists(st.tuples(st.integers(0, 7), st.sampled_from(BAR_COLUMNS[2:])), max_size=8),
)
def test_the_order_of_rows_does_not_matter_and_findings_name_rows_that_exist(order, spoilt):
    bars = pd.concat([few_bars(), few_bars().head(2)], ignore_index=True)
    for row, column in spoilt:
        bars.loc[row, column] = -1.0
    mixed = bars.iloc[list(order)]
    before, found = mixed.copy(), bar_findings(mixed)
    by = ["ticker", "session", "rule", "detail"]
    assert_frame_equal(
        found.sort_values(by, ignore_index=True),
        bar_findings(bars).sort_values(by, ignore_index=True),
    )
    rows = set(zip(bars["ticker"], bars["session"], strict=True))
    assert set(zip(found["ticker"], found["session"], strict=True)) <= rows
    assert_frame_equal(mixed, before)


# Bars that are not there


def counted(findings):
    return findings.groupby("ticker").size().to_dict()


def test_a_bar_is_missing_only_after_the_first_one_of_its_ticker():
    sessions = calendar.sessions(date(2012, 5, 14), date(2012, 5, 25))
    bars = load_sample().query("session >= '2012-05-14' and session <= '2012-05-25'")
    lost = bars["ticker"].isin(["IBM", "FB"]) & bars["session"].ge("2012-05-23")
    tickers = ["AAPL", "FB", "IBM", "NEVER"]
    since = {ticker: date(2000, 3, 1) for ticker in ("AAPL", "IBM")} | {"FB": date(2012, 5, 18)}
    assert gap_findings(bars, tickers, sessions, since).empty
    assert counted(gap_findings(bars[~lost], tickers, sessions, since)) == {"FB": 3, "IBM": 3}
    everything = {"AAPL": 10, "FB": 6, "IBM": 10}
    assert counted(gap_findings(empty_bars(), tickers, sessions, since)) == everything
    assert gap_findings(bars[~lost], ["AAPL"], sessions, since).empty


def test_a_gap_is_named_by_ticker_and_session():
    bars = few_bars().drop(index=3)
    gone = few_bars().loc[3]
    since = {"FB": date(2012, 5, 18)}
    found = gap_findings(bars, ["NEVER", "FB"], [gone["session"].date()], since)
    assert names(found) == [("FB", "2012-05-21", "no bar")]
    assert found["severity"].tolist() == ["warning"]
    assert found["detail"].tolist() == ["listed_since 2012-05-18"]


TICKERS = st.sampled_from(["A", "B", "C"])
DAYS = st.sampled_from(SESSIONS[:6])


@settings(max_examples=25)
@given(
    st.sets(st.tuples(TICKERS, DAYS)),
    st.lists(TICKERS, unique=True),
    st.lists(DAYS, unique=True),
    st.dictionaries(TICKERS, DAYS),
    st.randoms(use_true_random=False),
)
def test_gaps_are_what_was_expected_less_what_arrived(arrived, tickers, sessions, since, random):
    rows = random.sample(sorted(arrived), len(arrived))
    bars = pd.DataFrame(rows, columns=["ticker", "session"]).astype({"session": "datetime64[ns]"})
    expected = {(t, day) for t in tickers for day in sessions if t in since and day >= since[t]}
    assert names(gap_findings(bars, tickers, sessions, since)) == [
        (ticker, day.isoformat(), "no bar") for ticker, day in sorted(expected - arrived)
    ]


# Severities


def test_history_findings_have_the_rules_name_and_severity():
    found = history_findings(CURRENCY_CHANGED, {"IBM": "EUR, was USD"}, SESSIONS[0])
    expected = ["IBM", pd.Timestamp(SESSIONS[0]), "currency changed", "error", "EUR, was USD"]
    assert found.to_numpy().tolist() == [expected]


def test_with_severities_applies_the_parameters():
    found = series_findings(series([10, 20, 20.5], volume=[1.0, 0.0, 2.0]), Checks())
    assert found["severity"].tolist() == ["warning", "warning"]
    stricter = Checks(severities={"jump without a corporate action": "error"})
    changed = with_severities(found, stricter, None)
    assert changed["severity"].tolist() == ["error", "warning"]
    assert_frame_equal(changed.drop(columns="severity"), found.drop(columns="severity"))
    assert found["severity"].tolist() == ["warning", "warning"]


def test_with_severities_makes_a_provisional_bar_out_of_order_a_warning():
    bars = series([10, 11, 12])
    bars.loc[1:, "high"] = [10.5, 11.5]
    bars.loc[2, "low"] = 12.5
    bars.loc[2, "volume"] = -1.0
    found = bar_findings(bars)
    newest = SESSIONS[2]
    severity = dict(
        zip(names(found), with_severities(found, Checks(), newest)["severity"], strict=True)
    )
    assert severity == {
        ("IBM", "2000-03-02", "high is below open or close"): "error",
        ("IBM", "2000-03-03", "high is below open or close"): "warning",
        ("IBM", "2000-03-03", "low is above open or close"): "warning",
        ("IBM", "2000-03-03", "volume is negative or not finite"): "error",
    }
    assert set(with_severities(found, Checks(), None)["severity"]) == {"error"}
    severe = Checks(severities={"high is below open or close": "error"})
    assert_frame_equal(
        with_severities(found, severe, newest), with_severities(found, Checks(), newest)
    )


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("jump", "docs/configuration.md"), ("history is another one", "history is unrelated")],
)
def test_an_unknown_or_renamed_rule_in_the_parameters_is_an_error(tmp_path, name, remedy):
    path = tmp_path / "params.yaml"
    path.write_text(f"prices: {{checks: {{severities: {{{name}: error}}}}}}")
    with pytest.raises(StockAssetsError) as caught:
        load_params(path)
    assert f"prices.checks.severities.{name}" in caught.value.problem
    assert remedy in caught.value.remedy


def test_rules_of_names_the_rules_of_a_check():
    assert rules_of("bars_are_sound") == [rule.name for rule in BAR_RULES]
    assert rules_of("no_bar_is_missing") == ["no bar", "no answer"]
