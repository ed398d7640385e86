"""Datasets: their content and the models trained on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import date, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import ConfigDict, Field, TypeAdapter
from sqlalchemy import Engine

from stock_assets.config import Basis
from stock_assets.service.api.models import Model, Tuning
from stock_assets.service.api.params import (
    DatasetId,
    Day,
    OptionalParam,
    Page,
    PageParams,
    ResponseModel,
    page_of,
)
from stock_assets.service.app_state import NO_PARAMS, StateDep
from stock_assets.service.problems import NOT_FOUND, not_found
from stock_assets.storage.datasets import scaler_summary, segments_of
from stock_assets.storage.serving.datasets import find_panel, find_tuning, list_panels
from stock_assets.storage.serving.decisions import ModelFilter, list_models

router = APIRouter(tags=["datasets"])

_POSITION: TypeAdapter[tuple[str]] = TypeAdapter(tuple[DatasetId])
_MAX_MODELS = 1000
_DIGEST = "4d3d9e70cef49bc60d5aec61ae0277072fd86d11ef17368fee78c944c878c7e1"


class Panel(ResponseModel):
    """The feature panel of a dataset."""

    dataset_run_id: str = Field(
        description="Id of the dataset: the as-of session and the UTC time of the request.",
        examples=["20121231_120000"],
    )
    as_of_session: date = Field(
        description="Newest session that the dataset may use.", examples=["2012-12-31"]
    )
    first_session: date = Field(description="First session of the panel.", examples=["2010-03-23"])
    last_session: date = Field(description="Last session of the panel.", examples=["2012-12-31"])
    bars: int = Field(description="Number of raw bars used.", examples=[2955])
    basis: Basis = Field(description="Price basis of the features.")
    target: str = Field(description="Predicted quantity.", examples=["log_return"])
    digest: str = Field(description="SHA-256 of the panel.", examples=[_DIGEST])
    known_at: datetime | None = Field(
        description="Moment whose prices were read; null where it was not recorded.",
        examples=["2013-01-01T23:59:00.123456Z"],
    )
    created_at: datetime = Field(
        description="Time of the first build.", examples=["2013-01-02T00:00:00.123456Z"]
    )


class Dataset(Panel):
    """A dataset in a list."""

    tickers: int = Field(description="Number of tickers.", examples=[5])
    features: int = Field(description="Number of features.", examples=[13])


class DatasetPage(Page[Dataset]):
    """Datasets, the newest id first."""


class Segment(ResponseModel):
    """A segment of a dataset; sessions and positions are those at which its windows end."""

    set_name: str = Field(description="`train`, `validation` or `test`.", examples=["train"])
    first_session: date = Field(description="End of the first window.", examples=["2010-05-04"])
    last_session: date = Field(description="End of the last window.", examples=["2012-05-23"])
    first_position: int = Field(
        description="Index of `first_session` in the panel, from 0.", examples=[29]
    )
    last_position: int = Field(description="Index of `last_session` in the panel.", examples=[548])
    purge_sessions: int = Field(description="Sessions skipped between two segments.", examples=[30])
    digest: str = Field(
        description="SHA-256 of the scaled values that the segment reads.", examples=[_DIGEST]
    )


class Scalers(ResponseModel):
    """Scaling of a dataset, fitted on its training sessions only."""

    kind: str = Field(description="Scaling of the features.", examples=["standard"])
    target_kind: str = Field(description="Scaling of the target.", examples=["zero_mean"])
    digest: str = Field(description="SHA-256 of the fitted values.", examples=[_DIGEST])


class BuildEnvironment(ResponseModel):
    """Code and libraries that built a dataset."""

    # Environments of earlier versions lack the processor; answers never do.
    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    package: str = Field(description="Version of this package.", examples=["0.1.0"])
    code: dict[str, str] = Field(
        description="SHA-256 of each source file involved.",
        examples=[{"features/panel.py": _DIGEST}],
    )
    libraries: dict[str, str] = Field(
        description="Versions of Python and of the libraries that can change the result.",
        examples=[{"python": "3.11.9", "numpy": "2.3.5"}],
    )
    processor: str | None = Field(
        None,
        description="Processor and its newest vector instructions; null if not recorded.",
        examples=["x86_64 AVX512_SKX"],
    )


class DatasetDetail(Panel):
    """Everything stored about a dataset, except its arrays."""

    tickers: list[str] = Field(description="Tickers.", examples=[["AAPL", "IBM"]])
    features: list[str] = Field(
        description="Features, in the order of the panel.", examples=[["RSI", "Log_Return"]]
    )
    bars_digest: str = Field(description="SHA-256 of the raw bars used.", examples=[_DIGEST])
    location: str = Field(
        description="Array file, relative to the arrays folder.",
        examples=[f"4d/{_DIGEST}.safetensors"],
    )
    adjustment_factors: dict[str, dict[str, float]] = Field(
        description="Adjustment factors of each ticker at the as-of session.",
        examples=[{"AAPL": {"price": 1.0089, "volume": 1.0}}],
    )
    params: dict[str, Any] = Field(
        description="Parameters of the build, as in params.yaml.",
        examples=[{"dataset": {"window": 30, "target": "log_return"}}],
    )
    build_environment: BuildEnvironment | None = Field(
        description="Null for datasets built before it was recorded."
    )
    scalers: Scalers | None = Field(description="Null before they are fitted.")
    segments: list[Segment] = Field(
        description="Train, validation and test; empty before the dataset is split."
    )
    tuning: Tuning | None = Field(description="Null before tuning.")
    models: list[Model] = Field(
        description="Versions trained on it with a promotion decision, the newest first."
    )


class DatasetsParams(PageParams):
    """Filter of datasets."""

    as_of_from: OptionalParam[Day] = Field(None, description="First as-of session.")
    as_of_to: OptionalParam[Day] = Field(None, description="Last as-of session.")


@router.get("/datasets", summary="List datasets")
def datasets(state: StateDep, query: Annotated[DatasetsParams, Query()]) -> DatasetPage:
    """List all datasets, complete or not."""
    after = query.position(_POSITION)
    rows = list_panels(state.engine, query.as_of_from, query.as_of_to, query.limit + 1, after)
    return page_of(DatasetPage, rows, query, ["dataset_run_id"])


@router.get(
    "/datasets/{dataset_run_id}",
    summary="Show a dataset",
    responses=NOT_FOUND,
    dependencies=NO_PARAMS,
)
def dataset(dataset_run_id: DatasetId, state: StateDep) -> DatasetDetail:
    """Show a dataset with its parameters, segments, digests and models."""
    panel = find_panel(state.engine, dataset_run_id)
    if panel is None:
        raise not_found(f"there is no dataset {dataset_run_id}")
    return dataset_detail(state.engine, state.model_name, panel)


def dataset_detail(engine: Engine, model_name: str, panel: Mapping[str, Any]) -> DatasetDetail:
    """Complete a row of ``processed_feature_data`` from the other tables."""
    dataset_id = panel["dataset_run_id"]
    return DatasetDetail.model_validate(
        {
            **panel,
            "scalers": scaler_summary(engine, dataset_id),
            "segments": [asdict(segment) for segment in segments_of(engine, dataset_id)],
            "tuning": find_tuning(engine, dataset_id),
            "models": list_models(engine, model_name, ModelFilter(dataset_id), _MAX_MODELS),
        }
    )
