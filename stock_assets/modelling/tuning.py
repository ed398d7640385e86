"""Search for hyperparameters, on the validation stretch alone."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

import pandas as pd

from stock_assets.config import Architecture, SearchSpace, Training, Tuning
from stock_assets.errors import StockAssetsError
from stock_assets.modelling.networks import NetworkSpec, build_network
from stock_assets.modelling.training import EpochScore, FitSettings, TrainingData, fit
from stock_assets.progress import bar

if TYPE_CHECKING:
    from optuna import Study, Trial


@dataclass(frozen=True)
class Hyperparameters:
    """What tuning chooses."""

    architecture: Architecture
    hidden_size: int
    layers: int
    dropout: float
    learning_rate: float
    batch_size: int

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Hyperparameters:
        """Restore what `to_dict` gave."""
        return cls(**fields)

    def network_spec(self, data: TrainingData) -> NetworkSpec:
        """Describe the network of these hyperparameters for the shape of ``data``."""
        _, tickers, features = data.values.shape
        return NetworkSpec(
            architecture=self.architecture,
            tickers=tickers,
            features=features,
            window=data.window,
            hidden_size=self.hidden_size,
            layers=self.layers,
            dropout=self.dropout,
        )

    def fit_settings(self, training: Training) -> FitSettings:
        """Join these hyperparameters with the parameters that are not tuned."""
        return FitSettings(
            **training.model_dump(), learning_rate=self.learning_rate, batch_size=self.batch_size
        )


@dataclass(frozen=True)
class Tuned:
    """The outcome of a study.

    Attributes
    ----------
    best : Hyperparameters
        Those of the completed trial with the lowest validation loss.
    trials : DataFrame
        One row per trial: ``number``, ``value`` (the best validation loss; the last one of a pruned
        trial), ``state``, ``duration`` and a column ``params_*`` per hyperparameter.
    """

    best: Hyperparameters
    trials: pd.DataFrame


def tune(
    data: TrainingData,
    tuning: Tuning,
    training: Training,
    study_name: str,
    storage_url: str | None = None,
) -> Tuned:
    """Search until the study holds ``tuning.trials`` finished trials.

    The tree-structured Parzen estimator (Bergstra et al. 2011) proposes; a trial whose validation
    loss is above the median of the earlier ones at the same epoch is pruned. A study of this name
    is gone on with: only the missing trials run, and since each trial's proposal is seeded by its
    rank, they are those that would have run without the interruption. Trials that failed, or that a
    killed process left running, count for nothing.

    Parameters
    ----------
    data : TrainingData
    tuning : Tuning
        Budget and search space.
    training : Training
        Everything that is not tuned; ``epochs`` and ``patience`` are those of ``tuning``.
    study_name : str
    storage_url : str, optional
        SQLAlchemy address of Optuna's database; the study is kept in memory without one.

    Raises
    ------
    StockAssetsError
        No trial completed.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name=study_name,
        storage=storage_url,
        pruner=optuna.pruners.MedianPruner(),
        load_if_exists=True,
    )
    short = training.model_copy(update={"epochs": tuning.epochs, "patience": tuning.patience})

    def objective(trial: Trial) -> float:
        return _validation_loss(trial, data, _suggest(trial, tuning.search_space), short)

    deadline = time.monotonic() + (tuning.timeout_seconds or math.inf)
    for rank in bar(range(_finished(study), tuning.trials), "trials"):
        if time.monotonic() > deadline:
            break
        study.sampler = optuna.samplers.TPESampler(seed=training.seed + rank, constant_liar=False)
        study.optimize(objective, n_trials=1)
    return Tuned(
        _best(study), study.trials_dataframe(("number", "value", "state", "duration", "params"))
    )


def _suggest(trial: Trial, space: SearchSpace) -> Hyperparameters:
    return Hyperparameters(
        architecture=cast(
            Architecture, trial.suggest_categorical("architecture", space.architecture)
        ),
        hidden_size=trial.suggest_int("hidden_size", **space.hidden_size.model_dump()),
        layers=trial.suggest_int("layers", **space.layers.model_dump()),
        dropout=trial.suggest_float("dropout", **space.dropout.model_dump()),
        learning_rate=trial.suggest_float("learning_rate", **space.learning_rate.model_dump()),
        batch_size=trial.suggest_int("batch_size", **space.batch_size.model_dump()),
    )


def _validation_loss(
    trial: Trial, data: TrainingData, chosen: Hyperparameters, training: Training
) -> float:
    from optuna import TrialPruned

    def prune(score: EpochScore) -> None:
        trial.report(score.validation_loss, score.epoch)
        # The pruner spares the first trials whatever they report; a diverged one is hopeless.
        if trial.should_prune() or not math.isfinite(score.validation_loss):
            raise TrialPruned

    network = build_network(chosen.network_spec(data), training.seed)
    return fit(network, data, chosen.fit_settings(training), prune).best.validation_loss


def _finished(study: Study) -> int:
    from optuna.trial import TrialState

    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))


def _best(study: Study) -> Hyperparameters:
    from optuna.trial import TrialState

    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        raise StockAssetsError(
            f"no trial of the study {study.study_name} completed: every validation loss diverged",
            "Lower tuning.search_space.learning_rate, or look for extreme scaled features",
        )
    return Hyperparameters.from_dict(study.best_params)
