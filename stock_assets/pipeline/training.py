"""Training on a stored dataset: the hyperparameter search, the candidate, and its refit."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from sqlalchemy import Engine

from stock_assets.config import Forecast, Params, Training, Tuning, WalkForward
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.fingerprints import plain_digest, training_code
from stock_assets.core.locations import find_locations
from stock_assets.core.module_code import code_digests
from stock_assets.datasets.build import recorded_params
from stock_assets.datasets.rebuild import open_panel
from stock_assets.evaluation.production_rule import ModelVersion
from stock_assets.features.scaling import Scaler, fit_reference
from stock_assets.features.splits import Segment
from stock_assets.market import calendar
from stock_assets.market.adjustment import AdjustmentFactors
from stock_assets.models.bundle import Bundle
from stock_assets.models.calibration import calibrate
from stock_assets.models.candidate import Candidate, train_candidate
from stock_assets.models.checkpoint import CheckpointFolder
from stock_assets.models.data import (
    TrainingData,
    fold_data,
    load_training_data,
    open_folds,
    training_data,
)
from stock_assets.models.device import on_device
from stock_assets.models.fold_scores import score_folds
from stock_assets.models.intervals import ScaledIntervals
from stock_assets.models.networks import pick_device
from stock_assets.models.recipe import NO_SHRINKAGE, Recipe
from stock_assets.models.refit import Refit, refit_bundle
from stock_assets.models.study_report import improvements
from stock_assets.models.tuning import Hyperparameters, Tuned, tune
from stock_assets.pipeline.training_logs import LoggedTraining
from stock_assets.storage.arrays import ArrayStore
from stock_assets.storage.datasets import (
    PanelRecord,
    SegmentRecord,
    load_scalers,
    load_segments,
    load_tuning,
    previous_best_params,
)
from stock_assets.storage.prices import read_bars

OPTUNA_VARIABLE = "STOCK_ASSETS_OPTUNA_URL"

_BUDGET = {
    "tuning": {"workers", "timeout_seconds", "trials"},
    "training": {"epochs", "patience", "ensemble", "shrinkage"},
}
"""Parameters that change the number and length of trials or the candidate, not a trial's result."""


@dataclass(frozen=True)
class Search:
    """The hyperparameter search of a dataset.

    Attributes
    ----------
    record : PanelRecord
    study : str
        Name of the study in Optuna's database.
    tuned : Tuned
    improvements : DataFrame
        Completed trials in order: ``number``, ``value`` and ``best``.
    """

    record: PanelRecord
    study: str
    tuned: Tuned
    improvements: pd.DataFrame

    @property
    def lowest_loss(self) -> float:
        """The lowest validation loss of a completed trial."""
        return float(self.improvements["value"].min())

    @property
    def trials(self) -> pd.DataFrame:
        """All trials, their duration in seconds."""
        trials = self.tuned.trials
        return trials.assign(duration=trials["duration"].dt.total_seconds())

    @property
    def pruned(self) -> int:
        """Number of pruned trials."""
        return int((self.tuned.trials["state"] == "PRUNED").sum())


@dataclass(frozen=True)
class Later:
    """A session later than a dataset's, and the moment whose prices are read.

    Attributes
    ----------
    as_of : date
    known_at : datetime or None
        None for the prices stored now.
    """

    as_of: date
    known_at: datetime | None


@dataclass(frozen=True)
class TrainedCandidate:
    """A candidate of a dataset, before it is registered.

    Attributes
    ----------
    record : PanelRecord
    best : Hyperparameters
    candidate : Candidate
    bundle : Bundle
        What is registered.
    bars : DataFrame
        As traded, through the as-of session.
    checkpoints : CheckpointFolder
        Files of this training, deleted once the candidate is registered.
    """

    record: PanelRecord
    best: Hyperparameters
    candidate: Candidate
    bundle: Bundle
    bars: pd.DataFrame
    checkpoints: CheckpointFolder


def search_hyperparameters(
    engine: Engine, arrays: ArrayStore, dataset_id: str, tuning: Tuning, training: Training
) -> Search:
    """Search a dataset's hyperparameters, or continue a search that was interrupted.

    The first trial tries the best hyperparameters of the newest dataset whose validation ended
    before the test segment of this one begins.

    Raises
    ------
    StockAssetsError
        The dataset is incomplete, or no Optuna database is configured.
    """
    record = open_panel(engine, arrays, dataset_id)
    recorded, segments = recorded_params(record), load_segments(engine, dataset_id)
    test_begins = segments["test"].first_session
    start = previous_best_params(engine, record.as_of_session, test_begins)
    folds, digest = recorded.walk_forward, segments["train"].digest
    study = _study_name(dataset_id, tuning, training, folds, digest)
    tuned = tune(
        partial(fold_data, arrays.local_path(record.location), recorded.dataset, folds),
        tuning,
        training,
        study,
        _optuna_address(),
        Hyperparameters.from_dict(start) if start else None,
    )
    return Search(record, study, tuned, improvements(tuned.trials))


def plain_records(trials: pd.DataFrame) -> list[dict[str, Any]]:
    """Return trials as JSON values: losses that diverged, and missing ones, become None."""
    finite = trials.replace([float("inf"), float("-inf")], float("nan")).notna()
    plain = trials.astype(object).where(finite, None).to_dict("records")
    return [{str(name): value for name, value in trial.items()} for trial in plain]


def train_on_dataset(
    engine: Engine,
    arrays: ArrayStore,
    dataset_id: str,
    params: Params,
    checkpoint_folder: Path | None = None,
) -> TrainedCandidate:
    """Train the candidate of a dataset with its tuned hyperparameters.

    Training continues from the checkpoints of an interrupted one: of this installation, or in
    `checkpoint_folder`.

    Raises
    ------
    StockAssetsError
        The dataset is incomplete.
    """
    record = open_panel(engine, arrays, dataset_id)
    recorded = recorded_params(record)
    segments = load_segments(engine, dataset_id)
    best = Hyperparameters.from_dict(load_tuning(engine, dataset_id))
    features, target = map(Scaler.from_dict, load_scalers(engine, dataset_id))
    train, validation = (_positions(segments[name]) for name in ("train", "validation"))
    data = load_training_data(
        arrays.local_path(record.location), recorded.dataset, (features, target), train, validation
    )
    checkpoints = _checkpoints(dataset_id, segments, checkpoint_folder)
    candidate = train_candidate(data, best, params.training, checkpoints)
    recipe = _recipe(record, candidate, data, (features, target), params)
    first, last = record.first_session, record.as_of_session
    bars = read_bars(engine, first, last, record.tickers, record.known_at)
    days = calendar.sessions(first, last)
    with on_device(candidate.network, pick_device(params.training.device)):
        bundle = calibrate(
            Bundle(recipe, candidate.network),
            bars,
            [days[end] for end in data.calibration],
            params.forecast,
            None if params.training.shrinkage else recipe.shrinkage,
        )
    return TrainedCandidate(record, best, candidate, bundle, bars, checkpoints)


def score_earlier_folds(
    trained: TrainedCandidate, arrays: ArrayStore, training: Training, forecast: Forecast
) -> pd.DataFrame:
    """Score the candidate's network, trained as of each earlier fold, on that fold's test segment.

    Returns
    -------
    DataFrame
        See :func:`stock_assets.models.fold_scores.score_folds`; empty with a single fold.
    """
    record, recorded = trained.record, recorded_params(trained.record)
    folds = open_folds(arrays.local_path(record.location), recorded.dataset, recorded.walk_forward)
    return score_folds(
        islice(folds, recorded.walk_forward.folds - 1),
        trained.bundle.recipe,
        trained.best,
        training,
        forecast,
        trained.bars,
        trained.checkpoints,
    )


def refit_on_dataset(
    engine: Engine,
    arrays: ArrayStore,
    candidate: ModelVersion,
    bundle: Bundle,
    logged: LoggedTraining,
    checkpoint_folder: Path | None = None,
    later: Later | None = None,
) -> tuple[Refit, pd.DataFrame, CheckpointFolder]:
    """Train a candidate again on every window of its dataset with known labels.

    These are the windows from the first of training to the last of test, which is labelled with the
    as-of session, and those that were purged between the segments. A refit as of a later session
    has the windows up to that one, too. The intervals begin with the residuals of calibration and
    those of the candidate's forecasts since.

    Returns
    -------
    Refit, DataFrame, CheckpointFolder
        The refit, the bars as traded through its as-of session, and files of this training.
    """
    record = open_panel(engine, arrays, candidate.dataset)
    segments = load_segments(engine, candidate.dataset)
    train, validation, test = (
        _positions(segments[name]) for name in ("train", "validation", "test")
    )
    dataset, recipe = recorded_params(record).dataset, bundle.recipe
    scalers = (recipe.feature_scaler, recipe.target_scaler)
    known_at = record.known_at if later is None else later.known_at
    as_of = recipe.as_of if later is None else later.as_of
    bars = read_bars(engine, recipe.first_session, as_of, recipe.tickers, known_at, renamed=True)
    if later is None:
        known = Segment(train.first, test.last)
        path = arrays.local_path(record.location)
        data = load_training_data(path, dataset, scalers, known, validation)
    else:
        panel = bundle.panel(bars, as_of)
        known = Segment(train.first, len(panel.sessions) - 1 - dataset.prediction_length)
        arrays_of = {name: getattr(panel, name) for name in ("values", "valid", "close")}
        tensors = {name: torch.from_numpy(array) for name, array in arrays_of.items()}
        data = training_data(tensors, dataset, scalers, known, validation)
        bundle = Bundle(replace(recipe, as_of=as_of), bundle.network)
    checkpoints = _checkpoints(candidate.dataset, segments, checkpoint_folder)
    recipe = replace(
        bundle.recipe,
        newest_label=_newest_label(recipe.first_session, as_of, data),
        intervals=bundle.continued_intervals(bars),
    )
    refit = refit_bundle(
        Bundle(recipe, bundle.network),
        data,
        logged.training,
        logged.batch_size,
        logged.learning_rates,
        checkpoints,
    )
    return refit, bars, checkpoints


def _recipe(
    record: PanelRecord,
    candidate: Candidate,
    data: TrainingData,
    scalers: tuple[Scaler, Scaler],
    params: Params,
) -> Recipe:
    """Build the recipe of a bundle before it is calibrated: everything besides the weights."""
    features, target = scalers
    recorded = recorded_params(record)
    return Recipe(
        dataset_run_id=record.dataset_run_id,
        as_of=record.as_of_session,
        first_session=record.first_session,
        tickers=tuple(record.tickers),
        features=tuple(record.features),
        basis=recorded.features.basis,
        adjustment_factors={
            ticker: AdjustmentFactors(**factors)
            for ticker, factors in record.adjustment_factors.items()
        },
        target=recorded.dataset.target,
        network=candidate.network.spec,
        feature_scaler=features,
        target_scaler=target,
        reference=fit_reference(
            data.windows.values.numpy(),
            data.windows.valid.numpy(),
            features,
            Segment(int(data.train[0]), int(data.train[-1])),
            data.windows.length,
            params.monitoring.window_sessions,
        ),
        intervals=ScaledIntervals.uncalibrated(
            params.forecast.coverages, data.horizon, len(record.tickers)
        ),
        shrinkage=NO_SHRINKAGE * data.horizon,
        newest_label=_newest_label(record.first_session, record.as_of_session, data),
        custom_code=code_digests((candidate.network.spec.architecture, *record.features)),
    )


def _newest_label(first_session: date, as_of: date, data: TrainingData) -> date:
    return calendar.sessions(first_session, as_of)[data.newest_label]


def _positions(record: SegmentRecord) -> Segment:
    return Segment(record.first_position, record.last_position)


def _checkpoints(
    dataset_id: str, segments: Mapping[str, SegmentRecord], folder: Path | None
) -> CheckpointFolder:
    """Return the checkpoints from which killed trainings on a dataset continue."""
    folder = folder or find_locations().checkpoints_folder(dataset_id)
    return CheckpointFolder(folder, segments["train"].digest)


def _optuna_address() -> str:
    """Return the database of studies; without it an interrupted search would start over."""
    try:
        return os.environ[OPTUNA_VARIABLE]
    except KeyError:
        raise StockAssetsError(
            f"no Optuna database is named by {OPTUNA_VARIABLE}",
            'Run eval "$(stock-assets env)" first',
        ) from None


def _study_name(
    dataset_id: str, tuning: Tuning, training: Training, folds: WalkForward, data_digest: str
) -> str:
    """Name a study by what decides the result of a trial; the budget does not."""
    settings = {
        name: section.model_dump(mode="json", exclude=_BUDGET[name])
        for name, section in (("tuning", tuning), ("training", training))
    }
    libraries = {name: version(name) for name in ("torch", "optuna")}
    divided = folds.model_dump(mode="json")
    code = training_code(tuning.search_space.architecture)
    fingerprint = [settings, divided, data_digest, code, libraries]
    return f"{dataset_id}-{plain_digest(fingerprint)[:12]}"
