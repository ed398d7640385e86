"""Promotion and retraining decisions, and the model versions that they are about."""

from __future__ import annotations

from datetime import date
from operator import eq, ge, le
from typing import Any

from sqlalchemy import (
    Engine,
    Integer,
    Select,
    Subquery,
    and_,
    case,
    cast,
    false,
    func,
    null,
    or_,
    select,
    true,
    union_all,
)

from stock_assets.storage.forecasts import (
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
    retraining_decisions,
)

PROMOTION_ORDER = ("decided_at", "candidate_version")
"""The columns that promotions are ordered by, the last decision first."""

_DECIDED = model_promotions.c
_RETRAIN = retraining_decisions.c
_NUMBERS = (_DECIDED.candidate_version, _DECIDED.refit_version)


def list_promotions(
    engine: Engine,
    dataset_run_id: str | None,
    promoted: bool | None,
    size: int,
    after: Position | None = None,
) -> list[Row]:
    """List promotion decisions, the last one first; ``decision`` and ``reason`` as of a record."""
    wanted = conditions(
        (_DECIDED.dataset_run_id, eq, dataset_run_id), (_DECIDED.promoted, eq, promoted)
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


def list_models(
    engine: Engine,
    dataset_run_id: str | None,
    promoted: bool | None,
    size: int,
    after: Position | None = None,
) -> list[Row]:
    """List the model versions that a decision was made about, and their refits, newest first.

    Each with ``model_version``, ``refit_of``, the dataset and MLflow run it comes from, whether it
    was promoted and when, whether it is in production by the history of production, and the first
    and the last as-of session that it forecast.
    """
    versions = _versions().subquery()
    wanted = conditions(
        (versions.c.dataset_run_id, eq, dataset_run_id), (versions.c.promoted, eq, promoted)
    )
    query = _with_forecasts(versions).where(*wanted)
    return read_page(engine, query, [versions.c.model_version.desc()], size, after)


def find_model(engine: Engine, model_version: int) -> Row | None:
    """Read the row of one version in :func:`list_models`; None when no decision names it."""
    versions = _versions().subquery()
    query = _with_forecasts(versions).where(versions.c.model_version == model_version)
    return next(iter(read_rows(engine, query)), None)


def find_promotion(engine: Engine, model_version: int) -> Row | None:
    """Read the decision about a version, or about the one that it is a refit of."""
    named = or_(*(column == model_version for column in _NUMBERS))
    query = select(model_promotions).where(named)
    rows = read_rows(engine, query)
    return next((_described(row, promotion_record(row)) for row in rows), None)


def _described(row: Row, record: PromotionRecord | RetrainingRecord) -> Row:
    """Add the reason to a row, and the decision as an object."""
    return row | {"decision": record.decision, "reason": record.reason}


def scored_sessions(engine: Engine, model_version: int) -> Row:
    """Count the scored forecasts of a version: ``forecasts``, ``first_session``, ``last_session``.

    They are zero and None where none has come due.
    """
    scored = model_performance_log.c
    query = select(
        func.count().label("forecasts"),
        func.min(scored.session).label("first_session"),
        func.max(scored.session).label("last_session"),
    ).where(scored.model_version == model_version)
    return read_rows(engine, query)[0]


def promotion_in_force(engine: Engine) -> PromotionRecord | None:
    """Read the decision about the version in production; None without a decision or a version."""
    query = select(model_promotions).where(
        _DECIDED.dataset_run_id == dataset_in_force().scalar_subquery(),
        or_(*(column == version_in_force().scalar_subquery() for column in _NUMBERS)),
    )
    return next(map(promotion_record, read_rows(engine, query)), None)


def _versions() -> Select[tuple[object, ...]]:
    """Candidates and refits, a row each; of a promoted candidate the refit goes into production."""
    shared = [
        _DECIDED[name]
        for name in ("model_name", "dataset_run_id", "as_of_session", "mlflow_run_id", "decided_at")
    ]
    candidates = select(
        _DECIDED.candidate_version.label("model_version"),
        cast(null(), Integer).label("refit_of"),
        case((_DECIDED.refit_version.is_(None), _DECIDED.promoted), else_=false()).label(
            "promoted"
        ),
        *shared,
    )
    refits = select(
        _DECIDED.refit_version, _DECIDED.candidate_version, _DECIDED.promoted, *shared
    ).where(_DECIDED.refit_version.is_not(None))
    both = union_all(candidates, refits).subquery()
    in_production = and_(
        both.c.model_version == version_in_force().scalar_subquery(),
        both.c.dataset_run_id == dataset_in_force().scalar_subquery(),
    )
    return select(*both.c, func.coalesce(in_production, false()).label("in_production"))


def _with_forecasts(versions: Subquery[Any]) -> Select[tuple[object, ...]]:
    """Add the first and last as-of session of each version's forecasts."""
    made = predictions.c
    span = (
        select(
            func.min(made.as_of_session).label("first_forecast"),
            func.max(made.as_of_session).label("last_forecast"),
        )
        .where(made.model_version == versions.c.model_version)
        .lateral("span")
    )
    return select(versions, span.c.first_forecast, span.c.last_forecast).join(span, true())
