"""When a candidate that forecasts beside production takes over.

Sessions that raised an alarm do not decide about the candidate that the alarm led to: production is
compared because it was unlucky on them. Candidate and production are compared on sessions after the
decision to let the candidate forecast, the *shadow*. Each session is one observation: the bounded
difference of :func:`stock_assets.evaluation.session_losses.session_differences`, ``d``, negative
where the candidate is better.

The evidence for the candidate is an e-process (Choe and Ramdas 2024, "Comparing sequential
forecasters", Operations Research 72): the wealth of a bet, with stake 1, that the candidate is
better. After ``t`` sessions it is the mean, over fixed stakes λ, of the product of ``1 - λ·d``. If
the candidate's expected difference given the past is never negative, the probability that the
evidence ever reaches 20 is at most 1/20 (Ville's inequality), however often it is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stock_assets.evaluation.forecast_issues import Issued
from stock_assets.evaluation.session_losses import session_differences
from stock_assets.evaluation.significance import loss_difference

STAKES = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Shares of the wealth that are bet on each session, below 1 so that no wealth is lost at once."""

ENOUGH = 20.0
"""Evidence that promotes at once: one that is no better reaches it in at most 1 of 20 shadows."""


class ShadowOutcome(StrEnum):
    """The outcome of a shadow; the first two promote."""

    BETTER = "better"
    """The evidence has reached `ENOUGH`."""
    LOWER_LOSS = "lower_loss"
    """At the end of the first period the candidate has the lower loss."""
    LOST = "lost"
    """At the end of a period it has not."""
    OPEN = "open"
    """The period has not ended."""


@dataclass(frozen=True)
class ShadowEvidence:
    """The sessions of a shadow up to a decision.

    Attributes
    ----------
    version : int
        The version that forecast in shadow: the candidate, or its refit.
    sessions : tuple of date
        The target sessions that count, oldest first.
    differences : tuple of float
        The bounded difference of each session, negative where the candidate is better.
    evidence : tuple of float
        The e-process after each session.
    loss_difference : float
        Mean loss of the candidate minus production's; each session counts once. A fraction of
        price, 0 without a session.
    forecasts : int
        Forecasts of the candidate that were compared.
    backfilled : int
        How many of them, or of production's, are not known to be live.
    period : int
        Sessions of a period; two periods end the shadow.
    """

    version: int
    sessions: tuple[date, ...]
    differences: tuple[float, ...]
    evidence: tuple[float, ...]
    loss_difference: float
    forecasts: int
    backfilled: int
    period: int

    @property
    def current(self) -> float:
        """The newest value of the evidence; 1 before the first session."""
        return self.evidence[-1] if self.evidence else 1.0

    @property
    def is_over(self) -> bool:
        """Whether both periods have ended."""
        return len(self.sessions) >= 2 * self.period


@dataclass(frozen=True)
class ShadowScores:
    """The scored forecasts of a candidate in shadow, and production's of the same triples.

    Attributes
    ----------
    candidate, production : DataFrame
        From :func:`stock_assets.evaluation.metrics.score_rows`, with ``as_of_session`` and
        ``issued``, one session ahead, by session and ticker.
    """

    candidate: pd.DataFrame
    production: pd.DataFrame

    @property
    def sessions(self) -> list[date]:
        """The target sessions, oldest first."""
        return sorted(set(self.candidate["session"].dt.date))

    def differences(self) -> pd.Series[float]:
        """Return the bounded difference of each session, negative where the candidate is better."""
        return session_differences(self.candidate, self.production)

    def losses(self) -> pd.Series[float]:
        """Return the candidate's loss minus production's in each session, a fraction of price."""
        return loss_difference(self.candidate, self.production)

    def first(self, count: int) -> ShadowScores:
        """Return the scores of the first sessions."""
        days = pd.to_datetime(self.sessions[:count])
        return ShadowScores(
            *(rows[rows["session"].isin(days)] for rows in (self.candidate, self.production))
        )

    def evidence(self, version: int, period: int) -> ShadowEvidence:
        """Return the evidence of all sessions; see :class:`ShadowEvidence` for the arguments."""
        differences = self.differences()
        losses = self.losses()
        pair = zip(self.candidate["issued"], self.production["issued"], strict=True)
        return ShadowEvidence(
            version=version,
            sessions=tuple(self.sessions),
            differences=tuple(differences.tolist()),
            evidence=tuple(evidence_path(differences.to_numpy()).tolist()),
            loss_difference=float(losses.mean()) if len(losses) else 0.0,
            forecasts=len(self.candidate),
            backfilled=sum(set(issued) != {Issued.LIVE.value} for issued in pair),
            period=period,
        )


def pair_scores(candidate: pd.DataFrame, production: pd.DataFrame, as_of: date) -> ShadowScores:
    """Return the scores that count: out of sample, one session ahead, on the same pairs.

    Parameters
    ----------
    candidate, production : DataFrame
        Columns of ``model_performance_log``; of production at most one row per session and ticker.
    as_of : date
        As-of session of the candidate's version. Scores of forecasts as of an earlier session are
        left out: it may have seen what happened.
    """
    seen = pd.Timestamp(as_of)
    own = candidate[
        (candidate["horizon"] == 1)
        & (candidate["as_of_session"] >= seen)
        & (candidate["session"] > candidate["as_of_session"])
    ]
    key = ["session", "ticker", "as_of_session"]
    shared = own[key].merge(production.loc[production["horizon"] == 1, key])
    pairs = shared.sort_values(key, ignore_index=True)
    return ShadowScores(*(pairs.merge(rows, on=key, how="left") for rows in (own, production)))


def evidence_path(differences: Sequence[float] | NDArray[np.floating]) -> NDArray[np.float64]:
    """Compute the evidence for the candidate after each session.

    Parameters
    ----------
    differences : array-like (..., sessions)
        Differences of sessions, oldest first; clipped to -1 and 1.

    Returns
    -------
    ndarray (..., sessions)
        See this module. The factors are multiplied in order, so that a later session changes no
        earlier value.
    """
    clipped = np.clip(np.asarray(differences, dtype=np.float64), -1.0, 1.0)
    stakes = np.array(STAKES).reshape(-1, *[1] * clipped.ndim)
    wealth: NDArray[np.float64] = np.cumprod(1.0 - stakes * clipped, axis=-1).mean(axis=0)
    return wealth


def decide_shadow(
    evidence: Sequence[float] | NDArray[np.floating],
    losses: Sequence[float] | NDArray[np.floating],
    period: int,
    decided: int = 0,
) -> tuple[ShadowOutcome, int]:
    """Return the first decision after the sessions already decided, and its session.

    The evidence promotes at any session. At the end of the first period a lower loss promotes, too.
    Without either, the candidate stays in shadow for another period, in which the evidence alone
    promotes it. Later sessions than that of the decision do not matter.

    Parameters
    ----------
    evidence : array-like (sessions,)
        From :func:`evidence_path`.
    losses : array-like (sessions,)
        Loss of the candidate minus production's in each session.
    period : int
        ``promotion.shadow_sessions``.
    decided : int
        Number of sessions of the decision before; 0 without one.

    Returns
    -------
    ShadowOutcome, int
        The outcome and the number of sessions that it rests on.
    """
    known = min(len(evidence), 2 * period)
    for session in range(decided + 1, known + 1):
        if evidence[session - 1] >= ENOUGH:
            return ShadowOutcome.BETTER, session
        if session == period:
            lower = bool(np.sum(losses[:session]) < 0)
            return (ShadowOutcome.LOWER_LOSS if lower else ShadowOutcome.LOST), session
        if session == 2 * period:
            return ShadowOutcome.LOST, session
    return ShadowOutcome.OPEN, known
