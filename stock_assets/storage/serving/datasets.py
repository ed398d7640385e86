"""Datasets and their tuning results."""

from __future__ import annotations

from datetime import date
from operator import ge, le

from sqlalchemy import Engine, func, select

from stock_assets.storage.serving.paging import Position, Row, conditions, read_page, read_rows
from stock_assets.storage.tables import optimization_results, processed_feature_data

_PANELS = processed_feature_data.c
_TUNED = optimization_results.c


def list_panels(
    engine: Engine,
    as_of_from: date | None,
    as_of_to: date | None,
    size: int,
    after: Position | None = None,
) -> list[Row]:
    """List datasets, the newest id first, without their parameters."""
    chosen = conditions(
        (_PANELS.as_of_session, ge, as_of_from), (_PANELS.as_of_session, le, as_of_to)
    )
    query = select(
        *(
            _PANELS[name]
            for name in (
                *("dataset_run_id", "as_of_session", "first_session", "last_session", "bars"),
                *("basis", "target", "digest", "known_at", "created_at"),
            )
        ),
        func.jsonb_array_length(_PANELS.tickers).label("tickers"),
        func.jsonb_array_length(_PANELS.features).label("features"),
    ).where(*chosen)
    return read_page(engine, query, [_PANELS.dataset_run_id.desc()], size, after)


def find_panel(engine: Engine, dataset_run_id: str) -> Row | None:
    """Read the row of a dataset in ``processed_feature_data``; None without one."""
    query = select(processed_feature_data).where(_PANELS.dataset_run_id == dataset_run_id)
    return next(iter(read_rows(engine, query)), None)


def find_tuning(engine: Engine, dataset_run_id: str) -> Row | None:
    """Read ``best_params``, ``best_value`` and the number of ``trials``; None before tuning."""
    query = select(
        _TUNED.best_params,
        _TUNED.best_value,
        func.jsonb_array_length(_TUNED.trials).label("trials"),
    ).where(_TUNED.dataset_run_id == dataset_run_id)
    return next(iter(read_rows(engine, query)), None)
