"""The history of production: every change of the version in force, append-only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Engine, func, insert, select, union_all

from stock_assets.evaluation.production_rule import Cause, ModelVersion
from stock_assets.storage.record import recording
from stock_assets.storage.tables import model_promotions, production_history


@dataclass(frozen=True)
class NewChange:
    """A change that is still to be recorded.

    Attributes
    ----------
    model : ModelVersion or None
        The version to put in force; None where none is in force any more.
    cause : Cause
        What changed it.
    why : str or None
        The reason, in words.
    changed_by : str, optional
        The person; None for a run, and where it is unknown.
    until_session : date, optional
        For a winner of a past session, the as-of session of the later version in production. It is
        in force for the sessions before it only, and production stays.
    """

    model: ModelVersion | None
    cause: Cause
    why: str | None
    changed_by: str | None = None
    until_session: date | None = None


@dataclass(frozen=True, kw_only=True)
class ProductionChange(NewChange):
    """A row of ``production_history``.

    Attributes
    ----------
    id : int
        Ascending in the order of writing.
    in_force_from : datetime
        When the change was recorded, UTC. The version is in force until the next change.
    model_name : str
        The registered model.
    dagster_run_id : str or None
        The run that made or found the change.
    """

    id: int
    in_force_from: datetime
    model_name: str
    dagster_run_id: str | None

    @property
    def mark(self) -> str:
        """A text that no other change has, of this or any other database."""
        return f"{self.id} {self.in_force_from.isoformat()}"

    @property
    def is_migrated(self) -> bool:
        """Whether it was derived from a promotion that is older than this table."""
        model = self.model
        return model is not None and model.digest is None and not model.is_persistence


def production_changes(engine: Engine, model_name: str) -> list[ProductionChange]:
    """Read every change of the version in force, the oldest first.

    Parameters
    ----------
    engine : Engine
        The ``stock_assets`` database.
    model_name : str
        The registered model.
    """
    table = production_history
    query = select(table).where(table.c.model_name == model_name).order_by(table.c.id)
    with engine.connect() as connection:
        return [production_change(row) for row in connection.execute(query).mappings()]


def highest_version(engine: Engine) -> int:
    """Return the highest number of a version on record, of any registered model; 0 without one."""
    columns = (
        production_history.c.model_version,
        model_promotions.c.candidate_version,
        model_promotions.c.refit_version,
    )
    highest = union_all(*(select(func.max(column).label("version")) for column in columns))
    with engine.connect() as connection:
        return connection.scalar(select(func.max(highest.subquery().c.version))) or 0


def production_change(row: Any) -> ProductionChange:
    """Build a change from a row of the table."""
    model = None
    if row["model_version"] is not None:
        model = ModelVersion(
            version=row["model_version"],
            mlflow_run_id=row["mlflow_run_id"],
            dataset_run_id=row["dataset_run_id"],
            as_of=row["from_session"],
            digest=row["digest"],
            refit_of=row["refit_of"],
        )
    names = ("why", "changed_by", "until_session", "id", "in_force_from", "dagster_run_id")
    return ProductionChange(
        model=model,
        cause=Cause(row["cause"]),
        model_name=row["model_name"],
        **{name: row[name] for name in names},
    )


def record_change(
    engine: Engine, model_name: str, change: NewChange, dagster_run_id: str | None
) -> None:
    """Append a change; its time is that of the record."""
    model = change.model
    version: dict[str, Any] = {}
    if model is not None:
        version = {
            "model_version": model.version,
            "mlflow_run_id": model.mlflow_run_id,
            "dataset_run_id": model.dataset_run_id,
            "from_session": model.as_of,
            "digest": model.digest,
            "refit_of": model.refit_of,
        }
    row = version | {
        "model_name": model_name,
        "until_session": change.until_session,
        "cause": change.cause.value,
        "changed_by": change.changed_by,
        "why": change.why,
        "dagster_run_id": dagster_run_id,
    }
    with recording(engine, dagster_run_id, change.why) as connection:
        connection.execute(insert(production_history).values(**row))
