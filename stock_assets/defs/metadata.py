"""Shared parts of assets: owners, tags, partitions, configuration, catalogue metadata."""

import warnings
from collections.abc import Iterable
from datetime import date
from typing import Any, TypedDict, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

import dagster as dg
import pandas as pd
from pydantic import Field
from sqlalchemy import Engine, Table

from stock_assets.config.section import Section
from stock_assets.defs.partitions import DATE_FORMAT, datasets
from stock_assets.market.bars import content_digest
from stock_assets.storage.record import head
from stock_assets.storage.record_faults import KnownHead

# Stable in use, yet announced as beta at every load (dagster 1.13).
warnings.filterwarnings("ignore", "Parameter `backfill_policy`", dg.BetaWarning)

OWNERS = ["team:forecasting"]

RECORD_LINK, RECORD_DIGEST = "record_link", "record_digest"
"""Metadata of materializations: the newest link of the record at the time, and its digest."""

USER_TAG = "user"
"""Tag of a run: the user who started it. Commands set it; Dagster's UI has no users."""

_READ_EVENTS = 1000
"""Materializations that are read of each asset; after a backfill many name the same link."""


class AssetSettings(TypedDict):
    """Settings that assets with the same partitions share."""

    partitions_def: dg.PartitionsDefinition
    backfill_policy: dg.BackfillPolicy | None
    owners: list[str]
    tags: dict[str, str]


PER_DATASET: AssetSettings = {
    "partitions_def": datasets,
    "backfill_policy": None,
    "owners": OWNERS,
    "tags": {"cadence": "on_breach", "domain": "model"},
}
"""Settings of the assets with one partition per dataset."""


def daily(days: dg.TimeWindowPartitionsDefinition) -> AssetSettings:
    """Return the settings of the assets with one partition per trading day."""
    return {
        "partitions_def": days,
        "backfill_policy": dg.BackfillPolicy.single_run(),
        "owners": OWNERS,
        "tags": {"cadence": "daily", "domain": "market"},
    }


SectionT = TypeVar("SectionT", bound=Section)


def parameter(section: Section, name: str) -> Any:
    """Return a field of an asset's configuration: default and description of a parameter."""
    description = type(section).model_fields[name].description
    return Field(default=getattr(section, name), description=description)


def configured(section: SectionT, config: dg.Config, *leave_out: str) -> SectionT:
    """Return a section of the parameters with the values of a run's configuration."""
    chosen = config.model_dump(exclude=set(leave_out))
    return type(section).model_validate(section.model_dump() | chosen)


def describe_table(table: Table) -> dict[str, Any]:
    """Return a table's name and columns as the catalogue shows them."""
    return {
        "dagster/table_name": f"stock_assets.public.{table.name}",
        "dagster/column_schema": dg.TableSchema(table_columns(table)),
    }


def table_columns(table: Table) -> list[dg.TableColumn]:
    """Return the columns of a table, with the types and descriptions of its definition."""
    return [
        dg.TableColumn(
            column.name,
            str(column.type).lower(),
            description=column.doc,
            constraints=dg.TableColumnConstraints(nullable=bool(column.nullable)),
        )
        for column in table.columns
    ]


def feature_lineage(features: Iterable[str], basis: str) -> dg.TableColumnLineage:
    """Return which columns of ``raw_prices`` each feature is computed from, given the basis."""
    from stock_assets.features.indicators import price_columns

    prices = dg.AssetKey("raw_prices")
    return dg.TableColumnLineage(
        {
            name: [dg.TableColumnDep(prices, column) for column in price_columns(name, basis)]
            for name in features
        }
    )


def add_session_metadata(
    context: dg.AssetExecutionContext, stored: pd.DataFrame, column: str
) -> None:
    """Add to each partition its number of rows and their digest.

    Dagster gives all partitions of a run the data version of the whole run. The digest is the data
    version of a run of the partition alone.

    Parameters
    ----------
    context : AssetExecutionContext
    stored : DataFrame
        The stored rows of all sessions of the run.
    column : str
        The column with the session.
    """
    for key, rows in stored.groupby(stored[column].dt.strftime(DATE_FORMAT)):
        context.add_asset_metadata(
            {"dagster/row_count": len(rows), "digest": content_digest(rows)},
            partition_key=str(key),
        )


def head_metadata(engine: Engine) -> dict[str, Any]:
    """Return the newest link of the record, by which `stock-assets verify` finds lost ones."""
    newest = head(engine)
    return {} if newest is None else {RECORD_LINK: newest.number, RECORD_DIGEST: newest.digest}


def known_heads(instance: dg.DagsterInstance) -> list[KnownHead]:
    """Return the links that the newest materializations of each asset name.

    The partitions of one asset, run and link are named together, by the first and the last.
    """
    found: dict[tuple[int, str, str, str], set[str]] = {}
    for asset in instance.get_asset_keys():
        for record in instance.fetch_materializations(asset, limit=_READ_EVENTS).records:
            event = record.asset_materialization
            if event is None or not {RECORD_LINK, RECORD_DIGEST} <= event.metadata.keys():
                continue
            link, digest = (event.metadata[name].value for name in (RECORD_LINK, RECORD_DIGEST))
            if isinstance(link, int) and isinstance(digest, str):
                head = link, digest, record.run_id, asset.to_user_string()
                found.setdefault(head, set()).add(record.partition_key or "")
    return [
        KnownHead(*head, " to ".join(sorted({min(keys), max(keys)})).strip())
        for head, keys in found.items()
    ]


def sessions_of(context: dg.AssetExecutionContext) -> list[date]:
    """Return the sessions of the partitions of this run, ascending."""
    return sorted(map(date.fromisoformat, context.partition_keys))


def plain_metadata(**values: Any) -> dict[str, Any]:
    """Return metadata under plain names: dates as text, None left out, the rest unchanged."""
    return {
        name: value.isoformat() if isinstance(value, date) else value
        for name, value in values.items()
        if value is not None
    }


def artifact_path(mlflow_run: Any, name: str) -> dg.PathMetadataValue:
    """Return the path of a file in the artifacts of an MLflow run, which the UI can copy."""
    return dg.MetadataValue.path(url2pathname(urlsplit(mlflow_run.get_artifact_uri(name)).path))


def table(frame: pd.DataFrame, limit: int = 50) -> dg.TableMetadataValue:
    """Return the first rows of a frame as a table of the asset page."""
    shown = frame.head(limit)
    records = [
        dg.TableRecord({str(name): _plain(value) for name, value in row.items()})
        for row in shown.to_dict("records")
    ]
    kinds = {"f": "float", "i": "int", "b": "bool"}
    columns = [
        dg.TableColumn(str(name), kinds.get(shown[name].dtype.kind, "string"))
        for name in shown.columns
    ]
    return dg.MetadataValue.table(records, dg.TableSchema(columns))


def _plain(value: Any) -> str | int | float | bool | None:
    """Return a cell as the asset page can show it; NaN becomes an empty cell."""
    value = value.item() if hasattr(value, "item") else value
    if value is None or value != value:
        return None
    if isinstance(value, bool | int | str):
        return value
    return float(f"{value:.6g}") if isinstance(value, float) else str(value)
