"""Version 0 in the lineage of a forecast: its rule and settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field
from sqlalchemy import Engine

from stock_assets.config import Scale
from stock_assets.evaluation.production_rule import PERSISTENCE_VERSION
from stock_assets.models.persistence import Persistence
from stock_assets.service.api.params import ResponseModel
from stock_assets.storage.forecast_lookup import issue_facts


class PersistenceRule(ResponseModel):
    """The rule that made a forecast of version 0: no change, with calibrated intervals."""

    digest: str = Field(
        description="SHA-256 of the rule and its settings.",
        examples=["4d3d9e70cef49bc60d5aec61ae0277072fd86d11ef17368fee78c944c878c7e1"],
    )
    horizon: int = Field(description="Furthest horizon, in sessions.", examples=[1])
    coverages: list[float] = Field(
        description="Nominal coverages of the intervals.", examples=[[0.5, 0.8, 0.9]]
    )
    scale: Scale = Field(
        description="Volatility that the widths of the intervals follow.", examples=["combined"]
    )
    newest_sessions: int = Field(
        description="Newest sessions whose residuals decide the widths.", examples=[126]
    )
    warm_up_sessions: int = Field(
        description="Sessions before them, which the first volatility is estimated from.",
        examples=[126],
    )


def recorded_rule(engine: Engine, forecast: Mapping[str, Any]) -> Persistence | None:
    """Return persistence with the settings of a forecast; None for a trained model."""
    if forecast["model_version"] != PERSISTENCE_VERSION:
        return None
    facts = issue_facts(engine, forecast["issue"])
    return Persistence.of_recorded(facts["params"]) if facts and facts["params"] else None


def describe_rule(rule: Persistence) -> PersistenceRule:
    """Describe persistence by its settings."""
    settings = {name: value for name, value in rule.settings().items() if name != "averaging"}
    return PersistenceRule.model_validate({"digest": rule.digest, **settings})
