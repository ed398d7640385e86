"""Scores of the intervals of several models on the same forecasts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from stock_assets.evaluation.intervals import interval_score
from stock_assets.evaluation.metrics import block_coverage
from stock_assets.evaluation.significance import newey_west

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


def interval_levels(rows: pd.DataFrame) -> dict[float, pd.DataFrame]:
    """Return the scored forecasts once per coverage, the highest first.

    Parameters
    ----------
    rows : DataFrame
        Scored forecasts of one model, with ``intervals``: JSON of all bounds in the shares of the
        as-of session. ``lower`` and ``upper`` are those of the highest coverage, in the shares of
        the target session.
    """
    if rows.empty:
        return {}
    every = np.array(
        [
            [(one["coverage"], one["lower"], one["upper"]) for one in json.loads(text)]
            for text in rows["intervals"]
        ]
    )
    shares = rows["upper"].to_numpy() / every[:, -1, 2]
    levels = {}
    for coverage, lower, upper in every.transpose(1, 2, 0)[::-1]:
        own = rows.assign(coverage=coverage, lower=lower * shares, upper=upper * shares)
        inside = own["actual"].between(own["lower"], own["upper"])
        levels[float(coverage[0])] = own.assign(covered=inside.astype(float))
    return levels


def interval_table(rows: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Score the intervals of models at each coverage, and test the first against each other one.

    A model is compared at the coverages that its intervals and those of the first have in common.

    Parameters
    ----------
    rows : mapping of str to DataFrame
        Scored forecasts of the same (session, ticker, horizon) triples, see
        :func:`interval_levels`; the first is tested.

    Returns
    -------
    DataFrame
        One row per coverage, the highest first, and model: ``model``, ``nominal`` and actual
        ``coverage``, ``interval_score`` and ``width`` as fractions of the last close,
        ``block_coverage_p05`` and ``block_coverage_p95`` (quantiles of the coverage of blocks of
        `BLOCK_SESSIONS` sessions; NaN with fewer), ``difference`` of the first to this one, a mean
        over the sessions, and its ``p_value`` (Diebold and Mariano's test with the error of
        :func:`stock_assets.evaluation.significance.newey_west` over `BLOCK_SESSIONS`, because
        widths that do not follow volatility fail for weeks), and the coverage by ticker,
        ``tickers``.
    """
    levels = {name: interval_levels(own) for name, own in rows.items()}
    first, *_ = levels.values()
    return pd.DataFrame(
        [
            {"model": name, "nominal": nominal} | _scores(own[nominal], tested)
            for nominal, tested in first.items()
            for name, own in levels.items()
            if nominal in own
        ]
    )


def _scores(own: pd.DataFrame, tested: pd.DataFrame) -> dict[str, Any]:
    """Score the intervals of a model, and test those of another one against them."""
    losses, others = interval_losses(own), interval_losses(tested)
    by_session = others.groupby(tested["session"]).mean() - losses.groupby(own["session"]).mean()
    difference = by_session.to_numpy()
    covered = own.pivot_table("covered", "session", ["ticker", "horizon"]).to_numpy()
    blocks = block_coverage(covered, BLOCK_SESSIONS)
    low, high = np.percentile(blocks, (5, 95)) if len(blocks) else (np.nan, np.nan)
    _, p_value = newey_west(difference, BLOCK_SESSIONS)
    return {
        "coverage": own["covered"].mean(),
        "interval_score": losses.mean(),
        "width": ((own["upper"] - own["lower"]) / own["persistence"]).mean(),
        "block_coverage_p05": low,
        "block_coverage_p95": high,
        "difference": difference.mean(),
        "p_value": p_value,
        "tickers": own.groupby("ticker")["covered"].mean().to_dict(),
    }
