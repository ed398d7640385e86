"""Which model is in production, which may forecast a session, and when the alias moves.

The registry's alias ``Production`` names the model in production now. The model that forecasts a
session is the production model if it saw nothing later than the session, otherwise the newest
promoted version that did not: the one with the newest as-of session, and of two as of one session
the higher version. Without such a version the session is not forecast. The alias moves to a
candidate that won, or to its refit, and never twice to the same winner.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date
from typing import Protocol

from stock_assets.core.errors import StockAssetsError


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
    digest : str
        Digest of its content.
    refit_of : int or None
        The candidate that was trained again on every session up to `as_of`; None for a candidate.
    """

    version: int
    mlflow_run_id: str
    dataset_run_id: str
    as_of: date
    digest: str
    refit_of: int | None = None

    def __str__(self) -> str:
        """Return the name of the version in messages."""
        refit = "" if self.refit_of is None else f", refit of {self.refit_of}"
        return f"version {self.version}{refit}"


class Decision(Protocol):
    """The facts of a promotion decision that the rules below read."""

    @property
    def promoted(self) -> bool:
        """Whether the candidate won."""

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


def champion_as_of(
    session: date, production: ModelVersion | None, promoted: Iterable[ModelVersion]
) -> ModelVersion | None:
    """Return the production model if it saw nothing later, else the newest promoted such model.

    Parameters
    ----------
    session : date
        As-of session.
    production : ModelVersion or None
        The version in production now; the champion if it saw nothing later than `session`.
    promoted : iterable of ModelVersion
        Every version that was ever promoted, in any order.

    Returns
    -------
    ModelVersion or None
        None where every promoted version has seen later sessions.
    """
    if production is not None and production.as_of <= session:
        return production
    earlier = [model for model in promoted if model.as_of <= session]
    return max(earlier, key=lambda model: (model.as_of, model.version), default=None)


def model_for(
    session: date, production: ModelVersion | None, promoted: Iterable[ModelVersion]
) -> ModelVersion:
    """Return the model that may forecast as of a session: its champion.

    Parameters
    ----------
    session, production, promoted
        As for :func:`champion_as_of`.

    Raises
    ------
    StockAssetsError
        There is none: a forecast would be in sample.
    """
    champion = champion_as_of(session, production, promoted)
    if champion is not None:
        return champion
    remedy = f"Train one that may: stock-assets retrain --as-of {session}"
    if production is None:
        raise StockAssetsError(f"there is no production model to forecast {session} with", remedy)
    raise StockAssetsError(
        f"every promoted model has seen sessions after {session}; the production model "
        f"({production}) is as of {production.as_of}",
        remedy,
    )


def refit_is_due(decision: Decision, history: Collection[int]) -> bool:
    """Whether a winner is still to be refitted: it has no refit and was never in production.

    Parameters
    ----------
    decision : Decision
        The decision about the candidate.
    history : collection of int
        Versions that have been in production.
    """
    return decision.promoted and decision.refit_version is None and not _applied(decision, history)


def promotion_is_due(
    decision: Decision, production: ModelVersion | None, history: Collection[int]
) -> bool:
    """Whether the alias is still to be moved to a winner.

    It is while the alias names the champion of the decision, or the winner itself after a run was
    killed before it recorded the move. A winner of an earlier session leaves a newer production
    model alone, and a winner that has been in production is not promoted twice: the alias was moved
    on purpose since.

    Parameters
    ----------
    decision : Decision
        The decision about the candidate.
    production : ModelVersion or None
        The version in production now.
    history : collection of int
        Versions that have been in production.
    """
    if not decision.promoted:
        return False
    if production is None:
        return True
    expected = (decision.production_version, decision.candidate_version, decision.promoted_version)
    return production.version in expected and not _applied(decision, history)


def _applied(decision: Decision, history: Collection[int]) -> bool:
    """Whether the winner or its refit has been in production."""
    return decision.candidate_version in history or decision.promoted_version in history
