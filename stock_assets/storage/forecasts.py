"""Forecasts, their scores, and the decisions about models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python
from sqlalchemy import Engine, and_, func, select, update
from sqlalchemy.dialects.postgresql import distinct_on, insert

from stock_assets.core.text import write_atomically
from stock_assets.evaluation.promotion_rule import PromotionDecision
from stock_assets.evaluation.retraining_rule import RetrainingDecision
from stock_assets.reporting.decision_text import breach_text, promotion_text, retraining_text
from stock_assets.storage.database import Merge, copy_out, replace
from stock_assets.storage.issues import Issue, first_live_issues, issue_forecasts
from stock_assets.storage.record import recording
from stock_assets.storage.tables import (
    feature_drift,
    model_performance_log,
    model_promotions,
    predictions,
    retraining_decisions,
)

_SESSIONS = ("session", "as_of_session", "target_session")


def save_predictions(
    engine: Engine,
    frame: pd.DataFrame,
    sessions: Sequence[date],
    model_version: int,
    tickers: Sequence[str] | None = None,
    drift: pd.DataFrame | None = None,
    issue: Issue | None = None,
) -> Merge:
    """Issue the forecasts of one model version as of `sessions` that differ from its newest ones.

    Forecasts of other versions, and of tickers outside `tickers` if those are passed, are kept; the
    issued ones become the newest. The version's drift, if measured, is replaced by `drift` in the
    same transaction.
    """
    facts = issue or Issue()
    scope: dict[str, Sequence[object]] = {
        "as_of_session": list(sessions),
        "model_version": [model_version],
    }
    if tickers is not None:
        scope["ticker"] = list(tickers)
    with recording(engine, facts.dagster_run_id) as connection:
        saved = issue_forecasts(connection, _plain_dates(frame), scope, facts)
        if drift is not None:
            drift_scope = {name: scope[name] for name in ("as_of_session", "model_version")}
            replace(connection, feature_drift, _plain_dates(drift), drift_scope)
        return saved


def forecasts_due(engine: Engine, sessions: Sequence[date]) -> pd.DataFrame:
    """Return the forecasts of every model version whose target is one of `sessions`.

    Of each forecast it is the issue to score: the first live one, or else the newest.
    """
    newest = _read(engine, predictions, predictions.c.target_session.in_(list(sessions)))
    live = first_live_issues(engine, sessions)
    if live.empty:
        return newest
    key = [column.name for column in predictions.primary_key]
    due = pd.concat([live, newest]).drop_duplicates(key)
    return due.sort_values(key, ignore_index=True)


def predictions_as_of(engine: Engine, sessions: Sequence[date]) -> pd.DataFrame:
    """Return the forecasts as of `sessions`, of each ticker those of the model that forecast last.

    All horizons of a ticker are of one model: another one may forecast further ahead.
    """
    column = predictions.c
    newest = (
        select(column.as_of_session, column.ticker, column.model_version)
        .where(column.as_of_session.in_(list(sessions)))
        .ext(distinct_on(column.as_of_session, column.ticker))
        .order_by(
            *(column.as_of_session, column.ticker),
            *(column.predicted_at.desc(), column.model_version.desc()),
        )
        .subquery()
    )
    same = [column[chosen.name] == chosen for chosen in newest.c]
    query = (
        select(predictions)
        .join(newest, and_(*same))
        .order_by(column.as_of_session, column.ticker, column.horizon)
    )
    with engine.connect() as connection:
        return copy_out(connection, query)


def last_predicted_session(engine: Engine) -> date | None:
    """Return the newest as-of session with forecasts."""
    with engine.connect() as connection:
        newest: date | None = connection.scalar(select(func.max(predictions.c.as_of_session)))
        return newest


_SCORED = [
    column.name
    for column in model_performance_log.c
    if column.name not in ("dagster_run_id", "evaluated_at")
]


def save_performance(
    engine: Engine, rows: pd.DataFrame, sessions: Sequence[date], dagster_run_id: str
) -> Merge:
    """Replace the performance log of the scored `sessions` by `rows`."""
    frame = _plain_dates(rows.reindex(columns=_SCORED)).assign(dagster_run_id=dagster_run_id)
    with recording(engine, dagster_run_id) as connection:
        return replace(connection, model_performance_log, frame, {"session": list(sessions)})


def read_performance(engine: Engine, first: date, last: date) -> pd.DataFrame:
    """Return the scored forecasts of the sessions `first` to `last`."""
    table = model_performance_log
    return _read(engine, table, table.c.session.between(first, last))


def recent_performance(engine: Engine, sessions: int, key: tuple[str, int]) -> pd.DataFrame:
    """Return the scored forecasts of one model version over its newest scored `sessions`.

    The version is named by dataset and number: `ModelVersion.key`.
    """
    table = model_performance_log
    dataset, version = key
    own = (table.c.model_version == version) & (table.c.dataset_run_id == dataset)
    newest = (
        select(table.c.session)
        .where(own)
        .distinct()
        .order_by(table.c.session.desc())
        .limit(sessions)
    )
    return _read(engine, table, table.c.session.in_(newest) & own)


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
    """Store a promotion decision; the first one about a candidate stays in force."""
    with recording(engine, record.dagster_run_id) as connection:
        connection.execute(insert(model_promotions).values(_row(record)).on_conflict_do_nothing())


def record_refit(engine: Engine, decided: PromotionRecord, version: int) -> PromotionRecord:
    """Add the refit of a promoted candidate to its decision; return the updated record."""
    table = model_promotions
    statement = (
        update(table)
        .where(
            table.c.dataset_run_id == decided.dataset_run_id,
            table.c.candidate_version == decided.candidate_version,
        )
        .values(refit_version=version)
        .returning(*table.c)
    )
    with recording(engine, decided.dagster_run_id) as connection:
        return promotion_record(connection.execute(statement).mappings().one())


def promotion_of(
    engine: Engine, model_name: str, dataset_id: str, candidate_version: int | None = None
) -> PromotionRecord | None:
    """Read the decision about a candidate of a dataset (the last one, if none is named)."""
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
        .order_by(table.c.decided_at.desc(), table.c.candidate_version.desc())
    )
    with engine.connect() as connection:
        return [promotion_record(row) for row in connection.execute(query).mappings()]


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
        return asdict(self) | {
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


def write_forecast_files(folder: Path, frame: pd.DataFrame) -> None:
    """Write ``historical/{date}.json`` per target session and ``latest_predictions.json``.

    The files contain the forecasts one session ahead. Each file is replaced atomically. The latest
    file follows the newest target session: forecasts of the past never replace it.

    Parameters
    ----------
    folder : Path
        Folder of the files; created when missing.
    frame : DataFrame
        Forecasts with the columns of ``predictions``.
    """
    history = folder / "historical"
    for session, rows in frame[frame["horizon"] == 1].groupby("target_session"):
        day = pd.Timestamp(str(session)).date()
        content = {
            "date": day.isoformat(),
            "predictions": dict(zip(rows["ticker"], rows["predicted_price"], strict=True)),
            "model_mlflow_run_id": rows["mlflow_run_id"].iloc[0],
        }
        _write_json(history / f"{day}.json", content)
    newest = max(history.glob("*.json"), default=None)
    if newest is not None:
        _write_json(folder / "latest_predictions.json", json.loads(newest.read_text()))


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_atomically(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def _read(engine: Engine, table: Any, condition: Any) -> pd.DataFrame:
    query = select(table).where(condition).order_by(*table.primary_key)
    with engine.connect() as connection:
        return copy_out(connection, query)


def _plain_dates(frame: pd.DataFrame) -> pd.DataFrame:
    """Replace datetime64 sessions by dates, the type of the tables."""
    return frame.assign(**{name: frame[name].dt.date for name in _SESSIONS if name in frame})
