"""Which version is in production, which may forecast a session, and when a winner takes over.

The rules read the history of production, oldest change first; it alone states what is or was in
force. The version in force now forecasts every session from its as-of session on. An earlier
session is forecast by the newest version that was ever in force and saw nothing later than the
session: the one with the newest as-of session, and of two as of one session the higher version. A
version that was replaced by a return to an earlier one, as in a rollback, forecasts nothing until
it is put in force again.

Where no version may forecast, version 0 does: persistence with calibrated intervals, see
:mod:`stock_assets.models.persistence`. It is no version of MLflow, has no dataset, and may forecast
any session. It is in force until the first promotion, and where production stepped down to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Protocol, TypeVar

from stock_assets.core.errors import StockAssetsError

PERSISTENCE_VERSION = 0
"""The number of persistence among the versions."""


class Cause(StrEnum):
    """What changed the version in force."""

    PROMOTION = "promotion"
    """A candidate won the comparison."""
    REFIT = "refit"
    """The refit of a candidate that won."""
    PERSON = "person"
    """A person put the version in force by name."""
    ROLLBACK = "rollback"
    """A person went back to the version in force before."""
    STEP_DOWN = "step_down"
    """A hard limit was broken: back to an earlier version, or to persistence."""
    FOUND_OUTSIDE = "found_outside"
    """The alias in MLflow was found moved or removed."""


@dataclass(frozen=True)
class ModelVersion:
    """A version of the registered model, or persistence.

    Attributes
    ----------
    version : int
    mlflow_run_id, dataset_run_id : str or None
        The MLflow run that logged it, and the dataset it was trained on; None for persistence.
    as_of : date
        The newest session it may have seen; of persistence the first session that it is in force
        for.
    digest : str or None
        Digest of its content; None for one put in force before digests were recorded.
    refit_of : int or None
        The candidate that was trained again on every session up to `as_of`; None for a candidate.
    """

    version: int
    mlflow_run_id: str | None
    dataset_run_id: str | None
    as_of: date
    digest: str | None
    refit_of: int | None = None

    @property
    def key(self) -> tuple[str | None, int]:
        """Dataset and number: after a loss of MLflow a number alone may name two models."""
        return self.dataset_run_id, self.version

    @property
    def is_persistence(self) -> bool:
        """Whether it is version 0."""
        return self.version == PERSISTENCE_VERSION

    @property
    def dataset(self) -> str:
        """The dataset of a trained version.

        Raises
        ------
        StockAssetsError
            It is persistence.
        """
        return self._trained(self.dataset_run_id)

    @property
    def mlflow_run(self) -> str:
        """The MLflow run of a trained version; raises as :attr:`dataset`."""
        return self._trained(self.mlflow_run_id)

    def _trained(self, name: str | None) -> str:
        if name is None:
            raise StockAssetsError(
                f"{self} was not trained", "Name a version of the list: stock-assets model list"
            )
        return name

    def is_same(self, other: ModelVersion | None) -> bool:
        """Whether another version is this one, by dataset, number and the digests that are known.

        Earlier installations recorded no digests. Persistence is one version under any settings.
        """
        if other is None or self.key != other.key:
            return False
        return (
            self.is_persistence
            or None in (self.digest, other.digest)
            or self.digest == other.digest
        )

    def __str__(self) -> str:
        """Return the name of the version in messages."""
        if self.is_persistence:
            return PERSISTENCE_NAME
        return f"version {version_label(self.version, self.refit_of)}"


PERSISTENCE_NAME = f"persistence (version {PERSISTENCE_VERSION})"
"""The name of version 0 in messages and on pages."""


def persistence(as_of: date = date.min, digest: str | None = None) -> ModelVersion:
    """Return version 0.

    Parameters
    ----------
    as_of : date
        The first session that it is in force for; by default it is not put in force by a change.
    digest : str, optional
        Digest of its rule and settings.
    """
    return ModelVersion(PERSISTENCE_VERSION, None, None, as_of, digest)


def version_label(version: int, refit_of: int | None) -> str:
    """Return the number of a version, and that of the candidate that it is a refit of."""
    return f"{version}" if refit_of is None else f"{version}, refit of {refit_of}"


class Decision(Protocol):
    """The facts of a promotion decision that the rules below read."""

    @property
    def promoted(self) -> bool:
        """Whether the candidate won."""

    @property
    def in_shadow(self) -> bool:
        """Whether the candidate forecasts in shadow after it."""

    @property
    def dataset_run_id(self) -> str:
        """The dataset of the candidate."""

    @property
    def as_of_session(self) -> date:
        """The newest session that the candidate may have seen."""

    @property
    def candidate_version(self) -> int:
        """The version that was compared."""

    @property
    def refit_version(self) -> int | None:
        """Its refit on every session; None without one."""

    @property
    def promoted_version(self) -> int:
        """The version to put into production: the refit where there is one."""

    @property
    def production_version(self) -> int | None:
        """The champion at the time of the decision; None without one."""


class Change(Protocol):
    """A row of the history of production, as the rules read it."""

    @property
    def model(self) -> ModelVersion | None:
        """The version put in force; None where none is in force any more."""

    @property
    def cause(self) -> Cause:
        """What changed it."""

    @property
    def until_session(self) -> date | None:
        """None for the version in production, which is in force for every later session too.

        A winner of a past session leaves a newer version in production. It is in force only for
        the sessions before that version's.
        """


C = TypeVar("C", bound=Change)

_RETURNS = (Cause.ROLLBACK, Cause.STEP_DOWN)
"""Causes after which the version that was replaced is not used again."""


def version_in_force(history: Sequence[Change]) -> ModelVersion | None:
    """Return the version in production now; None before the first and after a removal.

    Where it is None, persistence is in force as where it is version 0: see `trained_in_force`.

    Parameters
    ----------
    history : sequence of Change
        The history of production, oldest first.
    """
    newest = newest_change(history)
    return None if newest is None else newest.model


def trained_in_force(history: Sequence[Change]) -> ModelVersion | None:
    """Return the version of the registered model in production; None while persistence is."""
    model = version_in_force(history)
    return None if model is None or model.is_persistence else model


def newest_change(history: Sequence[C]) -> C | None:
    """Return the last change of the version in production; None before the first."""
    return next((change for change in reversed(history) if change.until_session is None), None)


def usable_versions(history: Sequence[Change]) -> list[ModelVersion]:
    """Return every version that was ever in force, without those replaced by an earlier one.

    An earlier one is one that was in production before, or that is as of an earlier session. A
    removal of the alias in between changes nothing.
    """
    usable: dict[tuple[str | None, int], ModelVersion] = {}
    in_production: set[tuple[str | None, int]] = set()
    last: ModelVersion | None = None
    for change in history:
        model = change.model
        if model is None:
            continue
        if change.until_session is None:
            if last is not None and (
                change.cause in _RETURNS or model.key in in_production or model.as_of < last.as_of
            ):
                usable.pop(last.key, None)
            if not model.is_persistence:
                in_production.add(model.key)
            last = model
        usable[model.key] = model
    return list(usable.values())


def rollback_targets(history: Sequence[Change]) -> list[ModelVersion]:
    """Return the versions that a rollback may return to, the one in force last first.

    Versions that were rolled back or stepped down from are left out, until they are put in force
    again.
    """
    found: dict[tuple[str | None, int], ModelVersion] = {}
    current: ModelVersion | None = None
    for change in history:
        if change.until_session is not None:
            continue
        if change.cause in _RETURNS and current is not None:
            found.pop(current.key, None)
        current = change.model
        if current is not None:
            found.pop(current.key, None)  # the last in order of being put in force
            found[current.key] = current
    if current is not None:
        del found[current.key]
    return list(reversed(found.values()))


def champion_as_of(session: date, history: Sequence[Change]) -> ModelVersion | None:
    """Return the version in force for a session: see the rule of this module.

    Parameters
    ----------
    session : date
        As-of session.
    history : sequence of Change
        The history of production, oldest first.

    Returns
    -------
    ModelVersion or None
        None where every version that was not rolled back has seen later sessions, or there is
        none.
    """
    production = version_in_force(history)
    if production is not None and production.as_of <= session:
        return production
    earlier = [model for model in usable_versions(history) if model.as_of <= session]
    return max(earlier, key=lambda model: (model.as_of, model.version), default=None)


def model_for(session: date, history: Sequence[Change]) -> ModelVersion:
    """Return the version that may forecast as of a session: its champion, or else persistence.

    After the alias was removed in MLflow no trained version forecasts.

    Parameters
    ----------
    session, history
        As for :func:`champion_as_of`.
    """
    newest = newest_change(history)
    removed = newest is not None and newest.model is None
    return (None if removed else champion_as_of(session, history)) or persistence()


def refit_is_due(decision: Decision, history: Sequence[Change]) -> bool:
    """Whether a candidate is still to be refitted: it has no refit and was never in force.

    A winner is, and a candidate that forecasts in shadow beside a refit in production.

    Parameters
    ----------
    decision : Decision
        The decision about the candidate.
    history : sequence of Change
        The history of production, oldest first.
    """
    wanted = decision.promoted or decision.in_shadow
    return wanted and decision.refit_version is None and not _applied(decision, history)


def promotion_is_due(decision: Decision, history: Sequence[Change]) -> bool:
    """Whether a winner is still to be put in force.

    It is while the version in production is the one that it was compared with, or is persistence,
    and only once: a winner that was replaced since was replaced on purpose. A winner of a past
    session is put in force for the sessions before those of a newer version in production: see
    `newer_production_session`.

    Parameters
    ----------
    decision, history
        As for :func:`refit_is_due`.
    """
    if not decision.promoted or _applied(decision, history):
        return False
    production = trained_in_force(history)
    return (
        production is None
        or production.version == decision.production_version
        or production.as_of > decision.as_of_session
    )


def newer_production_session(as_of: date, history: Sequence[Change]) -> date | None:
    """Return the as-of session of the version in production, if it is later than a winner's.

    The winner is in force for the sessions before it only. None where it takes over production, as
    from persistence.
    """
    production = trained_in_force(history)
    return production.as_of if production is not None and production.as_of > as_of else None


def _applied(decision: Decision, history: Sequence[Change]) -> bool:
    """Whether the winner or its refit was ever in force."""
    numbers = {decision.candidate_version, decision.promoted_version}
    return any(
        change.model is not None
        and change.model.dataset_run_id == decision.dataset_run_id
        and change.model.version in numbers
        for change in history
    )
