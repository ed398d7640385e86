"""FoldPruner compares trials within the current fold."""

from __future__ import annotations

from collections.abc import Sequence

import optuna
import pytest
from optuna.pruners import BasePruner, MedianPruner

from stock_assets.models.pruning import FoldPruner

EPOCHS = 2
EASY_THEN_HARD = [1.0, 1.0, 5.0, 5.0]


def pruned_at(pruner: BasePruner, losses: Sequence[float]) -> int | None:
    """Return the step at which a trial is pruned, after five equal trials."""
    study = optuna.create_study(pruner=pruner)
    for _ in range(5):
        trial = study.ask()
        for step, loss in enumerate(EASY_THEN_HARD, start=1):
            trial.report(loss, step)
        study.tell(trial, EASY_THEN_HARD[-1])
    trial = study.ask()
    for step, loss in enumerate(losses, start=1):
        trial.report(loss, step)
        if trial.should_prune():
            return step
    return None


def test_trial_is_pruned_in_the_fold_where_it_is_worse() -> None:
    losses = [1.0, 1.0, 5.1, 5.1]
    assert pruned_at(FoldPruner(EPOCHS), losses) == 3
    assert pruned_at(MedianPruner(), losses) is None, "the easy fold prevents pruning"


def test_best_epoch_of_a_fold_is_compared() -> None:
    assert pruned_at(FoldPruner(EPOCHS), [1.0, 1.0, 4.9, 9.0]) is None
    assert pruned_at(FoldPruner(EPOCHS), [1.0, 9.0, 5.0, 5.0]) is None


@pytest.mark.parametrize("losses", [[1.0, 1.0, 5.0], [2.0], [1.0, 2.0, 5.0, 5.0], [0.9, 1.1, 6.0]])
def test_one_fold_agrees_with_the_median_pruner(losses: Sequence[float]) -> None:
    assert pruned_at(FoldPruner(4), losses) == pruned_at(MedianPruner(), losses)
