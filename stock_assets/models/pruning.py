"""Prunes trials by comparing losses within a walk-forward fold."""

from __future__ import annotations

import copy

from optuna import Study
from optuna.pruners import MedianPruner
from optuna.trial import FrozenTrial


class FoldPruner(MedianPruner):
    """Optuna's median pruner for trials that report one value per epoch, fold after fold.

    MedianPruner compares the best value that a trial has reported at any step with the values of
    others at the current step. If folds differ in difficulty, the values of an easy fold would
    prevent pruning in all later folds. Here only the values of the current fold count. With one
    fold there is no difference.

    Parameters
    ----------
    epochs : int
        Maximum number of epochs per fold; fold k has steps ``k * epochs + 1 ... (k + 1) * epochs``.
    """

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self._epochs = epochs

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Return whether to prune a trial, given the values of its newest fold."""
        own = copy.copy(trial)
        fold = self._fold(trial.last_step or 0)
        own.intermediate_values = {
            step: value
            for step, value in trial.intermediate_values.items()
            if self._fold(step) == fold
        }
        return super().prune(study, own)

    def _fold(self, step: int) -> int:
        return (step - 1) // self._epochs
