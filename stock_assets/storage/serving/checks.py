"""What checks found, the last one made first, and the last one of each."""

from __future__ import annotations

from operator import eq

from sqlalchemy import Engine, select
from sqlalchemy.dialects.postgresql import distinct_on

from stock_assets.storage.serving.paging import Position, Row, conditions, read_page, read_rows
from stock_assets.storage.tables import check_results

CHECK_ORDER = ("checked_at", "dagster_run_id", "asset", "check_name")
"""The columns that checks are ordered by, the last one made first."""

_FOUND = check_results.c


def list_checks(
    engine: Engine,
    asset: str | None,
    passed: bool | None,
    size: int,
    after: Position | None = None,
) -> list[Row]:
    """List what checks found, of every run."""
    asked = conditions((_FOUND.asset, eq, asset), (_FOUND.passed, eq, passed))
    made, *others = (_FOUND[name] for name in CHECK_ORDER)
    query = select(check_results).where(*asked)
    return read_page(engine, query, [made.desc(), *others], size, after)


def newest_checks(engine: Engine) -> list[Row]:
    """Give what each check found when it was last made, by asset and name."""
    each = (_FOUND.asset, _FOUND.check_name)
    query = (
        select(check_results)
        .ext(distinct_on(*each))
        .order_by(*each, _FOUND.checked_at.desc(), _FOUND.dagster_run_id)
    )
    return read_rows(engine, query)
