"""Stage 4: the decision whether the candidate becomes the production model."""

from typing import TYPE_CHECKING, Any

import dagster as dg

from stock_assets.assets.common import OWNERS, PER_DATASET, lineage, table
from stock_assets.assets.prices import raw_prices
from stock_assets.assets.training import candidate_model
from stock_assets.config import Params
from stock_assets.provenance import plain_digest
from stock_assets.registry import PRODUCTION, ModelVersion, Registry, champion_as_of
from stock_assets.resources import Store

if TYPE_CHECKING:
    import pandas as pd

    from stock_assets.modelling.challenge import Challenge
    from stock_assets.storage.forecasts import PromotionRecord


@dg.asset(
    **PER_DATASET,
    group_name="promotion",
    kinds={"mlflow", "postgres"},
    code_version="2",
    deps=[
        candidate_model,
        dg.AssetDep(raw_prices, partition_mapping=dg.AllPartitionMapping()),
    ],
    description=(
        "Candidate, production, persistence, one-day reversal and a linear model scored on the "
        "**same held-out sessions** (the test stretch, read here and nowhere else), the decision "
        "and its reason. Moving the alias `Production` happens here alone."
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
        details: dict[str, Any] = {}
        if decided is None:
            earlier = promoted_models(store, registry)
            champion = champion_as_of(candidate.as_of, production, earlier)
            outcome = _challenge(params, store, registry, candidate, champion)
            decided = _decide(context, params, registry, candidate, champion, outcome)
            tables = _tables(outcome, decided)
            _log_outcome(mlflow_run, outcome, decided, tables)
            save_promotion(store.engine, decided)
            details = _details(tables)
        if decided.promoted and _is_due(context.instance, decided, production):
            registry.promote(candidate.version)
            context.log_event(_production_event(registry.model_name, candidate, decided))
    return dg.MaterializeResult(
        data_version=dg.DataVersion(plain_digest([decided.promoted, decided.candidate])),
        metadata=_described(decided) | details,
    )


def _challenge(
    params: Params,
    store: Store,
    registry: Registry,
    candidate: ModelVersion,
    champion: ModelVersion | None,
) -> "Challenge":
    """Score everyone on the test stretch."""
    from stock_assets.market.calendar import sessions
    from stock_assets.modelling.baselines import reversal, ridge, session_returns
    from stock_assets.modelling.challenge import challenge
    from stock_assets.storage.datasets import load_stretches
    from stock_assets.storage.prices import read_bars

    spans = {
        name: (stretch.first_session, stretch.last_session)
        for name, stretch in load_stretches(store.engine, candidate.dataset_run_id).items()
    }
    bars = read_bars(store.engine, params.prices.first_session, candidate.as_of)
    challenger = registry.load(candidate.version)
    recipe = challenger.recipe
    returns = session_returns(bars, recipe.first_session, candidate.as_of)
    return challenge(
        challenger,
        registry.load(champion.version) if champion else None,
        bars,
        sessions(*spans["test"]),
        {
            "reversal": reversal(returns),
            "ridge": ridge(returns, spans["train"], spans["validation"], recipe.network.window),
        },
    )


def _decide(
    context: dg.AssetExecutionContext,
    params: Params,
    registry: Registry,
    candidate: ModelVersion,
    champion: ModelVersion | None,
    outcome: "Challenge",
) -> "PromotionRecord":
    """Decide by the scores, and put down what they were."""
    from stock_assets.evaluation.comparison import decide_promotion
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


def _tables(outcome: "Challenge", decided: "PromotionRecord") -> "dict[str, pd.DataFrame]":
    """Lay out what was measured: of all models pooled and per ticker, of the candidate by day."""
    from stock_assets.evaluation.scorecard import session_table, ticker_table

    return {
        "models": _compared(decided),
        "tickers": ticker_table(outcome.rows),
        "sessions": session_table(outcome.rows, "candidate"),
    }


def _log_outcome(
    mlflow_run: Any,
    outcome: "Challenge",
    decided: "PromotionRecord",
    tables: "dict[str, pd.DataFrame]",
) -> None:
    """Log scores, tables and the page of plots to the MLflow run of this retraining."""
    from stock_assets.evaluation.plots import cumulative_figure, forecast_figures, ic_figure, page

    for name, card in outcome.scores.items():
        prefix = "test" if name == "candidate" else name
        mlflow_run.log_metrics(
            {
                f"{prefix}_{figure}": float(value)
                for figure, value in card.to_dict().items()
                if isinstance(value, int | float)
            }
        )
    candidate = outcome.rows["candidate"]
    figures = [cumulative_figure(outcome.rows), ic_figure(candidate), *forecast_figures(candidate)]
    title = f"Dataset {decided.dataset_run_id} on its test stretch"
    told = [("All tickers together", tables["models"]), ("Per ticker", tables["tickers"])]
    mlflow_run.log_text(page(title, decided.reason, figures, told), "evaluation.html")
    for name, frame in tables.items():
        mlflow_run.log_text(frame.to_csv(index=False), f"evaluation/{name}.csv")


def _compared(decided: "PromotionRecord") -> "pd.DataFrame":
    """Give every figure of every model that the decision looked at."""
    from stock_assets.evaluation.scorecard import pooled_table

    persistence = dict(decided.persistence)
    baselines = persistence.pop("baselines", {})
    production = {"production": decided.production} if decided.production else {}
    return pooled_table(
        {"candidate": decided.candidate, **production, "persistence": persistence, **baselines}
    )


def _described(decided: "PromotionRecord") -> dict[str, Any]:
    """Describe a decision as its row does; the numbers by themselves become plots in Dagster."""
    shown = ("mase", "p_persistence", "p_production", "direction_accuracy", "icir", "coverage")
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
        scores=table(_compared(decided)),
        **{name: decided.candidate.get(name) for name in shown},
    )


def _details(tables: "dict[str, pd.DataFrame]") -> dict[str, Any]:
    """Show the candidate per ticker and per session."""
    tickers, by_session = tables["tickers"], tables["sessions"]
    own = tickers[tickers["model"] == "candidate"].drop(columns="model")
    return {
        "per_ticker": table(own, limit=len(own)),
        "per_session": table(by_session, limit=len(by_session)),
    }


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
