"""Forecasts, how they came out, and what was decided about models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
from sqlalchemy import Engine, and_, func, select, text, update
from sqlalchemy.dialects.postgresql import distinct_on, insert

from stock_assets.storage.database import Merge, copy_out, replace
from stock_assets.storage.tables import (
    feature_drift,
    model_performance_log,
    model_promotions,
    predictions,
    retraining_decisions,
)

# After a rollback an older version forecasts a session again: equal rows, newly said.
_STAND_AGAIN = text("""
    UPDATE predictions p SET predicted_at = now()
    WHERE p.as_of_session = ANY(:sessions) AND p.model_version = :version AND EXISTS (
        SELECT 1 FROM predictions o
        WHERE (o.as_of_session, o.ticker, o.horizon) = (p.as_of_session, p.ticker, p.horizon)
        AND o.model_version <> p.model_version AND o.predicted_at >= p.predicted_at)
""")
_SESSIONS = ("session", "as_of_session", "target_session")


def save_predictions(
    engine: Engine,
    frame: pd.DataFrame,
    sessions: Sequence[date],
    model_version: int,
    tickers: Sequence[str] | None = None,
    drift: pd.DataFrame | None = None,
) -> Merge:
    """Make the forecasts of one model version as of `sessions` equal to `frame`.

    Forecasts of other versions, and of others than `tickers` if these are given, are kept as
    history; the ones saved here stand from now on. The drift of what the version read, if it was
    measured, is made equal to `drift` in the same transaction.
    """
    scope: dict[str, Sequence[object]] = {
        "as_of_session": list(sessions),
        "model_version": [model_version],
    }
    if tickers is not None:
        scope["ticker"] = list(tickers)
    with engine.begin() as connection:
        saved = replace(connection, predictions, _plain_dates(frame), scope)
        connection.execute(_STAND_AGAIN, {"sessions": list(sessions), "version": model_version})
        if drift is not None:
            measured = {name: scope[name] for name in ("as_of_session", "model_version")}
            replace(connection, feature_drift, _plain_dates(drift), measured)
        return saved


def forecasts_due(engine: Engine, sessions: Sequence[date]) -> pd.DataFrame:
    """Forecasts whose target is one of `sessions`, of every model version."""
    return _read(engine, predictions, predictions.c.target_session.in_(list(sessions)))


def predictions_as_of(engine: Engine, sessions: Sequence[date]) -> pd.DataFrame:
    """Forecasts made as of `sessions`; where several models forecast a ticker, the last one's.

    All horizons of a ticker are of one model: another may have looked further ahead.
    """
    made = predictions.c
    newest = (
        select(made.as_of_session, made.ticker, made.model_version)
        .where(made.as_of_session.in_(list(sessions)))
        .ext(distinct_on(made.as_of_session, made.ticker))
        .order_by(
            made.as_of_session, made.ticker, made.predicted_at.desc(), made.model_version.desc()
        )
        .subquery()
    )
    same = [made[column.name] == column for column in newest.c]
    query = (
        select(predictions)
        .join(newest, and_(*same))
        .order_by(made.as_of_session, made.ticker, made.horizon)
    )
    with engine.connect() as connection:
        return copy_out(connection, query, dates=("as_of_session", "target_session"))


def last_predicted_session(engine: Engine) -> date | None:
    """Newest as-of session that has forecasts."""
    with engine.connect() as connection:
        newest: date | None = connection.scalar(select(func.max(predictions.c.as_of_session)))
        return newest


_SCORED = tuple(
    column.name
    for column in model_performance_log.c
    if column.name not in ("dagster_run_id", "evaluated_at")
)


def save_performance(
    engine: Engine, rows: pd.DataFrame, sessions: Sequence[date], dagster_run_id: str
) -> Merge:
    """Make the performance log of the scored `sessions` equal to `rows`."""
    frame = _plain_dates(rows[list(_SCORED)]).assign(dagster_run_id=dagster_run_id)
    with engine.begin() as connection:
        return replace(connection, model_performance_log, frame, {"session": list(sessions)})


def read_performance(engine: Engine, first: date, last: date) -> pd.DataFrame:
    """Scored forecasts of the sessions `first` to `last`."""
    table = model_performance_log
    return _read(engine, table, table.c.session.between(first, last))


def recent_performance(engine: Engine, sessions: int, model_version: int) -> pd.DataFrame:
    """Scored forecasts of one model version over its newest scored `sessions`."""
    table = model_performance_log
    newest = (
        select(table.c.session)
        .where(table.c.model_version == model_version)
        .distinct()
        .order_by(table.c.session.desc())
        .limit(sessions)
    )
    return _read(
        engine, table, table.c.session.in_(newest) & (table.c.model_version == model_version)
    )


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
    reason: str
    mlflow_run_id: str
    dagster_run_id: str | None = None
    refit_version: int | None = None

    @property
    def promoted_version(self) -> int:
        """The version that production is to be: the refit of the candidate, where there is one."""
        return self.refit_version or self.candidate_version


def save_promotion(engine: Engine, record: PromotionRecord) -> None:
    """Store a promotion decision; the first one about a candidate stands."""
    with engine.begin() as connection:
        connection.execute(
            insert(model_promotions).values(**asdict(record)).on_conflict_do_nothing()
        )


def record_refit(engine: Engine, decided: PromotionRecord, version: int) -> PromotionRecord:
    """Add the refit of a promoted candidate to its decision; returns the row as it is then."""
    table = model_promotions
    columns = [table.c[name] for name in PromotionRecord.__dataclass_fields__]
    statement = (
        update(table)
        .where(
            table.c.dataset_run_id == decided.dataset_run_id,
            table.c.candidate_version == decided.candidate_version,
        )
        .values(refit_version=version)
        .returning(*columns)
    )
    with engine.begin() as connection:
        return PromotionRecord(**connection.execute(statement).mappings().one())


def promotion_of(
    engine: Engine, dataset_id: str, candidate_version: int | None = None
) -> PromotionRecord | None:
    """Read the decision about a candidate of a dataset (the last one, if none is named)."""
    for record in promotions(engine):
        wanted = candidate_version in (None, record.candidate_version)
        if wanted and record.dataset_run_id == dataset_id:
            return record
    return None


def promotions(engine: Engine, *, promoted_only: bool = False) -> list[PromotionRecord]:
    """Promotion decisions, the last one made first."""
    table = model_promotions
    columns = [table.c[name] for name in PromotionRecord.__dataclass_fields__]
    query = select(*columns).order_by(table.c.decided_at.desc(), table.c.candidate_version.desc())
    if promoted_only:
        query = query.where(table.c.promoted)
    with engine.connect() as connection:
        return [PromotionRecord(**row) for row in connection.execute(query).mappings()]


@dataclass(frozen=True)
class RetrainingRecord:
    """A row of ``retraining_decisions``."""

    session: date
    retrain: bool
    breaches: list[str]
    reason: str
    metrics: dict[str, Any] | None
    dataset_run_id: str | None


def record_retraining_decision(engine: Engine, record: RetrainingRecord) -> RetrainingRecord:
    """Store the decision of a session; returns the one that stands.

    A decision to retrain stands for good. Any other gives way to a later one about the same
    session, whose scores may have been completed or corrected since.
    """
    table, row = retraining_decisions, asdict(record)
    columns = [table.c[name] for name in RetrainingRecord.__dataclass_fields__]
    statement = insert(table).values(**row)
    values = {name: statement.excluded[name] for name in row if name != "session"}
    with engine.begin() as connection:
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["session"], set_=values, where=~table.c.retrain
            )
        )
        query = select(*columns).where(table.c.session == record.session)
        return RetrainingRecord(**connection.execute(query).mappings().one())


def pending_retraining(engine: Engine) -> RetrainingRecord | None:
    """Newest decision to retrain whose dataset has no promotion decision yet."""
    table, decided = retraining_decisions, model_promotions.c.dataset_run_id
    columns = [table.c[name] for name in RetrainingRecord.__dataclass_fields__]
    query = (
        select(*columns)
        .where(table.c.retrain, table.c.dataset_run_id.not_in(select(decided)))
        .order_by(table.c.session.desc())
        .limit(1)
    )
    with engine.connect() as connection:
        row = connection.execute(query).mappings().one_or_none()
        return None if row is None else RetrainingRecord(**row)


def last_retraining_session(engine: Engine) -> date | None:
    """Session of the newest decision to retrain."""
    query = select(func.max(retraining_decisions.c.session)).where(retraining_decisions.c.retrain)
    with engine.connect() as connection:
        newest: date | None = connection.scalar(query)
        return newest


def retraining_decisions_newest_first(engine: Engine) -> list[RetrainingRecord]:
    """Every retraining decision, newest session first."""
    table = retraining_decisions
    columns = [table.c[name] for name in RetrainingRecord.__dataclass_fields__]
    with engine.connect() as connection:
        rows = connection.execute(select(*columns).order_by(table.c.session.desc())).mappings()
        return [RetrainingRecord(**row) for row in rows]


def write_forecast_files(folder: Path, frame: pd.DataFrame) -> None:
    """Write ``historical/{date}.json`` per target session and ``latest_predictions.json``.

    They hold what was said one session ahead: the forecast that stands for a session when it opens.
    Each file appears whole or not at all. The latest file follows the newest target session, so
    that forecasts made for the past never replace it.

    Parameters
    ----------
    folder : Path
        Where the files go; created when missing.
    frame : DataFrame
        Forecasts with the columns of ``predictions``.
    """
    history = folder / "historical"
    history.mkdir(parents=True, exist_ok=True)
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
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    partial.replace(path)


def _read(engine: Engine, table: Any, condition: Any) -> pd.DataFrame:
    dates = [name for name in _SESSIONS if name in table.c]
    query = select(table).where(condition).order_by(*table.primary_key)
    with engine.connect() as connection:
        return copy_out(connection, query, dates=dates)


def _plain_dates(frame: pd.DataFrame) -> pd.DataFrame:
    """Replace datetime64 sessions by dates, as the tables hold them."""
    return frame.assign(**{name: frame[name].dt.date for name in _SESSIONS if name in frame})
