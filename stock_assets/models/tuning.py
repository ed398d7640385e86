"""Searches for hyperparameters on the validation segments.

An existing study is resumed: only missing trials run. The sampler of a trial is seeded by the
trial's rank, so they are the trials that would have run without the interruption. Failed trials and
trials of killed processes do not count.

A study of one worker is deterministic. Several workers share a study: proposals and pruning then
depend on which trials finished first, so that trials differ between searches, but not their number.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, fields, replace
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Any, cast

from stock_assets.config import (
    Architecture,
    FloatRange,
    IntegerRange,
    OptionRange,
    SearchSpace,
    Training,
    Tuning,
)
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.module_code import is_custom
from stock_assets.core.progress import bar
from stock_assets.models.checkpoint import EpochScore
from stock_assets.models.data import TrainingData
from stock_assets.models.networks import NetworkSpec, build_network
from stock_assets.models.training import FitSettings, fit
from stock_assets.models.workers import Job, Stopped, run_in_processes

if TYPE_CHECKING:
    import pandas as pd
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

_RANDOM_TRIALS = 5
"""Number of random trials before the sampler uses earlier results."""

_RANK = "rank"
"""Trial attribute: its position among the requested trials, from 0."""

_WORKERS = "workers"
"""Trial attribute: number of workers of its search."""

START = "start"
"""Study attribute: hyperparameters of its first trial."""


@dataclass(frozen=True)
class Hyperparameters:
    """The tuned parameters; `options` are those of a custom network."""

    architecture: Architecture
    hidden_size: int
    layers: int
    dropout: float
    learning_rate: float
    batch_size: int
    options: dict[str, int | float | str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, int | float | str]:
        """Return plain values under the names of Optuna's parameters."""
        plain = {one.name: getattr(self, one.name) for one in fields(self)}
        options = plain.pop("options")
        return plain | {_option_name(self.architecture, name): options[name] for name in options}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Hyperparameters:
        """Restore hyperparameters from :meth:`to_dict`."""
        options = {name.rpartition(".")[2]: plain[name] for name in plain if is_custom(name)}
        return cls(
            **{name: plain[name] for name in plain if not is_custom(name)},
            options=options,
        )

    def network_spec(self, data: TrainingData, members: int = 1) -> NetworkSpec:
        """Return the specification of the network, or of an ensemble, for the shape of ``data``."""
        _, tickers, features = data.windows.values.shape
        return NetworkSpec(
            architecture=self.architecture,
            tickers=tickers,
            features=features,
            window=data.windows.length,
            hidden_size=self.hidden_size,
            layers=self.layers,
            dropout=self.dropout,
            horizon=data.horizon,
            options=self.options,
            members=members,
        )

    def fit_settings(self, training: Training) -> FitSettings:
        """Combine the hyperparameters with the parameters that are not tuned."""
        return FitSettings(
            **training.model_dump(), learning_rate=self.learning_rate, batch_size=self.batch_size
        )


@dataclass(frozen=True)
class Tuned:
    """The result of a study.

    Attributes
    ----------
    best : Hyperparameters
        Of the completed trial with the lowest validation loss.
    trials : DataFrame
        One row per trial: ``number``, ``value`` (the validation loss; the newest one of a pruned
        trial), ``state``, ``duration`` and a column ``params_*`` per hyperparameter.
    study : optuna.Study
        With the loss of every epoch of every trial.
    """

    best: Hyperparameters
    trials: pd.DataFrame
    study: Study


def tune(
    open_folds: Callable[[], Sequence[TrainingData]],
    tuning: Tuning,
    training: Training,
    study_name: str,
    storage_url: str | None = None,
    start: Hyperparameters | None = None,
) -> Tuned:
    """Search until the study has ``tuning.trials`` finished trials or its time is used up.

    The time of earlier runs of the study counts. A trial that is running when time is up is pruned
    at its next epoch, unless no trial has completed.

    The loss of a trial is the mean over the folds of its best validation loss, with a network per
    fold. Proposals come from the tree-structured Parzen estimator (Bergstra et al. 2011,
    "Algorithms for hyper-parameter optimization", NeurIPS) after a few random trials. After each
    epoch a trial reports the mean validation loss over its folds so far. It is pruned if its lowest
    report in the current fold exceeds the median report of completed trials at the same epoch
    (:class:`stock_assets.models.pruning.FoldPruner`), or if its loss is not finite.

    Parameters
    ----------
    open_folds : callable
        Returns the data of each fold; called once per worker. For several workers it must be
        picklable, such as ``functools.partial(fold_data, ...)`` of
        :mod:`stock_assets.models.data`: workers then share the memory of the mapped file.
    tuning : Tuning
        Budget, workers and search space.
    training : Training
        Parameters that are not tuned. ``epochs`` and ``patience`` are replaced by those of
        ``tuning``, and ``threads`` by 1 for several workers.
    study_name : str
    storage_url : str, optional
        SQLAlchemy URL of Optuna's database. Without one the study is kept in memory.
    start : Hyperparameters, optional
        Proposal of the first trial, as far as it lies in the search space: the best of an earlier
        dataset. A resumed study keeps its own.

    Raises
    ------
    StockAssetsError
        No trial completed, a worker was killed, or several workers have no database to share.
    """
    if tuning.workers > 1 and storage_url is None:
        raise StockAssetsError(
            "several tuning workers need a database to share the study in",
            "Set tuning.workers to 1, or configure Optuna's database",
        )
    changes: dict[str, Any] = {"epochs": tuning.epochs, "patience": tuning.patience}
    if tuning.workers > 1:
        changes["threads"] = 1
    search = _Search(
        open_folds,
        tuning.search_space,
        training.model_copy(update=changes),
        study_name,
        storage_url,
        tuning.workers,
    )
    study = search.study()
    if START not in study.user_attrs:
        study.set_user_attr(START, _in_space(tuning.search_space, start) if start else {})
    ranks = _missing_ranks(study, tuning.trials)
    search = replace(
        search,
        ends_at=time.time() + (tuning.timeout_seconds or math.inf) - _seconds_used(study),
        required_rank=None if completed(study) else next(iter(ranks), None),
    )
    if tuning.workers == 1:
        run = _open_trials(search, lambda: False, study)
        for rank in bar(ranks, "trials"):
            run(rank)
    else:
        _run_in_processes(search, ranks)
    return Tuned(
        _best(study),
        study.trials_dataframe(("number", "value", "state", "duration", "params")),
        study,
    )


@dataclass(frozen=True)
class _Search:
    """What all workers of a search share."""

    open_folds: Callable[[], Sequence[TrainingData]]
    space: SearchSpace
    training: Training
    study_name: str
    storage_url: str | None
    workers: int
    ends_at: float = math.inf
    required_rank: int | None = None

    def study(self) -> Study:
        """Open the study, or create it."""
        import optuna

        from stock_assets.models.pruning import FoldPruner

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        return optuna.create_study(
            study_name=self.study_name,
            storage=self.storage_url,
            pruner=FoldPruner(self.training.epochs),
            load_if_exists=True,
        )


def _open_trials(search: _Search, stopped: Stopped, study: Study | None = None) -> Job:
    """Open the data and the study; return the function that runs the trial of a rank."""
    from optuna.exceptions import ExperimentalWarning
    from optuna.samplers import PartialFixedSampler, TPESampler

    study, folds = study or search.study(), search.open_folds()

    def run(rank: int) -> None:
        if time.time() >= search.ends_at and rank != search.required_rank:
            return

        def objective(trial: Trial) -> float:
            trial.set_user_attr(_RANK, rank)
            trial.set_user_attr(_WORKERS, search.workers)
            return _validation_loss(trial, folds, search, stopped)

        seed = search.training.seed + rank
        study.sampler = TPESampler(n_startup_trials=_RANDOM_TRIALS, seed=seed, constant_liar=False)
        if rank == 0:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                study.sampler = PartialFixedSampler(study.user_attrs.get(START, {}), study.sampler)
        study.optimize(objective, n_trials=1)

    return run


def _run_in_processes(search: _Search, ranks: Sequence[int]) -> None:
    try:
        run_in_processes(partial(_open_trials, search), ranks, search.workers, "trials")
    except BrokenProcessPool:
        raise StockAssetsError(
            f"a worker of the study {search.study_name} was killed",
            "Run again to resume. If memory ran out, lower tuning.workers or "
            "tuning.search_space.batch_size first",
        ) from None


def _option_name(architecture: Architecture, option: str) -> str:
    """Name the Optuna parameter of a custom network's option."""
    return f"{architecture}.{option}"


def _suggest_option(trial: Trial, name: str, option: OptionRange) -> int | float | str:
    if isinstance(option, IntegerRange):
        return int(trial.suggest_int(name, **option.model_dump()))
    if isinstance(option, FloatRange):
        return float(trial.suggest_float(name, **option.model_dump()))
    return cast("int | float | str", trial.suggest_categorical(name, option))


def _suggest(trial: Trial, space: SearchSpace) -> Hyperparameters:
    architecture = trial.suggest_categorical("architecture", space.architecture)
    return Hyperparameters(
        architecture=architecture,
        hidden_size=trial.suggest_int("hidden_size", **space.hidden_size.model_dump()),
        layers=trial.suggest_int("layers", **space.layers.model_dump()),
        dropout=trial.suggest_float("dropout", **space.dropout.model_dump()),
        learning_rate=trial.suggest_float("learning_rate", **space.learning_rate.model_dump()),
        batch_size=trial.suggest_int("batch_size", **space.batch_size.model_dump()),
        options={
            name: _suggest_option(trial, _option_name(architecture, name), option)
            for name, option in space.custom.get(architecture, {}).items()
        },
    )


def _validation_loss(
    trial: Trial, folds: Sequence[TrainingData], search: _Search, stopped: Stopped
) -> float:
    """Fit a network per fold, and report the mean loss so far to the pruner after each epoch."""
    from optuna import TrialPruned

    training, chosen = search.training, _suggest(trial, search.space)
    losses: list[float] = []

    def prune(score: EpochScore) -> None:
        if stopped():
            raise InterruptedError("the search was stopped")
        step = len(losses) * training.epochs + score.epoch
        trial.report(fmean([*losses, score.validation_loss]), step)
        # The pruner never prunes the first trials, but a diverged one is useless.
        if trial.should_prune() or not math.isfinite(score.validation_loss):
            raise TrialPruned
        if time.time() >= search.ends_at and completed(trial.study):
            raise TrialPruned("the time of the study is used up")

    for data in folds:
        network = build_network(chosen.network_spec(data), training.seed)
        fitted = fit(network, data, chosen.fit_settings(training), prune)
        losses.append(fitted.best.validation_loss)
    return fmean(losses)


def _seconds_used(study: Study) -> float:
    """Add up the durations of all trials, divided by the number of parallel workers."""
    return sum(
        trial.duration.total_seconds() / int(trial.user_attrs.get(_WORKERS, 1))
        for trial in study.get_trials(deepcopy=False)
        if trial.duration is not None
    )


def completed(study: Study) -> list[FrozenTrial]:
    """Return the trials of a study that were neither pruned nor failed."""
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def _missing_ranks(study: Study, trials: int) -> list[int]:
    """Return the ranks without a finished trial."""
    from optuna.trial import TrialState

    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    ranks = {trial.user_attrs.get(_RANK) for trial in finished}
    return [rank for rank in range(trials) if rank not in ranks]


def _in_space(space: SearchSpace, chosen: Hyperparameters) -> dict[str, Any]:
    """Keep the hyperparameters that lie in the search space."""
    custom = space.custom.get(chosen.architecture, {})
    ranges = {
        **{name: getattr(space, name) for name in SearchSpace.model_fields if name != "custom"},
        **{_option_name(chosen.architecture, name): option for name, option in custom.items()},
    }
    return {
        name: choice
        for name, choice in chosen.to_dict().items()
        if name in ranges and _is_option(ranges[name], choice)
    }


def _is_option(options: OptionRange, choice: Any) -> bool:
    if isinstance(options, list):
        return choice in options
    if isinstance(choice, str):
        return False
    steps = (choice - options.low) / options.step if options.step else 0.0
    return bool(
        options.low <= choice <= options.high and math.isclose(steps, round(steps), abs_tol=1e-9)
    )


def _best(study: Study) -> Hyperparameters:
    if not completed(study):
        raise StockAssetsError(
            f"no trial of the study {study.study_name} completed: every validation loss diverged",
            "Lower tuning.search_space.learning_rate, or check the features for extreme values",
        )
    return Hyperparameters.from_dict(study.best_params)
