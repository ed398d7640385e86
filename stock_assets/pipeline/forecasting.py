"""Forecasts from stored bars, and the scores of those that came due.

Which version may forecast a session is decided in :mod:`stock_assets.evaluation.production_rule`,
and whether a forecast is live or backfilled in :mod:`stock_assets.evaluation.forecast_issues`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

import pandas as pd
import torch
from sqlalchemy import Engine

from stock_assets.config import Params
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.fingerprints import forecast_environment, plain_digest
from stock_assets.evaluation.drift import no_drift
from stock_assets.evaluation.forecast_checks import invalid_forecasts
from stock_assets.evaluation.forecast_issues import Reason, Role
from stock_assets.evaluation.metrics import (
    by_ticker,
    persistence_forecasts,
    score_rows,
    summarise,
)
from stock_assets.evaluation.production_rule import ModelVersion, model_for, persistence
from stock_assets.evaluation.scoring import score_due
from stock_assets.models.bundle import Bundle
from stock_assets.models.networks import describe_device
from stock_assets.models.persistence import Persistence
from stock_assets.pipeline.production import registered
from stock_assets.registry import Registry
from stock_assets.storage.forecast_issues import Issue
from stock_assets.storage.forecasts import forecasts_due, save_predictions
from stock_assets.storage.prices import read_bars
from stock_assets.storage.production import ProductionChange
from stock_assets.storage.record import head


@dataclass(frozen=True)
class Forecasts:
    """Forecasts as of some sessions, before they are stored.

    Attributes
    ----------
    sessions : dict of ModelVersion to list of date
        The as-of sessions of each model.
    rows : DataFrame
        Of the tickers of the universe, by as-of session, ticker and horizon.
    drift : DataFrame
        How far each model's newest inputs have drifted, per session and feature.
    invalid : DataFrame
        Rows that must not be stored, with a column ``problem``.
    issue : Issue
        Their inputs.
    """

    sessions: Mapping[ModelVersion, list[date]]
    rows: pd.DataFrame
    drift: pd.DataFrame
    invalid: pd.DataFrame
    issue: Issue

    @property
    def models(self) -> list[ModelVersion]:
        """The models that forecast, in the order of their sessions."""
        return list(self.sessions)

    @property
    def newest(self) -> pd.DataFrame:
        """The forecasts as of the newest session."""
        return _newest(self.rows)

    @property
    def strongest_drift(self) -> pd.DataFrame:
        """The drift of the newest session, the strongest first."""
        return _newest(self.drift).sort_values("psi", ascending=False)

    @property
    def invalid_sessions(self) -> set[date]:
        """The sessions with an invalid forecast."""
        return set(self.invalid["as_of_session"].dt.date)

    def valid(self) -> Forecasts:
        """Return the forecasts of the sessions without an invalid one."""
        refused = self.invalid_sessions
        sessions = {
            model: [day for day in days if day not in refused]
            for model, days in self.sessions.items()
        }
        rows, drift = (
            frame[~frame["as_of_session"].dt.date.isin(refused)].reset_index(drop=True)
            for frame in (self.rows, self.drift)
        )
        return Forecasts(sessions, rows, drift, self.invalid.iloc[:0], self.issue)

    def missing(self, tickers: Sequence[str]) -> dict[str, int]:
        """Count the sessions without a forecast, per ticker of the universe that has any."""
        days = [day for sessions in self.sessions.values() for day in sessions]
        made = set(zip(self.rows["ticker"], self.rows["as_of_session"].dt.date, strict=True))
        counts = Counter(t for t in tickers for day in days if (t, day) not in made)
        return dict(sorted(counts.items()))


def make_forecasts(
    engine: Engine,
    registry: Registry,
    history: Sequence[ProductionChange],
    sessions: Sequence[date],
    params: Params,
) -> Forecasts:
    """Forecast as of sessions, each with the champion as of that session; nothing is stored.

    Prices are read as known at the newest link of the record.

    Parameters
    ----------
    engine : Engine
        The ``stock_assets`` database.
    registry : Registry
    history : sequence of ProductionChange
        The history of production, oldest first.
    sessions : sequence of date
        As-of sessions, ascending.
    params : Params

    Raises
    ------
    StockAssetsError
        A session has no bar, or no ticker with enough bars before it.
    """
    newest_link = head(engine)
    known_at = None if newest_link is None else newest_link.written_at
    rule = Persistence.of(params)
    by_champion: dict[ModelVersion, list[date]] = {}
    for session in sessions:
        found = model_for(session, history)
        champion = persistence(digest=rule.digest) if found.is_persistence else found
        by_champion.setdefault(champion, []).append(session)
    chosen = {
        model if model.is_persistence else registered(registry, model): days
        for model, days in by_champion.items()
    }
    models: dict[int, Bundle | Persistence] = {
        model.version: rule if model.is_persistence else registry.load(model.version)
        for model in chosen
    }
    first = min(models[model.version].first_session(days[0]) for model, days in chosen.items())
    bars = read_bars(engine, first, sessions[-1], known_at=known_at)
    missing = _first_without_bars(bars, sessions)
    if missing is not None:
        raise StockAssetsError(
            f"no bar is stored for {missing}, so there is nothing to forecast from",
            f"Store it first: stock-assets backfill raw_prices --from {missing} "
            f"--to {sessions[-1]}",
        )
    rows, drift = _forecast(chosen, models, bars, params.prices.tickers)
    _require_forecasts(rows, sessions)
    seen = {m.version: pd.Timestamp(m.as_of) for m in chosen if not m.is_persistence}
    model_as_of = pd.to_datetime(rows["model_version"].map(seen))
    invalid = invalid_forecasts(rows.assign(model_as_of=model_as_of))
    trained = [model for model in models.values() if isinstance(model, Bundle)]
    return Forecasts(chosen, rows, drift, invalid, _issue(params, known_at, trained))


def _issue(params: Params, known_at: datetime | None, bundles: Sequence[Bundle]) -> Issue:
    """Describe the inputs of forecasts made now, apart from the models."""
    in_force = params.model_dump(mode="json")
    names = [name for bundle in bundles for name in bundle.recipe.code_names]
    return Issue(
        known_at=known_at,
        params=in_force,
        params_digest=plain_digest(in_force),
        build_environment=forecast_environment(names),
        torch=torch.__version__,
        device=describe_device(bundles[0].network if bundles else None),
    )


def store_forecasts(
    engine: Engine,
    forecasts: Forecasts,
    tickers: Sequence[str],
    dagster_run_id: str,
    reason: Reason | None = None,
    started_by: str | None = None,
) -> None:
    """Issue forecasts and store drift; forecasts of other tickers and models stay.

    Parameters
    ----------
    engine : Engine
        The ``stock_assets`` database.
    forecasts : Forecasts
    tickers : sequence of str
        The tickers whose earlier forecasts they replace.
    dagster_run_id : str
        The run.
    reason : Reason, optional
        How the run was started.
    started_by : str, optional
        The user who started it.
    """
    issue = replace(
        forecasts.issue, dagster_run_id=dagster_run_id, reason=reason, started_by=started_by
    )
    for model, days in forecasts.sessions.items():
        if not days:
            continue
        rows, drift = (
            frame[frame["model_version"] == model.version].assign(dagster_run_id=dagster_run_id)
            for frame in (forecasts.rows, forecasts.drift)
        )
        save_predictions(engine, rows, days, model.version, tickers, drift, issue)


def score_sessions(engine: Engine, sessions: Sequence[date]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the issued forecasts due on sessions, and the scores of those with a close.

    Raises
    ------
    StockAssetsError
        A session with due forecasts has no bar. Its earlier scores, if any, are left alone.
    """
    due = forecasts_due(engine, sessions)
    first = sessions[0] if due.empty else due["as_of_session"].min().date()
    bars = read_bars(engine, first, sessions[-1])
    missing = _first_without_bars(bars, sorted(set(due["target_session"].dt.date)))
    if missing is not None:
        raise StockAssetsError(
            f"no bar is stored for {missing}, so the forecasts due on it cannot be scored",
            f"Store it first: stock-assets backfill raw_prices --from {missing} --to {missing}",
        )
    return due, score_due(due, bars)


def newest_scores(scored: pd.DataFrame) -> dict[str, Any]:
    """Return the scores of the highest model version among the forecasts, and persistence's.

    Several models may have forecast the same session: pooled, its outcome would count twice.
    """
    production = scored[scored["role"] != Role.SHADOW]
    newest = production["model_version"].max()
    own = production[production["model_version"] == newest]
    model, persistence = summarise(own), summarise(score_rows(persistence_forecasts(own)))
    return {
        "model_version": int(newest),
        "mape": model.mape,
        "persistence_mape": persistence.mape,
        "relative_mae": model.relative_mae,
        "direction_accuracy": model.direction_accuracy,
        "base_rate_up": model.base_rate_up,
        "coverage": model.coverage,
    }


def scores_by_ticker(scored: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of every model per ticker."""
    tickers = [
        by_ticker(group).assign(model_version=version)
        for version, group in scored.groupby("model_version")
    ]
    return pd.concat(tickers, ignore_index=True)


def _newest(rows: pd.DataFrame) -> pd.DataFrame:
    newest: pd.DataFrame = rows[rows["as_of_session"] == rows["as_of_session"].max()]
    return newest


def _forecast(
    chosen: Mapping[ModelVersion, list[date]],
    models: Mapping[int, Bundle | Persistence],
    bars: pd.DataFrame,
    tickers: Sequence[str],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Forecast and measure drift at the sessions of each model; persistence has no inputs."""
    forecasts, drift = [], []
    for version, sessions in chosen.items():
        model = models[version.version]
        if isinstance(model, Bundle):
            panel = model.panel(bars, sessions[-1])
            made, drifted = model.forecast(bars, sessions, panel), model.drift(panel, sessions)
        else:
            made, drifted = model.forecast(bars, sessions), no_drift()
        forecasts.append(
            made.assign(
                model_version=version.version,
                dataset_run_id=version.dataset_run_id,
                mlflow_run_id=version.mlflow_run_id,
            )
        )
        drift.append(drifted.assign(model_version=version.version))
    frame = pd.concat(forecasts)
    wanted = frame[frame["ticker"].isin(tickers)]
    ordered = wanted.sort_values(["as_of_session", "ticker", "horizon"], ignore_index=True)
    return ordered, pd.concat(drift, ignore_index=True)


def _first_without_bars(bars: pd.DataFrame, sessions: Sequence[date]) -> date | None:
    stored = set(bars["session"].dt.date)
    return next((session for session in sessions if session not in stored), None)


def _require_forecasts(rows: pd.DataFrame, sessions: Sequence[date]) -> None:
    made = set(rows["as_of_session"].dt.date)
    empty = next((session for session in sessions if session not in made), None)
    if empty is not None:
        raise StockAssetsError(
            f"no ticker of prices.tickers that the model knows has enough bars as of {empty}",
            f"Store the sessions before it: stock-assets backfill raw_prices --from … "
            f"--to {empty}, or choose a later one; for other tickers, stock-assets retrain",
        )
