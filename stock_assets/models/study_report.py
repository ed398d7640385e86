"""Summarises a study: best loss over time, importance of hyperparameters, figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from stock_assets.models.tuning import completed

if TYPE_CHECKING:
    from optuna import Study
    from optuna.importance import FanovaImportanceEvaluator


def improvements(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the completed trials in order, with the lowest loss so far.

    Parameters
    ----------
    trials : DataFrame
        Of :class:`stock_assets.models.tuning.Tuned`.

    Returns
    -------
    DataFrame
        ``number``, ``value`` and ``best``.
    """
    complete = trials.loc[trials["state"] == "COMPLETE", ["number", "value"]]
    return complete.assign(best=complete["value"].cummin()).reset_index(drop=True)


def importances(study: Study, seed: int) -> dict[str, float]:
    """Return each hyperparameter's share of the variance of the loss, largest first.

    Functional ANOVA on a random forest fitted to the completed trials (Hutter, Hoos and
    Leyton-Brown 2014). Shares add up to 1. Empty if all losses are equal.
    """
    from optuna.importance import get_param_importances

    if not _losses_differ(study):
        return {}
    shares = get_param_importances(study, evaluator=_evaluator(seed))
    return {name: float(share) for name, share in shares.items()}


def study_figures(study: Study, seed: int) -> list[dict[str, Any]]:
    """Draw optimisation history, losses per epoch and, if defined, importances, for plotly.js."""
    from optuna import visualization

    figures = [
        visualization.plot_optimization_history(study, target_name="validation loss"),
        visualization.plot_intermediate_values(study),
    ]
    if _losses_differ(study):
        figures.append(visualization.plot_param_importances(study, evaluator=_evaluator(seed)))
    return [figure.to_plotly_json() for figure in figures]


def _evaluator(seed: int) -> FanovaImportanceEvaluator:
    from optuna.importance import FanovaImportanceEvaluator

    return FanovaImportanceEvaluator(seed=seed)


def _losses_differ(study: Study) -> bool:
    return len({trial.value for trial in completed(study)}) > 1
