"""Tuning: deterministic, prunes, resumes, reads validation alone."""

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
CHOSEN = [f"params_{name}" for name in Hyperparameters.__dataclass_fields__]
SEARCH = """
import sys
from stock_assets_tests.models.test_tuning import TRAINING, budget, one_fold, tune

if __name__ == "__main__":
    tune(one_fold, budget(9, epochs=15, patience=15, workers=2), TRAINING, "study", sys.argv[1])
"""


def one_fold() -> list[TrainingData]:
    """What a worker opens, which finds it by this name."""
    return [learnable_data()]


def budget(trials: int, **changes: Any) -> Tuning:
    return Tuning(**{"trials": trials, "epochs": 2, "patience": 2, "search_space": SPACE} | changes)


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/optuna.db"


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Counts the fits, which stay real."""
    seen: list[Any] = []

    def counting(*arguments: Any) -> Any:
        seen.append(arguments)
        return fit(*arguments)

    monkeypatch.setattr(tuning_module, "fit", counting)
    return seen


def without_time(trials: pd.DataFrame) -> pd.DataFrame:
    return trials.drop(columns="duration")


def proposals(trials: pd.DataFrame) -> list[tuple[object, ...]]:
    """The hyperparameters of the finished trials, in an order of their own."""
    finished = trials[trials["state"].isin(["COMPLETE", "PRUNED"])]
    return sorted(finished[CHOSEN].itertuples(index=False, name=None))


def test_the_best_is_the_completed_trial_with_the_lowest_validation_loss() -> None:
    tuned = tune(one_fold, budget(6), TRAINING, "study")
    assert len(tuned.trials) == 6
    completed = tuned.trials[tuned.trials["state"] == "COMPLETE"]
    winner = completed.loc[completed["value"].idxmin()]
    assert tuned.best.to_dict() == {name: winner[f"params_{name}"] for name in tuned.best.to_dict()}


def test_the_loss_of_a_trial_can_be_had_again_from_its_hyperparameters() -> None:
    tuned = tune(one_fold, budget(3), TRAINING, "study")
    network = build_network(tuned.best.network_spec(DATA), TRAINING.seed)
    settings = replace(tuned.best.fit_settings(TRAINING), epochs=2, patience=2)
    again = fit(network, DATA, settings).best.validation_loss
    assert again == tuned.trials["value"][tuned.trials["state"] == "COMPLETE"].min()


def test_one_seed_gives_one_study() -> None:
    first, again = (tune(one_fold, budget(4), TRAINING, "study") for _ in range(2))
    pd.testing.assert_frame_equal(without_time(first.trials), without_time(again.trials))
    other = tune(one_fold, budget(4), TRAINING.model_copy(update={"seed": 12}), "study")
    assert not without_time(other.trials).equals(without_time(first.trials))


def test_labels_after_the_validation_segment_change_nothing() -> None:
    early = replace(DATA, validation=np.arange(90, 110))
    target, values = DATA.target.clone(), DATA.windows.values.clone()
    target[110:], values[110:] = 99.0, 99.0
    first = tune(lambda: [early], budget(3), TRAINING, "study")
    changed = replace(with_windows(early, values=values), target=target)
    again = tune(lambda: [changed], budget(3), TRAINING, "study")
    pd.testing.assert_frame_equal(without_time(first.trials), without_time(again.trials))


def test_an_interrupted_study_runs_only_the_missing_trials_and_the_same_ones(
    database: str, fits: list[Any]
) -> None:
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


def test_failed_and_abandoned_trials_neither_count_nor_block(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first proposals are random; only later ones could heed the abandoned trials.
    trials = budget(12, epochs=1)
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
    assert len(tuned.trials) == 5 + 12
    assert tuned.best == whole.best
    assert tuned.trials["value"][5:].tolist() == whole.trials["value"].tolist()


def test_hopeless_trials_are_pruned_before_their_last_epoch(database: str) -> None:
    # Rates from useless to good: the useless ones stay at the loss of an untrained network.
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


def test_a_diverged_trial_is_pruned_and_the_study_goes_on(
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


def test_a_study_in_which_everything_diverges_is_an_error() -> None:
    values = DATA.windows.values
    poisoned = with_windows(DATA, values=torch.where(values > 1, torch.inf, values))
    with pytest.raises(StockAssetsError, match="no trial of the study study completed"):
        tune(lambda: [poisoned], budget(2), TRAINING, "study")


def test_failed_trials_spend_time_too(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any) -> Any:
        time.sleep(1.0)
        raise MemoryError

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(tuning_module, "fit", broken)
        tune(one_fold, budget(50), TRAINING, "study", database)
    tuned = tune(one_fold, budget(50, timeout_seconds=0.9), TRAINING, "study", database)
    assert tuned.trials["state"].tolist() == ["FAIL", "COMPLETE"]


def test_no_new_trial_starts_after_the_timeout() -> None:
    tuned = tune(one_fold, budget(50, timeout_seconds=1e-3), TRAINING, "study")
    assert len(tuned.trials) == 1


def test_the_trial_at_work_is_pruned_when_the_time_is_spent(
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
    """Address of an empty PostgreSQL database, as the studies of an installation have one."""
    with throw_away_database(platform) as url:
        yield url


def test_several_workers_make_as_many_trials_as_asked_and_no_more(shared: str) -> None:
    tuned = tune(one_fold, budget(5, workers=2), TRAINING, "study", shared)
    assert tuned.trials["state"].isin(["COMPLETE", "PRUNED"]).tolist() == [True] * 5
    assert tuned.trials["params_learning_rate"].nunique() == 5
    more = tune(one_fold, budget(7, workers=3), TRAINING, "study", shared)
    assert len(more.trials) == 7
    assert len(tune(one_fold, budget(7), TRAINING, "study", shared).trials) == 7


def test_several_workers_start_no_trial_after_the_timeout(shared: str) -> None:
    few = budget(50, workers=2, timeout_seconds=1e-3)
    # Both workers may have been given their first one by then.
    assert len(tune(one_fold, few, TRAINING, "study", shared).trials) <= 2


def test_a_trial_that_a_killed_worker_left_is_the_one_that_is_made_again(database: str) -> None:
    """Of two workers that were killed, one had finished its trial, a later one than the other's."""
    search = tuning_module._Search(one_fold, SPACE, TRAINING, "study", database, 1)
    make = tuning_module._trials(search, search.study(), is_over=lambda: False)
    for rank in (0, 2):
        make(rank)
    tuned = tune(one_fold, budget(4), TRAINING, "study", database)
    assert proposals(tuned.trials) == proposals(tune(one_fold, budget(4), TRAINING, "whole").trials)


def test_a_killed_search_of_two_workers_is_gone_on_with(shared: str, tmp_path: Path) -> None:
    """No trial is lost or made twice, and no worker is left behind."""
    script = tmp_path / "search.py"
    script.write_text(SEARCH)
    parent = subprocess.Popen(
        [sys.executable, script, shared], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    study = optuna.create_study(study_name="study", storage=shared, load_if_exists=True)
    while sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False)) < 2:
        assert parent.poll() is None
        time.sleep(0.01)
    workers = psutil.Process(parent.pid).children(recursive=True)
    parent.kill()
    parent.wait()
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert alive == []
    killed = study.trials_dataframe()
    assert 2 <= killed["state"].isin(["COMPLETE", "PRUNED"]).sum() < 9
    resumed = tune(one_fold, budget(9, workers=2), TRAINING, "study", shared)
    made = [trial.user_attrs["rank"] for trial in tuning_module._finished(resumed.study)]
    assert sorted(made) == list(range(9))
    # The first proposals are random draws, each seeded by its rank.
    few = tune(one_fold, budget(5, epochs=1), TRAINING, "few")
    assert set(proposals(few.trials)) <= set(proposals(resumed.trials))


def test_several_workers_without_a_database_are_refused() -> None:
    with pytest.raises(StockAssetsError, match="need a database"):
        tune(one_fold, budget(2, workers=2), TRAINING, "study")


def test_a_study_whose_time_is_spent_is_left_as_it_is(database: str) -> None:
    few = budget(5, timeout_seconds=1e-3)
    first = tune(one_fold, few, TRAINING, "study", database)
    assert len(first.trials) == 1
    again = tune(one_fold, few, TRAINING, "study", database)
    pd.testing.assert_frame_equal(again.trials, first.trials)
    more = tune(one_fold, budget(5, timeout_seconds=600), TRAINING, "study", database)
    assert len(more.trials) == 5


def test_the_first_trial_tries_the_best_of_an_earlier_search(database: str) -> None:
    start = Hyperparameters("lstm_attention", 8, 2, 0.3, 0.004, 48)
    tuned = tune(one_fold, budget(3), TRAINING, "study", database, start)
    first, *others = tuned.study.get_trials()
    assert first.params == pytest.approx(start.to_dict())
    plain = tune(one_fold, budget(3), TRAINING, "plain")
    again = replace(start, hidden_size=4)
    assert tune(one_fold, budget(3), TRAINING, "study", database, again).best == tuned.best
    assert [trial.params for trial in others] == [t.params for t in plain.study.get_trials()[1:]]


def test_what_the_search_space_has_not_is_proposed_anew() -> None:
    outside = Hyperparameters("lstm_attention", 6, 3, 0.35, 0.5, 48)
    first, *_ = tune(one_fold, budget(1), TRAINING, "s", None, outside).study.get_trials()
    assert (first.params["architecture"], first.params["batch_size"]) == ("lstm_attention", 48)
    assert first.params["hidden_size"] in (4, 8)
    assert first.params["layers"] in (1, 2)
    assert first.params["learning_rate"] <= 1e-2


def test_every_proposal_lies_in_the_search_space() -> None:
    trials = tune(one_fold, budget(5), TRAINING, "study").trials
    assert set(trials["params_architecture"]) <= set(SPACE.architecture)
    assert trials["params_hidden_size"].isin([4, 8]).all()
    assert trials["params_layers"].isin([1, 2]).all()
    assert trials["params_batch_size"].isin([16, 32, 48]).all()
    assert trials["params_dropout"].between(0.1, 0.5).all()
    assert trials["params_learning_rate"].between(1e-4, 1e-2).all()


def test_hyperparameters_survive_json_and_join_the_untuned_parameters() -> None:
    chosen = Hyperparameters("lstm_attention", 8, 2, 0.30000000000000004, 0.00228, 64)
    assert Hyperparameters.from_dict(json.loads(json.dumps(chosen.to_dict()))) == chosen
    spec = chosen.network_spec(DATA)
    assert (spec.tickers, spec.features, spec.window) == (3, 2, 6)
    settings = chosen.fit_settings(TRAINING)
    assert (settings.learning_rate, settings.batch_size) == (0.00228, 64)
    assert (settings.epochs, settings.loss, settings.seed) == (9, "mse", 11)


def test_a_worker_loads_what_it_learns_with_and_no_more() -> None:
    program = (
        "import sys, stock_assets.models.folds, stock_assets.models.tuning\n"
        "heavy = 'pandas', 'pyarrow', 'scipy', 'sqlalchemy', 'mlflow', 'dagster', 'plotly'\n"
        "print(*(name for name in heavy if name in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == []
