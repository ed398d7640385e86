"""Study report: best loss over time, importances, figures."""

from __future__ import annotations

import optuna
import pytest

from stock_assets.models.study_report import importances, improvements, study_figures


def study(weights: tuple[float, float]) -> optuna.Study:
    """Run a study of a weighted sum of two numbers; one trial is pruned."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    result = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))

    def loss(trial: optuna.Trial) -> float:
        numbers = [trial.suggest_float(name, 0, 1) for name in ("first", "second")]
        found = sum(weight * number for weight, number in zip(weights, numbers, strict=True))
        trial.report(found, 1)
        if trial.number == 3:
            raise optuna.TrialPruned
        return found

    result.optimize(loss, n_trials=12)
    return result


def test_improvements_are_monotonic_without_pruned_trials() -> None:
    found = improvements(study((3.0, 1.0)).trials_dataframe())
    assert found["number"].tolist() == [0, 1, 2, *range(4, 12)]
    assert found["best"].is_monotonic_decreasing
    assert found["best"].iloc[-1] == found["value"].min()


def test_importances_are_sorted_shares() -> None:
    shares = importances(study((1.0, 9.0)), seed=1)
    assert list(shares) == ["second", "first"]
    assert sum(shares.values()) == pytest.approx(1)
    assert importances(study((1.0, 9.0)), seed=1) == shares


def test_equal_losses_have_no_importances() -> None:
    equal = study((0.0, 0.0))
    assert importances(equal, seed=1) == {}
    assert len(study_figures(equal, seed=1)) == 2


def test_figures_include_importances() -> None:
    assert len(study_figures(study((1.0, 9.0)), seed=1)) == 3
