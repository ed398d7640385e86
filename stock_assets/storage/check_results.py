"""Results of asset checks, per run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Engine, func
from sqlalchemy.dialects.postgresql import insert

from stock_assets.storage.tables import check_results


@dataclass(frozen=True)
class CheckRecord:
    """A row of ``check_results``: one check in one run, over its first to its last partition."""

    dagster_run_id: str
    asset: str
    check_name: str
    first_partition: str
    last_partition: str
    passed: bool
    severity: str
    message: str


def save_check_results(engine: Engine, records: Sequence[CheckRecord]) -> None:
    """Store check results; a repeated check of the same run replaces the earlier result."""
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
