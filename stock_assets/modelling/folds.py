"""Walk-forward folds: the data of each, and how the network of the candidate does on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors.torch import load_file

from stock_assets.config import Dataset, Training, WalkForward
from stock_assets.evaluation.metrics import persistence_forecasts, score_rows
from stock_assets.evaluation.scorecard import score_models
from stock_assets.evaluation.scoring import score_due
from stock_assets.features.dataset import fit_scalers, fold_splits
from stock_assets.features.panel import targets
from stock_assets.features.scaling import Scaler
from stock_assets.features.windows import Split
from stock_assets.market import calendar
from stock_assets.modelling.bundle import Bundle, Recipe
from stock_assets.modelling.candidate import train_candidate
from stock_assets.modelling.data import TrainingData, load_training_data
from stock_assets.modelling.tuning import Hyperparameters

_FIGURES = ("forecasts", "mae", "mape", "mase", "direction_accuracy", "icir", "coverage")


@dataclass(frozen=True)
class Fold:
    """One division of history: its stretches, the scalers of its training sessions, its data."""

    split: Split
    features: Scaler
    target: Scaler
    data: TrainingData


def open_folds(path: Path, dataset: Dataset, folds: WalkForward) -> Iterator[Fold]:
    """Map the panel of a dataset and divide it once per fold, when the fold is asked for.

    Parameters
    ----------
    path : Path
        Tensor file, see :func:`stock_assets.modelling.data.load_training_data`.
    dataset, folds : Dataset, WalkForward
        How history is divided.

    Yields
    ------
    Fold
        Oldest first; the last is the dataset's own division. Their panels share memory, and each
        has scalers that were fitted on its own training sessions alone.

    Raises
    ------
    StockAssetsError
        History is too short for so many folds.
    """
    panel = load_file(path)
    values, valid = panel["values"].numpy(), panel["valid"].numpy()
    labels = targets(panel["close"].numpy(), dataset.target)
    for split in fold_splits(len(values), dataset, folds):
        scalers = fit_scalers(values, valid, labels, split.train, dataset)
        data = load_training_data(path, dataset, scalers, split.train, split.validation)
        yield Fold(split, *scalers, data)


def fold_data(path: Path, dataset: Dataset, folds: WalkForward) -> list[TrainingData]:
    """Give what tuning needs of each fold, see `open_folds`."""
    return [fold.data for fold in open_folds(path, dataset, folds)]


def score_folds(
    folds: Iterable[Fold],
    recipe: Recipe,
    best: Hyperparameters,
    training: Training,
    bars: pd.DataFrame,
) -> pd.DataFrame:
    """Train the candidate's network as of the end of each fold, and score it on the fold's test.

    No network has seen its test sessions. The hyperparameters, and the features if correlated ones
    were left out, were chosen knowing later sessions, so this says how steady a skill is; what
    decides is the dataset's own test stretch.

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

    Returns
    -------
    DataFrame
        One row per fold: ``fold``, ``first_session`` and ``last_session`` of its test stretch,
        scores of :class:`stock_assets.evaluation.scorecard.Scorecard`, and ``p_persistence``.
    """
    rows = [
        {"fold": number} | _scored(fold, recipe, best, training, bars)
        for number, fold in enumerate(folds, start=1)
    ]
    return pd.DataFrame(rows)


def _scored(
    fold: Fold, recipe: Recipe, best: Hyperparameters, training: Training, bars: pd.DataFrame
) -> dict[str, Any]:
    trained = train_candidate(fold.data, best, training, recipe.target, recipe.coverage)
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
    figures = score_models(models)["candidate"].to_dict()
    return {
        "first_session": sessions[0],
        "last_session": sessions[-1],
        **{name: figures[name] for name in (*_FIGURES, "p_persistence")},
    }
