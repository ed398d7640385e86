"""Versions of the registered model."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field, TypeAdapter

from stock_assets.service.api.decisions import Promotion, as_promotion
from stock_assets.service.api.params import (
    DatasetId,
    Flag,
    ModelVersion,
    OptionalParam,
    Page,
    PageParams,
    ResponseModel,
    page_of,
)
from stock_assets.service.app_state import TAKES_NOTHING, AppState, AppStateDependency
from stock_assets.service.links import links_of
from stock_assets.service.problems import not_found, tells
from stock_assets.storage.serving.datasets import find_tuning
from stock_assets.storage.serving.decisions import (
    find_model,
    find_promotion,
    list_models,
    scored_sessions,
)

router = APIRouter(tags=["models"])

_POSITION: TypeAdapter[tuple[int]] = TypeAdapter(tuple[ModelVersion])


class Model(ResponseModel):
    """A version of the registered model: a candidate that was decided about, or its refit."""

    model_version: int = Field(description="Number of the version.", examples=[1])
    model_name: str = Field(
        description="Name of the registered model.", examples=["StockPricePredictor"]
    )
    refit_of: int | None = Field(
        description="The candidate that it is a refit of; null for a candidate.", examples=[None]
    )
    dataset_run_id: str = Field(
        description="The dataset that it was trained on.", examples=["20121231_120000"]
    )
    as_of_session: date = Field(
        description="The newest session that it may have seen.", examples=["2012-12-31"]
    )
    promoted: bool = Field(description="Whether it went into production.", examples=[True])
    in_production: bool = Field(
        description="Whether the last promotion put it there. A change of the alias by hand does "
        "not show here: see `last_forecast`.",
        examples=[True],
    )
    decided_at: datetime = Field(
        description="When it was decided about.", examples=["2013-01-02T00:10:00.123456Z"]
    )
    mlflow_run_id: str = Field(
        description="MLflow run that made it.", examples=["0a1b2c3d4e5f60718293a4b5c6d7e8f9"]
    )
    first_forecast: date | None = Field(
        description="First as-of session that it forecast; null without a forecast.",
        examples=["2012-12-31"],
    )
    last_forecast: date | None = Field(
        description="Last as-of session that it forecast.", examples=["2013-03-01"]
    )


class ModelPage(Page[Model]):
    """Model versions, the newest first."""


class Tuning(ResponseModel):
    """What tuning found on the validation segment."""

    best_params: dict[str, int | float | str] = Field(
        description="The hyperparameters that were chosen.",
        examples=[{"architecture": "lstm", "hidden_size": 64, "learning_rate": 0.004}],
    )
    best_value: float = Field(
        description="Their validation loss, in scaled units.", examples=[0.508]
    )
    trials: int = Field(description="Sets of hyperparameters tried.", examples=[30])


class Scored(ResponseModel):
    """How much of what a version forecast has come due."""

    forecasts: int = Field(description="Scored forecasts.", examples=[200])
    first_session: date | None = Field(
        description="First scored session; null without one.", examples=["2013-01-02"]
    )
    last_session: date | None = Field(
        description="Last scored session; null without one.", examples=["2013-03-01"]
    )


class ModelLinks(ResponseModel):
    """Where to look further; null where the address of the UI is not known to the service."""

    mlflow_model: str | None = Field(
        description="The version in MLflow.",
        examples=["http://127.0.0.1:5000/#/models/StockPricePredictor/versions/1"],
    )
    mlflow_run: str | None = Field(
        description="The MLflow run that made it.",
        examples=["http://127.0.0.1:5000/#/runs/0a1b2c3d4e5f60718293a4b5c6d7e8f9"],
    )
    dagster_run: str | None = Field(
        description="The Dagster run that decided about it.",
        examples=["http://127.0.0.1:3000/runs/5f0c1a52-8a4e-4e0b-9d0c-6f3a2b1c0d9e"],
    )


class ModelDetail(Model):
    """A version with the decision about it, its hyperparameters and its scored forecasts."""

    decision: Promotion = Field(
        description="The decision about it, or about the candidate that it is a refit of."
    )
    tuning: Tuning | None = Field(description="Null where no study is stored of its dataset.")
    scored: Scored = Field(description="What of its forecasts has come due.")
    links: ModelLinks = Field(description="Where to look further.")


class ModelsParams(PageParams):
    """Which versions."""

    dataset_run_id: OptionalParam[DatasetId] = Field(None, description="Trained on this dataset.")
    promoted: OptionalParam[Flag] = Field(None, description="Whether they went into production.")


@router.get("/models", response_model=ModelPage, summary="List model versions")
def models(
    request: Request, served: AppStateDependency, asked: Annotated[ModelsParams, Query()]
) -> Response:
    """Give every version that a decision was made about, and the refits."""

    def make() -> ModelPage:
        after = asked.position(_POSITION)
        rows = list_models(
            served.engine, asked.dataset_run_id, asked.promoted, asked.limit + 1, after
        )
        return page_of(ModelPage, rows, asked, ["model_version"])

    return served.answers.json(request, make)


@router.get(
    "/models/{model_version}",
    response_model=ModelDetail,
    summary="Show a model version",
    responses=tells(404),
    dependencies=TAKES_NOTHING,
)
def model(
    model_version: ModelVersion,
    request: Request,
    served: AppStateDependency,
) -> Response:
    """Give a version with the decision about it, its hyperparameters and its scored forecasts."""
    return served.answers.json(request, lambda: _detail(served, model_version))


def _detail(served: AppState, version: int) -> ModelDetail:
    found, decision = find_model(served.engine, version), find_promotion(served.engine, version)
    if found is None or decision is None:
        raise not_found(f"no decision was made about a version {version}")
    links = links_of(served)
    return ModelDetail.model_validate(
        {
            **found,
            "decision": as_promotion(decision),
            "tuning": find_tuning(served.engine, found["dataset_run_id"]),
            "scored": scored_sessions(served.engine, version),
            "links": {
                "mlflow_model": links.model(version),
                "mlflow_run": links.mlflow_run(found["mlflow_run_id"]),
                "dagster_run": links.dagster_run(decision["dagster_run_id"]),
            },
        }
    )
