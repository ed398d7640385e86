"""Scores of the intervals of several models on the same forecasts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from stock_assets.evaluation.intervals import interval_score
from stock_assets.evaluation.metrics import block_coverage
from stock_assets.evaluation.significance import diebold_mariano

BLOCK_SESSIONS = 21
"""Sessions of a block whose coverage is measured: a month."""


def interval_losses(rows: pd.DataFrame) -> pd.Series[float]:
    """Score each interval, as a fraction of the last close; lower is better.

    Parameters
    ----------
    rows : DataFrame
        Scored forecasts with ``lower``, ``upper``, ``coverage``, ``actual`` and ``persistence``.
    """
    columns = ("actual", "lower", "upper", "coverage")
    actual, lower, upper, coverage = (rows[name].to_numpy(np.float64) for name in columns)
    score = interval_score(actual, lower, upper, coverage)
    return pd.Series(score, rows.index) / rows["persistence"]


def interval_table(rows: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Score the intervals of models, and test the first against each other one.

    Parameters
    ----------
    rows : mapping of str to DataFrame
        Scored forecasts of the same (session, ticker, horizon) triples, see
        :func:`interval_losses`; the first is tested.

    Returns
    -------
    DataFrame
        One row per model: ``model``, ``nominal`` and actual ``coverage``, ``interval_score`` and
        ``width`` as fractions of the last close, ``block_coverage_p05`` and ``block_coverage_p95``
        (quantiles of the coverage of blocks of `BLOCK_SESSIONS` sessions; NaN with fewer), and of
        the test by session of Diebold and Mariano, of the first against this one, ``difference``
        and ``p_value``.
    """
    losses = {name: interval_losses(own) for name, own in rows.items()}
    sessions = {name: losses[name].groupby(own["session"]).mean() for name, own in rows.items()}
    first, *_ = sessions.values()
    found = []
    for name, own in rows.items():
        covered = own.pivot_table("covered", "session", ["ticker", "horizon"]).to_numpy()
        blocks = block_coverage(covered, BLOCK_SESSIONS)
        test = diebold_mariano((first - sessions[name]).to_numpy(), int(own["horizon"].max()))
        found.append(
            {
                "model": name,
                "nominal": own["coverage"].max(),
                "coverage": own["covered"].mean(),
                "interval_score": losses[name].mean(),
                "width": ((own["upper"] - own["lower"]) / own["persistence"]).mean(),
                **{
                    f"block_coverage_p{percent:02}": np.percentile(blocks, percent)
                    if len(blocks)
                    else np.nan
                    for percent in (5, 95)
                },
                "difference": test.difference,
                "p_value": np.nan if test.p_value is None else test.p_value,
            }
        )
    return pd.DataFrame(found)


def ticker_coverage(rows: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the coverage of each model's intervals by ticker.

    Parameters
    ----------
    rows : mapping of str to DataFrame
        As for :func:`interval_table`.

    Returns
    -------
    DataFrame
        ``model``, ``ticker`` and ``coverage``, ordered by model as given and ticker.
    """
    covered = pd.concat(rows, names=["model"])[["ticker", "covered"]]
    shares = covered.groupby(["model", "ticker"], sort=False)["covered"].mean().rename("coverage")
    return shares.reset_index()
