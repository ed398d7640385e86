"""Stage 2: a dataset as of a session: feature panel, scalers, scaled arrays and segments."""

from typing import TYPE_CHECKING, Any

import dagster as dg

from stock_assets.config import Params
from stock_assets.defs.metadata import PER_DATASET, lineage, plots, recorded, verdict
from stock_assets.defs.partitions import dataset_as_of
from stock_assets.defs.prices.assets import raw_prices
from stock_assets.defs.resources import Store

if TYPE_CHECKING:
    from stock_assets.datasets.build import FittedScalers
    from stock_assets.features.dataset import FeatureSet
    from stock_assets.storage.datasets import PanelRecord

COMPLETE = "features_are_complete"
CAUSAL = "features_do_not_look_ahead"
FITTED = "scalers_fit_on_train_only"
HELD_BACK_SESSIONS = 20


@dg.asset(
    **PER_DATASET,
    group_name="dataset",
    kinds={"pandas", "numpy", "postgres"},
    code_version="3",
    deps=[dg.AssetDep(raw_prices, partition_mapping=dg.AllPartitionMapping())],
    description=(
        "The (sessions × tickers × features) panel and its labels, from the bars known at "
        "the **as-of session** in the dataset's id. Adjusted as of that session; warm-up and "
        "missing bars are masked, never filled."
    ),
    check_specs=[
        dg.AssetCheckSpec(
            COMPLETE,
            asset="processed_features",
            blocking=True,
            description="Valid values are finite, and there are sessions to learn from.",
        ),
        dg.AssetCheckSpec(
            CAUSAL,
            asset="processed_features",
            blocking=True,
            description=(
                f"Built again without the newest {HELD_BACK_SESSIONS} sessions, and without what "
                "comes after each ticker's start, warm-up, newest hole and end, every earlier "
                "value, mask and close is the same, bit for bit; labels are the next close; "
                "nothing after the training sessions decides which features are left out."
            ),
        ),
    ],
)
def processed_features(
    context: dg.AssetExecutionContext,
    params: dg.ResourceParam[Params],
    store: dg.ResourceParam[Store],
) -> dg.MaterializeResult:
    """Build, examine and store the panel of a dataset."""
    from stock_assets.datasets.build import build_panel
    from stock_assets.features.dataset import build_feature_set
    from stock_assets.reporting.figures import validity_figure
    from stock_assets.storage.datasets import save_panel
    from stock_assets.storage.prices import read_bars
    from stock_assets.storage.renames import apply_renames

    as_of = dataset_as_of(context.partition_key)
    apply_renames(store.engine, params.prices.renames, context.run.run_id)
    bars = read_bars(store.engine, params.prices.first_session, as_of, params.prices.tickers)
    built = build_feature_set(
        bars,
        params.features,
        params.dataset,
        params.prices.first_session,
        as_of,
        params.walk_forward,
    )
    checks = [_completeness(built, params), _causality(built, params)]
    record = build_panel(context.partition_key, as_of, built, params, store.arrays)
    panel = built.panel
    if all(check.passed for check in checks):
        save_panel(store.engine, record)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(record.digest),
        metadata=_described(record)
        | {
            "dagster/row_count": int(panel.valid.sum()),
            "valid_sessions": dg.MetadataValue.json(
                dict(zip(panel.tickers, panel.valid.sum(axis=0).tolist(), strict=True))
            ),
            "feature_names": dg.MetadataValue.md(", ".join(f"`{n}`" for n in panel.features)),
            "features_represented_by": dg.MetadataValue.json(built.dropped_features),
            "plots": plots([validity_figure(panel.valid, panel.sessions)]),
        },
        check_results=recorded(context, store, checks),
    )


def _described(record: "PanelRecord") -> dict[str, Any]:
    return lineage(
        dataset_run_id=record.dataset_run_id,
        as_of_session=record.as_of_session,
        first_session=record.first_session,
        last_session=record.last_session,
        bars=record.bars,
        bars_digest=record.bars_digest,
        tickers=", ".join(record.tickers),
        features=len(record.features),
        basis=record.basis,
        target=record.target,
        digest=record.digest,
        location=record.location,
        build_environment=record.build_environment,
    )


def _completeness(built: "FeatureSet", params: Params) -> dg.AssetCheckResult:
    """Examine the values; a ticker too young to learn from is named, and stops nobody."""
    import numpy as np

    from stock_assets.features.splits import split_dataset
    from stock_assets.features.windows import usable_windows

    panel = built.panel
    finite = bool(np.isfinite(panel.values[panel.valid]).all())
    train = split_dataset(len(panel.sessions), params.dataset, params.walk_forward).train
    windows = usable_windows(panel.valid, train.positions(), params.dataset.window).sum(axis=0)
    counts = dict(zip(panel.tickers, windows.tolist(), strict=True))
    young = [ticker for ticker, count in counts.items() if count == 0]
    told = ["values are finite" if finite else "a valid value is not finite"]
    if young:
        told.append(f"no training window, so nothing is learned from: {', '.join(young)}")
    return verdict(
        COMPLETE,
        finite and len(young) < len(counts),
        {"training_windows": counts, "tickers_not_learned_from": young},
        "; ".join(told),
    )


def _causality(built: "FeatureSet", params: Params) -> dg.AssetCheckResult:
    from stock_assets.features.lookahead import (
        find_lookahead,
        find_wrong_labels,
        has_selection_leak,
    )

    leaking = find_lookahead(built, params.features, HELD_BACK_SESSIONS)
    labels = int(find_wrong_labels(built, params.dataset.target).sum())
    selection_leaks = has_selection_leak(
        built, params.features, params.dataset, params.walk_forward
    )
    told = [
        *([f"these look ahead: {', '.join(leaking)}"] if leaking else []),
        *([f"{labels} labels are not the next close"] if labels else []),
        *(["the choice of features knows more than training"] if selection_leaks else []),
    ]
    return verdict(
        CAUSAL,
        not told,
        {
            "what_looks_ahead": leaking,
            "wrong_labels": labels,
            "choice_of_features_looks_ahead": selection_leaks,
        },
        "; ".join(told) or "no feature, mask, close, label or choice of features looks ahead",
    )


@dg.asset(
    **PER_DATASET,
    group_name="dataset",
    kinds={"numpy", "postgres"},
    code_version="2",
    deps=[processed_features],
    description=(
        "Scaling per ticker and feature, fitted on the **training sessions only** and stored as "
        "numbers. A ticker too young for its own takes the pooled one."
    ),
    check_specs=[
        dg.AssetCheckSpec(
            FITTED,
            asset="scalers",
            blocking=True,
            description=(
                "Fitted again to the panel without the sessions after training, every number is "
                "the same. Otherwise nothing is stored."
            ),
        )
    ],
)
def scalers(
    context: dg.AssetExecutionContext, store: dg.ResourceParam[Store]
) -> dg.MaterializeResult:
    """Fit and store the scalers of a dataset."""
    from stock_assets.datasets.build import build_scalers, recorded_params
    from stock_assets.storage.datasets import load_panel, save_scalers

    record = load_panel(store.engine, context.partition_key)
    fitted, window = build_scalers(record, store.arrays), recorded_params(record).dataset.window
    features, target, digest = fitted.features, fitted.target, fitted.digest
    check = _fitted_on_training(record, store, fitted)
    if check.passed:
        save_scalers(
            store.engine, context.partition_key, features.to_dict(), target.to_dict(), digest
        )
    pooled = [t for t, shared in zip(record.tickers, features.pooled, strict=True) if shared]
    return dg.MaterializeResult(
        data_version=dg.DataVersion(digest),
        metadata=lineage(
            dataset_run_id=record.dataset_run_id,
            as_of_session=record.as_of_session,
            kind=features.kind,
            target_kind=target.kind,
            training_sessions=len(fitted.split.train) + window - 1,
            rows_per_ticker=dg.MetadataValue.json(
                dict(zip(record.tickers, features.rows.tolist(), strict=True))
            ),
            pooled_tickers=", ".join(pooled) or "none",
            digest=digest,
        ),
        check_results=recorded(context, store, [check]),
    )


def _fitted_on_training(
    record: "PanelRecord", store: Store, fitted: "FittedScalers"
) -> dg.AssetCheckResult:
    from stock_assets.datasets.build import recorded_params
    from stock_assets.features.labels import session_labels
    from stock_assets.features.lookahead import has_scaler_leak

    dataset, panel = recorded_params(record).dataset, store.arrays.read_tensors(record.location)
    leaks = has_scaler_leak(
        (fitted.features, fitted.target),
        panel["values"],
        panel["valid"],
        session_labels(panel["close"], dataset.target),
        fitted.split.train,
        dataset,
    )
    told = "more than" if leaks else "nothing but"
    return verdict(
        FITTED, not leaks, {"scalers_look_ahead": leaks}, f"scalers know {told} training"
    )


@dg.asset(
    **PER_DATASET,
    group_name="dataset",
    kinds={"numpy", "postgres"},
    code_version="3",
    deps=[processed_features, scalers],
    description=(
        "The train, validation and test segments of the scaled panel, with a purge gap between "
        "them. Windows are cut from the panel's one memory-mapped file, and scaled, when a batch "
        "asks for them: no scaled copy and no window is ever stored."
    ),
)
def scaled_features(
    context: dg.AssetExecutionContext, store: dg.ResourceParam[Store]
) -> dg.MaterializeResult:
    """Lay down the segments and take the digest of what can be read in them."""
    from stock_assets.datasets.build import build_segments
    from stock_assets.features.scaling import Scaler
    from stock_assets.storage.datasets import load_panel, load_scalers, save_segments

    record = load_panel(store.engine, context.partition_key)
    features, target = map(Scaler.from_dict, load_scalers(store.engine, context.partition_key))
    segments = build_segments(record, features, target, store.arrays)
    save_segments(store.engine, context.partition_key, segments)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(segments[0].digest),
        metadata=lineage(
            dataset_run_id=record.dataset_run_id,
            as_of_session=record.as_of_session,
            **{
                segment.set_name: f"{segment.first_session} to {segment.last_session} "
                f"({segment.last_position - segment.first_position + 1} windows)"
                for segment in segments
            },
            purge_sessions=segments[0].purge_sessions,
            digest=segments[0].digest,
        ),
    )
