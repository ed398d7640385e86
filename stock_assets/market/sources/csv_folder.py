"""A folder with one ``TICKER.csv`` per ticker, as yfinance's ``history`` saves them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from stock_assets.core.errors import StockAssetsError
from stock_assets.market import calendar
from stock_assets.market.bars import tidy
from stock_assets.market.corporate_actions import actions_of
from stock_assets.market.sources.base import Fetch, clip_to_request, concat_fetches
from stock_assets.market.sources.history import COLUMNS, as_traded

_NUMBERS = [name for name in COLUMNS if name != "Date"]


class CsvFolderSource:
    """The files of a folder as a price source.

    Each file has the columns ``Date, Open, High, Low, Close, Volume, Dividends, Stock Splits`` of
    ``yfinance.Ticker(...).history(auto_adjust=False)``; others are ignored. Prices, volume and
    dividends are adjusted for every split up to the file's last row. A date may have a time
    and an offset, which are ignored. A session that has not closed has no bar.

    Parameters
    ----------
    folder : Path
        The folder with the files.
    now : callable
        Returns the current time with its time zone.
    """

    name = "csv"

    def __init__(self, folder: Path, now: Callable[[], datetime] = calendar.utc_now) -> None:
        self._folder = folder
        self._now = now

    @property
    def last_session(self) -> date:
        """The newest closed session in any file of the folder.

        Raises
        ------
        StockAssetsError
            The folder has no CSV file, or a file cannot be read.
        """
        files = sorted(self._folder.glob("*.csv"))
        if not files:
            raise StockAssetsError(
                f"the folder {self._folder} has no TICKER.csv",
                "Put one file per ticker there, or correct prices.csv_folder in params.yaml",
            )
        newest: date = max(_days(_read_text(file), file).max() for file in files).date()
        return min(newest, calendar.last_closed_session(self._now()))

    def fetch(self, starts: Mapping[str, date], last: date) -> Fetch:
        """Fetch bars as traded; see ``PriceSource.fetch``.

        Raises
        ------
        StockAssetsError
            A ticker has no file, or a row of a file is not a bar.
        """
        missing = [ticker for ticker in starts if not self._file(ticker).is_file()]
        if missing:
            raise StockAssetsError(
                f"the folder {self._folder} has no file for {', '.join(missing)}",
                f"Save {_file_name(missing[0])} there, with {_export_command(missing[0])}, "
                "or correct prices.tickers in params.yaml",
            )
        whole = concat_fetches((read_history(self._file(ticker)) for ticker in starts), failures={})
        return clip_to_request(
            whole.bars, starts, min(last, calendar.last_closed_session(self._now()))
        )

    def _file(self, ticker: str) -> Path:
        return self._folder / _file_name(ticker)


def read_history(file: Path) -> Fetch:
    """Read one file as it traded; the name of the file is the ticker.

    Raises
    ------
    StockAssetsError
        A column is missing, a day is repeated or unreadable, a number is missing or not finite, or
        a high is below its low; the message names the file, the line and the remedy.
    """
    text = _read_text(file)
    days = _days(text, file)
    _refuse_if(days.duplicated(), text["Date"], file, "is repeated")
    for name in _NUMBERS:
        number = pd.to_numeric(text[name], errors="coerce")
        _refuse_if(~number.abs().lt(np.inf), text[name], file, "is not a number")
    # Unlike to_numeric, this reads a number to its last bit.
    numbers = text[_NUMBERS].astype("float64")
    _refuse_if(numbers["High"] < numbers["Low"], text["High"], file, "is below Low")
    shown = tidy(numbers.assign(Date=days, ticker=file.stem).rename(columns=COLUMNS))
    return as_traded(shown, actions_of(shown), "USD")


def _read_text(file: Path) -> pd.DataFrame:
    try:
        text = pd.read_csv(file, dtype=str, keep_default_na=False)
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise StockAssetsError(f"{file} is not a CSV table: {reason}", _again(file)) from None
    missing = [name for name in COLUMNS if name not in text.columns]
    if missing:
        raise StockAssetsError(f"{file} has no column {', '.join(missing)}", _again(file))
    if text.empty:
        raise StockAssetsError(f"{file} has no rows", _again(file))
    return text


def _days(text: pd.DataFrame, file: Path) -> pd.Series:
    """Read the day of each row, without its time and offset."""
    days = pd.to_datetime(text["Date"].str[:10], format="%Y-%m-%d", errors="coerce")
    _refuse_if(days.isna(), text["Date"], file, "is not a date like 2013-03-01")
    return days


def _refuse_if(wrong: pd.Series, cells: pd.Series, file: Path, problem: str) -> None:
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        raise StockAssetsError(
            f"{file}, line {row + 2}: {cells.name} '{cells.iloc[row]}' {problem}",
            f"Correct that line. {_again(file)}",
        )


def _again(file: Path) -> str:
    return f"Save the file again with {_export_command(file.stem)}"


def _export_command(ticker: str) -> str:
    return (
        f"`yfinance.Ticker('{ticker}').history(period='max', auto_adjust=False)"
        f".to_csv('{_file_name(ticker)}')`"
    )


def _file_name(ticker: str) -> str:
    return f"{ticker}.csv"
