"""Stage 4: the decision whether the candidate becomes the production model."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import dagster as dg

from stock_assets.assets.common import OWNERS, PER_DATASET, lineage, plain_digest, table
from stock_assets.assets.prices import raw_prices
from stock_assets.assets.training import candidate_model
from stock_assets.config import Params
from stock_assets.registry import PRODUCTION, ModelVersion, Registry, champion_as_of
from stock_assets.resources import Store

if TYPE_CHECKING:
    from stock_assets.evaluation.metrics import Metrics
    from stock_assets.modelling.challenge import Challenge
    from stock_assets.storage.forecasts import PromotionRecord


@dg.asset(
    **PER_DATASET,
    group_name="promotion",
    kinds={"mlflow", "postgres"},
    code_version="1",
    deps=[
        candidate_model,
        dg.AssetDep(raw_prices, partition_mapping=dg.AllPartitionMapping()),
    ],
    description=(
        "Candidate, production and persistence scored on the **same held-out sessions** (the test "
        "stretch, read here and nowhere else), the decision and its reason. Moving the alias "
        "`Production` happens here alone."
    ),
)
def promotion(
    context: dg.AssetExecutionContext,
    params: dg.ResourceParam[Params],
    store: dg.ResourceParam[Store],
    registry: dg.ResourceParam[Registry],
    mlflow_run: dg.ResourceParam[Any],
) -> dg.MaterializeResult:
    """Decide once per candidate, then make the alias agree with the decision.

    One promotion at a time: of two retrainings that end together, the second meets the first.
    """
    from stock_assets.storage.database import exclusively
    from stock_assets.storage.forecasts import promotion_of, save_promotion

    candidate = registry.candidate(context.partition_key)
    with exclusively(store.engine, "promotion"):
        production = registry.production()
        decided = promotion_of(store.engine, context.partition_key, candidate.version)
        if decided is None:
            earlier = promoted_models(store, registry)
            champion = champion_as_of(candidate.as_of, production, earlier)
            decided = _decide(context, params, store, registry, candidate, champion, mlflow_run)
            save_promotion(store.engine, decided)
        if decided.promoted and _is_due(context.instance, decided, production):
            registry.promote(candidate.version)
            context.log_event(_production_event(registry.model_name, candidate, decided))
    return dg.MaterializeResult(
        data_version=dg.DataVersion(plain_digest([decided.promoted, decided.candidate])),
        metadata=_described(decided),
    )


def _decide(
    context: dg.AssetExecutionContext,
    params: Params,
    store: Store,
    registry: Registry,
    candidate: ModelVersion,
    champion: ModelVersion | None,
    mlflow_run: Any,
) -> "PromotionRecord":
    """Score everyone on the test stretch and decide."""
    from stock_assets.evaluation.comparison import decide_promotion
    from stock_assets.market.calendar import sessions
    from stock_assets.modelling.challenge import challenge
    from stock_assets.storage.datasets import load_panel, load_stretches
    from stock_assets.storage.forecasts import PromotionRecord
    from stock_assets.storage.prices import read_bars

    record = load_panel(store.engine, context.partition_key)
    test = load_stretches(store.engine, context.partition_key)["test"]
    held_out = sessions(test.first_session, test.last_session)
    bars = read_bars(store.engine, params.prices.first_session, record.as_of_session)
    outcome = challenge(
        registry.load(candidate.version),
        registry.load(champion.version) if champion else None,
        bars,
        held_out,
    )
    decision = decide_promotion(
        outcome.candidate, outcome.production, outcome.persistence, params.promotion
    )
    _log_outcome(mlflow_run, outcome, decision.reason, context.partition_key)
    return PromotionRecord(
        dataset_run_id=context.partition_key,
        as_of_session=record.as_of_session,
        model_name=registry.model_name,
        candidate_version=candidate.version,
        production_version=champion.version if champion else None,
        metric=params.promotion.metric,
        candidate=plain_metrics(outcome.candidate),
        production=plain_metrics(outcome.production) if outcome.production else None,
        persistence=plain_metrics(outcome.persistence),
        first_session=test.first_session,
        last_session=test.last_session,
        promoted=decision.promote,
        reason=decision.reason,
        mlflow_run_id=candidate.mlflow_run_id,
        dagster_run_id=context.run.run_id,
    )


def _is_due(
    instance: dg.DagsterInstance, decided: "PromotionRecord", production: ModelVersion | None
) -> bool:
    """Whether the alias is still to be moved to a promoted candidate, or the move to be told.

    With no production model it is. Otherwise only while the alias stands where the decision found
    it (a winner of an earlier time leaves it alone), or on the candidate itself because a process
    was killed before it said so; and never again once the candidate has been in production, for
    whoever moved the alias on since meant it.
    """
    if production is None:
        return True
    if production.version not in (decided.production_version, decided.candidate_version):
        return False
    history = instance.fetch_materializations(production_model.key, limit=1000).records
    told = [record.asset_materialization for record in history]
    return (decided.model_name, decided.candidate_version) not in [
        tuple(_value(event, name) for name in ("model", "model_version"))
        for event in told
        if event is not None
    ]


def _value(event: dg.AssetMaterialization, name: str) -> object:
    """Give a metadata value, None where somebody reported the event without it."""
    return event.metadata[name].value if name in event.metadata else None


def promoted_models(store: Store, registry: Registry) -> list[ModelVersion]:
    """Give every version of the registered model that was ever promoted and still exists."""
    from stock_assets.storage.forecasts import promotions

    promoted = {
        record.candidate_version
        for record in promotions(store.engine, promoted_only=True)
        if record.model_name == registry.model_name
    }
    return [model for model in registry.versions() if model.version in promoted]


def plain_metrics(metrics: "Metrics") -> dict[str, float | int | None]:
    """Metrics as JSON holds them: an undefined one is null."""
    return {name: None if value != value else value for name, value in asdict(metrics).items()}


def _log_outcome(mlflow_run: Any, outcome: "Challenge", reason: str, dataset_id: str) -> None:
    """Log the scores and the page of plots to the MLflow run of this retraining."""
    from stock_assets.evaluation.plots import forecast_figures, page

    scores = plain_metrics(outcome.candidate)
    mlflow_run.log_metrics(
        {f"test_{name}": float(value) for name, value in scores.items() if value is not None}
    )
    baseline = plain_metrics(outcome.persistence)
    mlflow_run.log_metrics(
        {f"persistence_{name}": float(value) for name, value in baseline.items() if value}
    )
    mlflow_run.log_text(
        page(
            f"Dataset {dataset_id} on its test stretch",
            reason,
            forecast_figures(outcome.candidate_rows),
        ),
        "evaluation.html",
    )


def _described(decided: "PromotionRecord") -> dict[str, Any]:
    import pandas as pd

    scores = {
        "candidate": decided.candidate,
        "production": decided.production or {},
        "persistence": decided.persistence,
    }
    compared = pd.DataFrame(scores).T.reset_index(names="model")
    return lineage(
        promoted=decided.promoted,
        reason=dg.MetadataValue.md(decided.reason),
        dataset_run_id=decided.dataset_run_id,
        as_of_session=decided.as_of_session,
        first_session=decided.first_session,
        last_session=decided.last_session,
        candidate_version=decided.candidate_version,
        production_version=decided.production_version,
        mlflow_run_id=decided.mlflow_run_id,
        scores=table(compared),
        mase=decided.candidate["mase"],
    )


def _production_event(
    model_name: str, model: ModelVersion, decided: "PromotionRecord"
) -> dg.AssetMaterialization:
    """Materialize `production_model` for this change of the alias."""
    return dg.AssetMaterialization(
        asset_key=production_model.key,
        description=decided.reason,
        metadata=lineage(
            model=model_name,
            model_version=model.version,
            alias=PRODUCTION,
            replaces_version=decided.production_version,
            dataset_run_id=model.dataset_run_id,
            as_of_session=model.as_of,
            mlflow_run_id=model.mlflow_run_id,
            cause="promotion",
            digest=model.digest,
        ),
        tags={"dagster/data_version": model.digest},
    )


production_model = dg.AssetSpec(
    key="production_model",
    group_name="promotion",
    kinds={"mlflow"},
    owners=OWNERS,
    tags={"cadence": "on_change", "domain": "model"},
    deps=[dg.AssetDep(promotion, partition_mapping=dg.AllPartitionMapping())],
    description=(
        f"The version that carries the alias `{PRODUCTION}`. One materialization per change of the "
        "alias, so that this timeline is the history of production."
    ),
)
