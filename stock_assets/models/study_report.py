"""What a study says about the search: the way to the best, and which hyperparameters mattered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from stock_assets.models.tuning import completed

if TYPE_CHECKING:
    from optuna import Study
    from optuna.importance import FanovaImportanceEvaluator
    from plotly.graph_objects import Figure


def improvements(trials: pd.DataFrame) -> pd.DataFrame:
    """Give the completed trials in order, with the lowest loss up to each.

    Parameters
    ----------
    trials : DataFrame
        Those of a `Tuned`.

    Returns
    -------
    DataFrame
        ``number``, ``value`` and ``best``.
    """
    complete = trials.loc[trials["state"] == "COMPLETE", ["number", "value"]]
    return complete.assign(best=complete["value"].cummin()).reset_index(drop=True)


def importances(study: Study, seed: int) -> dict[str, float]:
    """Give each hyperparameter's share of the variance of the loss, the largest first.

    Functional ANOVA over a random forest that is fitted to the completed trials (Hutter, Hoos and
    Leyton-Brown 2014). Shares add up to 1; there are none where all trials ended equal.
    """
    from optuna.importance import get_param_importances

    if not _differ(study):
        return {}
    shares = get_param_importances(study, evaluator=_evaluator(seed))
    return {name: float(share) for name, share in shares.items()}


def study_figures(study: Study, seed: int) -> list[Figure]:
    """Draw the history, the losses per epoch (a pruned trial's line ends early), the importances.

    The importances are left out where all trials ended equal.
    """
    from optuna import visualization

    figures = [
        visualization.plot_optimization_history(study, target_name="validation loss"),
        visualization.plot_intermediate_values(study),
    ]
    if _differ(study):
        figures.append(visualization.plot_param_importances(study, evaluator=_evaluator(seed)))
    return figures


def _evaluator(seed: int) -> FanovaImportanceEvaluator:
    from optuna.importance import FanovaImportanceEvaluator

    return FanovaImportanceEvaluator(seed=seed)


def _differ(study: Study) -> bool:
    return len({trial.value for trial in completed(study)}) > 1
