"""The summary and the page of plots that end the demo."""

from __future__ import annotations

import math
import textwrap
from pathlib import Path

import pandas as pd

from stock_assets.core.text import write_atomically
from stock_assets.evaluation.forecast_issues import count_backfilled, issued_text
from stock_assets.evaluation.metrics import (
    KEY,
    Metrics,
    by_ticker,
    persistence_forecasts,
    score_rows,
    summarise,
    weekly_coverage,
)
from stock_assets.evaluation.production_rule import ModelVersion
from stock_assets.reporting.page import page
from stock_assets.reporting.price_figures import forecast_figures
from stock_assets.reporting.score_figures import coverage_figure, error_figure
from stock_assets.reporting.training_figures import training_figure
from stock_assets.storage.decisions import PromotionRecord


def newest_forecasts(rows: pd.DataFrame) -> pd.DataFrame:
    """Keep the newest version's scored forecasts where several models forecast a session."""
    newest = rows.sort_values("model_version").drop_duplicates(KEY, keep="last")
    return newest.sort_values([*KEY]).reset_index(drop=True)


def describe(
    rows: pd.DataFrame, model_name: str, version: ModelVersion, decided: PromotionRecord | None
) -> str:
    """Summarise the replay, with persistence for comparison, and its model, as plain text.

    Parameters
    ----------
    rows : DataFrame
        Scored forecasts of the replay.
    model_name : str
        The registered model.
    version : ModelVersion
        The version that made them.
    decided : PromotionRecord or None
        The decision that put that version into production; None when that was done by hand.
    """
    model = summarise(rows)
    persistence = summarise(score_rows(persistence_forecasts(rows)))
    tickers = by_ticker(rows)[["ticker", "forecasts", "mape", "relative_mae", "direction_accuracy"]]
    first, last = rows["session"].min(), rows["session"].max()
    reason = decided.reason if decided else "Chosen by hand: no decision is on record"
    refit = "" if version.refit_of is None else f", refit of version {version.refit_of}"
    lines = [
        f"Replay              {first:%Y-%m-%d} to {last:%Y-%m-%d}: "
        f"{model.forecasts} forecasts of {model.sessions} sessions",
        f"                    {_issued(rows)}",
        f"Error (MAPE)        {model.mape:.3%}   persistence {persistence.mape:.3%}   "
        f"relative MAE {model.relative_mae:.4f}",
        f"                    {_comparison(model)}",
        f"Direction           {_direction(model)}",
        f"Interval            {_coverage(rows, model)}",
        "",
        tickers.to_string(index=False, na_rep="–", float_format=lambda value: f"{value:.4f}"),
        "",
        f"Model               version {version.version} of {model_name}{refit}",
        f"Dataset             {version.dataset_run_id}, as of {version.as_of}",
        textwrap.fill(f"Why                 {reason}", width=96, subsequent_indent=" " * 20),
    ]
    return "\n".join(lines)


def _issued(rows: pd.DataFrame) -> str:
    if count_backfilled(rows) == len(rows):
        return "all backfilled: issued after the sessions that they forecast had opened"
    return issued_text(rows["issued"])


def _direction(model: Metrics) -> str:
    if math.isnan(model.direction_accuracy):
        return "no change was forecast"
    return f"{model.direction_accuracy:.1%} right; {model.base_rate_up:.1%} of moves were up"


def _coverage(rows: pd.DataFrame, model: Metrics) -> str:
    weeks = weekly_coverage(rows)
    return (
        f"{model.coverage:.1%} of outcomes inside; {weeks.min():.0%} to {weeks.max():.0%} by week"
    )


def _comparison(model: Metrics) -> str:
    """Describe the relative MAE; daily closes are close to a random walk."""
    if model.relative_mae < 1:
        return f"{1 - model.relative_mae:.2%} less error than forecasting no change"
    return f"no better than forecasting no change ({model.relative_mae - 1:.2%} more error)"


def write_report(
    folder: Path, rows: pd.DataFrame, nominal: float, history: pd.DataFrame, summary: str
) -> Path:
    """Write ``index.html`` with the summary and the plots, and return its path.

    Parameters
    ----------
    folder : Path
        Created when missing.
    rows : DataFrame
        Scored forecasts of the replay.
    nominal : float
        Nominal coverage of their intervals.
    history : DataFrame
        ``epoch``, ``train_loss``, ``validation_loss`` of the model that made them.
    summary : str
        From :func:`describe`.
    """
    figures = [
        error_figure(rows),
        coverage_figure(rows, nominal),
        *forecast_figures(rows),
        training_figure([history]),
    ]
    target = folder / "index.html"
    write_atomically(target, page("Replay of January and February 2013", summary, figures))
    return target
