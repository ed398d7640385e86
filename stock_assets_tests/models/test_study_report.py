"""What is told of a study: the way to the best, importances that add up, plots."""

from __future__ import annotations

import optuna
import pytest

from stock_assets.models.study_report import importances, improvements, study_figures


def study(weights: tuple[float, float]) -> optuna.Study:
    """A loss in which two numbers count as much as their weights say; one trial is pruned."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    made = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))

    def loss(trial: optuna.Trial) -> float:
        numbers = [trial.suggest_float(name, 0, 1) for name in ("first", "second")]
        found = sum(weight * number for weight, number in zip(weights, numbers, strict=True))
        trial.report(found, 1)
        if trial.number == 3:
            raise optuna.TrialPruned
        return found

    made.optimize(loss, n_trials=12)
    return made


def test_the_lowest_loss_so_far_never_rises_and_pruned_trials_have_none() -> None:
    found = improvements(study((3.0, 1.0)).trials_dataframe())
    assert found["number"].tolist() == [0, 1, 2, *range(4, 12)]
    assert found["best"].is_monotonic_decreasing
    assert found["best"].iloc[-1] == found["value"].min()


def test_the_more_important_hyperparameter_comes_first_and_shares_add_up() -> None:
    shares = importances(study((1.0, 9.0)), seed=1)
    assert list(shares) == ["second", "first"]
    assert sum(shares.values()) == pytest.approx(1)
    assert importances(study((1.0, 9.0)), seed=1) == shares


def test_trials_that_all_end_equal_have_no_importances_but_a_history() -> None:
    equal = study((0.0, 0.0))
    assert importances(equal, seed=1) == {}
    assert len(study_figures(equal, seed=1)) == 2


def test_history_epochs_and_importances_are_drawn() -> None:
    titles = [figure.layout.title.text for figure in study_figures(study((1.0, 9.0)), seed=1)]
    assert titles == [
        "Optimization History Plot",
        "Intermediate Values Plot",
        "Hyperparameter Importances",
    ]
