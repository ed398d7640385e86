"""The history of production, and the version in force."""

from __future__ import annotations

from operator import eq
from typing import Any

from sqlalchemy import Engine, Select, and_, false, func, select

from stock_assets.evaluation.production_rule import PERSISTENCE_VERSION
from stock_assets.storage.serving.paging import Position, Row, conditions, read_page, read_rows
from stock_assets.storage.tables import production_history

_CHANGES = production_history.c


def version_in_force(model_name: str) -> Select[tuple[int | None]]:
    """Select the version number in production; NULL after a removal, no row before the first.

    In both cases persistence is in force, as where it is 0.

    Parameters
    ----------
    model_name : str
        The registered model in use, ``tracking.model_name``. Others may have histories, too.
    """
    return _newest(_CHANGES.model_version, model_name)


def dataset_in_force(model_name: str) -> Select[tuple[str | None]]:
    """Select the dataset of the version in production, as :func:`version_in_force`."""
    return _newest(_CHANGES.dataset_run_id, model_name)


def find_in_force(engine: Engine, model_name: str) -> Row | None:
    """Read the newest change of the version in production; None before the first."""
    return next(iter(read_rows(engine, _newest(production_history, model_name))), None)


def find_version(engine: Engine, model_name: str) -> int:
    """Read the number of the version in force; 0, persistence, where no trained version is."""
    change = find_in_force(engine, model_name)
    return (change and change["model_version"]) or PERSISTENCE_VERSION


def list_changes(
    engine: Engine,
    model_name: str,
    model_version: int | None,
    size: int,
    after: Position | None = None,
    *,
    others: bool = True,
) -> list[Row]:
    """List the changes of the version in force, the newest first.

    Parameters
    ----------
    engine : Engine
        The ``stock_assets`` database.
    model_name : str
        The registered model in use.
    model_version : int, optional
        Only the changes to this version.
    size : int
        Rows at most.
    after : tuple, optional
        The ``id`` of the row before.
    others : bool, optional
        Whether to list the changes of other registered models, too.

    Returns
    -------
    list of rows
        The columns of ``production_history``, ``in_force_until`` (when the next change replaced
        it; None for the newest of a registered model, and for a winner of a past session) and
        ``in_production``.
    """
    changes = _with_end(model_name).subquery()
    wanted = conditions(
        (changes.c.model_version, eq, model_version),
        (changes.c.model_name, eq, None if others else model_name),
    )
    query = select(changes).where(*wanted)
    return read_page(engine, query, [changes.c.id.desc()], size, after)


def _newest(selected: Any, model_name: str) -> Select[Any]:
    return (
        select(selected)
        .where(_CHANGES.model_name == model_name, _CHANGES.until_session.is_(None))
        .order_by(_CHANGES.id.desc())
        .limit(1)
        .correlate(None)
    )


def _with_end(model_name: str) -> Select[Any]:
    """Add to each change when it was replaced, and whether its version is in production."""
    later = production_history.alias("later")
    until = (
        select(func.min(later.c.in_force_from))
        .where(
            later.c.model_name == _CHANGES.model_name,
            later.c.id > _CHANGES.id,
            later.c.until_session.is_(None),
            _CHANGES.until_session.is_(None),
        )
        .correlate(production_history)
        .scalar_subquery()
    )
    in_production = and_(
        _CHANGES.model_version.is_not(None),
        _CHANGES.id == _newest(_CHANGES.id, model_name).scalar_subquery(),
    )
    return select(
        production_history,
        until.label("in_force_until"),
        func.coalesce(in_production, false()).label("in_production"),
    )
