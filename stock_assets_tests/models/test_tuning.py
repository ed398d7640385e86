"""Tuning: deterministic, prunes, resumes, keeps its budget, uses validation segments only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import psutil
import pytest
import torch
from optuna.trial import TrialState

from stock_assets.cli.platform import Platform
from stock_assets.config import FloatRange, IntegerRange, SearchSpace, Training, Tuning
from stock_assets.core.errors import StockAssetsError
from stock_assets.models import tuning as tuning_module
from stock_assets.models.data import TrainingData
from stock_assets.models.networks import build_network
from stock_assets.models.training import fit
from stock_assets.models.tuning import Hyperparameters, tune
from stock_assets_tests.conftest import ROOT, throw_away_database
from stock_assets_tests.models.examples import learnable_data, with_windows

DATA = learnable_data()
TRAINING = Training(epochs=9, patience=9, loss="mse", seed=11)
SPACE = SearchSpace(
    hidden_size=IntegerRange(low=4, high=8, step=4),
    layers=IntegerRange(low=1, high=2),
    batch_size=IntegerRange(low=16, high=48, step=16),
)
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
CHOSEN = [f"params_{name}" for name in Hyperparameters("lstm", 8, 1, 0.1, 0.01, 16).to_dict()]
SEARCH = """
import sys
from stock_assets_tests.models.test_tuning import TRAINING, budget, one_fold, tune

if __name__ == "__main__":
    tune(one_fold, budget(6, epochs=40, patience=40, workers=2), TRAINING, "study", sys.argv[1])
"""


def one_fold() -> list[TrainingData]:
    """Return the data; workers import this function by name."""
    return [learnable_data()]


def budget(trials: int, **changes: Any) -> Tuning:
    return Tuning(**{"trials": trials, "epochs": 2, "patience": 2, "search_space": SPACE} | changes)


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/optuna.db"


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Count calls of the real `fit`."""
    seen: list[Any] = []

    def counting(*arguments: Any) -> Any:
        seen.append(arguments)
        return fit(*arguments)

    monkeypatch.setattr(tuning_module, "fit", counting)
    return seen


def without_time(trials: pd.DataFrame) -> pd.DataFrame:
    return trials.drop(columns="duration")


def proposals(trials: pd.DataFrame) -> list[tuple[object, ...]]:
    """Return the sorted hyperparameters of the finished trials."""
    finished = trials[trials["state"].isin(["COMPLETE", "PRUNED"])]
    return sorted(finished[CHOSEN].itertuples(index=False, name=None))


def test_best_is_the_completed_trial_with_the_lowest_loss() -> None:
    tuned = tune(one_fold, budget(6), TRAINING, "study")
    assert len(tuned.trials) == 6
    completed = tuned.trials[tuned.trials["state"] == "COMPLETE"]
    winner = completed.loc[completed["value"].idxmin()]
    best = tuned.best.to_dict()
    assert best == {name: winner[f"params_{name}"] for name in best}


def test_trial_loss_is_reproducible_from_its_hyperparameters() -> None:
    tuned = tune(one_fold, budget(3), TRAINING, "study")
    network = build_network(tuned.best.network_spec(DATA), TRAINING.seed)
    short = TRAINING.model_copy(update={"epochs": 2, "patience": 2})
    settings = tuned.best.fit_settings(short)
    again = fit(network, DATA, settings).best.validation_loss
    assert again == tuned.trials["value"][tuned.trials["state"] == "COMPLETE"].min()


def test_seed_determines_the_study() -> None:
    first, again = (tune(one_fold, budget(4), TRAINING, "study") for _ in range(2))
    pd.testing.assert_frame_equal(without_time(first.trials), without_time(again.trials))
    other = tune(one_fold, budget(4), TRAINING.model_copy(update={"seed": 12}), "study")
    assert not without_time(other.trials).equals(without_time(first.trials))


def test_study_ignores_sessions_after_the_validation_segment() -> None:
    early = replace(DATA, validation=np.arange(90, 110))
    target, values = DATA.target.clone(), DATA.windows.values.clone()
    target[110:], values[110:] = 99.0, 99.0
    first = tune(lambda: [early], budget(3), TRAINING, "study")
    changed = replace(with_windows(early, values=values), target=target)
    again = tune(lambda: [changed], budget(3), TRAINING, "study")
    pd.testing.assert_frame_equal(without_time(first.trials), without_time(again.trials))


def test_interrupted_study_resumes_with_the_missing_trials(database: str, fits: list[Any]) -> None:
    whole = tune(one_fold, budget(5), TRAINING, "study")
    fits.clear()
    tune(one_fold, budget(2), TRAINING, "study", database)
    resumed = tune(one_fold, budget(5), TRAINING, "study", database)
    assert len(fits) == 5
    pd.testing.assert_frame_equal(without_time(resumed.trials), without_time(whole.trials))
    assert resumed.best == whole.best
    finished = tune(one_fold, budget(5), TRAINING, "study", database)
    assert len(fits) == 5
    assert finished.best == whole.best


def test_failed_and_abandoned_trials_do_not_count(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first proposals are random; only later ones could depend on the abandoned trials.
    trials = budget(8, epochs=1)
    whole = tune(one_fold, trials, TRAINING, "study")
    study = optuna.create_study(study_name="study", storage=database)
    for _ in range(4):
        tuning_module._suggest(study.ask(), SPACE)

    def broken(*arguments: Any) -> Any:
        raise MemoryError

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(tuning_module, "fit", broken)
        tune(one_fold, trials, TRAINING, "study", database)
    tuned = tune(one_fold, trials, TRAINING, "study", database)
    assert tuned.trials["state"][:5].tolist() == ["RUNNING"] * 4 + ["FAIL"]
    assert len(tuned.trials) == 5 + 8
    assert tuned.best == whole.best
    assert tuned.trials["value"][5:].tolist() == whole.trials["value"].tolist()


def test_bad_trials_are_pruned_before_their_last_epoch(database: str) -> None:
    # From useless to good rates; useless ones keep the loss of an untrained network.
    space = SPACE.model_copy(
        update={
            "architecture": ["lstm"],
            "learning_rate": FloatRange(low=1e-7, high=3e-2, log=True),
        }
    )
    tune(
        one_fold,
        budget(14, epochs=5, patience=5, search_space=space),
        TRAINING,
        "study",
        database,
    )
    trials = optuna.load_study(study_name="study", storage=database).trials
    pruned = [trial for trial in trials if trial.state.name == "PRUNED"]
    completed = [trial for trial in trials if trial.state.name == "COMPLETE"]
    assert len(pruned) + len(completed) == len(trials) == 14
    assert min(trial.number for trial in pruned) >= 5, "the first five trials set the median"
    assert min(len(trial.intermediate_values) for trial in pruned) < 5
    for trial in pruned:
        epoch = max(trial.intermediate_values)
        earlier = [t.intermediate_values[epoch] for t in completed if t.number < trial.number]
        assert min(trial.intermediate_values.values()) > np.median(earlier)


def test_diverged_trial_is_pruned_and_the_study_continues(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = DATA.windows.values
    poisoned = with_windows(DATA, values=torch.where(values > 1, torch.inf, values))
    calls = iter([poisoned, DATA, DATA])
    monkeypatch.setattr(
        tuning_module, "fit", lambda network, data, *rest: fit(network, next(calls), *rest)
    )
    trials = tune(one_fold, budget(3), TRAINING, "study").trials
    assert trials["state"].tolist() == ["PRUNED", "COMPLETE", "COMPLETE"]


def test_study_without_a_completed_trial_is_an_error() -> None:
    values = DATA.windows.values
    poisoned = with_windows(DATA, values=torch.where(values > 1, torch.inf, values))
    with pytest.raises(StockAssetsError, match="no trial of the study study completed"):
        tune(lambda: [poisoned], budget(2), TRAINING, "study")


def test_failed_trials_use_time(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any) -> Any:
        time.sleep(0.3)
        raise MemoryError

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(tuning_module, "fit", broken)
        tune(one_fold, budget(50), TRAINING, "study", database)
    tuned = tune(one_fold, budget(50, timeout_seconds=0.25), TRAINING, "study", database)
    assert tuned.trials["state"].tolist() == ["FAIL", "COMPLETE"]


def test_no_trial_starts_after_the_timeout() -> None:
    tuned = tune(one_fold, budget(50, timeout_seconds=1e-3), TRAINING, "study")
    assert len(tuned.trials) == 1


def test_running_trial_is_pruned_at_the_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [time.time()]

    def ticking(network: Any, data: TrainingData, settings: Any, prune: Any) -> Any:
        def slow(score: Any) -> None:
            clock[0] += 1.0
            prune(score)

        return fit(network, data, settings, slow)

    monkeypatch.setattr(tuning_module, "fit", ticking)
    monkeypatch.setattr(time, "time", lambda: clock[0])
    epochs = 4
    few = budget(3, epochs=epochs, patience=epochs, timeout_seconds=epochs + 1.5)
    trials = tune(one_fold, few, TRAINING, "study").trials
    assert trials["state"].tolist() == ["COMPLETE", "PRUNED"]


@pytest.fixture
def shared(platform: Platform) -> Iterator[str]:
    """Return the URL of an empty PostgreSQL database."""
    with throw_away_database(platform) as url:
        yield url


@pytest.mark.long
def test_several_workers_run_the_requested_number_of_trials(shared: str) -> None:
    tuned = tune(one_fold, budget(5, workers=2), TRAINING, "study", shared)
    assert tuned.trials["state"].isin(["COMPLETE", "PRUNED"]).tolist() == [True] * 5
    assert tuned.trials["params_learning_rate"].nunique() == 5
    more = tune(one_fold, budget(7, workers=3), TRAINING, "study", shared)
    assert len(more.trials) == 7
    assert len(tune(one_fold, budget(7), TRAINING, "study", shared).trials) == 7


@pytest.mark.long
def test_several_workers_start_no_trial_after_the_timeout(shared: str) -> None:
    few = budget(50, workers=2, timeout_seconds=1e-3)
    assert len(tune(one_fold, few, TRAINING, "study", shared).trials) == 1


def test_unfinished_trial_of_a_killed_worker_is_run_again(database: str) -> None:
    """Trial 2 of one worker has finished, trial 1 of the other has not."""
    search = tuning_module._Search(one_fold, SPACE, TRAINING, "study", database, 1)
    run = tuning_module._open_trials(search, lambda: False)
    for rank in (0, 2):
        run(rank)
    tuned = tune(one_fold, budget(4), TRAINING, "study", database)
    assert proposals(tuned.trials) == proposals(tune(one_fold, budget(4), TRAINING, "whole").trials)


@pytest.mark.long
def test_killed_search_of_two_workers_is_resumed(shared: str, tmp_path: Path) -> None:
    """No trial is lost or repeated, and no worker process survives."""
    script = tmp_path / "search.py"
    script.write_text(SEARCH)
    parent = subprocess.Popen(
        [sys.executable, script, shared], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    study = optuna.create_study(study_name="study", storage=shared, load_if_exists=True)
    while sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False)) < 2:
        assert parent.poll() is None
        time.sleep(0.2)
    workers = psutil.Process(parent.pid).children(recursive=True)
    parent.kill()
    parent.wait()
    psutil.wait_procs(workers)  # a worker that outlives its parent ends in the suite's timeout
    killed = study.trials_dataframe()
    assert 2 <= killed["state"].isin(["COMPLETE", "PRUNED"]).sum() < 6
    resumed = tune(one_fold, budget(6), TRAINING, "study", shared)
    finished = [trial for trial in resumed.study.get_trials() if trial.state in FINISHED]
    assert sorted(trial.user_attrs["rank"] for trial in finished) == list(range(6))
    # The first proposals are random, seeded by their rank.
    few = tune(one_fold, budget(5, epochs=1), TRAINING, "few")
    assert set(proposals(few.trials)) <= set(proposals(resumed.trials))


def test_several_workers_without_a_database_are_an_error() -> None:
    with pytest.raises(StockAssetsError, match="need a database"):
        tune(one_fold, budget(2, workers=2), TRAINING, "study")


def test_study_without_time_left_runs_no_trial(database: str) -> None:
    few = budget(5, timeout_seconds=1e-3)
    first = tune(one_fold, few, TRAINING, "study", database)
    assert len(first.trials) == 1
    again = tune(one_fold, few, TRAINING, "study", database)
    pd.testing.assert_frame_equal(again.trials, first.trials)
    more = tune(one_fold, budget(5, timeout_seconds=600), TRAINING, "study", database)
    assert len(more.trials) == 5


def test_first_trial_uses_the_start(database: str) -> None:
    start = Hyperparameters("lstm_attention", 8, 2, 0.3, 0.004, 48)
    tuned = tune(one_fold, budget(3), TRAINING, "study", database, start)
    first, *others = tuned.study.get_trials()
    assert first.params == pytest.approx(start.to_dict())
    plain = tune(one_fold, budget(3), TRAINING, "plain")
    again = replace(start, hidden_size=4)
    assert tune(one_fold, budget(3), TRAINING, "study", database, again).best == tuned.best
    assert [trial.params for trial in others] == [t.params for t in plain.study.get_trials()[1:]]


def test_start_outside_the_search_space_is_ignored() -> None:
    outside = Hyperparameters("lstm_attention", 6, 3, 0.35, 0.5, 48)
    first, *_ = tune(one_fold, budget(1), TRAINING, "s", None, outside).study.get_trials()
    assert (first.params["architecture"], first.params["batch_size"]) == ("lstm_attention", 48)
    assert first.params["hidden_size"] in (4, 8)
    assert first.params["layers"] in (1, 2)
    assert first.params["learning_rate"] <= 1e-2


def test_proposals_lie_in_the_search_space() -> None:
    trials = tune(one_fold, budget(5), TRAINING, "study").trials
    assert set(trials["params_architecture"]) <= set(SPACE.architecture)
    assert trials["params_hidden_size"].isin([4, 8]).all()
    assert trials["params_layers"].isin([1, 2]).all()
    assert trials["params_batch_size"].isin([16, 32, 48]).all()
    assert trials["params_dropout"].between(0.1, 0.5).all()
    assert trials["params_learning_rate"].between(1e-4, 1e-2).all()


def test_hyperparameters_survive_json_and_combine_with_untuned_parameters() -> None:
    chosen = Hyperparameters("lstm_attention", 8, 2, 0.30000000000000004, 0.00228, 64)
    assert Hyperparameters.from_dict(json.loads(json.dumps(chosen.to_dict()))) == chosen
    spec = chosen.network_spec(DATA)
    assert (spec.tickers, spec.features, spec.window) == (3, 2, 6)
    settings = chosen.fit_settings(TRAINING)
    assert (settings.learning_rate, settings.batch_size) == (0.00228, 64)
    assert (settings.epochs, settings.loss, settings.seed) == (9, "mse", 11)
