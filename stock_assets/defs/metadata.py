"""What every stage says about itself: owners, tags, partitions and lineage metadata."""

import warnings
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

import dagster as dg

from stock_assets.core.locations import find_locations
from stock_assets.defs.partitions import datasets, key_session, trading_days
from stock_assets.defs.resources import Store

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from stock_assets.features.scaling import Scaler
    from stock_assets.features.splits import Segment
    from stock_assets.models.checkpoint import Checkpoints
    from stock_assets.models.data import TrainingData
    from stock_assets.storage.datasets import PanelRecord, SegmentRecord

# Stable in use, yet announced as beta at every load (dagster 1.13).
warnings.filterwarnings("ignore", "Parameter `backfill_policy`", dg.BetaWarning)

OWNERS = ["team:forecasting"]
SINGLE_RUN = dg.BackfillPolicy.single_run()

DAILY: dict[str, Any] = {
    "partitions_def": trading_days,
    "backfill_policy": SINGLE_RUN,
    "owners": OWNERS,
    "tags": {"cadence": "daily", "domain": "market"},
}
"""Settings of the assets that are made every trading day."""

PER_DATASET: dict[str, Any] = {
    "partitions_def": datasets,
    "owners": OWNERS,
    "tags": {"cadence": "on_breach", "domain": "model"},
}
"""Settings of the assets that are made once per dataset."""


def sessions_of(context: dg.AssetExecutionContext) -> list[date]:
    """Sessions of the partitions of this run, ascending."""
    return sorted(key_session(key) for key in context.partition_keys)


def lineage(**values: Any) -> dict[str, Any]:
    """Metadata under plain names; dates as text, None left out, numbers and texts as they are."""
    return {
        name: value.isoformat() if isinstance(value, date) else value
        for name, value in values.items()
        if value is not None
    }


def table(frame: Any, limit: int = 50) -> dg.TableMetadataValue:
    """First rows of a frame as a table of the asset page."""
    shown = frame.head(limit)
    records = [
        dg.TableRecord({name: _plain(value) for name, value in row.items()})
        for row in shown.to_dict("records")
    ]
    kinds = {"f": "float", "i": "int", "b": "bool"}
    columns = [
        dg.TableColumn(str(name), kinds.get(shown[name].dtype.kind, "string"))
        for name in shown.columns
    ]
    return dg.MetadataValue.table(records, dg.TableSchema(columns))


def _plain(value: Any) -> str | int | float | bool | None:
    """Turn a cell into what the table of the asset page can show."""
    value = value.item() if hasattr(value, "item") else value
    if value is None or value != value:  # NaN is shown as an empty cell
        return None
    if isinstance(value, bool | int | str):
        return value
    return float(f"{value:.6g}") if isinstance(value, float) else str(value)


def plots(figures: "Iterable[Figure]") -> dg.MarkdownMetadataValue:
    """Figures as images of the asset page, below one another.

    Dagster shows a text as long as an image's when its link is clicked: one text, one click.
    """
    from stock_assets.reporting.static_images import render_png

    images = [
        f"![{figure.layout.title.text}](data:image/png;base64,"
        f"{b64encode(render_png(figure)).decode()})"
        for figure in figures
    ]
    return dg.MetadataValue.md("\n\n".join(images))


def verdict(
    name: str, passed: bool, metadata: Mapping[str, Any], description: str
) -> dg.AssetCheckResult:
    """Give the outcome of a blocking check."""
    return dg.AssetCheckResult(
        check_name=name,
        passed=passed,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata=dict(metadata),
        description=description,
    )


def recorded(
    context: dg.AssetExecutionContext, store: Store, results: Sequence[dg.AssetCheckResult]
) -> list[dg.AssetCheckResult]:
    """Keep what checks found beside the data, where the service reads it, and give it back."""
    from stock_assets.storage.check_results import CheckRecord, save_check_results

    keys = sorted(context.partition_keys)
    records = [
        CheckRecord(
            dagster_run_id=context.run.run_id,
            asset=context.asset_key.to_user_string(),
            check_name=str(result.check_name),
            first_partition=keys[0],
            last_partition=keys[-1],
            passed=result.passed,
            severity="error" if result.severity is dg.AssetCheckSeverity.ERROR else "warning",
            message=str(result.description),
        )
        for result in results
    ]
    save_check_results(store.engine, records)
    return list(results)


def positions(record: "SegmentRecord") -> "Segment":
    """Give the positions of a stored segment."""
    from stock_assets.features.splits import Segment

    return Segment(record.first_position, record.last_position)


def training_data(
    store: Store,
    record: "PanelRecord",
    scalers: "tuple[Scaler, Scaler]",
    train: "Segment",
    validation: "Segment",
) -> "TrainingData":
    """Map the panel of a dataset, to learn from two segments of it."""
    from stock_assets.datasets.build import recorded_params
    from stock_assets.models.data import load_training_data

    path, dataset = store.arrays.local_path(record.location), recorded_params(record).dataset
    return load_training_data(path, dataset, scalers, train, validation)


def checkpoints(store: Store, dataset_id: str) -> "Checkpoints":
    """Say where trainings on a dataset are gone on from if they are killed."""
    from stock_assets.models.checkpoint import Checkpoints
    from stock_assets.storage.datasets import load_segments

    digest = load_segments(store.engine, dataset_id)["train"].digest
    return Checkpoints(find_locations().checkpoints_folder(dataset_id), digest)
