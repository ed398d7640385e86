"""Records of datasets: panel, scalers, segments and tuned hyperparameters."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any

import pandas as pd
from sqlalchemy import (
    Connection,
    Engine,
    Integer,
    RowMapping,
    ScalarSelect,
    Table,
    func,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import distinct_on, insert

from stock_assets.core.errors import StockAssetsError
from stock_assets.market.calendar import next_session
from stock_assets.storage.database import replace
from stock_assets.storage.record import recording
from stock_assets.storage.tables import (
    model_promotions,
    optimization_results,
    price_revisions,
    processed_feature_data,
    raw_stock_data,
    scaled_feature_sets,
    scalers,
    ticker_renames,
)


@dataclass(frozen=True)
class PanelRecord:
    """A row of ``processed_feature_data``: the panel of a dataset and what it was built from."""

    dataset_run_id: str
    as_of_session: date
    first_session: date
    last_session: date
    bars: int
    tickers: list[str]
    features: list[str]
    basis: str
    adjustment_factors: dict[str, dict[str, float]]
    target: str
    params: dict[str, Any]
    bars_digest: str
    digest: str
    location: str
    build_environment: dict[str, Any] | None = None
    """From :func:`stock_assets.core.fingerprints.build_environment`; None in older rows."""
    known_at: datetime | None = None
    """The moment whose prices were read; None in older rows, which were not built as of one."""


@dataclass(frozen=True)
class SegmentRecord:
    """A row of ``scaled_feature_sets``: one segment, by the last sessions of its windows."""

    set_name: str
    first_session: date
    last_session: date
    first_position: int
    last_position: int
    purge_sessions: int
    digest: str


def save_panel(engine: Engine, record: PanelRecord, dagster_run_id: str | None = None) -> None:
    """Store or replace the record of a dataset's panel.

    ``created_at`` becomes the current time if the panel was built from other rows than before.
    """
    stored = processed_feature_data.c
    with recording(engine, dagster_run_id) as connection:
        connection.execute(
            update(processed_feature_data)
            .where(stored.dataset_run_id == record.dataset_run_id)
            .where(stored.bars_digest != record.bars_digest)
            .values(created_at=func.record_time())
        )
        _upsert(connection, processed_feature_data, asdict(record))


def load_panel(engine: Engine, dataset_id: str) -> PanelRecord:
    """Read the record of a dataset's panel.

    Raises
    ------
    StockAssetsError
        There is no such dataset.
    """
    record = find_panel(engine, dataset_id)
    if record is None:
        raise _unknown(engine, processed_feature_data, dataset_id)
    return record


def find_panel(engine: Engine, dataset_id: str) -> PanelRecord | None:
    """Read the record of a dataset's panel; None without one."""
    panels = processed_feature_data.c
    query = select(*(panels[name] for name in PanelRecord.__dataclass_fields__))
    with engine.connect() as connection:
        row = connection.execute(query.where(panels.dataset_run_id == dataset_id)).one_or_none()
    return None if row is None else PanelRecord(**row._mapping)


def save_scalers(
    engine: Engine,
    dataset_id: str,
    features: Mapping[str, Any],
    target: Mapping[str, Any],
    digest: str,
    dagster_run_id: str | None = None,
) -> None:
    """Store the feature and target scalers of a dataset as numbers."""
    row = {
        "dataset_run_id": dataset_id,
        "features": dict(features),
        "target": dict(target),
        "digest": digest,
    }
    with recording(engine, dagster_run_id) as connection:
        _upsert(connection, scalers, row)


def load_scalers(engine: Engine, dataset_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the feature and target scalers of a dataset."""
    row = _row(engine, scalers, dataset_id)
    return row["features"], row["target"]


def scaler_summary(engine: Engine, dataset_id: str) -> dict[str, str] | None:
    """Read ``kind``, ``target_kind`` and ``digest`` of a dataset's scalers; None without any."""
    query = select(
        scalers.c.features["kind"].astext.label("kind"),
        scalers.c.target["kind"].astext.label("target_kind"),
        scalers.c.digest,
    ).where(scalers.c.dataset_run_id == dataset_id)
    with engine.connect() as connection:
        row = connection.execute(query).mappings().one_or_none()
        return None if row is None else dict(row)


def save_segments(
    engine: Engine,
    dataset_id: str,
    segments: Sequence[SegmentRecord],
    dagster_run_id: str | None = None,
) -> None:
    """Replace the segments of a dataset."""
    rows = pd.DataFrame([asdict(segment) for segment in segments]).assign(dataset_run_id=dataset_id)
    with recording(engine, dagster_run_id) as connection:
        replace(connection, scaled_feature_sets, rows, {"dataset_run_id": [dataset_id]})


def load_segments(engine: Engine, dataset_id: str) -> dict[str, SegmentRecord]:
    """Read the segments of a dataset by name: train, validation, test."""
    found = segments_of(engine, dataset_id)
    if not found:
        raise _unknown(engine, scaled_feature_sets, dataset_id)
    return {segment.set_name: segment for segment in found}


def segments_of(engine: Engine, dataset_id: str) -> list[SegmentRecord]:
    """Read the segments of a dataset in order of time; an empty list before they are built."""
    table = scaled_feature_sets
    columns = [table.c[name] for name in SegmentRecord.__dataclass_fields__]
    query = select(*columns).where(table.c.dataset_run_id == dataset_id)
    with engine.connect() as connection:
        rows = connection.execute(query.order_by(table.c.first_position)).mappings()
        return [SegmentRecord(**row) for row in rows]


def save_tuning(
    engine: Engine,
    dataset_id: str,
    best_params: Mapping[str, Any],
    best_value: float,
    trials: Sequence[Mapping[Any, Any]],
    settings: Mapping[str, Any] | None = None,
    dagster_run_id: str | None = None,
) -> None:
    """Store the best hyperparameters of a dataset and every trial of the study."""
    row = {
        "dataset_run_id": dataset_id,
        "best_params": dict(best_params),
        "best_value": best_value,
        "trials": list(trials),
        "settings": None if settings is None else dict(settings),
    }
    with recording(engine, dagster_run_id) as connection:
        _upsert(connection, optimization_results, row)


def load_tuning(engine: Engine, dataset_id: str) -> dict[str, Any]:
    """Read the best hyperparameters of a dataset."""
    best: dict[str, Any] = _row(engine, optimization_results, dataset_id)["best_params"]
    return best


def previous_best_params(engine: Engine, as_of: date, test_begins: date) -> dict[str, Any] | None:
    """Read the best hyperparameters of the newest dataset tuned as of an earlier session.

    None without one whose validation labels end before the test segment of the present dataset.

    Parameters
    ----------
    engine : Engine
        The ``stock_assets`` database.
    as_of, test_begins : date
        Of the present dataset: its as-of session, and the first window end of its test segment.
    """
    panels, tuned, segments = processed_feature_data, optimization_results, scaled_feature_sets
    horizon = panels.c.params["dataset"]["prediction_length"].astext.cast(Integer)
    query = (
        select(tuned.c.best_params, segments.c.last_session, horizon)
        .join(panels, panels.c.dataset_run_id == tuned.c.dataset_run_id)
        .join(segments, segments.c.dataset_run_id == tuned.c.dataset_run_id)
        .where(panels.c.as_of_session < as_of, segments.c.set_name == "validation")
        .order_by(panels.c.as_of_session.desc(), panels.c.dataset_run_id.desc())
    )
    with engine.connect() as connection:
        for best, last, ahead in connection.execute(query):
            if next_session(last, ahead or 1) <= test_begins:
                found: dict[str, Any] = best
                return found
    return None


def newest_labels(engine: Engine, dataset_ids: Collection[str]) -> dict[str, date]:
    """Return the newest label that the candidate of each dataset was trained on.

    It is the last of the train segment. Without segments on record it is the as-of session:
    everything up to it counts as seen. An unknown dataset is left out.
    """
    return _last_labels(engine, dataset_ids, "train")


def newest_seen_labels(engine: Engine, dataset_ids: Collection[str]) -> dict[str, date]:
    """Return the newest label on which each dataset's candidate was trained, chosen or calibrated.

    It is the last of the validation segment; otherwise see :func:`newest_labels`.
    """
    return _last_labels(engine, dataset_ids, "validation")


def _last_labels(engine: Engine, dataset_ids: Collection[str], segment: str) -> dict[str, date]:
    panels, segments = processed_feature_data, scaled_feature_sets
    query = (
        select(
            panels.c.dataset_run_id,
            panels.c.as_of_session,
            panels.c.params["dataset"]["prediction_length"].astext.cast(Integer),
            segments.c.last_session,
        )
        .join(
            segments,
            (segments.c.dataset_run_id == panels.c.dataset_run_id)
            & (segments.c.set_name == segment),
            isouter=True,
        )
        .where(panels.c.dataset_run_id.in_(list(dataset_ids)))
    )
    with engine.connect() as connection:
        return {
            dataset: as_of if last is None else next_session(last, horizon or 1)
            for dataset, as_of, horizon, last in connection.execute(query)
        }


def list_datasets(engine: Engine) -> list[dict[str, Any]]:
    """List the datasets, newest first, each with the newest decision about its candidate."""
    panels, decided = processed_feature_data, model_promotions
    newest = (
        select(decided.c.dataset_run_id, decided.c.candidate_version, decided.c.promoted)
        .ext(distinct_on(decided.c.dataset_run_id))
        .order_by(
            *(decided.c.dataset_run_id, decided.c.candidate_version.desc()),
            decided.c.last_session.desc(),
        )
        .subquery()
    )
    query = (
        select(
            panels.c.dataset_run_id,
            panels.c.as_of_session,
            panels.c.first_session,
            panels.c.bars,
            func.jsonb_array_length(panels.c.tickers).label("tickers"),
            func.jsonb_array_length(panels.c.features).label("features"),
            panels.c.created_at,
            newest.c.candidate_version,
            newest.c.promoted,
        )
        .outerjoin(newest, newest.c.dataset_run_id == panels.c.dataset_run_id)
        .order_by(panels.c.dataset_run_id.desc())
    )
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def created_at(engine: Engine, dataset_id: str) -> datetime:
    """Return when a dataset was first built from its rows."""
    moment: datetime = _row(engine, processed_feature_data, dataset_id)["created_at"]
    return moment


def revised_since(engine: Engine, record: PanelRecord) -> Sequence[RowMapping]:
    """Read the revisions of a dataset's bars since they were read, in the order of writing."""
    revisions = price_revisions.c
    query = (
        select(price_revisions)
        .where(
            revisions.revised_at > _read_at(record),
            revisions.session.between(record.first_session, record.as_of_session),
            revisions.ticker.in_(record.tickers),
        )
        .order_by(revisions.id)
    )
    with engine.connect() as connection:
        return connection.execute(query).mappings().all()


def bars_stored_since(engine: Engine, record: PanelRecord, first: date) -> Sequence[RowMapping]:
    """Read the bars from `first` on that were stored since those of a dataset were read."""
    bars = raw_stock_data.c
    query = (
        select(bars.ticker, bars.session, bars.fetched_at)
        .where(
            bars.fetched_at > _read_at(record),
            bars.session.between(first, record.as_of_session),
            bars.ticker.in_(record.params["prices"]["tickers"]),
        )
        .order_by(bars.session, bars.ticker)
    )
    with engine.connect() as connection:
        return connection.execute(query).mappings().all()


def renamed_since(engine: Engine, record: PanelRecord) -> Sequence[RowMapping]:
    """Read the renames of a dataset's tickers applied since its bars were read."""
    renames = ticker_renames.c
    named = renames.old_ticker.in_(record.tickers) | renames.new_ticker.in_(record.tickers)
    query = select(ticker_renames).where(renames.applied_at > _read_at(record), named)
    with engine.connect() as connection:
        return connection.execute(query.order_by(renames.applied_at)).mappings().all()


def _read_at(record: PanelRecord) -> ScalarSelect[Any]:
    """Select the moment whose prices a dataset was built from; where unknown, its build time."""
    panels = processed_feature_data.c
    created = select(func.coalesce(panels.known_at, panels.created_at)).where(
        panels.dataset_run_id == record.dataset_run_id
    )
    return created.scalar_subquery()


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
        f"The newest there are {known}" if known else "Build one: stock-assets retrain",
    )
