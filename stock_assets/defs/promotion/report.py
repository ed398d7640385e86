"""Part of stage 4: what is told of a decision, in Dagster's metadata and in the MLflow run."""

from typing import TYPE_CHECKING, Any

import dagster as dg

from stock_assets.defs.metadata import lineage, plots, table

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

    from stock_assets.models.challenge import Challenge
    from stock_assets.storage.forecasts import PromotionRecord


def decision_tables(outcome: "Challenge", decided: "PromotionRecord") -> "dict[str, pd.DataFrame]":
    """Lay out what was measured: of all models in three ways, of the candidate by day."""
    from stock_assets.evaluation.scorecard import horizon_table, session_table, ticker_table

    told = {
        "models": _compared(decided),
        "horizons": horizon_table(outcome.rows),
        "tickers": ticker_table(outcome.rows),
        "sessions": session_table(outcome.rows, "candidate"),
    }
    if outcome.unmatched:
        told["unmatched_horizons"] = horizon_table(outcome.unmatched)
        told["unmatched_tickers"] = ticker_table(outcome.unmatched)
    return told


def decision_figures(outcome: "Challenge", tickers: "pd.DataFrame") -> "list[Figure]":
    """Draw the errors added up and by ticker, the coefficients, and each ticker's forecasts."""
    from stock_assets.reporting.figures import (
        cumulative_figure,
        forecast_figures,
        ic_figure,
        ticker_figure,
    )

    candidate = outcome.rows["candidate"]
    return [
        cumulative_figure(outcome.rows),
        ticker_figure(tickers[tickers["model"] == "candidate"]),
        ic_figure(candidate),
        *forecast_figures(candidate),
    ]


def log_decision(
    mlflow_run: Any,
    outcome: "Challenge",
    decided: "PromotionRecord",
    tables: "dict[str, pd.DataFrame]",
    figures: "list[Figure]",
) -> None:
    """Log scores, tables and the page of plots to the MLflow run of this retraining."""
    from stock_assets.evaluation.scorecard import narrowed
    from stock_assets.reporting.page import page

    for name, card in outcome.scores.items():
        prefix = "test" if name == "candidate" else name
        mlflow_run.log_metrics(
            {
                f"{prefix}_{figure}": float(value)
                for figure, value in card.to_dict().items()
                if isinstance(value, int | float)
            }
        )
    title = f"Dataset {decided.dataset_run_id} on its test segment"
    told = [("All tickers together", tables["models"]), ("Per ticker", tables["tickers"])]
    if tables["horizons"]["horizon"].max() > 1:
        told.insert(1, ("Per horizon", narrowed(tables["horizons"])))
    if outcome.unmatched:
        without = "without a counterpart in production, which decided nothing"
        told += [
            (f"Per horizon, {without}", narrowed(tables["unmatched_horizons"])),
            (f"Per ticker, {without}", tables["unmatched_tickers"]),
        ]
    mlflow_run.log_text(page(title, decided.reason, figures, told), "evaluation.html")
    for name, frame in tables.items():
        mlflow_run.log_text(frame.to_csv(index=False), f"evaluation/{name}.csv")


def _compared(decided: "PromotionRecord") -> "pd.DataFrame":
    """Give every figure of every model that the decision looked at."""
    from stock_assets.evaluation.scorecard import pooled_table

    persistence = dict(decided.persistence)
    baselines = persistence.pop("baselines", {})
    production = {"production": decided.production} if decided.production else {}
    return pooled_table(
        {"candidate": decided.candidate, **production, "persistence": persistence, **baselines}
    )


def decision_metadata(decided: "PromotionRecord") -> dict[str, Any]:
    """Describe a decision as its row does; the numbers by themselves become plots in Dagster."""
    shown = (
        "relative_mae",
        "p_persistence",
        "p_production",
        "direction_accuracy",
        "icir",
        "coverage",
    )
    return lineage(
        promoted=decided.promoted,
        reason=dg.MetadataValue.md(decided.reason),
        dataset_run_id=decided.dataset_run_id,
        as_of_session=decided.as_of_session,
        first_session=decided.first_session,
        last_session=decided.last_session,
        candidate_version=decided.candidate_version,
        refit_version=decided.refit_version,
        production_version=decided.production_version,
        mlflow_run_id=decided.mlflow_run_id,
        scores=table(_compared(decided)),
        **{name: decided.candidate.get(name) for name in shown},
    )


def decision_details(tables: "dict[str, pd.DataFrame]", figures: "list[Figure]") -> dict[str, Any]:
    """Show all models per horizon, the candidate per ticker and session, and the first plots."""
    from stock_assets.evaluation.scorecard import narrowed

    tickers = tables["tickers"]
    shown = {
        "per_horizon": narrowed(tables["horizons"]),
        "per_ticker": tickers[tickers["model"].isin(("candidate", "persistence"))],
        "per_session": tables["sessions"],
    }
    if "unmatched_horizons" in tables:
        shown["unmatched"] = narrowed(tables["unmatched_horizons"])
    return {
        "plots": plots(figures[:4]),
        **{name: table(frame, limit=len(frame)) for name, frame in shown.items()},
    }
