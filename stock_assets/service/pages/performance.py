"""Performance: the evidence for retraining, rolling scores, persistence and decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Annotated, Any, Literal, NamedTuple

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse

from stock_assets.evaluation.significance import diebold_mariano, edge_over_persistence
from stock_assets.market import calendar
from stock_assets.reporting.charts import Chart
from stock_assets.reporting.decision_text import edge_text
from stock_assets.reporting.score_figures import Mark, evidence_figure, score_figure
from stock_assets.service.app_state import AppState, QueryParams, StateDep
from stock_assets.service.pages.model_status import find_model_status, find_shadow, find_takeovers
from stock_assets.service.pages.models import draw_path
from stock_assets.service.pages.rendering import address, render
from stock_assets.storage.serving.decisions import (
    find_retraining,
    list_evidence,
    list_promotions,
    list_retrainings,
)
from stock_assets.storage.serving.performance import ScoreFilter, rolling_scores
from stock_assets.storage.serving.window import ScoredWindow

RANGES = {"3M": 63, "6M": 126, "1Y": 252, "All": None}
"""Sessions shown for each range."""

TABLE_ROWS = 60
"""Newest rows of the table below the charts."""

_ALL = 100_000

router = APIRouter()

SortKey = Literal[
    "ticker", "mape", "persistence_mape", "relative_mae", "direction_accuracy", "coverage"
]
_COLUMNS: dict[SortKey, str] = {
    "ticker": "Ticker",
    "mape": "MAPE",
    "persistence_mape": "Persistence MAPE",
    "relative_mae": "Relative MAE",
    "direction_accuracy": "Direction accuracy",
    "coverage": "Coverage",
}


_DETECTORS = {
    "loss": "Accuracy: error against persistence's",
    "above": "Prices above their intervals",
    "below": "Prices below their intervals",
}


class PerformanceParams(QueryParams):
    """Range of the charts and order of the table of tickers."""

    range: Literal["3M", "6M", "1Y", "All"] = "1Y"
    sort: SortKey = "ticker"
    order: Literal["asc", "desc"] = "asc"


class Event(NamedTuple):
    """A decision, and its mark in the charts; None for a promotion, whose version is marked."""

    session: date
    mark: str | None
    what: str
    reason: str


@router.get("/performance")
def performance(state: StateDep, query: Annotated[PerformanceParams, Query()]) -> HTMLResponse:
    """Render the page, or the commands that lead to the first scores."""
    status = find_model_status(state)
    if status.window is None:
        return render(
            "performance_empty.html",
            state,
            page="performance",
            status=status,
            production=status.production,
        )
    newest, window = status.window.pooled, state.params.monitoring.window_sessions
    length = RANGES[query.range]
    first = calendar.previous_session(newest["session"], length) if length else None
    scores = rolling_scores(state.engine, ScoreFilter(horizon=1), window, first, None, _ALL)
    events, shadow = find_events(state), find_shadow(state)
    return render(
        "performance.html",
        state,
        page="performance",
        query=query,
        ranges={name: _link(query, range=name) for name in RANGES},
        newest=newest,
        newest_decision=find_retraining(state.engine),
        evidence=draw_evidence(state, first, events),
        detectors=_DETECTORS,
        limits=_hard_limits(state),
        monitoring=state.params.monitoring,
        nominal=state.params.forecast.coverage,
        window=window,
        edge=live_edge(state, status.window),
        shadow=shadow,
        shadow_path=None if shadow is None else draw_path(shadow.evidence),
        status=status,
        production=status.production,
        figures=figures(state, scores, events),
        score_rows=scores[:TABLE_ROWS],
        events=events,
        columns=[(title, key, *_order(query, key)) for key, title in _COLUMNS.items()],
        tickers=sort_rows(status.window.tickers, query),
    )


def live_edge(state: AppState, window: ScoredWindow) -> str:
    """Test the newest scored sessions for an edge over persistence; return it in words."""
    test, level = diebold_mariano(window.differences), state.params.promotion.significance
    return edge_text(edge_over_persistence(test, window.pooled["relative_mae"], level), test)


def draw_evidence(state: AppState, first: date | None, events: list[Event]) -> Chart | None:
    """Draw the evidence of the decisions since a session; None without any."""
    paths = [(path.model_version, path.alarm) for path in list_evidence(state.engine, first)]
    drawn = [(version, alarm) for version, alarm in paths if alarm.path]
    return evidence_figure(drawn, _marks(state, events)) if drawn else None


def _marks(state: AppState, events: list[Event]) -> list[Mark]:
    decided = [Mark(event.session, event.mark) for event in events if event.mark is not None]
    return decided + find_takeovers(state)


def _hard_limits(state: AppState) -> str:
    """Name the hard limits that are set, in words."""
    limits = state.params.monitoring.thresholds
    named = [
        (limits.mape_max, "MAPE at most {:.1%}"),
        (limits.relative_mae_max, "relative MAE at most {:g}"),
        (limits.direction_accuracy_min, "direction accuracy at least {:.0%}"),
    ]
    return ", ".join(text.format(limit) for limit, text in named if limit is not None)


def figures(state: AppState, scores: Any, events: list[Event]) -> list[dict[str, Any]]:
    """Draw the rolling scores, a figure for each."""
    marks = _marks(state, events)
    specs: list[tuple[str, str, dict[str, str], dict[str, float], bool]] = [
        ("mape", "MAPE", {"mape": "model", "persistence_mape": "persistence"}, {}, True),
        ("relative_mae", "Relative MAE", {"relative_mae": "model"}, {"persistence": 1.0}, False),
        (
            "direction",
            "Direction accuracy",
            {"direction_accuracy": "model", "base_rate_up": "always up"},
            {},
            True,
        ),
        (
            "coverage",
            "Coverage",
            {"coverage": "model"},
            {"nominal": state.params.forecast.coverage},
            True,
        ),
    ]
    return [
        {
            "key": key,
            "title": title,
            "limits": levels,
            "percent": percent,
            "lines": lines,
            "figure": score_figure(scores, lines, levels, marks, percent=percent),
        }
        for key, title, lines, levels, percent in specs
    ]


def find_events(state: AppState) -> list[Event]:
    """List promotion decisions and retrainings, the newest session first."""
    promotions = [
        Event(
            _decided_after(row),
            None if row["promoted"] else f"v{row['candidate_version']} {_result(row)}",
            f"Version {row['candidate_version']} {_result(row)}",
            row["reason"],
        )
        for row in list_promotions(state.engine, None, None, _ALL, model_name=state.model_name)
    ]
    retrainings = [
        Event(row["session"], "retraining", "Retraining launched", row["reason"])
        for row in list_retrainings(state.engine, True, None, None, _ALL)
    ]
    return sorted(promotions + retrainings, key=lambda event: event.session, reverse=True)


def _result(row: Mapping[str, Any]) -> str:
    if row["promoted"]:
        return "promoted"
    return "in shadow" if row["decision"].in_shadow else "not promoted"


def _decided_after(row: Mapping[str, Any]) -> date:
    """Return the newest session that a decision could rest on."""
    shadow = row["decision"].shadow
    session: date = shadow.sessions[-1] if shadow and shadow.sessions else row["as_of_session"]
    return session


def sort_rows(
    rows: Sequence[Mapping[str, Any]], query: PerformanceParams
) -> list[Mapping[str, Any]]:
    """Sort the tickers; undefined scores come last."""
    known = [row for row in rows if row[query.sort] is not None]
    known.sort(key=lambda row: row[query.sort], reverse=query.order == "desc")
    return known + [row for row in rows if row[query.sort] is None]


def _order(query: PerformanceParams, key: SortKey) -> tuple[str, str]:
    """Return the current order by a column and the link that sorts by it."""
    current = query.sort == key
    order: Any = "desc" if current and query.order == "asc" else "asc"
    aria = {"asc": "ascending", "desc": "descending"}[query.order] if current else ""
    return aria, _link(query, sort=key, order=order) + "#tickers"


def _link(query: PerformanceParams, **changed: str) -> str:
    return address("/performance", **(query.model_dump() | changed))
