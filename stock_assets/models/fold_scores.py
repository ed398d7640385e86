"""How the network of the candidate does when trained as of earlier sessions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pandas as pd

from stock_assets.config import Training
from stock_assets.evaluation.metrics import persistence_forecasts, score_rows
from stock_assets.evaluation.scorecard import score_models
from stock_assets.evaluation.scoring import score_due
from stock_assets.market import calendar
from stock_assets.models.bundle import Bundle, Recipe
from stock_assets.models.candidate import Candidate, train_candidate
from stock_assets.models.checkpoint import Checkpoints
from stock_assets.models.folds import Fold
from stock_assets.models.tuning import Hyperparameters


def score_folds(
    folds: Iterable[Fold],
    recipe: Recipe,
    best: Hyperparameters,
    training: Training,
    bars: pd.DataFrame,
    checkpoints: Checkpoints | None = None,
) -> pd.DataFrame:
    """Train the candidate's network as of the end of each fold, and score it on the fold's test.

    No network has seen its test sessions. The hyperparameters, and the features if correlated ones
    were left out, were chosen knowing later sessions, so this says how steady a skill is; what
    decides is the dataset's own test segment.

    Parameters
    ----------
    folds : iterable of Fold
        Those to score.
    recipe : Recipe
        The candidate's; each fold puts its own scalers and interval widths in it.
    best, training : Hyperparameters, Training
        As the candidate is trained.
    bars : DataFrame
        As traded, from the first session of history to the as-of session of the dataset.
    checkpoints : Checkpoints, optional
        Where a file is written after each epoch of a fold, which is gone on from if all of this was
        killed.

    Returns
    -------
    DataFrame
        Two rows per fold: ``fold``, ``first_session`` and ``last_session`` of its test segment,
        ``model`` (``candidate`` or ``persistence``) and the figures of
        :meth:`stock_assets.evaluation.scorecard.Scorecard.to_dict`.
    """
    rows = []
    for number, fold in enumerate(folds, start=1):
        own = replace(checkpoints, data=f"{checkpoints.data} {fold.split}") if checkpoints else None
        trained = train_candidate(
            fold.data, best, training, recipe.target, recipe.coverage, own, f"fold-{number}"
        )
        rows += [{"fold": number} | scored for scored in _scored(fold, trained, recipe, bars)]
    return pd.DataFrame(rows)


def _scored(
    fold: Fold, trained: Candidate, recipe: Recipe, bars: pd.DataFrame
) -> list[dict[str, Any]]:
    own = replace(
        recipe,
        feature_scaler=fold.features,
        target_scaler=fold.target,
        interval_widths=trained.interval_widths,
    )
    days = calendar.sessions(recipe.first_session, recipe.as_of)
    sessions = days[fold.split.test.first : fold.split.test.last + 1]
    scored = score_due(Bundle(own, trained.network).forecast(bars, sessions), bars)
    models = {"candidate": scored, "persistence": score_rows(persistence_forecasts(scored))}
    segment = {"first_session": sessions[0], "last_session": sessions[-1]}
    return [
        segment | {"model": name} | card.to_dict() for name, card in score_models(models).items()
    ]
