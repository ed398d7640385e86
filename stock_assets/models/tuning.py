"""Search for hyperparameters, on the validation segment alone.

A study that is there already is gone on with: only the missing trials run, and since each trial's
proposal is seeded by its rank, they are those that would have run without the interruption. Trials
that failed, or that a killed process left running, count for nothing.

One worker makes the same trials every time. Several share the study: what a trial is proposed and
when it is pruned then depends on which others were done by that time, so that the trials may differ
from one search to the next, though not their number.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Any, cast

from stock_assets.config import (
    Architecture,
    FloatRange,
    IntegerRange,
    SearchSpace,
    Training,
    Tuning,
)
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.progress import bar
from stock_assets.models.checkpoint import EpochScore
from stock_assets.models.data import TrainingData
from stock_assets.models.networks import NetworkSpec, build_network
from stock_assets.models.training import FitSettings, fit
from stock_assets.models.workers import IsOver, run_in_processes

if TYPE_CHECKING:
    import pandas as pd
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

_RANDOM_TRIALS = 5
"""Before the sampler learns from what there is."""

_RANK = "rank"
"""Attribute of a trial: which of the trials asked for it is, from 0 on."""

_WORKERS = "workers"
"""Attribute of a trial: how many were made at the same time."""

START = "start"
"""Attribute of a study: what its first trial tries."""


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
    study : optuna.Study
        The study itself, with the loss of every epoch of every trial.
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
    """Search until the study holds ``tuning.trials`` finished trials, or its time is spent.

    What a study has spent is kept: asked for again, it makes the trials that are missing in the
    time that is left, and none if there is none left. A trial that the end of the time finds at
    work is pruned at its next epoch, unless none has completed before it.

    The loss of a trial is the mean over the folds of its best loss on each fold's validation
    segment; a network of its own is fitted to each.

    The tree-structured Parzen estimator (Bergstra et al. 2011, "Algorithms for hyper-parameter
    optimization", NeurIPS) proposes, after a few random trials; a trial whose best loss in
    a fold so far is above the median of the earlier trials' at the same epoch of it is pruned
    (:class:`stock_assets.models.pruning.FoldPruner`).

    Parameters
    ----------
    open_folds : callable
        Gives the data of each fold; called once by each worker. For several workers it must survive
        a pickle, as ``functools.partial(fold_data, ...)`` of :mod:`stock_assets.models.folds`
        does: the processes then share the pages of the mapped file and are handed its path alone.
    tuning : Tuning
        Budget, workers and search space.
    training : Training
        Everything that is not tuned; ``epochs`` and ``patience`` are those of ``tuning``, and
        ``threads`` is one where there are several workers.
    study_name : str
    storage_url : str, optional
        SQLAlchemy address of Optuna's database; the study is kept in memory without one, which one
        worker alone can see.
    start : Hyperparameters, optional
        What the first trial tries, as far as the search space has it: the best of an earlier
        search. A study that was begun keeps its own.

    Raises
    ------
    StockAssetsError
        No trial completed, a worker was killed, or several have no database to share.
    """
    if tuning.workers > 1 and storage_url is None:
        raise StockAssetsError(
            "several tuning workers need a database to share the study in",
            "Set tuning.workers to 1, or name Optuna's database",
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
        study.set_user_attr(START, _within(tuning.search_space, start) if start else {})
    left = (tuning.timeout_seconds or math.inf) - _spent_seconds(study)
    search = replace(search, ends_at=time.time() + left)
    missing = _missing_ranks(study, tuning.trials)
    ranks = _due(missing, search.ends_at, at_least=0 if completed(study) else 1)
    if tuning.workers == 1:
        make = _trials(search, study, is_over=lambda: False)
        for rank in ranks:
            make(rank)
    else:
        _make_in_processes(search, ranks, tuning.workers)
    return Tuned(
        _best(study),
        study.trials_dataframe(("number", "value", "state", "duration", "params")),
        study,
    )


@dataclass(frozen=True)
class _Search:
    """What every worker of a search is handed."""

    open_folds: Callable[[], Sequence[TrainingData]]
    space: SearchSpace
    training: Training
    study_name: str
    storage_url: str | None
    workers: int
    ends_at: float = math.inf

    def study(self) -> Study:
        """Open the study, which the first to come makes."""
        import optuna

        from stock_assets.models.pruning import FoldPruner

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        return optuna.create_study(
            study_name=self.study_name,
            storage=self.storage_url,
            pruner=FoldPruner(self.training.epochs),
            load_if_exists=True,
        )


def _due(ranks: Sequence[int], ends_at: float, at_least: int) -> Iterator[int]:
    """Give one rank after the other until the time is over, and at least so many."""
    for given, rank in enumerate(bar(ranks, "trials")):
        if given >= at_least and time.time() >= ends_at:
            return
        yield rank


def _trials(search: _Search, study: Study, is_over: IsOver) -> Callable[[int], None]:
    """Open the data; gives what makes the trial of a rank."""
    from optuna.exceptions import ExperimentalWarning
    from optuna.samplers import PartialFixedSampler, TPESampler

    folds = search.open_folds()

    def make(rank: int) -> None:
        def objective(trial: Trial) -> float:
            trial.set_user_attr(_RANK, rank)
            trial.set_user_attr(_WORKERS, search.workers)
            return _validation_loss(trial, folds, search, is_over)

        seed = search.training.seed + rank
        study.sampler = TPESampler(n_startup_trials=_RANDOM_TRIALS, seed=seed, constant_liar=False)
        if rank == 0:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                study.sampler = PartialFixedSampler(study.user_attrs.get(START, {}), study.sampler)
        study.optimize(objective, n_trials=1)

    return make


def _trials_of_worker(search: _Search, is_over: IsOver) -> Callable[[int], None]:
    return _trials(search, search.study(), is_over)


def _make_in_processes(search: _Search, ranks: Iterator[int], workers: int) -> None:
    try:
        run_in_processes(partial(_trials_of_worker, search), ranks, workers)
    except BrokenProcessPool:
        raise StockAssetsError(
            f"a worker of the study {search.study_name} was killed",
            "If memory ran out, lower tuning.workers or tuning.search_space.batch_size; "
            "the next run goes on with the study",
        ) from None


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
    trial: Trial, folds: Sequence[TrainingData], search: _Search, is_over: IsOver
) -> float:
    """Fit a network per fold; the pruner is told, epoch by epoch, what the mean would now be."""
    from optuna import TrialPruned

    training, chosen = search.training, _suggest(trial, search.space)
    losses: list[float] = []

    def prune(score: EpochScore) -> None:
        if is_over():
            raise InterruptedError("the search was interrupted")
        step = len(losses) * training.epochs + score.epoch
        trial.report(fmean([*losses, score.validation_loss]), step)
        # The pruner spares the first trials whatever they report; a diverged one is hopeless.
        if trial.should_prune() or not math.isfinite(score.validation_loss):
            raise TrialPruned
        if time.time() >= search.ends_at and completed(trial.study):
            raise TrialPruned("the time of the study is spent")

    for data in folds:
        network = build_network(chosen.network_spec(data), training.seed)
        fitted = fit(network, data, chosen.fit_settings(training), prune)
        losses.append(fitted.best.validation_loss)
    return fmean(losses)


def _finished(study: Study) -> list[FrozenTrial]:
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def _spent_seconds(study: Study) -> float:
    """Add up what trials took, failed ones too, each its share where several were made at once."""
    shares = (
        trial.duration.total_seconds() / int(trial.user_attrs.get(_WORKERS, 1))
        for trial in study.get_trials(deepcopy=False)
        if trial.duration is not None
    )
    return sum(shares)


def completed(study: Study) -> list[FrozenTrial]:
    """Give the trials of a study that were neither pruned nor failed."""
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def _missing_ranks(study: Study, trials: int) -> list[int]:
    """Give the ranks of which there is no finished trial; killed workers may leave gaps."""
    made = {trial.user_attrs.get(_RANK) for trial in _finished(study)}
    return [rank for rank in range(trials) if rank not in made]


def _within(space: SearchSpace, chosen: Hyperparameters) -> dict[str, Any]:
    """Leave out what the search space does not have, or not any more."""
    return {
        name: choice
        for name, choice in chosen.to_dict().items()
        if _has(getattr(space, name), choice)
    }


def _has(options: list[Architecture] | IntegerRange | FloatRange, choice: Any) -> bool:
    if isinstance(options, list):
        return choice in options
    steps = (choice - options.low) / options.step if options.step else 0.0
    return bool(
        options.low <= choice <= options.high and math.isclose(steps, round(steps), abs_tol=1e-9)
    )


def _best(study: Study) -> Hyperparameters:
    if not completed(study):
        raise StockAssetsError(
            f"no trial of the study {study.study_name} completed: every validation loss diverged",
            "Lower tuning.search_space.learning_rate, or look for extreme scaled features",
        )
    return Hyperparameters.from_dict(study.best_params)
