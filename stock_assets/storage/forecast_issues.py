"""Issues of forecasts: what was issued, when, and with what.

``predictions`` holds the newest issue of each forecast, ``predictions_history`` every one, and
``forecast_issues`` the inputs of each issue. An equal forecast is not issued again, unless another
model version has forecast the session and ticker since. A forecast that a later run no longer makes
leaves ``predictions``; its history keeps it, and a live one is still scored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any

import pandas as pd
from sqlalchemy import Connection, Engine, func, insert, select, text

from stock_assets.evaluation.forecast_issues import Issued, Reason, issued_as
from stock_assets.market.bars import TRADED_COLUMNS
from stock_assets.storage.database import (
    Merge,
    copy_out,
    delete_unstaged,
    merge_staged,
    stage,
)
from stock_assets.storage.histories import HISTORIES
from stock_assets.storage.record import key_columns, recorded_columns
from stock_assets.storage.tables import forecast_issues, predictions, ticker_renames

_HISTORY = HISTORIES[predictions]
_KEY = key_columns(_HISTORY)
_SAME = " AND ".join(f"s.{name} = p.{name}" for name in _KEY)

# Another version has forecast the session and ticker of p since, in the same role.
_SUPERSEDED = """EXISTS (
    SELECT FROM predictions o
    WHERE (o.as_of_session, o.ticker) = (p.as_of_session, p.ticker)
    AND o.model_version <> p.model_version
    AND coalesce(o.role, 'production') = coalesce(p.role, 'production')
    AND (o.predicted_at, o.model_version) > (p.predicted_at, p.model_version))"""


@dataclass(frozen=True)
class Issue:
    """The inputs of an issue; None is unknown.

    Attributes
    ----------
    reason : Reason or None
        How the run was started: the reason of forecasts that are the first of their session.
    started_by : str or None
        The user who started the run.
    known_at : datetime or None
        The moment whose prices were read.
    params : dict or None
        The parameters in force, and their digest in `params_digest`.
    build_environment : dict or None
        From :func:`stock_assets.core.fingerprints.forecast_environment`.
    torch, device : str or None
        Build of PyTorch; device and processor.
    dagster_run_id : str or None
        The run.
    """

    reason: Reason | None = None
    started_by: str | None = None
    known_at: datetime | None = None
    params: dict[str, Any] | None = None
    params_digest: str | None = None
    build_environment: dict[str, Any] | None = None
    torch: str | None = None
    device: str | None = None
    dagster_run_id: str | None = None


def issue_forecasts(
    connection: Connection,
    frame: pd.DataFrame,
    scope: Mapping[str, Sequence[object]],
    issue: Issue,
) -> Merge:
    """Issue the forecasts of one model version that differ from its newest ones.

    Forecasts in the scope that are not in `frame` leave the table.

    Parameters
    ----------
    connection : Connection
        From :func:`stock_assets.storage.record.recording`.
    frame : DataFrame
        Columns of ``predictions``, sessions as dates.
    scope : mapping of str to sequence
        Values of columns; the forecasts of the version that `frame` replaces.
    issue : Issue
        Their inputs.
    """
    following = func.coalesce(func.max(forecast_issues.c.issue), 0) + 1
    issued_at, next_issue = connection.execute(select(func.record_time(), following)).one()
    kinds = {day: issued_as(issued_at, day) for day in frame["target_session"].unique()}
    issued = frame.assign(
        predicted_at=issued_at, issue=next_issue, issued=frame["target_session"].map(kinds)
    )
    staged = stage(connection, predictions, issued)
    removed = delete_unstaged(connection, predictions, staged, scope)
    _leave_out_equal(connection, staged, list(frame.columns))
    for number, reason in enumerate(_reasons(connection, staged, issue), next_issue):
        connection.execute(
            insert(forecast_issues).values(asdict(issue) | {"issue": number, "reason": reason})
        )
        connection.execute(
            text(f"UPDATE {staged} SET issue = :issue WHERE reason IS NOT DISTINCT FROM :reason"),
            {"issue": number, "reason": reason},
        )
    merged = merge_staged(connection, predictions, staged, list(issued.columns))
    return Merge(merged.inserted, merged.updated, removed)


def _leave_out_equal(connection: Connection, staged: str, columns: Sequence[str]) -> None:
    """Remove the staged forecasts that equal the newest ones."""
    unread = {*_KEY, "dagster_run_id", "predicted_at", "issue", "issued", "role"}
    values = [name for name in columns if name not in unread]
    new, old = (
        ", ".join([*(f"{side}.{name}" for name in values), f"coalesce({side}.role, 'production')"])
        for side in "sp"
    )
    connection.execute(
        text(
            f"DELETE FROM {staged} s USING predictions p WHERE {_SAME} "
            f"AND ({new}) IS NOT DISTINCT FROM ({old}) AND NOT {_SUPERSEDED}"
        )
    )


# Changes of what a recorded table says of a day. A rename and another source change nothing.
_CHANGES = """
    SELECT h.link, min(h.{day}) AS day FROM {table}_history h
    LEFT JOIN LATERAL (
        SELECT {values}, p.removed FROM {table}_history p
        WHERE ({keys}) = ({keys_before}) AND p.link < h.link ORDER BY p.link DESC LIMIT 1) b ON true
    WHERE h.link > (SELECT min(link) FROM compared)
    AND h.link NOT IN (SELECT link FROM ticker_renames_history)
    AND ({new}, h.removed) IS DISTINCT FROM ({old}, b.removed) GROUP BY h.link"""


def _changes(table: str, keys: Sequence[str], values: Sequence[str]) -> str:
    sides = {
        name: ", ".join(f"{side}.{column}" for column in columns)
        for name, side, columns in (
            ("values", "p", values),
            ("keys", "p", keys),
            ("keys_before", "h", keys),
            ("new", "h", values),
            ("old", "b", values),
        )
    }
    return _CHANGES.format(table=table, day=keys[1], **sides)


_REASONS = f"""
WITH before AS MATERIALIZED (
    SELECT k.*, b.issue, i.known_at, i.params_digest, i.build_environment, i.torch, i.device,
        (b.model_version, b.dataset_run_id)
            IS NOT DISTINCT FROM (k.model_version, k.dataset_run_id) AS same_model,
        (SELECT max(link) FROM record_links l WHERE l.written_at <= i.known_at) AS link
    FROM (SELECT DISTINCT as_of_session, ticker, model_version, dataset_run_id, role
        FROM {{staged}}) k
    CROSS JOIN LATERAL (
        SELECT * FROM predictions_history h
        WHERE (h.as_of_session, h.ticker) = (k.as_of_session, k.ticker) AND NOT h.removed
            AND coalesce(h.role, 'production') = coalesce(k.role, 'production')
        ORDER BY h.predicted_at DESC, h.model_version DESC LIMIT 1) b
    LEFT JOIN forecast_issues i ON i.issue = b.issue),
compared AS (SELECT link FROM before WHERE same_model),
changes AS MATERIALIZED (
    SELECT * FROM (
        {_changes("raw_stock_data", ("ticker", "session"), TRADED_COLUMNS)}
        UNION ALL {_changes("corporate_actions", ("ticker", "ex_date", "kind"), ("value",))}) c
    WHERE link <= (SELECT max(link) FROM record_links WHERE written_at <= :known_at))
UPDATE {{staged}} s SET reason = CASE
    WHEN NOT same_model AND EXISTS (
        SELECT FROM predictions_history h
        WHERE (h.as_of_session, h.ticker) = (b.as_of_session, b.ticker)
        AND (h.model_version, h.dataset_run_id)
            IS NOT DISTINCT FROM (b.model_version, b.dataset_run_id))
        THEN '{Reason.ROLLBACK}'
    WHEN NOT same_model THEN '{Reason.MODEL}'
    WHEN EXISTS (SELECT FROM changes c WHERE c.link > b.link AND c.day <= b.as_of_session)
        THEN '{Reason.REVISION}'
    WHEN params_digest <> :params_digest THEN '{Reason.PARAMETERS}'
    WHEN build_environment <> CAST(:build_environment AS jsonb) OR torch <> :torch
        OR device <> :device THEN '{Reason.ENVIRONMENT}'
    ELSE '{Reason.RERUN}' END
FROM before b WHERE (b.as_of_session, b.ticker) = (s.as_of_session, s.ticker)"""


def _reasons(connection: Connection, staged: str, issue: Issue) -> Sequence[str | None]:
    """Add the column ``reason`` to staged forecasts, see :class:`Reason`; return its values."""
    connection.execute(text(f"ALTER TABLE {staged} ADD COLUMN reason text"))
    connection.execute(text(f"UPDATE {staged} SET reason = :reason"), {"reason": issue.reason})
    names = ("known_at", "params_digest", "torch", "device")
    built = issue.build_environment
    connection.execute(
        text(_REASONS.format(staged=staged)),
        {name: getattr(issue, name) for name in names}
        | {"build_environment": None if built is None else json.dumps(built)},
    )
    return connection.scalars(text(f"SELECT DISTINCT reason FROM {staged} ORDER BY reason")).all()


def first_live_issues(engine: Engine, sessions: Sequence[date]) -> pd.DataFrame:
    """Return the first live issue of each forecast due on `sessions` that has one.

    Returns
    -------
    DataFrame
        The columns of ``predictions``, in the order of issue. Tickers have the names of today.
    """
    history = _HISTORY.c
    query = (
        select(*(history[name] for name in recorded_columns(_HISTORY)))
        .where(
            history.target_session.in_(list(sessions)),
            history.issued == Issued.LIVE.value,
            ~history.removed,
        )
        .order_by(history.link)
    )
    with engine.connect() as connection:
        found = copy_out(connection, query)
        named = found.assign(ticker=names_of_today(connection, found))
    return named.drop_duplicates(_KEY, ignore_index=True)


def names_of_today(connection: Connection, forecasts: pd.DataFrame) -> pd.Series[str]:
    """Return the ticker of each forecast after the renames that were applied since."""
    renames = ticker_renames.c
    query = select(renames.old_ticker, renames.new_ticker, renames.first_session)
    tickers = forecasts["ticker"]
    for old, new, first_session in connection.execute(query.order_by(renames.first_session)):
        earlier = forecasts["as_of_session"] < pd.Timestamp(first_session)
        tickers = tickers.mask((tickers == old) & earlier, new)
    return tickers
