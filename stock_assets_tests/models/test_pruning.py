"""The pruner: a trial is judged by the fold that is being fitted."""

from __future__ import annotations

from collections.abc import Sequence

import optuna
import pytest
from optuna.pruners import BasePruner, MedianPruner

from stock_assets.models.pruning import FoldPruner

EPOCHS = 2
EASY_THEN_HARD = [1.0, 1.0, 5.0, 5.0]


def pruned_at(pruner: BasePruner, losses: Sequence[float]) -> int | None:
    """The step at which a trial is given up, after five that went alike."""
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


def test_a_trial_that_fails_in_a_hard_fold_is_given_up_in_it() -> None:
    losses = [1.0, 1.0, 5.1, 5.1]
    assert pruned_at(FoldPruner(EPOCHS), losses) == 3
    assert pruned_at(MedianPruner(), losses) is None, "the easy fold would have shielded it"


def test_the_best_epoch_of_a_fold_counts() -> None:
    assert pruned_at(FoldPruner(EPOCHS), [1.0, 1.0, 4.9, 9.0]) is None
    assert pruned_at(FoldPruner(EPOCHS), [1.0, 9.0, 5.0, 5.0]) is None


@pytest.mark.parametrize("losses", [[1.0, 1.0, 5.0], [2.0], [1.0, 2.0, 5.0, 5.0], [0.9, 1.1, 6.0]])
def test_with_one_fold_it_is_optunas(losses: Sequence[float]) -> None:
    assert pruned_at(FoldPruner(4), losses) == pruned_at(MedianPruner(), losses)
