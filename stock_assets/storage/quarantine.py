"""Quarantined bars: bars that broke a rule, with the reason, separate from the prices."""

from __future__ import annotations

import pandas as pd
from sqlalchemy import Connection, Engine, select, text

from stock_assets.storage.database import copy_out, merge
from stock_assets.storage.tables import quarantined_bars

_KEY = ["ticker", "session", "rule", "detail"]
_NUMBERS = ["open", "high", "low", "close", "volume", "dividends", "stock_splits"]


def quarantine(
    engine: Engine,
    bars: pd.DataFrame,
    findings: pd.DataFrame,
    source: str,
    dagster_run_id: str | None = None,
) -> int:
    """Store bars that broke a rule; repeating it changes nothing.

    Parameters
    ----------
    engine : Engine
        The ``stock_assets`` database.
    bars : DataFrame
        Bars as fetched.
    findings : DataFrame
        The rules they break, see :mod:`stock_assets.market.checks`.
    source : str
        Name of the price source.
    dagster_run_id : str, optional
        The run that fetched them.

    Returns
    -------
    int
        Rows that are new or were released before.
    """
    # Two bars of one session are matched by their order.
    numbered = findings[_KEY].assign(nth=findings.groupby(["ticker", "session", "rule"]).cumcount())
    given = bars.assign(nth=bars.groupby(["ticker", "session"]).cumcount())
    broken = numbered.merge(given, on=["ticker", "session", "nth"]).drop_duplicates(_KEY)
    rows = broken.drop(columns="nth").assign(
        session=broken["session"].dt.date,
        source=source,
        dagster_run_id=dagster_run_id,
        released_at=pd.Series(pd.NaT, broken.index, dtype="datetime64[ns, UTC]"),
    )
    finite = rows[_NUMBERS].where(rows[_NUMBERS].abs() < float("inf"))
    with engine.begin() as connection:
        return merge(connection, quarantined_bars, rows.assign(**finite)).changed


def release(connection: Connection, staged: str) -> None:
    """Release quarantined bars whose session has a valid bar now.

    Parameters
    ----------
    connection : Connection
        In the transaction that stores the valid bars.
    staged : str
        The temporary table of the valid bars.
    """
    connection.execute(
        text(
            "UPDATE quarantined_bars q SET released_at = record_time() "
            f"FROM {staged} s WHERE q.ticker = s.ticker AND q.session = s.session "
            "AND q.released_at IS NULL"
        )
    )


def read_quarantine(engine: Engine) -> pd.DataFrame:
    """Read the bars in quarantine that are not released, by ticker and session."""
    names = (*_KEY, *_NUMBERS, "source")
    query = select(*(quarantined_bars.c[name] for name in names)).where(
        quarantined_bars.c.released_at.is_(None)
    )
    with engine.connect() as connection:
        rows = copy_out(connection, query)
    return rows.sort_values(_KEY, ignore_index=True)
