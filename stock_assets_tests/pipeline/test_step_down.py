"""Production steps down to its predecessor or to persistence, whichever did better."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import mlflow
import numpy as np
import pytest
from sqlalchemy import Engine

from stock_assets.cli.platform import Platform
from stock_assets.config import Params, Tracking
from stock_assets.evaluation.production_rule import Cause, ModelVersion, version_in_force
from stock_assets.market import calendar
from stock_assets.models.bundle import Bundle
from stock_assets.pipeline.production import change_production
from stock_assets.pipeline.step_down import step_down
from stock_assets.registry import Registry
from stock_assets.storage.production import NewChange, ProductionChange, production_changes
from stock_assets_tests.models.bundles import bundle, sample_bars
from stock_assets_tests.storage.examples import store_bars

SESSION = date(2013, 2, 15)
WINDOW = Params().monitoring.limit_sessions


def biased(bias: float) -> Bundle:
    """A model that forecasts one log return of every ticker."""
    made = bundle()
    scaler = made.recipe.target_scaler
    constant = replace(
        scaler,
        centre=np.full_like(scaler.centre, bias),
        scale=np.full_like(scaler.scale, 1e-9),
    )
    return Bundle(replace(made.recipe, target_scaler=constant), made.network)


def relative_mae(bias: float) -> float:
    """The error of a constant return on the newest sessions, relative to persistence's."""
    days = calendar.sessions(date(2013, 1, 2), SESSION)[-WINDOW - 1 :]
    closes = sample_bars().pivot_table("close", "session", "ticker")
    moves = closes.loc[[*map(str, days)]].pct_change().iloc[1:].to_numpy()
    return float(np.abs(moves - np.expm1(bias)).sum() / np.abs(moves).sum())


class Case:
    """A registered model with some versions, put in force one after the other."""

    def __init__(self, engine: Engine, name: str, *bundles: Bundle) -> None:
        tracking = Tracking(experiment="step_down", model_name=name)
        self.engine, self.registry = engine, Registry(tracking)
        store_bars(engine, sample_bars())
        self.registry.ensure_experiment()
        mlflow.set_experiment(tracking.experiment)
        with mlflow.start_run():
            self.versions = [self.registry.register(made, sample_bars()) for made in bundles]
        for version in self.versions:
            self.put(version)

    def put(self, version: ModelVersion) -> None:
        change = NewChange(version, Cause.PERSON, "because")
        change_production(self.engine, self.registry, lambda _: change)

    def step_down(self, version: int) -> list[ProductionChange]:
        return step_down(self.engine, self.registry, version, SESSION, "too bad", Params())


@pytest.mark.parametrize("bias", [0.0005, -0.0005])
def test_the_predecessor_takes_over_if_it_is_better_than_no_change(
    platform: Platform, engine: Engine, tmp_path: Path, bias: float
) -> None:
    case = Case(engine, tmp_path.name, biased(bias), biased(0.05))
    history = case.step_down(2)
    change = history[-1]
    assert change.cause is Cause.STEP_DOWN
    assert change.model is not None
    expected = relative_mae(bias)
    assert abs(expected - 1) > 1e-3
    assert (change.model.version == 1) == (expected < 1)
    assert change.model.is_persistence == (expected > 1)
    assert f"{expected:.3f}" in (change.why or "")
    named = case.registry.production()
    assert named == (case.versions[0] if expected < 1 else None)


def test_without_a_predecessor_persistence_takes_over(
    platform: Platform, engine: Engine, tmp_path: Path
) -> None:
    case = Case(engine, tmp_path.name, biased(0.05))
    model = version_in_force(case.step_down(1))
    assert model is not None
    assert model.is_persistence
    assert model.as_of == SESSION


def test_only_the_version_that_broke_the_limit_steps_down_and_only_once(
    platform: Platform, engine: Engine, tmp_path: Path
) -> None:
    case = Case(engine, tmp_path.name, biased(0.001), biased(0.05))
    before = production_changes(engine, case.registry.model_name)
    assert case.step_down(1) == before
    first = case.step_down(2)
    assert case.step_down(2) == first
    assert len(first) == len(before) + 1
