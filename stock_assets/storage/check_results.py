"""Results of the checks of each run, and the partitions that may not be used because of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import ARRAY, Engine, Text, bindparam, func, literal, select
from sqlalchemy.dialects.postgresql import insert

from stock_assets.storage.tables import check_results


@dataclass(frozen=True)
class CheckRecord:
    """A row of ``check_results``: the result of a check in a run, for a span of partitions."""

    dagster_run_id: str
    asset: str
    check_name: str
    first_partition: str
    last_partition: str
    passed: bool
    severity: str
    message: str


def save_check_results(engine: Engine, records: Sequence[CheckRecord]) -> None:
    """Store check results; those of the same run, check and span are replaced."""
    if not records:
        return
    statement = insert(check_results).values([asdict(record) for record in records])
    key = [column.name for column in check_results.primary_key]
    found = {name: statement.excluded[name] for name in asdict(records[0]) if name not in key}
    with engine.begin() as connection:
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=key, set_=found | {"checked_at": func.now()}
            )
        )


@dataclass(frozen=True)
class FailedCheck:
    """The newest result of a blocking check of a partition, where it failed."""

    partition: str
    check_name: str
    message: str


def failed_checks(engine: Engine, asset: str, partitions: Sequence[str]) -> list[FailedCheck]:
    """Return the blocking checks of an asset's partitions whose newest result failed.

    Parameters
    ----------
    engine : Engine
        The ``stock_assets`` database.
    asset : str
    partitions : sequence of str
        Partition keys.

    Returns
    -------
    list of FailedCheck
        By partition and check. A result is blocking if its severity is error.
    """
    failed, newer = check_results.alias("failed"), check_results.alias("newer")
    listed = func.unnest(bindparam("keys", list(partitions), ARRAY(Text)))
    key = select(listed.label("key")).subquery("keys").c.key
    replaced = (
        select(literal(1))
        .where(newer.c.asset == failed.c.asset, newer.c.check_name == failed.c.check_name)
        .where(key.between(newer.c.first_partition, newer.c.last_partition))
        .where(newer.c.checked_at > failed.c.checked_at)
    )
    query = (
        select(key.label("partition"), failed.c.check_name, failed.c.message)
        .where(failed.c.asset == asset, ~failed.c.passed, failed.c.severity == "error")
        .where(key.between(failed.c.first_partition, failed.c.last_partition))
        .where(~replaced.exists())
        .order_by(key, failed.c.check_name)
    )
    with engine.connect() as connection:
        return [FailedCheck(**row) for row in connection.execute(query).mappings()]
