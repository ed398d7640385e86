"""A dataset as of a session: feature panel, scalers and segments."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from stock_assets.config import Params
from stock_assets.core.locations import find_locations
from stock_assets.core.text import write_atomically
from stock_assets.datasets.ids import dataset_as_of
from stock_assets.defs.checks import enforce_checks, require_dataset_passed, require_passed
from stock_assets.defs.dataset.checks import (
    PANEL_SPECS,
    SCALER_SPECS,
    causal,
    complete,
    fit_on_train_only,
)
from stock_assets.defs.metadata import (
    PER_DATASET,
    describe_table,
    feature_lineage,
    head_metadata,
    plain_metadata,
    table_columns,
)
from stock_assets.defs.partitions import session_key
from stock_assets.defs.resources import Store
from stock_assets.storage import tables
from stock_assets.storage.datasets import (
    PanelRecord,
    load_scalers,
    save_panel,
    save_scalers,
    save_segments,
)
from stock_assets.storage.prices import read_bars
from stock_assets.storage.renames import apply_renames

if TYPE_CHECKING:
    from stock_assets.features.dataset import FeatureSet
    from stock_assets.features.panel import Panel


class PanelConfig(dg.Config):
    """Settings of the panel that a run may change."""

    known_at: str | None = Field(
        None,
        description="Read the prices as they were known at this moment, such as "
        "2026-11-30T21:00:00Z; by default at the recorded one if the dataset exists, else now",
    )


@dg.asset(
    **PER_DATASET,
    group_name="dataset",
    kinds={"pandas", "numpy", "postgres"},
    code_version="3",
    metadata=describe_table(tables.processed_feature_data),
    deps=[dg.AssetDep("raw_prices", partition_mapping=dg.AllPartitionMapping())],
    description=(
        "The (sessions × tickers × features) panel and its labels, from the bars known at the "
        "as-of session in the dataset's id, as they were known at a recorded moment. Adjusted "
        "as of that session. Warm-up and missing bars are masked, never filled."
    ),
    check_specs=PANEL_SPECS,
)
def processed_features(
    context: dg.AssetExecutionContext,
    config: PanelConfig,
    params: dg.ResourceParam[Params],
    store: dg.ResourceParam[Store],
) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
    """Build, check and store the panel of a dataset."""
    from stock_assets.datasets.build import build_panel
    from stock_assets.datasets.checks import check_completeness, check_look_ahead
    from stock_assets.datasets.rebuild import choose_known_at
    from stock_assets.features.dataset import build_feature_set

    as_of, first = dataset_as_of(context.partition_key), params.prices.first_session
    # Earlier sessions are not checked: a bar that broke a rule is in quarantine, and masked.
    require_passed(store, {"raw_prices": [session_key(as_of)]})
    apply_renames(store.engine, params.prices.renames, context.run.run_id)
    known_at = choose_known_at(store.engine, context.partition_key, params.prices, config.known_at)
    bars = read_bars(store.engine, first, as_of, params.prices.tickers, known_at)
    built = build_feature_set(
        bars, params.features, params.dataset, first, as_of, params.walk_forward
    )
    checks = [
        complete(check_completeness(built, params)),
        causal(check_look_ahead(built, params)),
    ]
    yield from enforce_checks(context, store, checks)
    record = build_panel(
        context.partition_key, as_of, built, params, store.arrays, known_at=known_at
    )
    save_panel(store.engine, record, context.run.run_id)
    plots = _write_plots(context.partition_key, built.panel)
    yield dg.MaterializeResult(
        data_version=dg.DataVersion(record.digest),
        metadata=_panel_metadata(record, built)
        | {"plots": dg.MetadataValue.path(plots)}
        | head_metadata(store.engine),
    )


@dg.asset(
    **PER_DATASET,
    group_name="dataset",
    kinds={"numpy", "postgres"},
    code_version="3",
    metadata=describe_table(tables.scalers),
    deps=[processed_features],
    description=(
        "Scaling per ticker and feature, fitted on the training sessions only and stored as "
        "numbers. A ticker with too few rows takes the pooled scaler."
    ),
    check_specs=SCALER_SPECS,
)
def scalers(
    context: dg.AssetExecutionContext, store: dg.ResourceParam[Store]
) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
    """Fit, check and store the scalers of a dataset."""
    from stock_assets.datasets.build import build_scalers, recorded_params
    from stock_assets.datasets.checks import scalers_look_ahead
    from stock_assets.datasets.rebuild import open_panel

    require_passed(store, {"processed_features": [context.partition_key]})
    record = open_panel(store.engine, store.arrays, context.partition_key)
    fitted = build_scalers(record, store.arrays)
    features, target = fitted.features, fitted.target
    check = fit_on_train_only(scalers_look_ahead(record, store.arrays, fitted))
    yield from enforce_checks(context, store, [check])
    save_scalers(
        store.engine,
        record.dataset_run_id,
        features.to_dict(),
        target.to_dict(),
        fitted.digest,
        context.run.run_id,
    )
    pooled = [t for t, shared in zip(record.tickers, features.pooled, strict=True) if shared]
    window = recorded_params(record).dataset.window
    yield dg.MaterializeResult(
        data_version=dg.DataVersion(fitted.digest),
        metadata=plain_metadata(
            dataset_run_id=record.dataset_run_id,
            as_of_session=record.as_of_session,
            kind=features.kind,
            target_kind=target.kind,
            training_sessions=len(fitted.split.train) + window - 1,
            rows_per_ticker=dg.MetadataValue.json(
                dict(zip(record.tickers, features.rows.tolist(), strict=True))
            ),
            pooled_tickers=", ".join(pooled) or "none",
            digest=fitted.digest,
            **head_metadata(store.engine),
        ),
    )


@dg.asset(
    **PER_DATASET,
    group_name="dataset",
    kinds={"numpy", "postgres"},
    code_version="4",
    metadata=describe_table(tables.scaled_feature_sets),
    deps=[processed_features, scalers],
    description=(
        "The train, validation and test segments of the scaled panel, with a purge gap between "
        "them. Windows are cut from the panel's memory-mapped file and scaled batch by batch: "
        "no scaled copy and no window is stored."
    ),
)
def scaled_features(
    context: dg.AssetExecutionContext, store: dg.ResourceParam[Store]
) -> dg.MaterializeResult:
    """Define the segments, and take the digest of what can be read in them."""
    from stock_assets.datasets.build import build_segments
    from stock_assets.datasets.rebuild import open_panel
    from stock_assets.features.scaling import Scaler

    require_dataset_passed(store, context.partition_key)
    record = open_panel(store.engine, store.arrays, context.partition_key)
    features, target = map(Scaler.from_dict, load_scalers(store.engine, context.partition_key))
    segments = build_segments(record, features, target, store.arrays)
    save_segments(store.engine, context.partition_key, segments, context.run.run_id)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(segments[0].digest),
        metadata=plain_metadata(
            dataset_run_id=record.dataset_run_id,
            as_of_session=record.as_of_session,
            **{
                segment.set_name: f"{segment.first_session} to {segment.last_session} "
                f"({segment.last_position - segment.first_position + 1} windows)"
                for segment in segments
            },
            purge_sessions=segments[0].purge_sessions,
            digest=segments[0].digest,
            **head_metadata(store.engine),
        )
        | {"dagster/row_count": len(segments)},
    )


def _write_plots(dataset_id: str, panel: "Panel") -> Path:
    """Write the page of figures of a panel, and return its path."""
    from stock_assets.reporting.page import page
    from stock_assets.reporting.training_figures import validity_figure

    masked = int((~panel.valid).sum())
    summary = f"{masked:,} of {panel.valid.size:,} rows (session, ticker) are masked."
    figure = validity_figure(panel.valid, panel.sessions, panel.tickers)
    path = find_locations().reports_folder / "datasets" / f"{dataset_id}.html"
    write_atomically(path, page(f"Dataset {dataset_id}", summary, [figure]))
    return path


def _panel_metadata(record: PanelRecord, built: "FeatureSet") -> dict[str, Any]:
    from stock_assets.features.indicators import find_feature

    panel = built.panel
    valid = panel.valid.sum(axis=0).tolist()
    return plain_metadata(
        dataset_run_id=record.dataset_run_id,
        as_of_session=record.as_of_session,
        first_session=record.first_session,
        last_session=record.last_session,
        bars=record.bars,
        bars_digest=record.bars_digest,
        known_at=record.known_at,
        tickers=", ".join(record.tickers),
        features=len(record.features),
        basis=record.basis,
        target=record.target,
        digest=record.digest,
        location=record.location,
        build_environment=record.build_environment,
        valid_sessions=dg.MetadataValue.json(dict(zip(panel.tickers, valid, strict=True))),
        feature_names=dg.MetadataValue.md(", ".join(f"`{name}`" for name in panel.features)),
        features_represented_by=dg.MetadataValue.json(built.dropped_features),
    ) | {
        "dagster/row_count": sum(valid),
        "dagster/column_schema": dg.TableSchema(
            [
                *table_columns(tables.processed_feature_data),
                *(
                    dg.TableColumn(name, "float32", description=find_feature(name).describe())
                    for name in panel.features
                ),
            ]
        ),
        "dagster/column_lineage": feature_lineage(panel.features, record.basis),
    }
