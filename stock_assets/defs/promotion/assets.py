"""Stage 4: the decision whether the candidate becomes the production model."""

from typing import TYPE_CHECKING, Any

import dagster as dg

from stock_assets.config import Params
from stock_assets.core.fingerprints import plain_digest
from stock_assets.defs.metadata import OWNERS, PER_DATASET, lineage
from stock_assets.defs.prices.assets import raw_prices
from stock_assets.defs.promotion.refit import registered_refit
from stock_assets.defs.promotion.report import (
    decision_details,
    decision_figures,
    decision_metadata,
    decision_tables,
    log_decision,
)
from stock_assets.defs.resources import Store
from stock_assets.defs.training.candidate import candidate_model
from stock_assets.evaluation.champion import (
    ModelVersion,
    champion_as_of,
    promotion_is_due,
    refit_is_due,
)
from stock_assets.registry import PRODUCTION, Registry

if TYPE_CHECKING:
    from datetime import date

    from stock_assets.models.bundle import Bundle
    from stock_assets.models.challenge import Challenge
    from stock_assets.storage.forecasts import PromotionRecord


@dg.asset(
    **PER_DATASET,
    group_name="promotion",
    kinds={"mlflow", "postgres"},
    code_version="4",
    deps=[
        candidate_model,
        dg.AssetDep(raw_prices, partition_mapping=dg.AllPartitionMapping()),
    ],
    description=(
        "Candidate, production, persistence, one-day reversal and a linear model scored on the "
        "**same held-out sessions** (the test segment, read here and nowhere else), the decision "
        "and its reason. With `promotion.refit` a promoted candidate is trained again on every "
        "session up to its as-of session, as a version of its own. Moving the alias `Production` "
        "happens here alone."
    ),
)
def promotion(
    context: dg.AssetExecutionContext,
    params: dg.ResourceParam[Params],
    store: dg.ResourceParam[Store],
    registry: dg.ResourceParam[Registry],
    mlflow_run: dg.ResourceParam[Any],
) -> dg.MaterializeResult:
    """Decide once per candidate, refit a winner if asked, then make the alias agree.

    One promotion at a time: of two retrainings that end together, the second meets the first.
    """
    from stock_assets.storage.database import advisory_lock
    from stock_assets.storage.forecasts import promotion_of, record_refit, save_promotion

    candidate = registry.candidate(context.partition_key)
    with advisory_lock(store.engine, "promotion"):
        decided = promotion_of(store.engine, context.partition_key, candidate.version)
        details: dict[str, Any] = {}
        if decided is None:
            earlier = promoted_models(store, registry)
            champion = champion_as_of(candidate.as_of, registry.production(), earlier)
            outcome = _challenge(store, registry, candidate, champion)
            decided = _decide(context, params, registry, candidate, champion, outcome)
            tables = decision_tables(outcome, decided)
            figures = decision_figures(outcome, tables["tickers"])
            log_decision(mlflow_run, outcome, decided, tables, figures)
            save_promotion(store.engine, decided)
            details = decision_details(tables, figures)
        history = _history(context.instance, registry.model_name)
        if params.promotion.refit and refit_is_due(decided, history):
            refit = registered_refit(store, registry, mlflow_run, candidate)
            decided = record_refit(store.engine, decided, refit.version)
        if promotion_is_due(decided, registry.production(), history):
            winner = registry.version(decided.promoted_version)
            registry.promote(winner.version)
            context.log_event(_production_event(registry.model_name, winner, decided))
    return dg.MaterializeResult(
        data_version=dg.DataVersion(plain_digest([decided.promoted, decided.candidate])),
        metadata=decision_metadata(decided) | details,
    )


def _challenge(
    store: Store,
    registry: Registry,
    candidate: ModelVersion,
    champion: ModelVersion | None,
) -> "Challenge":
    """Score everyone on the test segment, or on what production has not learnt of it."""
    from stock_assets.market.calendar import sessions
    from stock_assets.models.baselines import reversal, ridge, session_returns
    from stock_assets.models.challenge import challenge
    from stock_assets.storage.datasets import load_segments
    from stock_assets.storage.prices import read_bars

    spans = {
        name: (segment.first_session, segment.last_session)
        for name, segment in load_segments(store.engine, candidate.dataset_run_id).items()
    }
    challenger = registry.load(candidate.version)
    recipe = challenger.recipe
    production = registry.load(registry.evaluation_version(champion).version) if champion else None
    recipes = [recipe, production.recipe] if production else [recipe]
    first = min(one.first_session for one in recipes)
    tickers = sorted({ticker for one in recipes for ticker in one.tickers})
    bars = read_bars(store.engine, first, candidate.as_of, tickers)
    held_out = sessions(*spans["test"])
    own_bars = bars[bars["ticker"].isin(recipe.tickers)].reset_index(drop=True)
    returns = session_returns(own_bars, recipe.first_session, candidate.as_of)
    return challenge(
        challenger,
        production,
        bars,
        _unlearnt(store, production, held_out) if production else held_out,
        {
            "reversal": reversal(returns, recipe.network.horizon),
            "ridge": ridge(
                returns,
                spans["train"],
                spans["validation"],
                recipe.network.window,
                recipe.network.horizon,
            ),
        },
    )


def _unlearnt(store: Store, model: "Bundle", held_out: "list[date]") -> "list[date]":
    """Leave out the sessions with an outcome that a model has learnt from or was stopped by.

    There are some where the test segment has been made longer since that model was trained.
    """
    from stock_assets.market.calendar import next_session
    from stock_assets.storage.datasets import load_segments

    validation = load_segments(store.engine, model.recipe.dataset_run_id)["validation"]
    newest_label = next_session(validation.last_session, model.recipe.network.horizon)
    return [session for session in held_out if session >= newest_label]


def _decide(
    context: dg.AssetExecutionContext,
    params: Params,
    registry: Registry,
    candidate: ModelVersion,
    champion: ModelVersion | None,
    outcome: "Challenge",
) -> "PromotionRecord":
    """Decide by the scores, and put down what they were."""
    from stock_assets.evaluation.promotion_rule import decide_promotion
    from stock_assets.storage.forecasts import PromotionRecord

    decision = decide_promotion(outcome.scores, params.promotion)
    figures = {name: card.to_dict() for name, card in outcome.scores.items()}
    return PromotionRecord(
        dataset_run_id=context.partition_key,
        as_of_session=candidate.as_of,
        model_name=registry.model_name,
        candidate_version=candidate.version,
        production_version=champion.version if champion else None,
        metric=params.promotion.metric,
        candidate=figures.pop("candidate"),
        production=figures.pop("production", None),
        persistence=figures.pop("persistence") | {"baselines": figures},
        first_session=outcome.first_session,
        last_session=outcome.last_session,
        promoted=decision.promote,
        reason=f"{decision.reason}{_scored_as(registry, champion)}{_unmatched(outcome)}",
        mlflow_run_id=candidate.mlflow_run_id,
        dagster_run_id=context.run.run_id,
    )


def _scored_as(registry: Registry, champion: ModelVersion | None) -> str:
    """Say so where another version stood for the champion in the comparison."""
    if champion is None or champion.refit_of is None:
        return ""
    return (
        f". Production is {champion}; {registry.evaluation_version(champion)} was scored in its "
        "place, for the refit may have been trained on these sessions"
    )


def _unmatched(outcome: "Challenge") -> str:
    """Say so where the candidate forecasts what production does not."""
    if not outcome.unmatched:
        return ""
    return (
        f". {len(outcome.unmatched['candidate'])} more forecasts of the candidate have no "
        "counterpart in production's and decided nothing"
    )


def _history(instance: dg.DagsterInstance, model_name: str) -> set[int]:
    """Return the versions that the timeline of `production_model` names."""
    records = instance.fetch_materializations(production_model.key, limit=1000).records
    events = [record.asset_materialization for record in records]
    return {
        _value(event, "model_version")
        for event in events
        if event is not None and _value(event, "model") == model_name
    }


def _value(event: dg.AssetMaterialization, name: str) -> Any:
    """Return a metadata value; None where an event was reported without it."""
    return event.metadata[name].value if name in event.metadata else None


def promoted_models(store: Store, registry: Registry) -> list[ModelVersion]:
    """Give every version that was ever promoted and still exists; of a refitted one the refit."""
    from stock_assets.storage.forecasts import promotions

    promoted = {
        record.promoted_version
        for record in promotions(store.engine, promoted_only=True)
        if record.model_name == registry.model_name
    }
    return [model for model in registry.versions() if model.version in promoted]


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
            refit_of=model.refit_of,
            alias=PRODUCTION,
            replaces_version=decided.production_version,
            dataset_run_id=model.dataset_run_id,
            as_of_session=model.as_of,
            mlflow_run_id=model.mlflow_run_id,
            cause="promotion" if model.refit_of is None else "promotion, refit",
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
