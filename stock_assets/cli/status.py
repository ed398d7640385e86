"""``stock-assets status``: the state of the whole loop."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date
from typing import Any

from rich.console import Console
from rich.markup import escape

from stock_assets.cli.output import print_facts
from stock_assets.cli.platform import Platform
from stock_assets.cli.versions import current_history
from stock_assets.core.text import truncate
from stock_assets.evaluation.forecast_issues import count_backfilled
from stock_assets.evaluation.metrics import persistence_forecasts, score_rows, summarise
from stock_assets.evaluation.production_rule import (
    ModelVersion,
    newest_change,
    persistence,
    trained_in_force,
)
from stock_assets.models.persistence import Persistence
from stock_assets.pipeline.production import LostRegistryError
from stock_assets.reporting.decision_text import backfilled_text
from stock_assets.storage.decisions import promotions, retraining_decisions_newest_first
from stock_assets.storage.forecasts import last_predicted_session, recent_performance
from stock_assets.storage.prices import price_coverage, stored_histories
from stock_assets.storage.production import ProductionChange, production_changes
from stock_assets.storage.quarantine import read_quarantine


def gather_status(platform: Platform) -> dict[str, Any]:
    """Return the state of prices, production, forecasts, scores and decisions, as plain values."""
    engine, params = platform.engine, platform.params
    history, registry_problem = _history(platform)
    newest = newest_change(history)
    rule = Persistence.of(params)
    production = trained_in_force(history) or persistence(digest=rule.digest)
    decided = promotions(engine, params.tracking.model_name)
    retraining = retraining_decisions_newest_first(engine)
    return {
        "project": str(platform.locations.project),
        "home": str(platform.locations.home),
        "source": params.prices.source,
        "tickers": params.prices.tickers,
        "prices": asdict(price_coverage(engine)),
        "late_tickers": _late_tickers(platform),
        "quarantined_bars": _quarantined(platform),
        "production": _described(production),
        "production_change": asdict(newest) if newest else None,
        "registry_problem": registry_problem,
        "last_promotion_decision": decided[0].to_dict() if decided else None,
        "last_predicted_session": last_predicted_session(engine),
        "performance": _recent_scores(platform, production),
        "last_retraining_decision": retraining[0].to_dict() if retraining else None,
    }


def _described(model: ModelVersion) -> dict[str, Any]:
    """Return a version as plain values; persistence may forecast as of any session."""
    return asdict(model) | ({"as_of": None} if model.is_persistence else {})


def _history(platform: Platform) -> tuple[list[ProductionChange], str | None]:
    """Return the history of production, and what the registry has lost, with the remedy."""
    try:
        return current_history(platform), None
    except LostRegistryError as lost:
        return production_changes(platform.engine, platform.params.tracking.model_name), str(lost)


def _late_tickers(platform: Platform) -> dict[str, date | None]:
    """Return the tickers without a bar of the newest stored session, and their last session."""
    stored = stored_histories(platform.engine)
    tickers = platform.params.prices.tickers
    last = {t: stored[t].last_session if t in stored else None for t in tickers}
    newest = max((day for day in last.values() if day), default=None)
    return {ticker: day for ticker, day in last.items() if newest and day != newest}


def _quarantined(platform: Platform) -> list[dict[str, Any]]:
    rows = read_quarantine(platform.engine)
    bars = rows[["ticker", "rule", "detail"]].assign(session=rows["session"].dt.date)
    records: list[dict[str, Any]] = bars.to_dict("records")  # type: ignore[assignment]
    return records


def _recent_scores(platform: Platform, production: ModelVersion) -> dict[str, Any] | None:
    """Return the newest scores of the version in force, and persistence's."""
    window = platform.params.monitoring.window_sessions
    rows = recent_performance(platform.engine, window, production.key)
    if rows.empty:
        return None
    return {
        "first_session": rows["session"].min().date(),
        "last_session": rows["session"].max().date(),
        "backfilled": count_backfilled(rows),
        "model": summarise(rows).to_dict(),
        "persistence": summarise(score_rows(persistence_forecasts(rows))).to_dict(),
    }


def show_status(found: dict[str, Any], console: Console) -> None:
    """Print the status, with the next command where something is missing."""
    facts = (
        ("prices", _prices(found)),
        ("late", _late(found)),
        ("quarantine", _quarantine(found)),
        ("production", _production(found)),
        ("last decision", _decision(found)),
        ("forecasts", _forecasts(found)),
        ("scores", _scores(found)),
        ("retraining", _retraining(found)),
        ("data", found["home"]),
    )
    print_facts(facts, console)


def _prices(found: dict[str, Any]) -> str:
    prices = found["prices"]
    if not prices["bars"]:
        return "none stored: stock-assets backfill raw_prices --from DATE --to DATE"
    return (
        f"{prices['bars']:,} bars of {prices['tickers']} tickers from {found['source']}, "
        f"{prices['first_session']} to {prices['last_session']}"
    )


def _late(found: dict[str, Any]) -> str:
    late = found["late_tickers"].items()
    return ", ".join(truncate([f"{ticker} ({day or 'no bar yet'})" for ticker, day in late], 5))


def _quarantine(found: dict[str, Any]) -> str:
    bars = found["quarantined_bars"]
    return ", ".join(
        truncate([f"{bar['ticker']} {bar['session']}: {bar['rule']}" for bar in bars], 5)
    )


def _production(found: dict[str, Any]) -> str:
    model, change = found["production"], found["production_change"]
    if found["registry_problem"]:
        return escape(found["registry_problem"])
    version = ModelVersion(**model)
    if change is None:
        return f"{version}, no model yet: stock-assets retrain"
    since = f"since {change['in_force_from']:%Y-%m-%d %H:%M}"
    if version.is_persistence:
        why = escape(f"{change['why']}")
        return f"{version} {since}, {why}: stock-assets model promote VERSION --why TEXT"
    return f"{version}, dataset {version.dataset_run_id}, {since}"


def _decision(found: dict[str, Any]) -> str:
    decided = found["last_promotion_decision"]
    return decided["reason"] if decided else "none yet"


def _forecasts(found: dict[str, Any]) -> str:
    session = found["last_predicted_session"]
    return f"newest as of {session}" if session else "none yet: stock-assets predict"


def _scores(found: dict[str, Any]) -> str:
    scores = found["performance"]
    if scores is None:
        return "none of the model yet: stock-assets backfill performance_log --from DATE --to DATE"
    model, persistence = scores["model"], scores["persistence"]
    relative_mae = _metric(model["relative_mae"], ".3f")
    return (
        f"MAPE {_metric(model['mape'], '.2%')}, persistence "
        f"{_metric(persistence['mape'], '.2%')} (relative MAE {relative_mae}), "
        f"{model['forecasts']} forecasts, {scores['first_session']} to {scores['last_session']}"
        f"{backfilled_text(scores['backfilled'], model['forecasts'])}"
    )


def _metric(value: float | None, form: str) -> str:
    return "undefined" if value is None else format(value, form)


def _retraining(found: dict[str, Any]) -> str:
    decided = found["last_retraining_decision"]
    return decided["reason"] if decided else "no decision yet"
