"""Forecasts and their scores."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
from sqlalchemy import Engine, and_, func, select
from sqlalchemy.dialects.postgresql import distinct_on

from stock_assets.core.text import write_atomically
from stock_assets.evaluation.forecast_issues import Role
from stock_assets.evaluation.production_rule import PERSISTENCE_NAME, PERSISTENCE_VERSION
from stock_assets.storage.database import Merge, copy_out, replace
from stock_assets.storage.forecast_issues import Issue, first_live_issues, issue_forecasts
from stock_assets.storage.record import recording
from stock_assets.storage.roles import of_production
from stock_assets.storage.tables import (
    feature_drift,
    model_performance_log,
    predictions,
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
    role: Role = Role.PRODUCTION,
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
        issued = _plain_dates(frame.assign(role=role.value))
        saved = issue_forecasts(connection, issued, scope, facts)
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

    A model in shadow is left out.
    All horizons of a ticker are of one model: another one may forecast further ahead.
    """
    column = predictions.c
    newest = (
        select(column.as_of_session, column.ticker, column.model_version)
        .where(column.as_of_session.in_(list(sessions)), of_production(column))
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


def recent_performance(engine: Engine, sessions: int, key: tuple[str | None, int]) -> pd.DataFrame:
    """Return the scored forecasts of one model version over its newest scored `sessions`.

    Those that it made in shadow are left out. The version is named by dataset and number:
    `ModelVersion.key`. Persistence has no dataset.
    """
    table = model_performance_log
    dataset, version = key
    named = (table.c.model_version == version) & (table.c.dataset_run_id == dataset)
    own = named & of_production(table.c)
    newest = (
        select(table.c.session)
        .where(own)
        .distinct()
        .order_by(table.c.session.desc())
        .limit(sessions)
    )
    return _read(engine, table, table.c.session.in_(newest) & own)


def performance_since(
    engine: Engine, key: tuple[str | None, int], after: date | None
) -> pd.DataFrame:
    """Return the scored forecasts of one model version, one session ahead.

    Those that it made in shadow are left out.

    Parameters
    ----------
    engine : Engine
        The ``stock_assets`` database.
    key : (str or None, int)
        As for :func:`recent_performance`.
    after : date or None
        The session after which to begin; None for the beginning.
    """
    table, (dataset, version) = model_performance_log, key
    own = (table.c.model_version == version) & (table.c.horizon == 1)
    own &= table.c.dataset_run_id.is_not_distinct_from(dataset)
    own &= of_production(table.c)
    return _read(engine, table, own if after is None else own & (table.c.session > after))


def newest_scored_session(engine: Engine) -> date | None:
    """Return the newest session that any version is scored on."""
    with engine.connect() as connection:
        newest: date | None = connection.scalar(select(func.max(model_performance_log.c.session)))
        return newest


def coverage_of(engine: Engine, key: tuple[str | None, int]) -> float | None:
    """Return the nominal coverage of the newest forecast of a version; None without one."""
    table, (dataset, version) = predictions.c, key
    query = (
        select(table.coverage)
        .where(table.model_version == version, table.dataset_run_id.is_not_distinct_from(dataset))
        .order_by(table.as_of_session.desc())
        .limit(1)
    )
    with engine.connect() as connection:
        coverage: float | None = connection.scalar(query)
        return coverage


def shadow_performance(
    engine: Engine, key: tuple[str | None, int]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the scores of a version in shadow, and production's of the same sessions.

    Parameters
    ----------
    engine : Engine
        The ``stock_assets`` database.
    key : (str, int)
        Dataset and number of the version: `ModelVersion.key`.

    Returns
    -------
    DataFrame, DataFrame
        Columns of ``model_performance_log``, one session ahead. Where several versions forecast a
        session in production, it is the one whose scored forecast was issued first: a later run
        must not choose what is compared.
    """
    table = model_performance_log.c
    dataset, version = key
    own = _read(
        engine,
        model_performance_log,
        (table.model_version == version)
        & (table.dataset_run_id == dataset)
        & (table.role == Role.SHADOW.value)
        & (table.horizon == 1),
    )
    days = sorted(set(own["session"].dt.date))
    other = _read(
        engine,
        model_performance_log,
        table.session.in_(days) & (table.horizon == 1) & of_production(table),
    )
    first = other.sort_values("issue", na_position="first").drop_duplicates(["session", "ticker"])
    return own, first.sort_values(["session", "ticker"], ignore_index=True)


def write_forecast_files(folder: Path, frame: pd.DataFrame) -> None:
    """Write ``historical/{date}.json`` per target session and ``latest_predictions.json``.

    The files contain the forecasts one session ahead. Those of persistence say so. Each file is
    replaced atomically. The latest file follows the newest target session: forecasts of the past
    never replace it.

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
        if rows["model_version"].iloc[0] == PERSISTENCE_VERSION:
            content |= {"model": PERSISTENCE_NAME, "model_mlflow_run_id": None}
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
