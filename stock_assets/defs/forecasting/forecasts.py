"""Stage 5: forecasts of the coming sessions, as of a trading day."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING

import dagster as dg

from stock_assets.config import Params
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.locations import find_locations
from stock_assets.defs.metadata import DAILY, lineage, recorded, sessions_of, table, verdict
from stock_assets.defs.partitions import session_key
from stock_assets.defs.prices.assets import raw_prices
from stock_assets.defs.promotion.assets import production_model, promoted_models
from stock_assets.defs.resources import Store
from stock_assets.evaluation.champion import ModelVersion, model_for
from stock_assets.registry import Registry

if TYPE_CHECKING:
    import pandas as pd

    from stock_assets.models.bundle import Bundle

SOUND = "forecasts_are_sound"

STRONGEST = 10
"""Features of the newest session whose drift is metadata of the materialization."""


@dg.asset(
    **DAILY,
    group_name="serving",
    kinds={"pytorch", "postgres"},
    code_version="2",
    deps=[raw_prices, production_model],
    description=(
        "Per ticker, the forecasts of the sessions **after** the partition's, as many as the model "
        "was trained for, with their intervals and the model that made them: the one in "
        "production, or for a past session one that had seen nothing later. Those of the next "
        "session are also written as `latest_predictions.json` and `historical/{date}.json`. "
        "Beside them stands how far the features of late have drifted from those of training."
    ),
    check_specs=[
        dg.AssetCheckSpec(
            SOUND,
            asset="predictions",
            blocking=True,
            description=(
                "Finite positive prices inside their intervals, for the sessions that they say, "
                "from a model that saw nothing later than the as-of session. Otherwise nothing is "
                "stored."
            ),
        )
    ],
)
def predictions(
    context: dg.AssetExecutionContext,
    params: dg.ResourceParam[Params],
    store: dg.ResourceParam[Store],
    registry: dg.ResourceParam[Registry],
) -> dg.MaterializeResult:
    """Forecast as of each of the run's sessions and store what is sound."""
    import pandas as pd

    from stock_assets.evaluation.forecast_checks import invalid_forecasts
    from stock_assets.market.bars import content_digest
    from stock_assets.storage.forecasts import save_predictions, write_forecast_files
    from stock_assets.storage.prices import read_bars
    from stock_assets.storage.renames import apply_renames

    sessions = sessions_of(context)
    models = _models(sessions, store, registry)
    apply_renames(store.engine, params.prices.renames, context.run.run_id)
    bundles = {model.version: registry.load(model.version) for model in models}
    first = min(bundle.recipe.first_session for bundle in bundles.values())
    bars = read_bars(store.engine, first, sessions[-1])
    _require_bars(bars, sessions)
    frame, drift = _forecasts(models, bundles, bars, params)
    _require_forecasts(frame, sessions)
    seen = {model.version: pd.Timestamp(model.as_of) for model in models}
    unsound = invalid_forecasts(frame.assign(model_as_of=frame["model_version"].map(seen)))
    if unsound.empty:
        for model, days in models.items():
            stamped, measured = (
                rows[rows["model_version"] == model.version].assign(
                    dagster_run_id=context.run.run_id
                )
                for rows in (frame, drift)
            )
            save_predictions(
                store.engine, stamped, days, model.version, params.prices.tickers, measured
            )
        write_forecast_files(find_locations().forecasts_folder, frame)
        for session, rows in frame["as_of_session"].dt.date.value_counts().items():
            context.add_asset_metadata(
                {"dagster/row_count": rows}, partition_key=session_key(session)
            )
    return dg.MaterializeResult(
        data_version=dg.DataVersion(content_digest(frame)),
        metadata=lineage(
            first_session=sessions[0],
            last_session=sessions[-1],
            forecasts=len(frame),
            not_forecast=dg.MetadataValue.json(_missing(frame, sessions, params.prices.tickers)),
            model_versions=", ".join(str(model.version) for model in models),
            dataset_run_ids=", ".join(model.dataset_run_id for model in models),
            mlflow_run_ids=", ".join(model.mlflow_run_id for model in models),
            newest=table(frame[frame["as_of_session"] == frame["as_of_session"].max()]),
            strongest_drift=table(_strongest(drift), STRONGEST),
        ),
        check_results=recorded(context, store, [_soundness(unsound)]),
    )


def _soundness(unsound: "pd.DataFrame") -> dg.AssetCheckResult:
    told = "every forecast is sound" if unsound.empty else f"{len(unsound)} are not, see rows"
    return verdict(SOUND, unsound.empty, {"unsound": len(unsound), "rows": table(unsound)}, told)


def _models(
    sessions: Sequence[date], store: Store, registry: Registry
) -> Mapping[ModelVersion, list[date]]:
    """Choose the model of each session; sessions by model."""
    production = registry.production()
    replayed = production is None or production.as_of > sessions[0]
    promoted = promoted_models(store, registry) if replayed else []
    chosen: dict[ModelVersion, list[date]] = {}
    for session in sessions:
        chosen.setdefault(model_for(session, production, promoted), []).append(session)
    return chosen


def _forecasts(
    models: Mapping[ModelVersion, list[date]],
    bundles: Mapping[int, "Bundle"],
    bars: "pd.DataFrame",
    params: Params,
) -> tuple["pd.DataFrame", "pd.DataFrame"]:
    """Forecast at the sessions of each model, measure drift, and say which model it was."""
    import pandas as pd

    forecasts, drift = [], []
    for model, sessions in models.items():
        bundle = bundles[model.version]
        panel = bundle.panel(bars, sessions[-1])
        forecasts.append(
            bundle.forecast(bars, sessions, panel).assign(
                model_version=model.version,
                dataset_run_id=model.dataset_run_id,
                mlflow_run_id=model.mlflow_run_id,
            )
        )
        drift.append(bundle.drift(panel, sessions).assign(model_version=model.version))
    frame = pd.concat(forecasts)
    wanted = frame[frame["ticker"].isin(params.prices.tickers)]
    ordered = wanted.sort_values(["as_of_session", "ticker", "horizon"], ignore_index=True)
    return ordered, pd.concat(drift, ignore_index=True)


def _strongest(drift: "pd.DataFrame") -> "pd.DataFrame":
    """Give the drift of the newest session, the strongest first."""
    newest: pd.DataFrame = drift[drift["as_of_session"] == drift["as_of_session"].max()]
    return newest.sort_values("psi", ascending=False)


def _require_bars(bars: "pd.DataFrame", sessions: Sequence[date]) -> None:
    stored = set(bars["session"].dt.date)
    missing = [session for session in sessions if session not in stored]
    if missing:
        raise StockAssetsError(
            f"no bar is stored for {missing[0]}, so there is nothing to forecast from",
            f"Store it first: stock-assets backfill raw_prices --from {missing[0]} "
            f"--to {missing[-1]}",
        )


def _require_forecasts(frame: "pd.DataFrame", sessions: Sequence[date]) -> None:
    made = set(frame["as_of_session"].dt.date)
    empty = [session for session in sessions if session not in made]
    if empty:
        raise StockAssetsError(
            f"no ticker of prices.tickers that the model knows has enough bars in its window as of "
            f"{empty[0]}",
            f"Store the sessions before it: stock-assets backfill raw_prices --from … "
            f"--to {empty[0]}, or choose a later one; for other tickers, stock-assets retrain",
        )


def _missing(
    frame: "pd.DataFrame", sessions: Sequence[date], tickers: Sequence[str]
) -> dict[str, int]:
    """Count the sessions without a forecast, per ticker of the universe."""
    made = set(zip(frame["ticker"], frame["as_of_session"].dt.date, strict=True))
    counts = Counter(t for t in tickers for day in sessions if (t, day) not in made)
    return dict(sorted(counts.items()))
