"""The decisions about models: promotions and retrainings."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python
from sqlalchemy import Engine, func, select, update
from sqlalchemy.dialects.postgresql import insert

from stock_assets.core.errors import StockAssetsError
from stock_assets.evaluation.promotion_rule import PromotionDecision
from stock_assets.evaluation.retraining_rule import RetrainingDecision
from stock_assets.reporting.decision_text import breach_text, promotion_text, retraining_text
from stock_assets.storage.record import recording
from stock_assets.storage.tables import model_promotions, retraining_decisions


@dataclass(frozen=True)
class PromotionRecord:
    """A row of ``model_promotions``."""

    dataset_run_id: str
    as_of_session: date
    model_name: str
    candidate_version: int
    production_version: int | None
    metric: str
    candidate: dict[str, Any]
    production: dict[str, Any] | None
    persistence: dict[str, Any]
    first_session: date
    last_session: date
    promoted: bool
    decision: PromotionDecision
    mlflow_run_id: str
    dagster_run_id: str | None = None
    refit_version: int | None = None

    @property
    def promoted_version(self) -> int:
        """The version to put into production: the refit of the candidate where there is one."""
        return self.refit_version or self.candidate_version

    @property
    def in_shadow(self) -> bool:
        """Whether the candidate forecasts in shadow after this decision."""
        return self.decision.in_shadow

    @property
    def refit_as_of(self) -> date:
        """The as-of session of the refit: of a winner in shadow the last session that decided."""
        shadow = self.decision.shadow
        return shadow.sessions[-1] if self.promoted and shadow else self.as_of_session

    @property
    def reason(self) -> str:
        """The decision in words."""
        return promotion_text(self.decision)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields and the reason as plain values."""
        return asdict(self) | {"reason": self.reason}


def promotion_record(row: Any) -> PromotionRecord:
    """Build a record from a row of the table."""
    return _PROMOTION.validate_python(dict(row))


def save_promotion(engine: Engine, record: PromotionRecord) -> None:
    """Store a promotion decision; the first one about a candidate on some sessions stays.

    Raises
    ------
    StockAssetsError
        There is a decision about a version of another registered model with its dataset and number.
    """
    table = model_promotions
    with recording(engine, record.dagster_run_id) as connection:
        connection.execute(insert(table).values(_row(record)).on_conflict_do_nothing())
        stored = connection.scalar(
            select(table.c.model_name).where(
                table.c.dataset_run_id == record.dataset_run_id,
                table.c.candidate_version == record.candidate_version,
            )
        )
        if stored != record.model_name:
            raise StockAssetsError(
                f"version {record.candidate_version} of dataset {record.dataset_run_id} has a "
                f"decision as a version of {stored}",
                f"Train a new dataset: stock-assets retrain --as-of {record.as_of_session}",
            )


def record_refit(engine: Engine, decided: PromotionRecord, version: int) -> PromotionRecord:
    """Add the refit of a candidate to its decision; return the updated record."""
    table = model_promotions
    statement = (
        update(table)
        .where(
            table.c.dataset_run_id == decided.dataset_run_id,
            table.c.candidate_version == decided.candidate_version,
            table.c.last_session == decided.last_session,
        )
        .values(refit_version=version)
        .returning(*table.c)
    )
    with recording(engine, decided.dagster_run_id) as connection:
        return promotion_record(connection.execute(statement).mappings().one())


def promotion_of(
    engine: Engine, model_name: str, dataset_id: str, candidate_version: int | None = None
) -> PromotionRecord | None:
    """Read the last decision about a candidate of a dataset (the last one, if none is named)."""
    for record in promotions(engine, model_name):
        wanted = candidate_version in (None, record.candidate_version)
        if wanted and record.dataset_run_id == dataset_id:
            return record
    return None


def promotions(engine: Engine, model_name: str) -> list[PromotionRecord]:
    """Return the promotion decisions about a registered model, the last one first."""
    table = model_promotions
    query = (
        select(table)
        .where(table.c.model_name == model_name)
        .order_by(
            table.c.decided_at.desc(), table.c.candidate_version.desc(), table.c.last_session.desc()
        )
    )
    with engine.connect() as connection:
        return [promotion_record(row) for row in connection.execute(query).mappings()]


def decision_about(
    engine: Engine, model_name: str, dataset_id: str | None, version: int
) -> PromotionRecord | None:
    """Read the newest decision about a version or the candidate that it is a refit of."""
    for record in promotions(engine, model_name):
        numbers = (record.candidate_version, record.refit_version)
        if record.dataset_run_id == dataset_id and version in numbers:
            return record
    return None


def alarm_of(engine: Engine, dataset_id: str) -> RetrainingRecord | None:
    """Return the decision to retrain that requested a dataset; None where a person did."""
    query = select(retraining_decisions).where(
        retraining_decisions.c.dataset_run_id == dataset_id, retraining_decisions.c.retrain
    )
    with engine.connect() as connection:
        row = connection.execute(query).mappings().one_or_none()
        return None if row is None else retraining_record(row)


@dataclass(frozen=True)
class RetrainingRecord:
    """A row of ``retraining_decisions``."""

    session: date
    retrain: bool
    decision: RetrainingDecision
    dataset_run_id: str | None

    @property
    def reason(self) -> str:
        """The decision in words."""
        return retraining_text(self.decision)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, with the reason, the breaches in words, the scores."""
        return _row(self) | {
            "reason": self.reason,
            "breaches": [*map(breach_text, self.decision.breaches)],
            "metrics": self.decision.metrics,
        }


_PROMOTION, _RETRAINING = TypeAdapter(PromotionRecord), TypeAdapter(RetrainingRecord)


def retraining_record(row: Any) -> RetrainingRecord:
    """Build a record from a row of the table."""
    return _RETRAINING.validate_python(dict(row))


def _row(record: PromotionRecord | RetrainingRecord) -> dict[str, Any]:
    return asdict(record) | {"decision": to_jsonable_python(record.decision)}


def record_retraining_decision(engine: Engine, record: RetrainingRecord) -> RetrainingRecord:
    """Store the decision of a session; return the one in force.

    A decision to retrain is final. Any other is replaced by a later one about the same session,
    whose scores may have been completed or corrected since.
    """
    table = retraining_decisions
    row = _row(record)
    statement = insert(table).values(row)
    values = {name: statement.excluded[name] for name in row if name != "session"}
    with recording(engine) as connection:
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["session"], set_=values, where=~table.c.retrain
            )
        )
        query = select(table).where(table.c.session == record.session)
        return retraining_record(connection.execute(query).mappings().one())


def pending_retraining(engine: Engine) -> RetrainingRecord | None:
    """Return the newest decision to retrain whose dataset has no promotion decision yet."""
    table, decided = retraining_decisions, model_promotions.c.dataset_run_id
    query = (
        select(table)
        .where(table.c.retrain, table.c.dataset_run_id.not_in(select(decided)))
        .order_by(table.c.session.desc())
        .limit(1)
    )
    with engine.connect() as connection:
        row = connection.execute(query).mappings().one_or_none()
        return None if row is None else retraining_record(row)


def last_retraining_session(engine: Engine) -> date | None:
    """Return the session of the newest decision to retrain."""
    query = select(func.max(retraining_decisions.c.session)).where(retraining_decisions.c.retrain)
    with engine.connect() as connection:
        newest: date | None = connection.scalar(query)
        return newest


def retraining_decisions_newest_first(engine: Engine) -> list[RetrainingRecord]:
    """Return every retraining decision, the newest session first."""
    query = select(retraining_decisions).order_by(retraining_decisions.c.session.desc())
    with engine.connect() as connection:
        return [retraining_record(row) for row in connection.execute(query).mappings()]
