"""Giving up on a trial that does worse than most did at the same epoch of the same fold."""

from __future__ import annotations

import copy

from optuna import Study
from optuna.pruners import MedianPruner
from optuna.trial import FrozenTrial


class FoldPruner(MedianPruner):
    """Optuna's median pruner, which is told one value per epoch, fold after fold.

    Optuna holds the best value that a trial has reported at any step against what others reported
    at this one. Some folds are harder than others, so the values of an easy one would shield a
    trial in all folds after it: only those of the fold that is being fitted count here. With one
    fold there is no difference.

    Parameters
    ----------
    epochs : int
        Most epochs of a fold; the steps of fold k are ``k * epochs + 1 ... (k + 1) * epochs``.
    """

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self._epochs = epochs

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether to give up on a trial, judged by its newest fold."""
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
