"""Models: the history of production, versions and their scores, promotion decisions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from stock_assets.evaluation.production_rule import PERSISTENCE_NAME
from stock_assets.evaluation.shadow_rule import ShadowEvidence
from stock_assets.reporting.charts import Chart
from stock_assets.reporting.decision_text import edge_text
from stock_assets.reporting.score_figures import shadow_figure
from stock_assets.service.app_state import NO_PARAMS, AppState, StateDep
from stock_assets.service.pages.model_status import find_model_status, find_production, find_shadow
from stock_assets.service.pages.rendering import render
from stock_assets.storage.serving.datasets import find_panel
from stock_assets.storage.serving.decisions import ModelFilter, list_models, list_promotions
from stock_assets.storage.serving.performance import ScoreFilter, rolling_scores
from stock_assets.storage.serving.production import list_changes

# Newest decisions and versions.
SHOWN = 50
_WHOLE = 100_000

router = APIRouter()


class Version(NamedTuple):
    """A model version and the scores of all its forecasts; None before the first score."""

    row: Mapping[str, Any]
    live: Mapping[str, Any] | None


class IntervalRow(NamedTuple):
    """The scores of a model's intervals, and the tickers with the lowest and highest coverage."""

    name: str
    scores: Mapping[str, Any]
    tickers: tuple[str, str]


class Decision(NamedTuple):
    """A promotion decision with its scores, those of intervals, and its dataset."""

    row: Mapping[str, Any]
    scores: list[tuple[str, dict[str, Any]]]
    intervals: list[IntervalRow]
    edge: str
    panel: Mapping[str, Any] | None
    key: str
    """The candidate's number, for the last decision about it; earlier ones add their session."""
    path: Chart | None
    """The evidence of a shadow that decided."""


@router.get("/models", dependencies=NO_PARAMS)
def models(state: StateDep) -> HTMLResponse:
    """Render the page, or the command that trains the first model."""
    decisions = find_decisions(state)
    changes = list_changes(state.engine, state.model_name, None, SHOWN, others=False)
    if not decisions and not changes:
        return render("models_empty.html", state, page="models", production=find_production(state))
    status = find_model_status(state)
    return render(
        "models.html",
        state,
        page="models",
        status=status,
        production=status.production,
        shadow=find_shadow(state),
        changes=changes,
        versions=find_versions(state),
        decisions=decisions,
        shown=SHOWN,
        metric=state.params.promotion.metric,
        model_name=state.model_name,
    )


def find_versions(state: AppState) -> list[Version]:
    """List the newest versions with the scores of all their forecasts."""
    wanted = ModelFilter(model_name=state.model_name)
    rows = list_models(state.engine, state.model_name, wanted, SHOWN)
    return [Version(row, _live(state, row) if row["first_forecast"] else None) for row in rows]


def _live(state: AppState, row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    wanted = ScoreFilter(
        horizon=1, model_version=row["model_version"], dataset_run_id=row["dataset_run_id"]
    )
    found = rolling_scores(state.engine, wanted, _WHOLE, None, None, size=1)
    return found[0] if found else None


def find_decisions(state: AppState) -> list[Decision]:
    """List the newest decisions, the latest first."""
    rows = list_promotions(state.engine, None, None, SHOWN, model_name=state.model_name)
    last: set[int] = set()
    decisions = []
    for row in rows:
        number = row["candidate_version"]
        key = f"{number}-{row['last_session']}" if number in last else f"{number}"
        last.add(number)
        panel = find_panel(state.engine, row["dataset_run_id"])
        path = draw_path(row["decision"].shadow)
        shown = (_scores(row), _intervals(row), _edge(row))
        decisions.append(Decision(row, *shown, panel, key, path))
    return decisions


def draw_path(evidence: ShadowEvidence | None) -> Chart | None:
    """Draw the evidence of a shadow; None before its first session."""
    return shadow_figure(evidence) if evidence is not None and evidence.sessions else None


def _edge(row: Mapping[str, Any]) -> str:
    decision = row["decision"]
    return edge_text(decision.edge, decision.against_persistence)


def _scores(row: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    baselines = dict(row["persistence"].get("baselines", {}))
    shadow, rival = row["decision"].shadow, row["production_version"]
    scored = row["candidate_version"] if shadow is None else shadow.version
    scores = {
        f"candidate, v{scored}": row["candidate"],
        "candidate without shrinkage": baselines.pop("candidate_raw", None),
        f"production, {PERSISTENCE_NAME if rival is None else f'v{rival}'}": row["production"],
        "persistence": row["persistence"],
        **{name.replace("_", " "): figures for name, figures in baselines.items()},
    }
    return [(name, figures) for name, figures in scores.items() if figures]


def _intervals(row: Mapping[str, Any]) -> list[IntervalRow]:
    """Name the models whose intervals were scored; none where an earlier version decided."""
    names = {
        "candidate": f"candidate, v{row['candidate_version']}",
        "constant_width": "candidate, constant width",
        "no_change": "persistence, same scale",
        "production": f"production, v{row['production_version']}",
    }
    return [
        IntervalRow(names[scores["model"]], scores, _extremes(scores["tickers"]))
        for scores in row["persistence"].get("intervals", [])
    ]


def _extremes(tickers: Mapping[str, float]) -> tuple[str, str]:
    ordered = sorted(tickers, key=lambda ticker: (tickers[ticker], ticker))
    return ordered[0], ordered[-1]
