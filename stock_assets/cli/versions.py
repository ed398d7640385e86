"""``stock-assets model``: list, show, compare and promote versions, and roll back."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stock_assets.cli.output import print_facts
from stock_assets.cli.platform import Platform
from stock_assets.core.errors import StockAssetsError
from stock_assets.evaluation.production_rule import (
    PERSISTENCE_VERSION,
    Cause,
    ModelVersion,
    newest_change,
    persistence,
    trained_in_force,
    version_label,
)
from stock_assets.models.persistence import Persistence
from stock_assets.pipeline.production import change_production, rollback_target
from stock_assets.pipeline.recovery import checked_history, require_known_versions
from stock_assets.registry import Registry
from stock_assets.storage.decisions import PromotionRecord, promotions
from stock_assets.storage.prices import price_coverage
from stock_assets.storage.production import NewChange, ProductionChange, production_changes
from stock_assets.storage.serving.decisions import scored_sessions
from stock_assets.storage.serving.performance import ScoreFilter, rolling_scores
from stock_assets.storage.shadows import current_shadow

_WHOLE = 100_000
_UNKNOWN: dict[str, Any] = {
    **dict.fromkeys(("refit_of", "dataset_run_id", "as_of_session", "newest_label", "digest")),
    **dict.fromkeys(("mlflow_run_id", "promoted", "in_shadow", "reason", "scores")),
    **{"in_production": False, "in_force": []},
}
"""Shown for a version that was not registered by stock-assets."""
_SHOWN_SCORES = ("forecasts", "mae", "mape", "relative_mae", "direction_accuracy", "coverage")


def current_history(platform: Platform) -> list[ProductionChange]:
    """Return the history of production, including changes found in MLflow.

    A change that is found is also materialized in Dagster.
    """
    registry, engine = Registry(platform.params.tracking), platform.engine
    before = production_changes(engine, registry.model_name)
    history = checked_history(engine, registry)
    if len(history) > len(before):
        _report(platform, history)
    return history


def gather_models(platform: Platform) -> list[dict[str, Any]]:
    """Return every registered version, the newest first, as plain values.

    Of a version that was not registered by stock-assets only the number is known. Persistence,
    version 0, is the last if it has forecast or was ever in force.
    """
    history, registry = current_history(platform), Registry(platform.params.tracking)
    decided = _decisions(platform)
    own = [_version(platform, model, history, decided) for model in registry.versions()]
    version_0 = _version(platform, _persistence(platform), history, decided)
    if version_0["in_production"] or version_0["in_force"] or version_0["scores"]:
        own.append(version_0)
    foreign = [
        _UNKNOWN | {"foreign": True, "model_version": number}
        for number in registry.foreign_versions()
    ]
    return sorted(own + foreign, key=lambda row: -row["model_version"])


def _decisions(platform: Platform) -> dict[tuple[str | None, int], PromotionRecord]:
    """Return the decisions by dataset and version, also under the version of the refit."""
    return {
        (record.dataset_run_id, version): record
        for record in reversed(promotions(platform.engine, platform.params.tracking.model_name))
        for version in (record.candidate_version, record.refit_version)
        if version is not None
    }


def _version(
    platform: Platform,
    model: ModelVersion,
    history: Sequence[ProductionChange],
    decided: dict[tuple[str | None, int], PromotionRecord],
) -> dict[str, Any]:
    from stock_assets.pipeline.versions import newest_label

    engine, decision = platform.engine, decided.get(model.key)
    shadow = current_shadow(engine, platform.params.tracking.model_name, history)
    wanted = ScoreFilter(
        horizon=1, model_version=model.version, dataset_run_id=model.dataset_run_id
    )
    scores = rolling_scores(engine, wanted, _WHOLE, first=None, last=None, size=1)
    production = trained_in_force(history) or persistence()
    return {
        "foreign": False,
        "model_version": model.version,
        "refit_of": model.refit_of,
        "dataset_run_id": model.dataset_run_id,
        "as_of_session": None if model.is_persistence else model.as_of,
        "newest_label": None if model.is_persistence else newest_label(engine, model),
        "digest": model.digest,
        "mlflow_run_id": model.mlflow_run_id,
        "promoted": decision.promoted if decision else None,
        "in_shadow": shadow is not None and shadow.model.key == model.key,
        "reason": decision.reason if decision else None,
        "scores": {name: scores[0][name] for name in _SHOWN_SCORES} if scores else None,
        "in_production": model.is_same(production),
        "in_force": _spans(history, model),
    }


def _persistence(platform: Platform) -> ModelVersion:
    """Return version 0 with the digest of its settings, in force from the newest session on."""
    last = price_coverage(platform.engine).last_session
    return persistence(last or date.min, Persistence.of(platform.params).digest)


def _spans(history: Sequence[ProductionChange], model: ModelVersion) -> list[dict[str, Any]]:
    """Return when and why a version was in force, and until when."""
    spans = []
    for place, change in enumerate(history):
        if not model.is_same(change.model):
            continue
        later = [one for one in history[place + 1 :] if one.until_session is None]
        replaced = later[0].in_force_from if later and change.until_session is None else None
        names = ("in_force_from", "until_session", "changed_by", "why", "dagster_run_id")
        spans.append(
            {name: getattr(change, name) for name in names}
            | {"in_force_until": replaced, "cause": change.cause.value}
        )
    return spans


def show_models(found: Sequence[dict[str, Any]], console: Console) -> None:
    """Print the versions as a table."""
    if not found:
        console.print("no model yet: stock-assets retrain")
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("version", "dataset", "as of", "newest label", "decision"):
        table.add_column(heading, no_wrap=True)
    table.add_column("relative MAE", justify="right")
    table.add_column("in force")
    for row in found:
        table.add_row(
            _label(row),
            *(str(row[name] or "–") for name in ("dataset_run_id", "as_of_session")),
            str(row["newest_label"] or "–"),
            _decision(row),
            _relative_mae(row["scores"]),
            "; ".join(map(_span, row["in_force"])) or ("now" if row["in_production"] else ""),
        )
    console.print(table)


def _label(row: dict[str, Any]) -> str:
    if row["model_version"] == PERSISTENCE_VERSION:
        return f"{PERSISTENCE_VERSION}, persistence"
    return version_label(row["model_version"], row["refit_of"])


def _decision(row: dict[str, Any]) -> str:
    if row["foreign"]:
        return "foreign"
    if row["model_version"] == PERSISTENCE_VERSION:
        return "–"
    if row["in_shadow"]:
        return "in shadow"
    if row["promoted"] is None:
        return "undecided"
    return "promoted" if row["promoted"] else "not promoted"


def _relative_mae(scores: dict[str, Any] | None) -> str:
    if scores is None or scores["relative_mae"] is None:
        return "–"
    return f"{scores['relative_mae']:.3f} ({int(scores['forecasts'])})"


def _span(span: dict[str, Any]) -> str:
    since = f"{span['in_force_from']:%Y-%m-%d %H:%M}"
    if span["until_session"] is not None:
        return f"since {since}, before {span['until_session']} only"
    if span["in_force_until"] is None:
        return f"[green]since {since}[/green]"
    return f"{since} to {span['in_force_until']:%Y-%m-%d %H:%M}"


def gather_model(platform: Platform, version: int) -> dict[str, Any]:
    """Return one version and its scored sessions, as plain values.

    Raises
    ------
    StockAssetsError
        There is no such version.
    """
    history = current_history(platform)
    model = _find(platform, version)
    found = _version(platform, model, history, _decisions(platform))
    return found | {"scored": scored_sessions(platform.engine, version, model.dataset_run_id)}


def show_model(found: dict[str, Any], console: Console) -> None:
    """Print a version as a table."""
    scored = found["scored"]
    first, last = scored["first_session"], scored["last_session"]
    facts = (
        ("version", _label(found)),
        ("dataset", found["dataset_run_id"] or "none"),
        ("as of", str(found["as_of_session"] or "any session")),
        ("newest label", str(found["newest_label"] or "none")),
        ("digest", found["digest"]),
        ("MLflow run", found["mlflow_run_id"] or "none"),
        ("decision", escape(found["reason"] or "none yet")),
        *(("in force", f"{_span(span)}: {_cause(span)}") for span in found["in_force"]),
        ("scores", _scores(found["scores"])),
        ("scored", f"{first} to {last}" if scored["forecasts"] else ""),
    )
    print_facts(facts, console)


def _cause(span: dict[str, Any]) -> str:
    by = f" by {span['changed_by']}" if span["changed_by"] else ""
    why = f", {span['why']}" if span["why"] else ""
    return escape(f"{span['cause'].replace('_', ' ')}{by}{why}")


def _scores(scores: dict[str, Any] | None) -> str:
    if scores is None:
        return "none yet"
    return f"relative MAE {_relative_mae(scores)}, MAPE {scores['mape']:.2%}, one session ahead"


def compare(platform: Platform, first: int, second: int) -> dict[str, Any]:
    """Compare two versions on the sessions that both were held out on, as plain values.

    Raises
    ------
    StockAssetsError
        A version is unknown, they are the same, or they have no such session in common.
    """
    from stock_assets.pipeline.versions import compare_versions

    if first == second:
        raise StockAssetsError(f"{first} and {second} are one version", "Compare two versions")
    registry = Registry(platform.params.tracking, platform.params.prices.renames)
    require_known_versions(platform.engine, registry)
    models = [registry.version(number) for number in (first, second)]
    found = compare_versions(platform.engine, registry, *models)
    names = {"first": str(first), "second": str(second), "persistence": "persistence"}
    return {
        "versions": [first, second],
        "first_session": found.first_session,
        "last_session": found.last_session,
        "scores": {names[name]: card.to_dict() for name, card in found.scores.items()},
        "test": asdict(found.test),
    }


def show_comparison(found: dict[str, Any], console: Console) -> None:
    """Print a comparison as a table, with its test."""
    first, second = found["versions"]
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("")
    for heading in ("relative MAE", "MAE", "MAPE", "direction", "coverage"):
        table.add_column(heading, justify="right")
    for name, scores in found["scores"].items():
        table.add_row(
            name if name == "persistence" else f"version {name}",
            _figure(scores["relative_mae"], ".4f"),
            _figure(scores["mae"], ".3f"),
            _figure(scores["mape"], ".2%"),
            _figure(scores["direction_accuracy"], ".1%"),
            _figure(scores["coverage"], ".1%"),
        )
    scores, test = found["scores"][str(first)], found["test"]
    console.print(
        f"{scores['forecasts']} forecasts as of {found['first_session']} to "
        f"{found['last_session']}, held out from both"
    )
    console.print(table)
    if test["p_value"] is None:
        console.print(f"No test: {test['reason']}")
        return
    better = first if test["difference"] < 0 else second
    console.print(
        f"Version {better} has less error by {abs(test['difference']):.4%} of price a session "
        f"(Diebold-Mariano, {test['sessions']} sessions, p = {test['p_value']:.3f})"
    )


def _figure(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def promote(platform: Platform, version: int, why: str) -> dict[str, Any]:
    """Put a version in force by name; return the change as plain values.

    Raises
    ------
    StockAssetsError
        The version is unknown, damaged, or in force already.
    """
    registry = Registry(platform.params.tracking)
    require_known_versions(platform.engine, registry)
    model = _find(platform, version)
    if not model.is_persistence:
        registry.load(version)

    def choose(history: Sequence[ProductionChange]) -> NewChange:
        if model.is_same(trained_in_force(history) or persistence()):
            raise StockAssetsError(
                f"{model} is in force already", "See the others: stock-assets model list"
            )
        return NewChange(model, Cause.PERSON, why, person())

    return _change(platform, registry, choose)


def rollback(platform: Platform, why: str | None) -> dict[str, Any]:
    """Go back to the previous version; return the change as plain values.

    The version that it replaces is not used again until it is promoted by name.

    Raises
    ------
    StockAssetsError
        There is no earlier version with undamaged files.
    """
    registry = Registry(platform.params.tracking)
    require_known_versions(platform.engine, registry)

    def choose(history: Sequence[ProductionChange]) -> NewChange:
        earlier, damaged = rollback_target(registry, history)
        newest = newest_change(history)
        left = newest.model if newest else None
        reason = why or f"back from {left}" if left else why
        if damaged:
            passed = f"the files of {', '.join(map(str, damaged))} are damaged"
            reason = f"{reason}; {passed}" if reason else passed
        return NewChange(earlier, Cause.ROLLBACK, reason, person())

    return _change(platform, registry, choose)


def show_change(found: dict[str, Any], console: Console) -> None:
    """Print a change of the version in force."""
    model = ModelVersion(**found["model"])
    dataset = "" if model.is_persistence else f" of dataset {model.dataset_run_id}"
    replaced = (
        "" if found["replaces_version"] is None else f" (replaces {found['replaces_version']})"
    )
    console.print(f"in force: {model}{dataset}{replaced}")


def _find(platform: Platform, version: int) -> ModelVersion:
    """Return a registered version, or persistence, by number."""
    if version == PERSISTENCE_VERSION:
        return _persistence(platform)
    return Registry(platform.params.tracking).version(version)


def _change(platform: Platform, registry: Registry, choose: Any) -> dict[str, Any]:
    history = change_production(platform.engine, registry, choose)
    _report(platform, history)
    before = newest_change(history[:-1])
    return asdict(history[-1]) | {
        "replaces_version": before.model.version if before and before.model else None
    }


def _report(platform: Platform, history: Sequence[ProductionChange]) -> None:
    from stock_assets.defs.promotion.timeline import report_changes

    report_changes(platform.instance, platform.engine, history)


def person() -> str | None:
    """Return the name of the user; None where the system has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return None
