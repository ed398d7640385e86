"""Production steps down where a hard limit raised the alarm.

It is then so bad that it does not forecast until the decision about its successor: whichever of its
predecessor and persistence did better on the newest sessions is put in force at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import pandas as pd
from sqlalchemy import Engine

from stock_assets.config import Params
from stock_assets.core.errors import StockAssetsError
from stock_assets.evaluation.metrics import summarise
from stock_assets.evaluation.production_rule import (
    Cause,
    ModelVersion,
    persistence,
    rollback_targets,
    trained_in_force,
)
from stock_assets.evaluation.scoring import score_due
from stock_assets.market import calendar
from stock_assets.models.persistence import Persistence
from stock_assets.pipeline.production import change_production
from stock_assets.registry import Registry
from stock_assets.storage.prices import read_bars
from stock_assets.storage.production import NewChange, ProductionChange


def step_down(
    engine: Engine,
    registry: Registry,
    version: int | None,
    session: date,
    why: str,
    params: Params,
) -> list[ProductionChange]:
    """Put the better of the predecessor and persistence in force; return the history.

    Nothing is changed if another version is in force by now.

    Parameters
    ----------
    engine : Engine
        The ``stock_assets`` database.
    registry : Registry
    version : int or None
        The version that broke the limit.
    session : date
        The newest scored session. The newest ``monitoring.limit_sessions`` up to it decide.
    why : str
        The decision to retrain, in words.
    params : Params
    """

    def choose(history: Sequence[ProductionChange]) -> NewChange | None:
        production = trained_in_force(history)
        if production is None or production.version != version:
            return None
        last = calendar.sessions(calendar.SPAN[0], session)[-params.monitoring.limit_sessions :]
        target, score = _better(engine, registry, history, last, params)
        return NewChange(target, Cause.STEP_DOWN, f"{why}. {score}")

    return change_production(engine, registry, choose)


def _better(
    engine: Engine,
    registry: Registry,
    history: Sequence[ProductionChange],
    sessions: Sequence[date],
    params: Params,
) -> tuple[ModelVersion, str]:
    """Return the predecessor if it forecast some target sessions better than no change."""
    none = persistence(sessions[-1], Persistence.of(params).digest)
    predecessor = _predecessor(registry, history)
    if predecessor is None:
        return none, "There is no predecessor"
    try:
        scored = _scored(engine, registry, predecessor, sessions)
    except StockAssetsError as error:
        return none, f"{predecessor}, the predecessor, cannot forecast: {error.problem}"
    relative_mae = summarise(scored).relative_mae
    score = f"On the newest {len(sessions)} sessions {predecessor} has a relative MAE of "
    return (predecessor if relative_mae < 1 else none), f"{score}{relative_mae:.3f}"


def _predecessor(registry: Registry, history: Sequence[ProductionChange]) -> ModelVersion | None:
    """Return the trained version in force before whose files are undamaged."""
    for model in rollback_targets(history):
        found = None if model.is_persistence else registry.find(model)
        if found is not None and registry.is_intact(found.version):
            return found
    return None


def _scored(
    engine: Engine, registry: Registry, model: ModelVersion, sessions: Sequence[date]
) -> pd.DataFrame:
    """Score a version on target sessions, one session ahead, as of the sessions before."""
    days = [calendar.previous_session(day) for day in sessions]
    bundle = registry.load(model.version)
    bars = read_bars(engine, bundle.first_session(days[0]), sessions[-1])
    known = bars[bars["session"] <= pd.Timestamp(days[-1])].reset_index(drop=True)
    own = [day for day in days if day >= model.as_of]
    made = bundle.forecast(known, own)
    return score_due(made[made["horizon"] == 1], bars)
