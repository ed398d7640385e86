"""Which version is in production, which may forecast a session, and when a winner takes over.

The rules read the history of production, oldest change first; it alone states what is or was in
force. The version in force now forecasts every session from its as-of session on. An earlier
session is forecast by the newest version that was ever in force and saw nothing later than the
session: the one with the newest as-of session, and of two as of one session the higher version. A
version that was replaced by a return to an earlier one, as in a rollback, forecasts nothing until
it is put in force again. Without a version the session is not forecast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Protocol, TypeVar

from stock_assets.core.errors import StockAssetsError


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
    FOUND_OUTSIDE = "found_outside"
    """The alias in MLflow was found moved or removed."""


@dataclass(frozen=True)
class ModelVersion:
    """A version of the registered model.

    Attributes
    ----------
    version : int
    mlflow_run_id, dataset_run_id : str
        The MLflow run that logged it, and the dataset it was trained on.
    as_of : date
        The newest session it may have seen.
    digest : str or None
        Digest of its content; None for one put in force before digests were recorded.
    refit_of : int or None
        The candidate that was trained again on every session up to `as_of`; None for a candidate.
    """

    version: int
    mlflow_run_id: str
    dataset_run_id: str
    as_of: date
    digest: str | None
    refit_of: int | None = None

    @property
    def key(self) -> tuple[str, int]:
        """Dataset and number: after a loss of MLflow a number alone may name two models."""
        return self.dataset_run_id, self.version

    def is_same(self, other: ModelVersion | None) -> bool:
        """Whether another version is this one, by dataset, number and the digests that are known.

        Earlier installations recorded no digests.
        """
        if other is None or self.key != other.key:
            return False
        return None in (self.digest, other.digest) or self.digest == other.digest

    def __str__(self) -> str:
        """Return the name of the version in messages."""
        return f"version {version_label(self.version, self.refit_of)}"


def version_label(version: int, refit_of: int | None) -> str:
    """Return the number of a version, and that of the candidate that it is a refit of."""
    return f"{version}" if refit_of is None else f"{version}, refit of {refit_of}"


class Decision(Protocol):
    """The facts of a promotion decision that the rules below read."""

    @property
    def promoted(self) -> bool:
        """Whether the candidate won."""

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


def version_in_force(history: Sequence[Change]) -> ModelVersion | None:
    """Return the version in production now; None before the first and after a removal.

    Parameters
    ----------
    history : sequence of Change
        The history of production, oldest first.
    """
    newest = newest_change(history)
    return None if newest is None else newest.model


def newest_change(history: Sequence[C]) -> C | None:
    """Return the last change of the version in production; None before the first."""
    return next((change for change in reversed(history) if change.until_session is None), None)


def usable_versions(history: Sequence[Change]) -> list[ModelVersion]:
    """Return every version that was ever in force, without those replaced by an earlier one.

    An earlier one is one that was in production before, or that is as of an earlier session. A
    removal of the alias in between changes nothing.
    """
    usable: dict[tuple[str, int], ModelVersion] = {}
    in_production: set[tuple[str, int]] = set()
    last: ModelVersion | None = None
    for change in history:
        model = change.model
        if model is None:
            continue
        if change.until_session is None:
            if last is not None and (
                change.cause is Cause.ROLLBACK
                or model.key in in_production
                or model.as_of < last.as_of
            ):
                usable.pop(last.key, None)
            in_production.add(model.key)
            last = model
        usable[model.key] = model
    return list(usable.values())


def rollback_targets(history: Sequence[Change]) -> list[ModelVersion]:
    """Return the versions that a rollback may return to, the one in force last first.

    Versions that were rolled back from are left out, until they are put in force again.
    """
    found: dict[tuple[str, int], ModelVersion] = {}
    current: ModelVersion | None = None
    for change in history:
        if change.until_session is not None:
            continue
        if change.cause is Cause.ROLLBACK and current is not None:
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
        None where every version that was not rolled back has seen later sessions.
    """
    production = version_in_force(history)
    if production is not None and production.as_of <= session:
        return production
    earlier = [model for model in usable_versions(history) if model.as_of <= session]
    return max(earlier, key=lambda model: (model.as_of, model.version), default=None)


def model_for(session: date, history: Sequence[Change]) -> ModelVersion:
    """Return the version that may forecast as of a session: its champion.

    Parameters
    ----------
    session, history
        As for :func:`champion_as_of`.

    Raises
    ------
    StockAssetsError
        There is none: a forecast would be in sample. Or nothing is in force any more.
    """
    newest = newest_change(history)
    if newest is not None and newest.model is None:
        raise StockAssetsError(
            "no version has been in force since the alias Production was removed in MLflow",
            "Put one in force: stock-assets model promote VERSION --why TEXT",
        )
    champion = champion_as_of(session, history)
    if champion is not None:
        return champion
    remedy = f"Train one that may: stock-assets retrain --as-of {session}"
    if newest is None:
        raise StockAssetsError(f"there is no production model to forecast {session} with", remedy)
    raise StockAssetsError(
        f"every version put in force has seen sessions after {session} or was rolled back; "
        f"{newest.model}, in production, is as of {newest.model.as_of if newest.model else None}",
        remedy,
    )


def refit_is_due(decision: Decision, history: Sequence[Change]) -> bool:
    """Whether a winner is still to be refitted: it has no refit and was never in force.

    Parameters
    ----------
    decision : Decision
        The decision about the candidate.
    history : sequence of Change
        The history of production, oldest first.
    """
    return decision.promoted and decision.refit_version is None and not _applied(decision, history)


def promotion_is_due(decision: Decision, history: Sequence[Change]) -> bool:
    """Whether a winner is still to be put in force.

    It is while the version in production is the one that it was compared with, and only once: a
    winner that was replaced since was replaced on purpose. A winner of a past session is put in
    force for the sessions before those of a newer version in production: see
    `newer_production_session`.

    Parameters
    ----------
    decision, history
        As for :func:`refit_is_due`.
    """
    if not decision.promoted or _applied(decision, history):
        return False
    production = version_in_force(history)
    return (
        production is None
        or production.version == decision.production_version
        or production.as_of > decision.as_of_session
    )


def newer_production_session(as_of: date, history: Sequence[Change]) -> date | None:
    """Return the as-of session of the version in production, if it is later than a winner's.

    The winner is in force for the sessions before it only. None where it takes over production.
    """
    production = version_in_force(history)
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
