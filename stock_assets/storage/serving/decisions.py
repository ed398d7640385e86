"""Promotion and retraining decisions, and the model versions that they are about."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from operator import eq, ge, le
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import (
    Boolean,
    Date,
    DateTime,
    Engine,
    Integer,
    Select,
    and_,
    case,
    cast,
    exists,
    false,
    func,
    null,
    or_,
    select,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql import distinct_on

from stock_assets.evaluation.alarm import AlarmState
from stock_assets.evaluation.production_rule import PERSISTENCE_VERSION
from stock_assets.storage.datasets import newest_labels
from stock_assets.storage.decisions import (
    PromotionRecord,
    RetrainingRecord,
    promotion_record,
    retraining_record,
)
from stock_assets.storage.serving.paging import Position, Row, conditions, read_page, read_rows
from stock_assets.storage.serving.production import dataset_in_force, version_in_force
from stock_assets.storage.tables import (
    model_performance_log,
    model_promotions,
    predictions,
    production_history,
    retraining_decisions,
)

PROMOTION_ORDER = ("decided_at", "candidate_version")
"""The columns that promotions are ordered by, the last decision first."""

MODEL_ORDER = ("model_version", "dataset_run_id", "model_name")
"""The columns that model versions are ordered by, all descending. They identify a version."""

_DECIDED = model_promotions.c
_RETRAIN = retraining_decisions.c
_CHANGES = production_history.c
_NUMBERS = (_DECIDED.candidate_version, _DECIDED.refit_version)
_LAST_FIRST = (_DECIDED.decided_at.desc(), _DECIDED.last_session.desc())
_DATASET = _DECIDED.dataset_run_id


def _last_about(number: Any) -> Any:
    """Select the last decision about each candidate or refit, by the column of its number."""
    return (
        select(model_promotions)
        .where(number.is_not(None))
        .ext(distinct_on(_DATASET, number))
        .order_by(_DATASET, number, _DECIDED.last_session.desc())
        .subquery()
        .c
    )


_CANDIDATES, _REFITS = map(_last_about, _NUMBERS)


def list_promotions(
    engine: Engine,
    dataset_run_id: str | None,
    promoted: bool | None,
    size: int,
    after: Position | None = None,
    *,
    model_name: str | None = None,
) -> list[Row]:
    """List promotion decisions, the last one first; ``decision`` and ``reason`` as of a record."""
    wanted = conditions(
        (_DECIDED.dataset_run_id, eq, dataset_run_id),
        (_DECIDED.promoted, eq, promoted),
        (_DECIDED.model_name, eq, model_name),
    )
    order = [_DECIDED[name].desc() for name in PROMOTION_ORDER]
    query = select(model_promotions).where(*wanted)
    rows = read_page(engine, query, order, size, after)
    return [_described(row, promotion_record(row)) for row in rows]


def list_retrainings(
    engine: Engine,
    retrain: bool | None,
    first: date | None,
    last: date | None,
    size: int,
    after: Position | None = None,
) -> list[Row]:
    """List retraining decisions, newest session first; ``decision``, ``reason`` as of a record."""
    wanted = conditions(
        (_RETRAIN.retrain, eq, retrain), (_RETRAIN.session, ge, first), (_RETRAIN.session, le, last)
    )
    query = select(retraining_decisions).where(*wanted)
    rows = read_page(engine, query, [_RETRAIN.session.desc()], size, after)
    return [_described(row, retraining_record(row)) for row in rows]


def find_retraining(engine: Engine, session: date | None = None) -> Row | None:
    """Read the retraining decision about a session, or the newest; None without one."""
    rows = list_retrainings(engine, None, session, session, 1)
    return rows[0] if rows else None


def list_evidence(engine: Engine, first: date | None) -> list[AlarmPath]:
    """List the paths of evidence that reach a session or a later one, the oldest first.

    A path begins at 0 when a version is put in force and after each retraining. The newest decision
    on it has all of it.
    """
    decision = _RETRAIN.decision
    begin, version = decision["evidence_from"].astext, decision["model_version"].astext
    query = (
        select(_RETRAIN.session, version.cast(Integer).label("version"), decision["alarm"])
        .where(decision["alarm"].astext.is_not(None))
        .where(*conditions((_RETRAIN.session, ge, first)))
        .ext(distinct_on(begin, version))
        .order_by(begin, version, _RETRAIN.session.desc())
    )
    with engine.connect() as connection:
        found = connection.execute(query).all()
    paths = [AlarmPath(version, _ALARM.validate_python(alarm)) for _, version, alarm in found]
    return sorted(paths, key=lambda path: min(path.alarm.path, default=date.max))


@dataclass(frozen=True)
class AlarmPath:
    """The evidence about a version until its newest decision."""

    model_version: int
    alarm: AlarmState


_ALARM = TypeAdapter(AlarmState)


@dataclass(frozen=True)
class ModelFilter:
    """Filter of model versions; a missing part selects all."""

    dataset_run_id: str | None = None
    promoted: bool | None = None
    model_name: str | None = None


def list_models(
    engine: Engine,
    model_name: str,
    wanted: ModelFilter,
    size: int,
    after: Position | None = None,
) -> list[Row]:
    """List the model versions with a decision or ever in force, see :data:`MODEL_ORDER`.

    Parameters
    ----------
    engine : Engine
        The ``stock_assets`` database.
    model_name : str
        The registered model in use. Versions of others are listed, too.
    wanted : ModelFilter
        The filter.
    size : int
        Rows at most.
    after : tuple, optional
        Position of the row before.

    Returns
    -------
    list of rows
        ``model_name``, ``model_version``, ``refit_of``, the dataset and MLflow run it comes from,
        its as-of session, whether it was promoted and when (None without a decision), whether it is
        in production by the history of production, the first and the last as-of session that it
        forecast, and the ``newest_label`` that it was trained on.
    """
    versions = _versions(model_name).subquery().c
    chosen = conditions(*((versions[name], eq, value) for name, value in vars(wanted).items()))
    order = [versions[name].desc() for name in MODEL_ORDER]
    rows = read_page(engine, _with_forecasts(versions).where(*chosen), order, size, after)
    return _with_newest_labels(engine, rows)


def find_model(
    engine: Engine, model_name: str, model_version: int, dataset_run_id: str | None = None
) -> Row | None:
    """Read the row of one version in :func:`list_models`; None where it is not listed.

    Of equal numbers it is the one of the registered model in use, else of the newest dataset.
    """
    versions = _versions(model_name).subquery().c
    named = conditions(
        (versions.model_version, eq, model_version), (versions.dataset_run_id, eq, dataset_run_id)
    )
    order = ((versions.model_name == model_name).desc(), versions.dataset_run_id.desc())
    query = _with_forecasts(versions).where(*named).order_by(*order).limit(1)
    return next(iter(_with_newest_labels(engine, read_rows(engine, query))), None)


def find_promotion(engine: Engine, model: Row) -> Row | None:
    """Read the last decision about a row of :func:`list_models`, or about a refit's candidate."""
    named = or_(*(column == model["model_version"] for column in _NUMBERS))
    same = [_DECIDED[name] == model[name] for name in ("model_name", "dataset_run_id")]
    query = select(model_promotions).where(named, *same).order_by(*_LAST_FIRST)
    rows = read_rows(engine, query)
    return next((_described(row, promotion_record(row)) for row in rows), None)


def _with_newest_labels(engine: Engine, rows: list[Row]) -> list[Row]:
    """Add the newest label of each version: of a refit the as-of session."""
    labels = newest_labels(engine, {row["dataset_run_id"] for row in rows})
    return [
        row
        | {
            "newest_label": labels.get(row["dataset_run_id"], row["as_of_session"])
            if row["refit_of"] is None
            else row["as_of_session"]
        }
        for row in rows
    ]


def _described(row: Row, record: PromotionRecord | RetrainingRecord) -> Row:
    """Add the reason to a row, and the decision as an object."""
    return row | {"decision": record.decision, "reason": record.reason}


def scored_sessions(engine: Engine, model_version: int, dataset_run_id: str | None) -> Row:
    """Count the scored forecasts of a version: ``forecasts``, ``first_session``, ``last_session``.

    They are zero and None where none has come due.
    """
    scored = model_performance_log.c
    query = select(
        func.count().label("forecasts"),
        func.min(scored.session).label("first_session"),
        func.max(scored.session).label("last_session"),
    ).where(scored.model_version == model_version, scored.dataset_run_id == dataset_run_id)
    return read_rows(engine, query)[0]


def promotion_in_force(engine: Engine, model_name: str) -> PromotionRecord | None:
    """Read the last decision about the version in production; None without either."""
    version = version_in_force(model_name).scalar_subquery()
    query = (
        select(model_promotions)
        .where(
            _DECIDED.model_name == model_name,
            _DECIDED.dataset_run_id == dataset_in_force(model_name).scalar_subquery(),
            or_(*(column == version for column in _NUMBERS)),
        )
        .order_by(*_LAST_FIRST)
    )
    return next(map(promotion_record, read_rows(engine, query)), None)


def _versions(model_name: str) -> Select[Any]:
    """Select each version with a decision or ever in force, with the last decision about it.

    Of a promoted candidate with a refit, the refit goes into production.
    """
    names = ("mlflow_run_id", "decided_at")
    candidates = select(
        _CANDIDATES.candidate_version.label("model_version"),
        cast(null(), Integer).label("refit_of"),
        case((_CANDIDATES.refit_version.is_(None), _CANDIDATES.promoted), else_=false()).label(
            "promoted"
        ),
        *(_CANDIDATES.model_name, _CANDIDATES.dataset_run_id, _CANDIDATES.as_of_session),
        *(_CANDIDATES[name] for name in names),
    )
    # The winner of a shadow is refitted as of the last session that decided.
    last = cast(_REFITS.decision["shadow"]["sessions"][-1].astext, Date)
    refits = select(
        *(_REFITS.refit_version, _REFITS.candidate_version, _REFITS.promoted),
        *(_REFITS.model_name, _REFITS.dataset_run_id),
        func.coalesce(case((_REFITS.promoted, last)), _REFITS.as_of_session),
        *(_REFITS[name] for name in names),
    )
    undecided = select(
        _CHANGES.model_version,
        _CHANGES.refit_of,
        cast(null(), Boolean),
        *(_CHANGES.model_name, _CHANGES.dataset_run_id, _CHANGES.from_session),
        *(_CHANGES.mlflow_run_id, cast(null(), DateTime(timezone=True))),
    ).where(
        _CHANGES.model_version != PERSISTENCE_VERSION,
        ~exists().where(
            _DECIDED.model_name == _CHANGES.model_name,
            _DECIDED.dataset_run_id == _CHANGES.dataset_run_id,
            or_(*(column == _CHANGES.model_version for column in _NUMBERS)),
        ),
    )
    every = union_all(candidates, refits, undecided.distinct()).subquery()
    in_production = and_(
        every.c.model_name == model_name,
        every.c.model_version == version_in_force(model_name).scalar_subquery(),
        every.c.dataset_run_id == dataset_in_force(model_name).scalar_subquery(),
    )
    return select(*every.c, func.coalesce(in_production, false()).label("in_production"))


def _with_forecasts(versions: Any) -> Select[Any]:
    """Add the first and last as-of session of each version's forecasts."""
    made = predictions.c
    span = (
        select(
            func.min(made.as_of_session).label("first_forecast"),
            func.max(made.as_of_session).label("last_forecast"),
        )
        .where(
            made.model_version == versions.model_version,
            made.dataset_run_id == versions.dataset_run_id,
        )
        .lateral("span")
    )
    return (
        select(*versions, span.c.first_forecast, span.c.last_forecast)
        .select_from(versions.model_version.table)
        .join(span, true())
    )
