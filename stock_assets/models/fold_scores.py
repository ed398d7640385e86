"""Scores the candidate's network when trained as of earlier sessions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pandas as pd

from stock_assets.config import Forecast, Training
from stock_assets.evaluation.metrics import persistence_forecasts, score_rows
from stock_assets.evaluation.scorecard import score_models
from stock_assets.evaluation.scoring import score_due
from stock_assets.market import calendar
from stock_assets.models.bundle import Bundle
from stock_assets.models.calibration import calibrate
from stock_assets.models.candidate import Candidate, train_candidate
from stock_assets.models.checkpoint import CheckpointFolder
from stock_assets.models.data import Fold
from stock_assets.models.device import on_device
from stock_assets.models.networks import pick_device
from stock_assets.models.recipe import Recipe
from stock_assets.models.tuning import Hyperparameters


def score_folds(
    folds: Iterable[Fold],
    recipe: Recipe,
    best: Hyperparameters,
    training: Training,
    forecast: Forecast,
    bars: pd.DataFrame,
    checkpoints: CheckpointFolder | None = None,
) -> pd.DataFrame:
    """Train the candidate's network as of each fold, and score it on the fold's test segment.

    The networks have not seen their test sessions, but the hyperparameters and the feature
    selection used later ones. The scores show how stable the skill is. They do not affect the
    promotion decision.

    Parameters
    ----------
    folds : iterable of Fold
    recipe : Recipe
        The candidate's. Scalers, shrinkage and intervals are replaced by those of the fold.
    best, training, forecast : Hyperparameters, Training, Forecast
        The candidate's.
    bars : DataFrame
        As traded, from the first session of history to the as-of session of the dataset.
    checkpoints : CheckpointFolder, optional
        See :func:`stock_assets.models.candidate.train_candidate`.

    Returns
    -------
    DataFrame
        Two rows per fold: ``fold``, ``first_session`` and ``last_session`` of its test segment,
        ``model`` (``candidate`` or ``persistence``) and the figures of
        :meth:`stock_assets.evaluation.scorecard.Scorecard.to_dict`.
    """
    rows = []
    for number, fold in enumerate(folds, start=1):
        own = checkpoints and replace(
            checkpoints, data_fingerprint=f"{checkpoints.data_fingerprint} {fold.split}"
        )
        trained = train_candidate(fold.data, best, training, own, f"fold-{number}")
        with on_device(trained.network, pick_device(training.device)):
            model = _calibrated(fold, trained, recipe, bars, training, forecast)
            rows += [{"fold": number} | scored for scored in _scored(fold, model, bars)]
    return pd.DataFrame(rows)


def _calibrated(
    fold: Fold,
    trained: Candidate,
    recipe: Recipe,
    bars: pd.DataFrame,
    training: Training,
    forecast: Forecast,
) -> Bundle:
    own = replace(recipe.unshrunk(), feature_scaler=fold.features, target_scaler=fold.target)
    days = calendar.sessions(recipe.first_session, recipe.as_of)
    sessions = [days[end] for end in fold.data.calibration]
    model = Bundle(own, trained.network)
    shrinkage = None if training.shrinkage else own.shrinkage
    return calibrate(model, bars, sessions, forecast, shrinkage)


def _scored(fold: Fold, model: Bundle, bars: pd.DataFrame) -> list[dict[str, Any]]:
    recipe = model.recipe
    days = calendar.sessions(recipe.first_session, recipe.as_of)
    sessions = days[fold.split.test.first : fold.split.test.last + 1]
    scored = score_due(model.forecast(bars, sessions), bars)
    models = {"candidate": scored, "persistence": score_rows(persistence_forecasts(scored))}
    segment = {"first_session": sessions[0], "last_session": sessions[-1]}
    return [
        segment | {"model": name} | card.to_dict() for name, card in score_models(models).items()
    ]
