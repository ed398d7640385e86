"""Candidate against champion: the comparison of a dataset's test segment, its decision, its report.

The rules are in :mod:`stock_assets.evaluation.promotion_rule` and
:mod:`stock_assets.evaluation.production_rule`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import pandas as pd
from sqlalchemy import Engine

from stock_assets.config import Promotion
from stock_assets.datasets.build import recorded_params
from stock_assets.evaluation.metrics import undefined_as_none
from stock_assets.evaluation.production_rule import (
    Cause,
    ModelVersion,
    champion_as_of,
    newer_production_session,
    promotion_is_due,
)
from stock_assets.evaluation.promotion_rule import BeforeAlarm, decide_promotion
from stock_assets.evaluation.scorecard import (
    horizon_table,
    pooled_table,
    session_table,
    ticker_table,
)
from stock_assets.evaluation.significance import DieboldMariano, diebold_mariano, loss_difference
from stock_assets.features.splits import Segment, split_validation
from stock_assets.market.calendar import sessions
from stock_assets.models.baselines import gradient_boosting, reversal, ridge, session_returns
from stock_assets.models.bundle import Bundle
from stock_assets.models.calibration import rivals
from stock_assets.models.comparison import HeldOutComparison, compare_on_held_out
from stock_assets.models.intervals import FixedIntervals
from stock_assets.pipeline.production import change_production, registered
from stock_assets.pipeline.versions import newest_seen_label
from stock_assets.registry import Registry
from stock_assets.reporting.charts import Chart
from stock_assets.storage.datasets import (
    PanelRecord,
    SegmentRecord,
    load_panel,
    load_segments,
)
from stock_assets.storage.decisions import PromotionRecord, alarm_of
from stock_assets.storage.prices import read_bars
from stock_assets.storage.production import NewChange, ProductionChange


@dataclass(frozen=True)
class Comparison:
    """The scores on the test segment, and the decision."""

    outcome: HeldOutComparison
    decided: PromotionRecord

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return the scores of all models in three ways, and the candidate's by session."""
        outcome = self.outcome
        tables = {
            "models": score_table(self.decided),
            "horizons": horizon_table(outcome.rows),
            "tickers": ticker_table(outcome.rows),
            "sessions": session_table(outcome.rows, "candidate"),
            "intervals": outcome.intervals.drop(columns="tickers", errors="ignore"),
            "ticker_coverage": _ticker_coverage(outcome.intervals),
        }
        if outcome.unmatched:
            tables["unmatched_horizons"] = horizon_table(outcome.unmatched)
            tables["unmatched_tickers"] = ticker_table(outcome.unmatched)
        return tables

    def figures(self, tickers: pd.DataFrame) -> list[Chart]:
        """Draw cumulative errors, errors by ticker, correlations, and each ticker's forecasts."""
        from stock_assets.reporting.comparison_figures import (
            cumulative_figure,
            ic_figure,
            ticker_figure,
        )
        from stock_assets.reporting.price_figures import forecast_figures

        candidate = self.outcome.rows["candidate"]
        return [
            cumulative_figure(self.outcome.rows),
            ticker_figure(tickers[tickers["model"] == "candidate"]),
            ic_figure(candidate),
            *forecast_figures(candidate),
        ]


def compare(
    engine: Engine,
    registry: Registry,
    candidate: ModelVersion,
    history: Sequence[ProductionChange],
    promotion: Promotion,
    dagster_run_id: str,
) -> Comparison:
    """Score all models on the candidate's test segment and decide; nothing is stored.

    Parameters
    ----------
    engine : Engine
        The ``stock_assets`` database.
    registry : Registry
    candidate : ModelVersion
        It is compared with the champion as of its as-of session, where that is persistence with
        persistence alone.
    history : sequence of ProductionChange
        The history of production, oldest first.
    promotion : Promotion
        The rule that decides.
    dagster_run_id : str
        The run that decides.
    """
    past = champion_as_of(candidate.as_of, history)
    champion = registered(registry, past) if past and not past.is_persistence else None
    scored = registry.evaluation_version(champion) if champion else None
    outcome = _challenge(engine, registry, candidate, scored, champion)
    before = champion is not None and outcome.first_session < champion.as_of
    decision = decide_promotion(
        outcome.scores,
        promotion,
        len(outcome.unmatched["candidate"]) if outcome.unmatched else 0,
        champion.refit_of if champion and before else None,
        outcome.detection,
        _before_alarm(engine, candidate, outcome),
    )
    figures = {name: card.to_dict() for name, card in outcome.scores.items()}
    decided = PromotionRecord(
        dataset_run_id=candidate.dataset,
        as_of_session=candidate.as_of,
        model_name=registry.model_name,
        candidate_version=candidate.version,
        production_version=champion.version if champion else None,
        metric=promotion.metric,
        candidate=figures.pop("candidate"),
        production=figures.pop("production", None),
        persistence=figures.pop("persistence")
        | {"baselines": figures, "intervals": interval_records(outcome)},
        first_session=outcome.first_session,
        last_session=outcome.last_session,
        promoted=decision.promote,
        decision=decision,
        mlflow_run_id=candidate.mlflow_run,
        dagster_run_id=dagster_run_id,
    )
    return Comparison(outcome, decided)


def put_winner_in_force(
    engine: Engine, registry: Registry, decided: PromotionRecord, dagster_run_id: str
) -> list[ProductionChange]:
    """Put the winner of a decision in force, or its refit, if it is due; return the history.

    See :func:`stock_assets.evaluation.production_rule.promotion_is_due`.
    """

    def choose(history: Sequence[ProductionChange]) -> NewChange | None:
        if not promotion_is_due(decided, history):
            return None
        winner = registry.version(decided.promoted_version)
        cause = Cause.PROMOTION if winner.refit_of is None else Cause.REFIT
        later = newer_production_session(winner.as_of, history)
        return NewChange(winner, cause, decided.reason, until_session=later)

    return change_production(engine, registry, choose, dagster_run_id)


def interval_records(outcome: HeldOutComparison) -> list[dict[str, Any]]:
    """Return the rows of the table of intervals as JSON values."""
    rows = outcome.intervals.to_dict("records")
    return [undefined_as_none({str(name): value for name, value in row.items()}) for row in rows]


def _ticker_coverage(intervals: pd.DataFrame) -> pd.DataFrame:
    """Return the coverage by model, nominal coverage and ticker."""
    return pd.DataFrame(
        [
            (row["model"], row["nominal"], ticker, share)
            for row in intervals.to_dict("records")
            for ticker, share in row["tickers"].items()
        ],
        columns=["model", "nominal", "ticker", "coverage"],
    )


def score_table(decided: PromotionRecord) -> pd.DataFrame:
    """Return every figure of every model in a decision."""
    persistence = {k: v for k, v in decided.persistence.items() if k != "intervals"}
    baselines = persistence.pop("baselines", {})
    production = {"production": decided.production} if decided.production else {}
    return pooled_table(
        {"candidate": decided.candidate, **production, "persistence": persistence, **baselines}
    )


def _before_alarm(
    engine: Engine, candidate: ModelVersion, outcome: HeldOutComparison
) -> BeforeAlarm | None:
    """Test on the sessions before the alarm that launched the retraining; None without one."""
    alarm = alarm_of(engine, candidate.dataset)
    begins = None if alarm is None else alarm.decision.evidence_begins
    if begins is None or "production" not in outcome.rows:
        return None
    own, production = (
        rows[rows["session"] < pd.Timestamp(begins)]
        for rows in (outcome.rows["candidate"], outcome.rows["production"])
    )
    if own.empty:
        none = DieboldMariano(0.0, 0, None, None, "there is no held-out session before the alarm")
        return BeforeAlarm(begins, none)
    differences = loss_difference(own, production).to_numpy()
    return BeforeAlarm(begins, diebold_mariano(differences, int(own["horizon"].max())))


def _challenge(
    engine: Engine,
    registry: Registry,
    candidate: ModelVersion,
    champion: ModelVersion | None,
    in_force: ModelVersion | None,
) -> HeldOutComparison:
    """Score all models on the test segment, or on the part of it that the champion never saw.

    The champion is scored in place of its refit in force, as long as the refit has learnt from what
    followed.
    """
    record = load_panel(engine, candidate.dataset)
    segments = load_segments(engine, candidate.dataset)
    spans = {
        name: (segment.first_session, segment.last_session) for name, segment in segments.items()
    }
    challenger = registry.load(candidate.version)
    recipe = challenger.recipe
    production = registry.load(champion.version) if champion else None
    recipes = [recipe, production.recipe] if production else [recipe]
    first = min(one.first_session for one in recipes)
    tickers = sorted({ticker for one in recipes for ticker in one.tickers})
    bars = read_bars(engine, first, candidate.as_of, tickers, record.known_at, renamed=True)
    held_out = sessions(*spans["test"])
    own_bars = bars[bars["ticker"].isin(recipe.tickers)].reset_index(drop=True)
    returns = session_returns(own_bars, recipe.first_session, candidate.as_of)
    return compare_on_held_out(
        challenger,
        production,
        bars,
        _unseen(engine, champion, held_out) if champion else held_out,
        {
            "reversal": reversal(returns, recipe.network.horizon),
            "ridge": ridge(
                returns,
                spans["train"],
                spans["validation"],
                recipe.network.window,
                recipe.network.horizon,
            ),
            "gradient_boosting": gradient_boosting(
                challenger.panel(own_bars, candidate.as_of),
                recipe.feature_scaler,
                returns,
                spans["train"],
                spans["validation"],
                recipe.network.horizon,
            ),
        },
        _rivals(challenger, bars, record, segments["validation"]),
        registry.load(in_force.version) if in_force and in_force.refit_of is not None else None,
    )


def _rivals(
    challenger: Bundle, bars: pd.DataFrame, record: PanelRecord, validation: SegmentRecord
) -> dict[str, Bundle]:
    """Return models with other intervals; none for a model of an earlier version."""
    intervals = challenger.recipe.intervals
    if isinstance(intervals, FixedIntervals):
        return {}
    segment = Segment(validation.first_position, validation.last_position)
    _, calibration = split_validation(segment, recorded_params(record).dataset)
    days = sessions(record.first_session, record.as_of_session)
    calibrated = days[calibration.first : calibration.last + 1]
    return rivals(challenger, bars, calibrated, intervals.parameters())


def _unseen(engine: Engine, champion: ModelVersion, held_out: list[date]) -> list[date]:
    """Leave out sessions whose outcome a model was trained, chosen or calibrated on.

    There are such sessions if the test segment was lengthened after the model was trained.
    """
    seen = newest_seen_label(engine, champion)
    return [session for session in held_out if session >= seen]
