"""Datasets: what they were made of, and what was trained on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import date, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field, TypeAdapter
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
from stock_assets.service.app_state import TAKES_NOTHING, AppStateDependency
from stock_assets.service.problems import not_found, tells
from stock_assets.storage.datasets import scaler_summary, segments_of
from stock_assets.storage.serving.datasets import find_panel, find_tuning, list_panels
from stock_assets.storage.serving.decisions import list_models

router = APIRouter(tags=["datasets"])

_POSITION: TypeAdapter[tuple[str]] = TypeAdapter(tuple[DatasetId])
_MOST_MODELS = 1000
_DIGEST = "4d3d9e70cef49bc60d5aec61ae0277072fd86d11ef17368fee78c944c878c7e1"


class Panel(ResponseModel):
    """The feature panel of a dataset."""

    dataset_run_id: str = Field(
        description="Its id: the as-of session, and the UTC time at which it was asked for.",
        examples=["20121231_120000"],
    )
    as_of_session: date = Field(
        description="The newest session that may enter.", examples=["2012-12-31"]
    )
    first_session: date = Field(description="Its first session.", examples=["2010-03-23"])
    last_session: date = Field(description="Its last session.", examples=["2012-12-31"])
    bars: int = Field(description="Raw rows that it was made from.", examples=[2955])
    basis: Basis = Field(description="Prices that its features are computed from.")
    target: str = Field(description="What is predicted.", examples=["log_return"])
    digest: str = Field(description="SHA-256 of the panel.", examples=[_DIGEST])
    created_at: datetime = Field(
        description="When it was first made.", examples=["2013-01-02T00:00:00.123456Z"]
    )


class Dataset(Panel):
    """A dataset in a list."""

    tickers: int = Field(description="Number of tickers.", examples=[5])
    features: int = Field(description="Number of features.", examples=[13])


class DatasetPage(Page[Dataset]):
    """Datasets, the newest id first."""


class Segment(ResponseModel):
    """One segment of a dataset, by the last sessions of its windows."""

    set_name: str = Field(description="`train`, `validation` or `test`.", examples=["train"])
    first_session: date = Field(
        description="Last session of its first window.", examples=["2010-05-04"]
    )
    last_session: date = Field(
        description="Last session of its last window.", examples=["2012-05-23"]
    )
    first_position: int = Field(
        description="Place of the first one among the sessions of the panel, from 0.", examples=[29]
    )
    last_position: int = Field(description="Place of the last one.", examples=[548])
    purge_sessions: int = Field(
        description="Sessions left out between two segments.", examples=[30]
    )
    digest: str = Field(
        description="SHA-256 of all that can be read in the scaled panel.", examples=[_DIGEST]
    )


class Scalers(ResponseModel):
    """How a dataset is scaled; fitted on its training sessions alone."""

    kind: str = Field(description="Scaling of the features.", examples=["standard"])
    target_kind: str = Field(description="Scaling of the target.", examples=["zero_mean"])
    digest: str = Field(description="SHA-256 of the numbers.", examples=[_DIGEST])


class BuildEnvironment(ResponseModel):
    """The code and the libraries that made a dataset."""

    package: str = Field(description="Version of this package.", examples=["0.1.0"])
    code: dict[str, str] = Field(
        description="SHA-256 of each source file that took part.",
        examples=[{"features/panel.py": _DIGEST}],
    )
    libraries: dict[str, str] = Field(
        description="Versions of Python and of the libraries that can change a bit.",
        examples=[{"python": "3.11.9", "numpy": "2.3.5"}],
    )


class DatasetDetail(Panel):
    """All that is stored of a dataset, but its arrays."""

    tickers: list[str] = Field(description="Its tickers.", examples=[["AAPL", "IBM"]])
    features: list[str] = Field(
        description="Its features, in their order.", examples=[["RSI", "Log_Return"]]
    )
    bars_digest: str = Field(
        description="SHA-256 of the raw rows that it was made from.", examples=[_DIGEST]
    )
    location: str = Field(
        description="Its array file, below the folder of the arrays.",
        examples=[f"4d/{_DIGEST}.safetensors"],
    )
    adjustment_factors: dict[str, dict[str, float]] = Field(
        description="Per ticker, the adjustment factors at the as-of session.",
        examples=[{"AAPL": {"price": 1.0089, "volume": 1.0}}],
    )
    params: dict[str, Any] = Field(
        description="The parameters that it was made with, as in params.yaml.",
        examples=[{"dataset": {"window": 30, "target": "log_return"}}],
    )
    build_environment: BuildEnvironment | None = Field(
        description="Null for datasets from before this was recorded."
    )
    scalers: Scalers | None = Field(description="Null before they are fitted.")
    segments: list[Segment] = Field(
        description="Train, validation and test, in the order of time; empty before they are laid "
        "down."
    )
    tuning: Tuning | None = Field(description="Null before tuning.")
    models: list[Model] = Field(
        description="The versions trained on it that a decision was made about, the newest first."
    )


class DatasetsParams(PageParams):
    """Which datasets."""

    as_of_from: OptionalParam[Day] = Field(None, description="First as-of session.")
    as_of_to: OptionalParam[Day] = Field(None, description="Last as-of session.")


@router.get("/datasets", response_model=DatasetPage, summary="List datasets")
def datasets(
    request: Request, served: AppStateDependency, asked: Annotated[DatasetsParams, Query()]
) -> Response:
    """Give every dataset, whatever became of it."""

    def make() -> DatasetPage:
        after = asked.position(_POSITION)
        rows = list_panels(served.engine, asked.as_of_from, asked.as_of_to, asked.limit + 1, after)
        return page_of(DatasetPage, rows, asked, ["dataset_run_id"])

    return served.answers.json(request, make)


@router.get(
    "/datasets/{dataset_run_id}",
    response_model=DatasetDetail,
    summary="Show a dataset",
    responses=tells(404),
    dependencies=TAKES_NOTHING,
)
def dataset(
    dataset_run_id: DatasetId,
    request: Request,
    served: AppStateDependency,
) -> Response:
    """Give a dataset with its parameters, segments, digests, and the models trained on it."""

    def make() -> DatasetDetail:
        found = find_panel(served.engine, dataset_run_id)
        if found is None:
            raise not_found(f"there is no dataset {dataset_run_id}")
        return detail_of(served.engine, found)

    return served.answers.json(request, make)


def detail_of(engine: Engine, panel: Mapping[str, Any]) -> DatasetDetail:
    """Add to a row of ``processed_feature_data`` what the other tables tell of the dataset."""
    dataset_id = panel["dataset_run_id"]
    return DatasetDetail.model_validate(
        {
            **panel,
            "scalers": scaler_summary(engine, dataset_id),
            "segments": [asdict(segment) for segment in segments_of(engine, dataset_id)],
            "tuning": find_tuning(engine, dataset_id),
            "models": list_models(engine, dataset_id, None, _MOST_MODELS),
        }
    )
