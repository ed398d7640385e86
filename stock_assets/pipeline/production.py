"""Changes of production: the row first, then the alias in MLflow that follows it.

Only this module moves the alias. A promotion, a refit and a person change production through
:func:`change_production`.

The history of production says which version is in force. The alias ``Production`` is its
projection, and the registered model carries the mark of the last change that the alias was set for.
Where the alias differs from the newest change:

- If the mark is that of an earlier change whose version the alias still names, the process that
  recorded the newest change ended before it set the alias, or MLflow was restored from an older
  backup. The alias is set now. The same happens if there is no alias, as in a rebuilt registry, and
  if there is no mark and the alias names the version before the newest.
- While persistence is in force there is no alias. A change to it removes the alias.
- Otherwise the alias was moved or removed in MLflow. That is recorded as a change with the cause
  `Cause.FOUND_OUTSIDE`, and holds from then on. If the alias was removed, or names a version that
  stock-assets has not registered, no trained version is in force: persistence forecasts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from sqlalchemy import Engine

from stock_assets.core.errors import StockAssetsError
from stock_assets.evaluation.production_rule import (
    Cause,
    ModelVersion,
    newest_change,
    rollback_targets,
    trained_in_force,
)
from stock_assets.registry import PRODUCTION, Registry
from stock_assets.storage.database import advisory_lock
from stock_assets.storage.production import (
    NewChange,
    ProductionChange,
    production_changes,
    record_change,
)

_LOCK = "production"


class LostRegistryError(StockAssetsError):
    """The registry was lost, or is older than the record."""


class LostVersionError(LostRegistryError):
    """MLflow does not have a version that is or was in force."""

    def __init__(self, model: ModelVersion, *, in_force: bool) -> None:
        otherwise = (
            "choose another: stock-assets model promote VERSION --why TEXT"
            if in_force
            else f"train it again: stock-assets retrain --dataset {model.dataset_run_id}"
        )
        super().__init__(
            f"{model} of dataset {model.dataset_run_id} was put in force and MLflow no longer has "
            "it",
            f"Restore it: stock-assets model recover. If its files are lost, {otherwise}",
        )


def production_history(
    engine: Engine, registry: Registry, dagster_run_id: str | None = None
) -> list[ProductionChange]:
    """Return the history of production, the oldest change first, after comparing the alias.

    See the rule of this module.

    Parameters
    ----------
    engine : Engine
        The ``stock_assets`` database.
    registry : Registry
    dagster_run_id : str, optional
        The run that compares.

    Raises
    ------
    LostVersionError
        MLflow has lost the version in force, and with it the alias and its mark.
    """
    history = production_changes(engine, registry.model_name)
    if _agrees(history, registry):
        return history
    with advisory_lock(engine, _LOCK):
        return _compare_alias(engine, registry, dagster_run_id)


def change_production(
    engine: Engine,
    registry: Registry,
    choose: Callable[[Sequence[ProductionChange]], NewChange | None],
    dagster_run_id: str | None = None,
) -> list[ProductionChange]:
    """Change the version in force: record it, then set the alias; one process at a time.

    Parameters
    ----------
    engine : Engine
        The ``stock_assets`` database.
    registry : Registry
    choose : callable
        Takes the history at the time of writing; returns the change, or None for no change.
    dagster_run_id : str, optional
        The run that changes it.

    Returns
    -------
    list of ProductionChange
        The whole history, the oldest change first.
    """
    with advisory_lock(engine, _LOCK):
        with suppress(LostVersionError):  # another version may be chosen in its place
            _compare_alias(engine, registry, dagster_run_id)
        chosen = choose(production_changes(engine, registry.model_name))
        if chosen is not None:
            record_change(engine, registry.model_name, chosen, dagster_run_id)
        history = production_changes(engine, registry.model_name)
        if chosen is not None and chosen.until_session is None:
            _set_alias(registry, history[-1])
        return history


def registered(registry: Registry, model: ModelVersion) -> ModelVersion:
    """Return the version of the registry that a change of the history is about.

    Raises
    ------
    LostVersionError
        There is none with its dataset and digest.
    """
    found = registry.find(model)
    if found is None:
        raise LostVersionError(model, in_force=False)
    return found


def restore_alias(engine: Engine, registry: Registry) -> None:
    """Set the alias to the version in force, whose deletion in MLflow was undone."""
    with advisory_lock(engine, _LOCK):
        newest = newest_change(production_changes(engine, registry.model_name))
        if newest is not None and registry.production() is None:
            _set_alias(registry, newest)


def rollback_target(
    registry: Registry, history: Sequence[ProductionChange]
) -> tuple[ModelVersion, list[ModelVersion]]:
    """Return the version that a rollback goes back to, and newer ones whose files are damaged.

    Versions that MLflow has lost are passed over, too.

    Raises
    ------
    StockAssetsError
        No earlier version has undamaged files.
    """
    damaged: list[ModelVersion] = []
    for target in rollback_targets(history):
        model = target if target.is_persistence else registry.find(target)
        if model is not None and (model.is_persistence or registry.is_intact(model.version)):
            return model, damaged
        if model is not None:
            damaged.append(model)
    passed = f": the files of {', '.join(map(str, damaged))} are damaged" if damaged else ""
    raise StockAssetsError(
        f"there is no earlier version to go back to{passed}",
        "Choose one: stock-assets model promote VERSION --why TEXT",
    )


def _agrees(history: Sequence[ProductionChange], registry: Registry) -> bool:
    """Whether the alias and its mark are those of the newest change."""
    newest, named = newest_change(history), registry.production()
    if newest is None or newest.model is None:
        return named is None
    return _same(_named_by(newest), named) and registry.production_mark() == newest.mark


def _compare_alias(
    engine: Engine, registry: Registry, dagster_run_id: str | None
) -> list[ProductionChange]:
    """Set an alias that was not set yet, or record that it was moved; return the history."""
    history = production_changes(engine, registry.model_name)
    newest, named, mark = newest_change(history), registry.production(), registry.production_mark()
    foreign = registry.foreign_production() if named is None else None
    if newest is not None and newest.model is not None and mark != newest.mark:
        if _same(_named_by(newest), named) and foreign is None:
            registry.mark_production(newest.mark)
            return history
        known = newest.model.is_persistence or registry.find(newest.model) is not None
        if not known and named is None and mark is None:
            raise LostVersionError(newest.model, in_force=True)
        removed = named is None and foreign is None
        stale = removed or _same(_set_for(history, newest, mark), named)
        if known and stale:
            _set_alias(registry, newest)
            return history
    if _same(_named_by(newest), named):
        return history
    found = NewChange(named, Cause.FOUND_OUTSIDE, _difference(registry, newest, named, foreign))
    record_change(engine, registry.model_name, found, dagster_run_id)
    history = production_changes(engine, registry.model_name)
    if named is not None or foreign is not None:
        registry.mark_production(history[-1].mark)
    return history


def _set_alias(registry: Registry, change: ProductionChange) -> None:
    """Let the alias name the version of a change, and mark the change that it was set for."""
    if change.model is None:
        return
    if change.model.is_persistence:
        registry.remove_production_alias()
    else:
        registry.set_production_alias(registered(registry, change.model).version)
    registry.mark_production(change.mark)


def _named_by(change: ProductionChange | None) -> ModelVersion | None:
    """Return the version that the alias should name after a change; None for no alias."""
    return None if change is None else trained_in_force([change])


def _set_for(
    history: Sequence[ProductionChange], newest: ProductionChange, mark: str | None
) -> ModelVersion | None:
    """Return the version of the earlier change with a mark; without one, of the last before."""
    earlier = [
        change for change in history if change.id < newest.id and mark in (None, change.mark)
    ]
    return trained_in_force(earlier)


def _same(model: ModelVersion | None, other: ModelVersion | None) -> bool:
    return model.is_same(other) if model is not None else other is None


def _difference(
    registry: Registry,
    newest: ProductionChange | None,
    named: ModelVersion | None,
    foreign: int | None,
) -> str:
    """Describe the change made in MLflow: the alias names a version, a foreign one, or none."""
    if newest is None:
        return f"the alias {PRODUCTION} named it when the history of production began"
    if named is not None:
        return f"the alias {PRODUCTION} was moved to {named} in MLflow"
    if foreign is not None:
        return (
            f"the alias {PRODUCTION} was moved to version {foreign}, which stock-assets has not "
            "registered"
        )
    if newest.model is not None and registry.find(newest.model) is None:
        return f"{newest.model} was deleted in MLflow"
    return f"the alias {PRODUCTION} was removed in MLflow"
