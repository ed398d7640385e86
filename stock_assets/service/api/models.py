"""Versions of the registered model."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field, TypeAdapter

from stock_assets.evaluation.production_rule import PERSISTENCE_VERSION
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
from stock_assets.service.app_state import NO_PARAMS, StateDep
from stock_assets.service.links import links_for
from stock_assets.service.problems import NOT_FOUND, not_found
from stock_assets.storage.serving.datasets import find_tuning
from stock_assets.storage.serving.decisions import (
    MODEL_ORDER,
    ModelFilter,
    find_model,
    find_promotion,
    list_models,
    scored_sessions,
)

router = APIRouter(tags=["models"])

_POSITION: TypeAdapter[tuple[int, str, str]] = TypeAdapter(tuple[ModelVersion, DatasetId, str])


class Model(ResponseModel):
    """A version with a promotion decision, the refit of one, or a version ever in force."""

    model_version: int = Field(description="Number of the version.", examples=[1])
    model_name: str = Field(
        description="Name of the registered model.", examples=["StockPricePredictor"]
    )
    refit_of: int | None = Field(
        description="The candidate that it is a refit of; null for a candidate.", examples=[None]
    )
    dataset_run_id: str = Field(
        description="Dataset that it was trained on.", examples=["20121231_120000"]
    )
    as_of_session: date = Field(
        description="Newest session that it may have seen.", examples=["2012-12-31"]
    )
    newest_label: date = Field(
        description="Newest session whose price is a label that its weights were trained on.",
        examples=["2012-12-31"],
    )
    promoted: bool | None = Field(
        description="Whether its decision put it into production; null without a decision.",
        examples=[True],
    )
    in_production: bool = Field(
        description="Whether it is in production by the history of production.",
        examples=[True],
    )
    decided_at: datetime | None = Field(
        description="Time of the decision; null without one.",
        examples=["2013-01-02T00:10:00.123456Z"],
    )
    mlflow_run_id: str = Field(
        description="MLflow run of the model.", examples=["0a1b2c3d4e5f60718293a4b5c6d7e8f9"]
    )
    first_forecast: date | None = Field(
        description="First as-of session of its forecasts; null without a forecast.",
        examples=["2012-12-31"],
    )
    last_forecast: date | None = Field(
        description="Last as-of session of its forecasts; null without a forecast.",
        examples=["2013-03-01"],
    )


class ModelPage(Page[Model]):
    """Model versions, the newest first."""


class Tuning(ResponseModel):
    """The result of tuning on the validation segment."""

    best_params: dict[str, int | float | str] = Field(
        description="Chosen hyperparameters.",
        examples=[{"architecture": "lstm", "hidden_size": 64, "learning_rate": 0.004}],
    )
    best_value: float = Field(
        description="Their validation loss, in scaled units.", examples=[0.508]
    )
    trials: int = Field(description="Number of trials.", examples=[30])


class ScoredForecasts(ResponseModel):
    """The scored forecasts of a version."""

    forecasts: int = Field(description="Number of scored forecasts.", examples=[200])
    first_session: date | None = Field(
        description="First scored session; null without one.", examples=["2013-01-02"]
    )
    last_session: date | None = Field(
        description="Last scored session; null without one.", examples=["2013-03-01"]
    )


class ModelLinks(ResponseModel):
    """Links to the UIs; null without the address of the UI."""

    mlflow_model: str | None = Field(
        description="The version in MLflow.",
        examples=["http://127.0.0.1:5000/#/models/StockPricePredictor/versions/1"],
    )
    mlflow_run: str | None = Field(
        description="MLflow run of the model.",
        examples=["http://127.0.0.1:5000/#/runs/0a1b2c3d4e5f60718293a4b5c6d7e8f9"],
    )
    dagster_run: str | None = Field(
        description="Dagster run of the promotion decision.",
        examples=["http://127.0.0.1:3000/runs/5f0c1a52-8a4e-4e0b-9d0c-6f3a2b1c0d9e"],
    )


class ModelDetail(Model):
    """A version with its promotion decision, hyperparameters and scored forecasts."""

    decision: Promotion | None = Field(
        description="Promotion decision on it, or on the candidate that it is a refit of; null "
        "without one."
    )
    tuning: Tuning | None = Field(description="Null without a stored study of its dataset.")
    scored: ScoredForecasts = Field(description="Its scored forecasts.")
    links: ModelLinks = Field(description="Links to the UIs.")


class ModelsParams(PageParams):
    """Filter of model versions."""

    dataset_run_id: OptionalParam[DatasetId] = Field(
        None, description="Only trained on this dataset."
    )
    promoted: OptionalParam[Flag] = Field(None, description="Only with this result.")


@router.get("/models", summary="List model versions")
def models(state: StateDep, query: Annotated[ModelsParams, Query()]) -> ModelPage:
    """List the versions with a promotion decision, their refits, and those ever in force.

    Those of earlier registered models are listed, too; none of them is in production.
    """
    after, wanted = query.position(_POSITION), ModelFilter(query.dataset_run_id, query.promoted)
    rows = list_models(state.engine, state.model_name, wanted, query.limit + 1, after)
    return page_of(ModelPage, rows, query, MODEL_ORDER)


@router.get(
    "/models/{model_version}",
    summary="Show a model version",
    responses=NOT_FOUND,
    dependencies=NO_PARAMS,
)
def model(model_version: ModelVersion, state: StateDep) -> ModelDetail:
    """Show a version with its promotion decision, hyperparameters and scored forecasts.

    Of equal numbers it is the version of the registered model in use.
    """
    engine = state.engine
    found = find_model(engine, state.model_name, model_version)
    if model_version == PERSISTENCE_VERSION:
        raise not_found("version 0 is persistence, which has no decision and no dataset")
    if found is None:
        raise not_found(f"version {model_version} has no promotion decision and was never in force")
    decision, links = find_promotion(engine, found), links_for(state)
    named = replace(links, model_name=found["model_name"])
    return ModelDetail.model_validate(
        {
            **found,
            "decision": None if decision is None else as_promotion(decision),
            "tuning": find_tuning(engine, found["dataset_run_id"]),
            "scored": scored_sessions(engine, model_version, found["dataset_run_id"]),
            "links": {
                "mlflow_model": named.model(model_version),
                "mlflow_run": links.mlflow_run(found["mlflow_run_id"]),
                "dagster_run": links.dagster_run(decision["dagster_run_id"] if decision else None),
            },
        }
    )
