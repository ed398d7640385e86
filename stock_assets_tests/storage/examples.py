"""Rows for the tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

import pandas as pd
from sqlalchemy import Engine

from stock_assets.config import Tracking
from stock_assets.evaluation.alarm import AlarmState, DetectorState
from stock_assets.evaluation.change_detection import Source
from stock_assets.evaluation.hard_limits import ThresholdCheck
from stock_assets.evaluation.production_rule import Cause, ModelVersion
from stock_assets.evaluation.promotion_rule import PromotionDecision, PromotionOutcome
from stock_assets.evaluation.retraining_rule import (
    RetrainingDecision,
    RetrainingOutcome,
)
from stock_assets.evaluation.significance import DieboldMariano, Edge
from stock_assets.market import calendar
from stock_assets.market.bars import tidy
from stock_assets.market.sources.base import fetch_from_bars
from stock_assets.storage.datasets import PanelRecord
from stock_assets.storage.decisions import PromotionRecord, RetrainingRecord
from stock_assets.storage.prices import StoredPrices, read_actions, store_prices
from stock_assets.storage.production import NewChange, record_change

DAYS = calendar.sessions(date(2013, 1, 2), date(2013, 1, 31))
MODEL = Tracking().model_name
"""The registered model of default parameters."""

DATASET = "20121231_120000"

PANEL = PanelRecord(
    dataset_run_id=DATASET,
    as_of_session=date(2012, 12, 31),
    first_session=date(2010, 3, 22),
    last_session=date(2012, 12, 31),
    bars=1400,
    tickers=["AAPL", "IBM"],
    features=["RSI", "Log_Return"],
    basis="adjusted",
    adjustment_factors={
        "AAPL": {"price": 0.1 + 0.2, "volume": 1.0},
        "IBM": {"price": 1 / 3, "volume": 7.0},
    },
    target="log_return",
    params={"dataset": {"window": 30}, "prices": {"tickers": ["AAPL", "IBM"]}},
    bars_digest="b" * 64,
    digest="d" * 64,
    location="dd/d.safetensors",
    build_environment={
        "package": "0.1.0",
        "code": {"config/prices.py": "c" * 64},
        "libraries": {"numpy": "2.0"},
    },
)

PROMOTION = PromotionRecord(
    dataset_run_id=DATASET,
    as_of_session=date(2012, 12, 31),
    model_name=MODEL,
    candidate_version=1,
    production_version=None,
    metric="relative_mae",
    candidate={"relative_mae": 0.1 + 0.2, "ic": None},
    production=None,
    persistence={"relative_mae": 1.0, "ic": None},
    first_session=date(2012, 11, 15),
    last_session=date(2012, 12, 28),
    promoted=True,
    decision=PromotionDecision(
        outcome=PromotionOutcome.FIRST_MODEL,
        metric="relative_mae",
        candidate=0.1 + 0.2,
        production=None,
        persistence=1.0,
        forecasts=150,
        sessions=30,
        minimum_improvement=0.0,
        significance=None,
        against_production=None,
        against_persistence=DieboldMariano(-0.0001, 30, -0.5, 0.62),
        edge=Edge.NONE,
    ),
    mlflow_run_id="abc",
    dagster_run_id="def",
)

PRODUCTION = ModelVersion(
    version=1,
    mlflow_run_id="abc",
    dataset_run_id=DATASET,
    as_of=date(2012, 12, 31),
    digest="e" * 64,
)
"""The version that `PROMOTION` is about."""

ALARM = AlarmState(
    evidence=1.2,
    limit=252.0,
    source=Source.HELD_OUT,
    detectors={
        "loss": DetectorState(1.5, 0.02, 0.015, 0.1),
        "above": DetectorState(1.0, 0.0, 0.07, 0.2),
        "below": DetectorState(1.1, None, 0.07, 0.2),
    },
    path={date(2012, 12, 31): 0.6, DAYS[0]: 1.2},
)

RETRAINING = RetrainingRecord(
    session=DAYS[0],
    retrain=True,
    decision=RetrainingDecision(
        outcome=RetrainingOutcome.HARD_LIMIT,
        session=DAYS[0],
        forecasts=100,
        sessions=20,
        cooldown_sessions=20,
        breaches=(ThresholdCheck("relative_mae", 1.6, 1.5, "at_most"),),
        metrics={"relative_mae": 1.6, "ic": None},
        model_version=1,
        evidence_from=date(2012, 12, 3),
        alarm=ALARM,
        age_sessions=20,
        due_sessions=252,
    ),
    dataset_run_id="20130102_120000",
)


def panel(dataset_id: str) -> PanelRecord:
    """The example panel under another id."""
    return replace(PANEL, dataset_run_id=dataset_id)


def bars(
    tickers: Sequence[str] = "AB", days: list[date] = DAYS, close: float = 100.1
) -> pd.DataFrame:
    """Bars of tickers (of one letter each by default) that rise by a tenth a day."""
    rows = [
        {
            "ticker": ticker,
            "session": pd.Timestamp(day),
            "open": close + number / 10,
            "high": close + number / 10 + 1,
            "low": close + number / 10 - 1,
            "close": close + number / 10,
            "volume": 1000.0,
            "dividends": 0.0,
            "stock_splits": 0.0,
        }
        for ticker in tickers
        for number, day in enumerate(days)
    ]
    return tidy(pd.DataFrame(rows))


def forecasts(
    days: list[date], tickers: Sequence[str] = "AB", version: int = 1, price: float = 101.5
) -> pd.DataFrame:
    """Forecasts as of `days`, with the columns that the asset stores."""
    return pd.DataFrame(
        [
            {
                "as_of_session": pd.Timestamp(day),
                "target_session": pd.Timestamp(calendar.next_session(day)),
                "ticker": ticker,
                "horizon": 1,
                "last_close": 100.0,
                "predicted_return": 0.01,
                "predicted_price": price,
                "lower_price": price - 2,
                "upper_price": price + 2,
                "coverage": 0.9,
                "model_version": version,
                "dataset_run_id": DATASET,
                "mlflow_run_id": "abc",
                "dagster_run_id": "run",
            }
            for day in days
            for ticker in tickers
        ]
    )


def drift(
    days: list[date], version: int = 1, baseline_p95: float = 0.05, **indices: float
) -> pd.DataFrame:
    """Drift as of `days`, of the features that indices are given of, as the asset stores it."""
    return pd.DataFrame(
        [
            {
                "as_of_session": pd.Timestamp(day),
                "feature": feature,
                "psi": psi,
                "rows": 100,
                "baseline_p95": baseline_p95,
                "model_version": version,
                "dagster_run_id": "run",
            }
            for day in days
            for feature, psi in indices.items()
        ]
    )


def store_bars(
    engine: Engine, bars: pd.DataFrame, source: str = "sample", run_id: str | None = None
) -> StoredPrices:
    """Store bars with the actions that they carry."""
    starts = bars.groupby("ticker")["session"].min().dt.date.to_dict()
    return store_prices(engine, fetch_from_bars(bars), starts, source, run_id)


def put_in_force(engine: Engine, model: ModelVersion = PRODUCTION) -> None:
    """Record that a version took over production."""
    record_change(engine, MODEL, NewChange(model, Cause.PROMOTION, "won"), None)


def stored_actions(engine: Engine) -> pd.DataFrame:
    """Read the corporate actions of every ticker."""
    with engine.connect() as connection:
        return read_actions(connection)
