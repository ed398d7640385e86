"""Promotion: the decision about a candidate, and the history of production."""

import shutil
from datetime import date
from typing import Any, Literal

import dagster as dg
import pandas as pd

from stock_assets.config import Params
from stock_assets.config.section import Share
from stock_assets.core.fingerprints import plain_digest
from stock_assets.defs.checks import (
    persist_check_results,
    require_dataset_passed,
    require_passed,
)
from stock_assets.defs.metadata import (
    OWNERS,
    PER_DATASET,
    artifact_path,
    configured,
    describe_table,
    head_metadata,
    parameter,
    plain_metadata,
    table,
)
from stock_assets.defs.partitions import session_key
from stock_assets.defs.promotion.checks import SPECS, fresh
from stock_assets.defs.promotion.timeline import PRODUCTION_MODEL, report_changes
from stock_assets.defs.resources import Store
from stock_assets.evaluation.production_rule import ModelVersion, refit_is_due
from stock_assets.pipeline.recovery import checked_history
from stock_assets.registry import PRODUCTION, Registry
from stock_assets.storage.database import advisory_lock
from stock_assets.storage.decisions import (
    PromotionRecord,
    promotion_of,
    record_refit,
    save_promotion,
)
from stock_assets.storage.record import head
from stock_assets.storage.shadows import current_shadow
from stock_assets.storage.tables import model_promotions

production_model = dg.AssetSpec(
    key=PRODUCTION_MODEL,
    group_name="promotion",
    kinds={"mlflow"},
    owners=OWNERS,
    tags={"cadence": "on_change", "domain": "model"},
    deps=[dg.AssetDep("promotion", partition_mapping=dg.AllPartitionMapping())],
    description=(
        "The version in force. One materialization per change, by whom and why: the history of "
        f"production as a timeline. The alias `{PRODUCTION}` in MLflow follows it."
    ),
)


def promotion_asset(params: Params) -> dg.AssetsDefinition:
    """Build ``promotion``; the parameters are the defaults of a run's settings."""

    class PromotionConfig(dg.Config):
        """Settings of the decision that a run may change."""

        minimum_improvement: float = parameter(params.promotion, "minimum_improvement")
        significance: Share | None = parameter(params.promotion, "significance")
        floor: Literal["not_worse", "better", "none"] = parameter(params.promotion, "floor")
        shadow_sessions: int = parameter(params.promotion, "shadow_sessions")
        refit: bool = parameter(params.promotion, "refit")

    @dg.asset(
        **PER_DATASET,
        group_name="promotion",
        kinds={"mlflow", "postgres"},
        code_version="5",
        metadata=describe_table(model_promotions),
        check_specs=SPECS,
        deps=[
            "candidate_model",
            dg.AssetDep("raw_prices", partition_mapping=dg.AllPartitionMapping()),
        ],
        description=(
            "Candidate (also without its shrinkage), production, persistence, one-day reversal, a "
            "linear model and gradient-boosted trees scored on the same held-out sessions (the "
            "test segment, which nothing else reads), the decision and its reason. A candidate "
            "below `promotion.floor` against persistence is not promoted. With `promotion.refit` a "
            "promoted candidate is trained again on every session up to its as-of session, as a "
            "separate version. Where an alarm launched the retraining, a candidate that is not "
            "significantly better on the sessions before it forecasts in shadow, and a later run "
            "decides. A winner is put in force: recorded in the history of production, which the "
            "alias `Production` follows."
        ),
    )
    def promotion(
        context: dg.AssetExecutionContext,
        config: PromotionConfig,
        params: dg.ResourceParam[Params],
        store: dg.ResourceParam[Store],
        registry: dg.ResourceParam[Registry],
        mlflow_run: dg.ResourceParam[Any],
    ) -> dg.MaterializeResult:
        """Decide once per candidate, refit a winner where configured, then put it in force.

        A candidate that goes into shadow is refitted, too, because production is a refit. A later
        run decides about it on the sessions of its shadow.

        One promotion runs at a time: of two retrainings that end together, the second candidate is
        compared with the first.
        """
        from stock_assets.pipeline.mlflow_logs import log_comparison
        from stock_assets.pipeline.promotion import compare, put_winner_in_force
        from stock_assets.pipeline.shadow import decide_on_shadow, replace_shadow
        from stock_assets.pipeline.versions import fitted_label

        rule = configured(params.promotion, config)
        require_dataset_passed(store, context.partition_key)
        candidate = registry.candidate(context.partition_key)
        require_passed(store, {"raw_prices": [session_key(candidate.as_of)]})
        with advisory_lock(store.engine, "promotion"):
            history = checked_history(store.engine, registry, context.run.run_id)
            decided = promotion_of(
                store.engine, registry.model_name, context.partition_key, candidate.version
            )
            shadow = current_shadow(store.engine, registry.model_name, history)
            details: dict[str, Any] = {}
            if decided is None:
                comparison = compare(
                    store.engine, registry, candidate, history, rule, context.run.run_id
                )
                decided, tables = comparison.decided, comparison.tables()
                figures = comparison.figures(tables["tickers"])
                log_comparison(mlflow_run, comparison, tables, figures)
                if decided.in_shadow and shadow is not None:
                    replace_shadow(store.engine, shadow, rule.shadow_sessions, context.run.run_id)
                save_promotion(store.engine, decided)
                details = _details(tables) | {"plots": artifact_path(mlflow_run, "evaluation.html")}
            elif shadow is not None and shadow.decided == decided:
                later = decide_on_shadow(store.engine, history, shadow, rule, context.run.run_id)
                decided = later or decided
            as_of = decided.refit_as_of
            if rule.refit and refit_is_due(decided, history):
                refit = _registered_refit(store, registry, mlflow_run, candidate, as_of)
                decided = record_refit(store.engine, decided, refit.version)
            elif decided.refit_version is not None:  # of an earlier run; repaired if damaged
                _registered_refit(store, registry, mlflow_run, candidate, as_of)
            if decided.promoted:
                history = put_winner_in_force(store.engine, registry, decided, context.run.run_id)
        report_changes(context.instance, store.engine, history, context.log_event)
        winner = registry.version(decided.promoted_version) if decided.promoted else None
        label = fitted_label(store.engine, registry, winner) if winner else None
        checked = fresh(winner, label)
        persist_check_results(context, store, [checked])
        return dg.MaterializeResult(
            check_results=[checked],
            data_version=dg.DataVersion(plain_digest([decided.promoted, decided.candidate])),
            metadata=_decision_metadata(decided)
            | plain_metadata(
                settings=dg.MetadataValue.json(config.model_dump()), newest_label=label
            )
            | head_metadata(store.engine)
            | details,
        )

    return promotion


def _registered_refit(
    store: Store, registry: Registry, mlflow_run: Any, candidate: ModelVersion, as_of: date
) -> ModelVersion:
    """Return the refit of a candidate: the registered one if it is undamaged, or else a new one.

    It is as of the candidate's session, or as of a later one: that of the decision after a shadow.

    A new one with the digest of the registered one repairs its files.
    """
    from stock_assets.pipeline.mlflow_logs import log_refit
    from stock_assets.pipeline.training import Later, refit_on_dataset
    from stock_assets.pipeline.training_logs import logged_training

    known = registry.refit(candidate)
    if known is not None and known.as_of == as_of and registry.is_intact(known.version):
        return known
    newest = head(store.engine)
    moment = None if newest is None else newest.written_at
    later = Later(as_of, moment) if as_of > candidate.as_of else None
    logged = logged_training(registry.client(), candidate)
    bundle = registry.load(candidate.version)
    refit, bars, checkpoints = refit_on_dataset(
        store.engine, store.arrays, candidate, bundle, logged, later=later
    )
    version = registry.register(refit.bundle, bars, refit_of=candidate.version)
    shutil.rmtree(checkpoints.folder, ignore_errors=True)
    log_refit(mlflow_run, version, refit, later)
    return version


def _decision_metadata(decided: PromotionRecord) -> dict[str, Any]:
    """Describe a decision by its row; Dagster plots the numbers over time."""
    from stock_assets.pipeline.promotion import score_table

    plotted = (
        "relative_mae",
        "p_persistence",
        "p_production",
        "direction_accuracy",
        "icir",
        "coverage",
    )
    return plain_metadata(
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
        scores=table(score_table(decided)),
        **{name: decided.candidate.get(name) for name in plotted},
    )


def _details(tables: dict[str, pd.DataFrame]) -> dict[str, Any]:
    """Show all models per horizon, and the candidate per ticker and session."""
    from stock_assets.evaluation.scorecard import narrow

    tickers = tables["tickers"]
    shown = {
        "per_horizon": narrow(tables["horizons"]),
        "per_ticker": tickers[tickers["model"].isin(("candidate", "persistence"))],
        "per_session": tables["sessions"],
        "intervals": tables["intervals"],
    }
    if "unmatched_horizons" in tables:
        shown["unmatched"] = narrow(tables["unmatched_horizons"])
    return {name: table(frame, limit=len(frame)) for name, frame in shown.items()}
