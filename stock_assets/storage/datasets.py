"""What is known of each dataset: its panel, scalers, stretches and tuned hyperparameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from sqlalchemy import Connection, Engine, Table, delete, select
from sqlalchemy.dialects.postgresql import insert

from stock_assets.errors import StockAssetsError
from stock_assets.storage.tables import (
    optimization_results,
    processed_feature_data,
    scaled_feature_sets,
    scalers,
)


@dataclass(frozen=True)
class PanelRecord:
    """A row of ``processed_feature_data``: what the panel of a dataset was made from."""

    dataset_run_id: str
    as_of_session: date
    first_session: date
    last_session: date
    bars: int
    tickers: list[str]
    features: list[str]
    basis: str
    anchors: dict[str, dict[str, float]]
    target: str
    params: dict[str, Any]
    bars_digest: str
    digest: str
    location: str
    frame_location: str


@dataclass(frozen=True)
class StretchRecord:
    """A row of ``scaled_feature_sets``: one stretch, by the last sessions of its windows."""

    set_name: str
    first_session: date
    last_session: date
    first_position: int
    last_position: int
    purge_sessions: int
    digest: str
    location: str


def save_panel(engine: Engine, record: PanelRecord) -> None:
    """Store the description of a dataset's panel, over an earlier one of the same dataset."""
    with engine.begin() as connection:
        _upsert(connection, processed_feature_data, asdict(record))


def load_panel(engine: Engine, dataset_id: str) -> PanelRecord:
    """Read the description of a dataset's panel.

    Raises
    ------
    StockAssetsError
        There is no such dataset.
    """
    row = _row(engine, processed_feature_data, dataset_id)
    return PanelRecord(**{name: row[name] for name in PanelRecord.__dataclass_fields__})


def save_scalers(
    engine: Engine,
    dataset_id: str,
    features: Mapping[str, Any],
    target: Mapping[str, Any],
    digest: str,
) -> None:
    """Store the feature and target scalers of a dataset as numbers."""
    row = {
        "dataset_run_id": dataset_id,
        "features": dict(features),
        "target": dict(target),
        "digest": digest,
    }
    with engine.begin() as connection:
        _upsert(connection, scalers, row)


def load_scalers(engine: Engine, dataset_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the feature and target scalers of a dataset."""
    row = _row(engine, scalers, dataset_id)
    return row["features"], row["target"]


def save_stretches(engine: Engine, dataset_id: str, stretches: Sequence[StretchRecord]) -> None:
    """Store the stretches of a dataset, in place of earlier ones."""
    table = scaled_feature_sets
    with engine.begin() as connection:
        connection.execute(delete(table).where(table.c.dataset_run_id == dataset_id))
        connection.execute(
            insert(table),
            [{"dataset_run_id": dataset_id, **asdict(stretch)} for stretch in stretches],
        )


def load_stretches(engine: Engine, dataset_id: str) -> dict[str, StretchRecord]:
    """Read the stretches of a dataset by name: train, validation, test."""
    table = scaled_feature_sets
    columns = [table.c[name] for name in StretchRecord.__dataclass_fields__]
    query = select(*columns).where(table.c.dataset_run_id == dataset_id)
    with engine.connect() as connection:
        found = [StretchRecord(**row) for row in connection.execute(query).mappings()]
    if not found:
        raise _unknown(engine, table, dataset_id)
    return {stretch.set_name: stretch for stretch in found}


def save_tuning(
    engine: Engine,
    dataset_id: str,
    best_params: Mapping[str, Any],
    best_value: float,
    trials: Sequence[Mapping[Any, Any]],
) -> None:
    """Store the best hyperparameters of a dataset and every trial of the study."""
    row = {
        "dataset_run_id": dataset_id,
        "best_params": dict(best_params),
        "best_value": best_value,
        "trials": list(trials),
    }
    with engine.begin() as connection:
        _upsert(connection, optimization_results, row)


def load_tuning(engine: Engine, dataset_id: str) -> dict[str, Any]:
    """Read the best hyperparameters of a dataset."""
    best: dict[str, Any] = _row(engine, optimization_results, dataset_id)["best_params"]
    return best


def _upsert(connection: Connection, table: Table, row: Mapping[str, Any]) -> None:
    statement = insert(table).values(**row)
    values = {name: statement.excluded[name] for name in row if name != "dataset_run_id"}
    connection.execute(statement.on_conflict_do_update(index_elements=[table.c[0]], set_=values))


def _row(engine: Engine, table: Table, dataset_id: str) -> Mapping[str, Any]:
    with engine.connect() as connection:
        query = select(table).where(table.c.dataset_run_id == dataset_id)
        row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise _unknown(engine, table, dataset_id)
    return dict(row)


def _unknown(engine: Engine, table: Table, dataset_id: str) -> StockAssetsError:
    query = (
        select(table.c.dataset_run_id).distinct().order_by(table.c.dataset_run_id.desc()).limit(3)
    )
    with engine.connect() as connection:
        known = ", ".join(connection.scalars(query))
    return StockAssetsError(
        f"dataset {dataset_id} has no row in {table.name}",
        f"The newest there are {known}" if known else "Make one: stock-assets retrain",
    )
