"""When to retrain, when to promote, when to run, and what things are called in MLflow."""

from __future__ import annotations

from datetime import time
from typing import Annotated, Literal

from pydantic import Field, field_validator

from stock_assets.config.section import Count, PositiveFloat, PositiveInt, Section, Share


class Thresholds(Section):
    """The model is retrained when its recent scores are worse than any of these."""

    mape_max: PositiveFloat = Field(0.10, description="mean absolute percentage error, a fraction")
    relative_mae_max: PositiveFloat = Field(1.10, description="error over persistence's error")
    direction_accuracy_min: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.40, description="share of moves whose sign was right"
    )


class Monitoring(Section):
    """When scores call for retraining."""

    window_sessions: PositiveInt = Field(20, description="newest scored sessions that count")
    minimum_forecasts: PositiveInt = Field(50, description="fewer than this decide nothing")
    cooldown_sessions: Count = Field(20, description="sessions between two retrainings")
    thresholds: Thresholds = Field(default_factory=Thresholds)


class Promotion(Section):
    """When a candidate replaces production."""

    metric: Literal["mae", "rmse", "mape", "relative_mae"] = Field(
        "relative_mae", description="lower is better"
    )
    minimum_improvement: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="share by which the candidate must be better than production"
    )
    significance: Share | None = Field(
        None,
        description="p-value of the Diebold-Mariano test below which the candidate must differ "
        "from production; not asked for when empty, see docs/evaluation.md",
    )
    refit: bool = Field(
        False,
        description="train a promoted candidate again on every session up to its as-of session "
        "before it goes into production, see docs/evaluation.md",
    )


class Schedule(Section):
    """When the daily job runs, in New York."""

    daily_at: time = Field(time(18, 30), description="after the close and Yahoo's corrections")

    @field_validator("daily_at", mode="before")
    @classmethod
    def _is_quoted(cls, value: object) -> object:
        if isinstance(value, int):
            raise ValueError('YAML reads a time without quotes as a number; write "18:30"')
        return value


class Tracking(Section):
    """Names in MLflow."""

    experiment: str = Field("stock_price_forecasting", description="MLflow experiment")
    model_name: str = Field("StockPricePredictor", description="registered model")
