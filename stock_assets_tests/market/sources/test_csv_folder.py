"""Files in the shape that yfinance saves, read back as they traded."""

from __future__ import annotations

from datetime import date, datetime

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from stock_assets.core.errors import StockAssetsError
from stock_assets.market import adjustment, calendar
from stock_assets.market.sources.csv_folder import CsvFolderSource, read_history
from stock_assets.market.sources.sample import load_sample

FIRST, LAST = date(2000, 3, 1), date(2013, 3, 1)
HEADER = "Date,Open,High,Low,Close,Adj Close,Volume,Dividends,Stock Splits\n"
GOOD = (
    HEADER + "2024-06-06,120.5,125.6,118.3,121.0,120.9,664696000,0.0,0.0\n"
    "2024-06-07,119.8,121.7,118.0,120.9,120.8,412386000,0.0,0.0\n"
    "2024-06-10,120.4,123.1,117.0,121.8,121.7,314162700,0.0,10.0\n"
    "2024-06-11,121.8,122.9,118.7,120.9,120.9,222551200,0.01,0.0\n"
)


def save(folder, ticker, last=LAST, dates="%Y-%m-%d"):
    """Write a ticker of the sample as ``history(auto_adjust=False).to_csv()`` would on a day."""
    bars = load_sample()
    shown = adjustment.adjust(bars[bars["ticker"] == ticker], "split_adjusted", last)
    shown = shown.rename(
        columns={"session": "Date", "stock_splits": "Stock Splits"} | {"ticker": "Ticker"}
    )
    shown = shown.rename(columns=str.title).assign(**{"Adj Close": shown["close"]})
    shown["Date"] = shown["Date"].dt.strftime(dates)
    shown.drop(columns="Ticker").to_csv(folder / f"{ticker}.csv", index=False)


def as_traded(*tickers):
    bars = load_sample()
    return bars[bars["ticker"].isin(tickers)].reset_index(drop=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("prices")
    for ticker in ("AAPL", "IBM", "MSFT"):
        save(path, ticker)
    return path


def test_splits_inside_a_file_are_undone(folder):
    fetch = CsvFolderSource(folder).fetch(dict.fromkeys(["MSFT", "AAPL"], FIRST), LAST)
    assert fetch.failures == {}
    # The sample has some prices of seven digits; shares trade in cents.
    assert_frame_equal(fetch.bars, as_traded("AAPL", "MSFT"), rtol=5e-6)


def test_bars_do_not_depend_on_when_a_file_was_saved(folder, tmp_path):
    save(tmp_path, "AAPL", date(2003, 1, 2))
    earlier = CsvFolderSource(tmp_path).fetch(dict.fromkeys(["AAPL"], FIRST), LAST).bars
    now = CsvFolderSource(folder).fetch(dict.fromkeys(["AAPL"], FIRST), date(2003, 1, 2)).bars
    assert_frame_equal(earlier, now, check_exact=True)


def test_a_published_ten_for_one_split_is_undone(tmp_path):
    (tmp_path / "NVDA.csv").write_text(GOOD)
    bars = read_history(tmp_path / "NVDA.csv").bars
    assert bars["close"].tolist() == [1210.0, 1209.0, 121.8, 120.9]
    assert bars["volume"].tolist() == [66469600.0, 41238600.0, 314162700.0, 222551200.0]
    assert bars["dividends"].tolist() == [0.0, 0.0, 0.0, 0.01]
    assert bars["stock_splits"].tolist() == [0.0, 0.0, 10.0, 0.0]


@pytest.mark.parametrize("dates", ["%Y-%m-%d 00:00:00-05:00", "%Y-%m-%dT00:00:00+09:00"])
def test_a_date_with_time_and_offset_is_the_day_it_names(tmp_path, dates):
    save(tmp_path, "IBM", dates=dates)
    assert_frame_equal(read_history(tmp_path / "IBM.csv").bars, as_traded("IBM"))


def test_a_range_is_cut_out_after_the_splits_are_undone(folder):
    bars = (
        CsvFolderSource(folder)
        .fetch(dict.fromkeys(["AAPL"], date(2005, 2, 25)), date(2005, 2, 25))
        .bars
    )
    assert bars["close"].round(4).tolist() == [88.99]


def test_rows_may_be_in_any_order(folder, tmp_path):
    shuffled = pd.read_csv(folder / "IBM.csv", dtype=str).sample(frac=1.0, random_state=1)
    shuffled.to_csv(tmp_path / "IBM.csv", index=False)
    shuffled_bars, bars = (read_history(path / "IBM.csv").bars for path in (tmp_path, folder))
    assert_frame_equal(shuffled_bars, bars)


@settings(max_examples=10, deadline=None)
@given(
    prices=st.lists(
        st.integers(1, 10**7).map(lambda cents: cents / 100), min_size=250, max_size=250
    )
)
def test_prices_are_read_to_the_last_bit(tmp_path_factory, prices):
    file = tmp_path_factory.getbasetemp() / "BITS.csv"
    days = calendar.sessions(date(2012, 1, 3), date(2012, 12, 31))
    rows = [f"{day},{p},{p},{p},{p},1,1,0,0" for day, p in zip(days, prices, strict=True)]
    file.write_text(HEADER + "\n".join(rows))
    assert read_history(file).bars["close"].tolist() == prices


def test_a_request_without_tickers_returns_no_bars(folder):
    assert CsvFolderSource(folder).fetch({}, LAST).bars.empty


def test_the_newest_session_is_the_newest_of_any_file(tmp_path):
    save(tmp_path, "IBM", date(2012, 6, 1))
    save(tmp_path, "MSFT", date(2012, 8, 1))
    assert CsvFolderSource(tmp_path).last_session == date(2012, 8, 1)


@pytest.mark.parametrize(("clock", "newest"), [("15:59", "2013-02-28"), ("16:15", "2013-03-01")])
def test_the_bar_of_an_open_session_is_left_out(folder, clock, newest):
    now = datetime.fromisoformat(f"2013-03-01T{clock}-05:00")
    source = CsvFolderSource(folder, now=lambda: now)
    session = date.fromisoformat(newest)
    assert source.last_session == session
    bars = source.fetch(dict.fromkeys(["IBM"], date(2013, 2, 25)), LAST).bars
    assert bars["session"].dt.date.tolist() == calendar.sessions(date(2013, 2, 25), session)


def test_an_empty_folder_has_no_newest_session(tmp_path):
    with pytest.raises(StockAssetsError, match=r"has no TICKER\.csv"):
        _ = CsvFolderSource(tmp_path).last_session


def test_an_unknown_ticker_is_an_error_with_the_export_command(folder):
    with pytest.raises(StockAssetsError) as caught:
        CsvFolderSource(folder).fetch(dict.fromkeys(["IBM", "TSLA", "XOM"], FIRST), LAST)
    assert caught.value.problem.endswith("has no file for TSLA, XOM")
    assert "yfinance.Ticker('TSLA').history" in caught.value.remedy


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "is not a CSV table"),
        ("Date,Open\n1,2,3\n1,2,3,4,5\n", "is not a CSV table"),
        (HEADER, "has no rows"),
        (GOOD.replace("High,Low", "Hi,Lo"), "has no column High, Low"),
        (GOOD.replace("2024-06-07", "07/06/2024"), "line 3: Date '07/06/2024' is not a date"),
        (GOOD.replace("2024-06-07", "2024-06-06"), "line 3: Date '2024-06-06' is repeated"),
        (GOOD.replace("121.0,", "n/a,"), "line 2: Close 'n/a' is not a number"),
        (GOOD.replace("121.0,", ","), "line 2: Close '' is not a number"),
        (GOOD.replace("121.0,", "inf,"), "line 2: Close 'inf' is not a number"),
        (GOOD.replace("222551200", "nan"), "line 5: Volume 'nan' is not a number"),
        (GOOD.replace("122.9", "118.6"), "line 5: High '118.6' is below Low"),
    ],
)
def test_a_bad_file_is_refused_whole_and_its_place_named(tmp_path, content, problem):
    (tmp_path / "NVDA.csv").write_text(content)
    with pytest.raises(StockAssetsError) as caught:
        CsvFolderSource(tmp_path).fetch(
            dict.fromkeys(["NVDA"], date(2024, 1, 2)), date(2024, 12, 31)
        )
    assert problem in caught.value.problem
    assert str(tmp_path / "NVDA.csv") in caught.value.problem
    assert "\n" not in str(caught.value)
    assert "to_csv('NVDA.csv')" in caught.value.remedy
