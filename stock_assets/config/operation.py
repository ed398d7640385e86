"""Parameters of monitoring, promotion, the schedule and MLflow."""

from __future__ import annotations

from datetime import time
from typing import Annotated, Literal

from pydantic import Field, field_validator

from stock_assets.config.section import Count, PositiveFloat, PositiveInt, Section, Share


class Thresholds(Section):
    """Hard limits of the newest scores, beside the detectors; one that is empty is not checked."""

    mape_max: PositiveFloat | None = Field(
        None, description="maximum mean absolute percentage error, a fraction"
    )
    relative_mae_max: PositiveFloat | None = Field(1.5, description="maximum relative MAE")
    direction_accuracy_min: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None,
        description="minimum share of moves with the correct sign; broken if its confidence "
        "interval of 95% excludes it",
    )


class Monitoring(Section):
    """When to retrain."""

    window_sessions: PositiveInt = Field(
        20, description="sessions of the rolling scores on the pages, and of the drift of features"
    )
    sessions_between_false_alarms: Annotated[int, Field(gt=1)] = Field(
        252,
        description="expected sessions until the detectors raise a false alarm, at least; see "
        "docs/policy.md",
    )
    retrain_after_sessions: PositiveInt | None = Field(
        252, description="maximum age of a model; none when empty"
    )
    cooldown_sessions: Count = Field(20, description="minimum sessions between retrainings")
    limit_sessions: PositiveInt = Field(
        5, description="newest scored sessions that the hard limits are checked over"
    )
    thresholds: Thresholds = Field(default_factory=Thresholds)


class Promotion(Section):
    """When to promote a candidate."""

    metric: Literal["mae", "rmse", "mape", "relative_mae"] = Field(
        "relative_mae", description="lower is better"
    )
    minimum_improvement: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="minimum relative improvement over production"
    )
    significance: Share | None = Field(
        None,
        description="maximum p-value of the Diebold-Mariano test against production; no test when "
        "empty, see docs/evaluation.md",
    )
    floor: Literal["not_worse", "better", "none"] = Field(
        "not_worse",
        description="against persistence, by the Diebold-Mariano test at 5%: not_worse refuses a "
        "candidate that is significantly worse, better one that is not significantly better",
    )
    shadow_sessions: PositiveInt = Field(
        60,
        description="sessions on which a candidate forecasts beside production before its loss "
        "decides, where an alarm launched the retraining; see docs/evaluation.md",
    )
    refit: bool = Field(
        True,
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
