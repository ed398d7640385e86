"""The sample's splits and dividends, recovered from its adjusted closes."""

from __future__ import annotations

import gzip
from datetime import date
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from pandas.testing import assert_frame_equal

from stock_assets.core.errors import StockAssetsError
from stock_assets.market import adjustment, bars, checks
from stock_assets.market.sources.sample import SampleSource, load_sample

WHOLE = (date(2000, 3, 1), date(2013, 3, 1))
TICKERS = ["AAPL", "FB", "GOOG", "IBM", "MSFT"]


@pytest.fixture(scope="module")
def packaged():
    """The file as it is packaged, in the order of the bars."""
    stream = files("bokeh_sampledata").joinpath("_data", "stocks.csv.gz").read_bytes()
    frame = pd.read_csv(pd.io.common.BytesIO(gzip.decompress(stream)), parse_dates=["Date"])
    return frame.sort_values(["Ticker", "Date"], ignore_index=True)


def test_every_bar_of_the_file_is_there_as_it_traded(packaged):
    sample = load_sample()
    assert len(sample) == 12_154
    assert sample["ticker"].tolist() == packaged["Ticker"].tolist()
    assert sample["session"].tolist() == packaged["Date"].tolist()
    for name in ("open", "high", "low", "close", "volume"):
        assert sample[name].tolist() == packaged[name.capitalize()].tolist()


def test_no_bar_breaks_a_rule():
    assert checks.bar_findings(load_sample()).empty


def test_the_three_splits_are_found():
    sample = load_sample()
    found = sample.loc[sample["stock_splits"] > 0, ["ticker", "session", "stock_splits"]]
    assert found.to_numpy().tolist() == [
        ["AAPL", pd.Timestamp("2000-06-21"), 2.0],
        ["AAPL", pd.Timestamp("2005-02-28"), 2.0],
        ["MSFT", pd.Timestamp("2003-02-18"), 2.0],
    ]


def test_the_dividends_are_found_to_the_cent():
    sample = load_sample()
    paid = sample[sample["dividends"] > 0]
    assert paid["ticker"].value_counts().to_dict() == {"IBM": 52, "MSFT": 37, "AAPL": 3}
    assert (paid["dividends"] * 100 == (paid["dividends"] * 100).round()).mean() > 0.8
    by_session = paid.set_index(["ticker", "session"])["dividends"]
    assert by_session["MSFT", "2004-11-15"] == 3.08  # the special dividend, with the ordinary one
    assert by_session["AAPL", "2012-08-09"] == 2.65


def test_the_recovered_events_explain_the_files_adjusted_closes(packaged):
    """With the formula of the file, s * (1 + D / close), the events give its closes back."""
    sample = load_sample()
    growth = sample["stock_splits"].replace(0.0, 1.0) * (1 + sample["dividends"] / sample["close"])
    factor = growth.groupby(sample["ticker"]).cumprod()
    by_ticker = factor.groupby(sample["ticker"])
    rebuilt = sample["close"] * factor / by_ticker.transform("last")
    ratio = packaged["Adj Close"] / packaged["Close"]
    as_of_the_end = packaged["Adj Close"] / ratio.groupby(packaged["Ticker"]).transform("last")
    assert_allclose(rebuilt, as_of_the_end, rtol=1e-9)


def test_the_projects_adjusted_closes_differ_from_the_files_by_the_formula_alone(packaged):
    """1 / (1 - D / previous close) against 1 + D / close: within 0.3 % after 92 dividends."""
    adjusted = adjustment.adjust(load_sample(), "adjusted", WHOLE[1])
    ratio = packaged["Adj Close"] / packaged["Close"]
    as_of_the_end = packaged["Adj Close"] / ratio.groupby(packaged["Ticker"]).transform("last")
    assert_allclose(adjusted["close"], as_of_the_end, rtol=3e-3)


def test_a_range_and_some_tickers_are_cut_out_of_it():
    first, last = date(2012, 12, 31), date(2013, 1, 2)
    fetch = SampleSource().fetch({"MSFT": first, "IBM": first}, last)
    assert fetch.failures == {}
    assert fetch.bars["ticker"].tolist() == ["IBM", "IBM", "MSFT", "MSFT"]
    assert fetch.bars["session"].dt.date.tolist() == [first, last] * 2
    assert_frame_equal(fetch.bars, bars.tidy(fetch.bars))


def test_a_range_outside_the_sample_is_empty_and_no_failure():
    fetch = SampleSource().fetch(dict.fromkeys(TICKERS, date(2013, 3, 4)), date(2013, 12, 31))
    assert_frame_equal(fetch.bars, bars.empty_bars())
    assert fetch.failures == {}


def test_a_fetched_frame_belongs_to_the_caller():
    fetched = SampleSource().fetch({"IBM": WHOLE[0]}, WHOLE[1]).bars
    fetched["close"] = np.nan
    assert not SampleSource().fetch({"IBM": WHOLE[0]}, WHOLE[1]).bars["close"].isna().any()


def test_it_ends_on_its_last_session():
    assert SampleSource().last_session == WHOLE[1]


def test_an_unknown_ticker_is_an_error_with_the_known_ones():
    with pytest.raises(StockAssetsError) as caught:
        SampleSource().fetch(dict.fromkeys(["IBM", "TSLA"], WHOLE[0]), WHOLE[1])
    assert "has no TSLA; it has AAPL, FB, GOOG, IBM, MSFT" in caught.value.problem
