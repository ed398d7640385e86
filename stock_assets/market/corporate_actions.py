"""Corporate actions: dividends and splits of tickers, independent of bars.

An *actions* frame has the columns ``ACTION_COLUMNS`` in this order, sorted by the first three, with
a ``RangeIndex``; a ticker has at most one action of a kind on a day:

======== ============== =========================================================================
column   dtype          meaning
======== ============== =========================================================================
ticker   object (str)   the exchange's symbol
ex_date  datetime64[ns] naive midnight of the first day without the right to the action
kind     object (str)   "dividend" or "split"
value    float64        cash per share as traded that day, or new shares per old one; positive
======== ============== =========================================================================

An action takes effect with the first bar on or after its ex-date: after a trading halt, or a day
without a bar, that is a later session. :func:`attach` is the only place that decides this.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

DIVIDEND = "dividend"
SPLIT = "split"
ACTION_COLUMNS = ("ticker", "ex_date", "kind", "value")
KIND_OF = {"dividends": DIVIDEND, "stock_splits": SPLIT}
"""The columns of a bars frame in which the actions take effect."""


def tidy_actions(frame: pd.DataFrame) -> pd.DataFrame:
    """Convert to an actions frame: its columns, dtypes, order and index."""
    dtypes: dict[str, Any] = {
        "ticker": "object",
        "ex_date": "datetime64[ns]",
        "kind": "object",
        "value": "float64",
    }
    ordered = frame.loc[:, list(ACTION_COLUMNS)].astype(dtypes)
    return ordered.sort_values(["ticker", "ex_date", "kind"], ignore_index=True)


def no_actions() -> pd.DataFrame:
    """Create an actions frame without rows."""
    return tidy_actions(pd.DataFrame(columns=list(ACTION_COLUMNS)))


def actions_of(bars: pd.DataFrame) -> pd.DataFrame:
    """Return the actions in effect on bars, with the session as ex-date.

    Parameters
    ----------
    bars : DataFrame
        A bars frame (see :mod:`stock_assets.market.bars`).
    """
    carried = [
        bars.loc[bars[column] > 0, ["ticker", "session", column]]
        .set_axis(["ticker", "ex_date", "value"], axis="columns")
        .assign(kind=kind)
        for column, kind in KIND_OF.items()
    ]
    return tidy_actions(pd.concat(carried))


def attach(bars: pd.DataFrame, actions: pd.DataFrame) -> pd.DataFrame:
    """Set the dividends and splits of bars to the actions in effect on them.

    Parameters
    ----------
    bars : DataFrame
        A bars frame; its ``dividends`` and ``stock_splits`` are replaced.
    actions : DataFrame
        An actions frame. Actions before a ticker's first bar or after its last have no effect.

    Returns
    -------
    DataFrame
        The same bars. Several dividends of one bar are added, several splits multiplied.
    """
    first = bars.groupby("ticker")["session"].min()
    known = actions[actions["ex_date"] >= actions["ticker"].map(first)]
    effective = pd.merge_asof(
        known.sort_values("ex_date", kind="stable"),
        bars[["ticker", "session"]].sort_values("session", kind="stable"),
        left_on="ex_date",
        right_on="session",
        by="ticker",
        direction="forward",
    )
    by_kind = dict(list(effective.dropna().groupby("kind")))
    keys = pd.MultiIndex.from_frame(bars[["ticker", "session"]])
    columns = {}
    for column, kind in KIND_OF.items():
        rows = by_kind.get(kind, effective.iloc[:0])
        combined = rows.groupby(["ticker", "session"])["value"].agg(
            "sum" if kind == DIVIDEND else "prod"
        )
        columns[column] = combined.reindex(keys, fill_value=0.0).to_numpy(np.float64)
    return bars.assign(**columns)
