"""Check results: all, and the latest of each check."""

from __future__ import annotations

from operator import eq

from sqlalchemy import Engine, select
from sqlalchemy.dialects.postgresql import distinct_on

from stock_assets.storage.serving.paging import Position, Row, conditions, read_page, read_rows
from stock_assets.storage.tables import check_results

CHECK_ORDER = ("checked_at", "dagster_run_id", "asset", "check_name", "first_partition")
"""Order of check results; the latest first."""

_RESULTS = check_results.c


def list_checks(
    engine: Engine,
    asset: str | None,
    passed: bool | None,
    size: int,
    after: Position | None = None,
) -> list[Row]:
    """List the check results of every run."""
    chosen = conditions((_RESULTS.asset, eq, asset), (_RESULTS.passed, eq, passed))
    checked, *others = (_RESULTS[name] for name in CHECK_ORDER)
    query = select(check_results).where(*chosen)
    return read_page(engine, query, [checked.desc(), *others], size, after)


def newest_checks(engine: Engine) -> list[Row]:
    """Read the latest result of each check, by asset and name."""
    each = (_RESULTS.asset, _RESULTS.check_name)
    query = (
        select(check_results)
        .ext(distinct_on(*each))
        .order_by(*each, _RESULTS.checked_at.desc(), _RESULTS.passed, _RESULTS.dagster_run_id)
    )
    return read_rows(engine, query)
