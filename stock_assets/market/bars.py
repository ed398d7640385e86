"""The bars frame: daily bars of tickers.

A *bars* frame has the columns ``BAR_COLUMNS`` in this order, one row per ticker and session, sorted
by both, with a ``RangeIndex``:

============== ============== ====================================================================
column         dtype          meaning
============== ============== ====================================================================
ticker         object (str)   the exchange's symbol
session        datetime64[ns] naive midnight of the trading day in New York
open … close   float64        US dollars per share, as traded unless a function says otherwise
volume         float64        shares
dividends      float64        cash per share, as traded, on its ex-date; 0.0 for none
stock_splits   float64        new shares per old one on the ex-date; 0.0 for none, 2.0 for 2:1
============== ============== ====================================================================

The bar of a split's ex-date is already in new shares.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pandas as pd

PRICE_COLUMNS = ("open", "high", "low", "close")
TRADED_COLUMNS = (*PRICE_COLUMNS, "volume")
_NUMBER_COLUMNS = (*TRADED_COLUMNS, "dividends", "stock_splits")
BAR_COLUMNS = ("ticker", "session", *_NUMBER_COLUMNS)


def tidy(frame: pd.DataFrame) -> pd.DataFrame:
    """Convert to a bars frame: its columns, dtypes, order and index.

    Parameters
    ----------
    frame : DataFrame
        Has at least ``BAR_COLUMNS``; others are dropped. ``session`` has dates or naive times.

    Returns
    -------
    DataFrame
        A new bars frame with the same rows. Their content is not checked: see
        :mod:`stock_assets.market.checks`.

    Raises
    ------
    KeyError
        A column is missing.
    """
    dtypes: dict[str, Any] = dict.fromkeys(_NUMBER_COLUMNS, "float64")
    dtypes |= {"ticker": "object", "session": "datetime64[ns]"}
    ordered = frame.loc[:, list(BAR_COLUMNS)].astype(dtypes)
    return ordered.sort_values(["ticker", "session"], kind="stable", ignore_index=True)


def empty_bars() -> pd.DataFrame:
    """Create a bars frame without rows."""
    return tidy(pd.DataFrame(columns=list(BAR_COLUMNS)))


def content_digest(frame: pd.DataFrame) -> str:
    """Hash the column names and values of a frame in their order, without the index.

    Equal content has the same digest on every machine. All NaN are equal, minus zero is zero, and
    the width of floats and the resolution of timestamps do not count.

    Returns
    -------
    str
        SHA-256, 64 hexadecimal digits.
    """
    digest = hashlib.sha256(json.dumps([len(frame), *map(str, frame.columns)]).encode())
    for name in frame.columns:
        content = _canonical_bytes(frame[name])
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.hexdigest()


def _canonical_bytes(column: pd.Series) -> bytes:
    kind = column.dtype.kind
    if kind == "f":
        numbers = column.to_numpy("<f8") + 0.0
        return b"f" + np.where(np.isnan(numbers), np.nan, numbers).tobytes()
    if kind in "iub" and not column.hasnans:
        return b"i" + column.to_numpy("<i8").tobytes()
    if kind == "M":
        return b"M" + column.to_numpy("<M8[ns]").tobytes()
    return b"O" + json.dumps(column.tolist(), default=str).encode()
