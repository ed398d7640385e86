"""Apply renames: rows of a ticker's old name get the new one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Engine,
    delete,
    exists,
    func,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from stock_assets.config import Rename
from stock_assets.storage.prices import apply_actions
from stock_assets.storage.record import recording
from stock_assets.storage.tables import (
    corporate_actions,
    instruments,
    model_performance_log,
    predictions,
    price_revisions,
    quarantined_bars,
    raw_stock_data,
    ticker_renames,
)

_DAYS: tuple[Column[object], ...] = (
    raw_stock_data.c.session,
    corporate_actions.c.ex_date,
    price_revisions.c.session,
    quarantined_bars.c.session,
    predictions.c.as_of_session,
    model_performance_log.c.session,
)
"""Per table, the day to compare with a rename: earlier rows of the old name move."""


def apply_renames(
    engine: Engine, renames: Sequence[Rename], dagster_run_id: str | None = None
) -> dict[Rename, int]:
    """Move rows from old names to new ones, in one transaction; repeating it changes nothing.

    Only rows before a rename's first session move, since another company may get the old symbol.
    If both names have a row, that of the new name stays and the other is deleted: a source usually
    has the whole history under the new name.

    Parameters
    ----------
    engine : Engine
        The ``stock_assets`` database.
    renames : sequence of Rename
        As in ``prices.renames``; a new name may be the old name of a later rename.
    dagster_run_id : str, optional
        The run to record.

    Returns
    -------
    dict of Rename to int
        The number of moved or deleted rows, of the renames that had any.
    """
    if not _has_rows(engine, renames):
        return {}
    with recording(engine, dagster_run_id) as connection:
        ordered = sorted(renames, key=lambda rename: rename.first_session)
        rows = {rename: _apply(connection, rename) for rename in ordered}
        moved = {rename: count for rename, count in rows.items() if count}
        if moved:
            _apply_actions(connection, moved, dagster_run_id)
            _record(connection, moved, dagster_run_id)
    return moved


def _has_rows(engine: Engine, renames: Sequence[Rename]) -> bool:
    found = [exists().where(_before(day, rename)) for rename in renames for day in _DAYS]
    if not found:
        return False
    with engine.connect() as connection:
        return bool(connection.scalar(select(or_(*found))))


def _before(day: Column[object], rename: Rename) -> ColumnElement[bool]:
    """Select the rows of the old name before the rename."""
    return (day.table.c.ticker == rename.old) & (day < rename.first_session)


def _apply(connection: Connection, rename: Rename) -> int:
    rows = sum(_move(connection, day, rename) for day in _DAYS)
    if rows:
        _move_instrument(connection, rename)
    return rows


def _move(connection: Connection, day: Column[object], rename: Rename) -> int:
    """Move the rows of one table; delete those that the new name has too."""
    table, before = day.table, _before(day, rename)
    twin = table.alias()
    same = [twin.c[key.name] == key for key in table.primary_key if key.name != "ticker"]
    has_it = exists().where(twin.c.ticker == rename.new, *same)
    gone = connection.execute(delete(table).where(before, has_it)).rowcount
    moved = connection.execute(update(table).where(before).values(ticker=rename.new)).rowcount
    return gone + moved


def _move_instrument(connection: Connection, rename: Rename) -> None:
    """Merge the records of the two names; keep the old one if it still has bars."""
    names = instruments.c
    as_new = select(*(literal(rename.new) if name is names.ticker else name for name in names))
    joined = insert(instruments).from_select(names.keys(), as_new.where(names.ticker == rename.old))
    earlier = func.least(names.fetched_from, joined.excluded.fetched_from)
    connection.execute(
        joined.on_conflict_do_update(index_elements=["ticker"], set_={"fetched_from": earlier})
    )
    own = exists().where(raw_stock_data.c.ticker == rename.old)
    connection.execute(delete(instruments).where(names.ticker == rename.old, ~own))


def _apply_actions(connection: Connection, renames: Iterable[Rename], run_id: str | None) -> None:
    """Put the actions stored under one name into effect on the bars stored under the other."""
    touched = {name for rename in renames for name in (rename.old, rename.new)}
    first = (
        select(raw_stock_data.c.ticker, func.min(raw_stock_data.c.session))
        .where(raw_stock_data.c.ticker.in_(touched))
        .group_by(raw_stock_data.c.ticker)
    )
    first_days: dict[str, date] = dict(connection.execute(first).all())
    apply_actions(connection, first_days, run_id)


def _record(connection: Connection, moved: Mapping[Rename, int], run_id: str | None) -> None:
    """Record the moved rows, added to those of earlier runs."""
    statement = insert(ticker_renames).values(
        [
            {
                "old_ticker": rename.old,
                "new_ticker": rename.new,
                "first_session": rename.first_session,
                "rows": rows,
                "dagster_run_id": run_id,
            }
            for rename, rows in moved.items()
        ]
    )
    more = {
        "new_ticker": statement.excluded.new_ticker,
        "rows": ticker_renames.c.rows + statement.excluded.rows,
    }
    connection.execute(
        statement.on_conflict_do_update(index_elements=["old_ticker", "first_session"], set_=more)
    )
