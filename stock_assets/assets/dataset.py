"""Stage 2: a dataset as of a session: feature panel, scalers, scaled arrays and stretches."""

from datetime import date
from typing import TYPE_CHECKING, Any

import dagster as dg

from stock_assets.assets.common import PER_DATASET, lineage, plain_digest, verdict
from stock_assets.assets.prices import raw_prices
from stock_assets.config import Params
from stock_assets.partitions import dataset_as_of
from stock_assets.resources import Store

if TYPE_CHECKING:
    from stock_assets.features.dataset import FeatureSet
    from stock_assets.storage.datasets import PanelRecord

COMPLETE = "features_are_complete"
CAUSAL = "features_do_not_look_ahead"
HELD_BACK_SESSIONS = 20


@dg.asset(
    **PER_DATASET,
    group_name="dataset",
    kinds={"pandas", "parquet", "postgres"},
    code_version="1",
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
            description="Valid values are finite, and every ticker has sessions to learn from.",
        ),
        dg.AssetCheckSpec(
            CAUSAL,
            asset="processed_features",
            blocking=True,
            description=(
                f"Built again without its newest {HELD_BACK_SESSIONS} sessions, every earlier "
                "value is the same, bit for bit."
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
    from stock_assets.features.dataset import build_feature_set, changed_by_the_future
    from stock_assets.storage.datasets import save_panel
    from stock_assets.storage.prices import read_bars
    from stock_assets.storage.renames import apply_renames

    as_of = dataset_as_of(context.partition_key)
    apply_renames(store.engine, params.prices.renames, context.run.run_id)
    bars = read_bars(store.engine, params.prices.first_session, as_of, params.prices.tickers)
    built = build_feature_set(
        bars, params.features, params.dataset, params.prices.first_session, as_of
    )
    changed = changed_by_the_future(built, params.features, HELD_BACK_SESSIONS)
    record = _stored(context.partition_key, as_of, built, params, store)
    panel = built.panel
    leaking = [name for name, leaks in zip(panel.features, changed, strict=True) if leaks]
    checks = [_completeness(built), _causality(leaking)]
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
        },
        check_results=checks,
    )


def _stored(
    dataset_id: str, as_of: date, built: "FeatureSet", params: Params, store: Store
) -> "PanelRecord":
    """Write the arrays of a panel and describe them."""
    from stock_assets.features.panel import to_frame
    from stock_assets.market.bars import content_digest
    from stock_assets.storage.datasets import PanelRecord

    panel = built.panel
    tensors = {
        "values": panel.values,
        "valid": panel.valid,
        "close": panel.close,
        "target": built.target,
    }
    stored = store.arrays.write_tensors(tensors)
    frame = store.arrays.write_frame(to_frame(panel, built.target))
    return PanelRecord(
        dataset_run_id=dataset_id,
        as_of_session=as_of,
        first_session=panel.sessions[0].date(),
        last_session=panel.sessions[-1].date(),
        bars=len(built.bars),
        tickers=list(panel.tickers),
        features=list(panel.features),
        basis=params.features.basis,
        anchors={
            ticker: {"price": anchor.price, "volume": anchor.volume}
            for ticker, anchor in built.anchors.items()
        },
        target=params.dataset.target,
        params=params.model_dump(mode="json"),
        bars_digest=content_digest(built.bars),
        digest=stored.digest,
        location=stored.location,
        frame_location=frame.location,
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
        parquet=record.frame_location,
    )


def _completeness(built: "FeatureSet") -> dg.AssetCheckResult:
    import numpy as np

    panel = built.panel
    finite = bool(np.isfinite(panel.values[panel.valid]).all())
    counts = dict(zip(panel.tickers, panel.valid.sum(axis=0).tolist(), strict=True))
    empty = [ticker for ticker, count in counts.items() if count == 0]
    passed = finite and not empty
    told = "values are finite" if finite else "a valid value is not finite"
    return verdict(
        COMPLETE,
        passed,
        {"valid_sessions": counts, "tickers_without_a_valid_session": empty},
        told if not empty else f"{told}; no valid session: {', '.join(empty)}",
    )


def _causality(leaking: list[str]) -> dg.AssetCheckResult:
    told = f"these look ahead: {', '.join(leaking)}" if leaking else "no feature looks ahead"
    return verdict(CAUSAL, not leaking, {"features_that_look_ahead": leaking}, told)


@dg.asset(
    **PER_DATASET,
    group_name="dataset",
    kinds={"numpy", "postgres"},
    code_version="1",
    deps=[processed_features],
    description=(
        "Scaling per ticker and feature, fitted on the **training sessions only** and stored as "
        "numbers. A ticker too young for its own takes the pooled one."
    ),
)
def scalers(
    context: dg.AssetExecutionContext, store: dg.ResourceParam[Store]
) -> dg.MaterializeResult:
    """Fit and store the scalers of a dataset."""
    from stock_assets.features.dataset import fit_scalers, split_dataset
    from stock_assets.storage.datasets import load_panel, save_scalers

    record = load_panel(store.engine, context.partition_key)
    dataset = Params.model_validate(record.params).dataset
    arrays = store.arrays.read_tensors(record.location)
    split = split_dataset(len(arrays["values"]), dataset)
    features, target = fit_scalers(
        arrays["values"], arrays["valid"], arrays["target"], split, dataset
    )
    plain = features.to_dict(), target.to_dict()
    digest = plain_digest(plain)
    save_scalers(store.engine, context.partition_key, *plain, digest)
    pooled = [t for t, shared in zip(record.tickers, features.pooled, strict=True) if shared]
    return dg.MaterializeResult(
        data_version=dg.DataVersion(digest),
        metadata=lineage(
            dataset_run_id=record.dataset_run_id,
            as_of_session=record.as_of_session,
            kind=features.kind,
            target_kind=target.kind,
            training_sessions=split.train.last + 1,
            rows_per_ticker=dg.MetadataValue.json(
                dict(zip(record.tickers, features.rows.tolist(), strict=True))
            ),
            pooled_tickers=", ".join(pooled) or "none",
            digest=digest,
        ),
    )


@dg.asset(
    **PER_DATASET,
    group_name="dataset",
    kinds={"numpy", "postgres"},
    code_version="1",
    deps=[processed_features, scalers],
    description=(
        "The scaled panel in one memory-mapped file, and the train, validation and test stretches "
        "with a purge gap between them. Windows are cut from it lazily and never stored."
    ),
)
def scaled_features(
    context: dg.AssetExecutionContext, store: dg.ResourceParam[Store]
) -> dg.MaterializeResult:
    """Scale the panel and lay down the stretches."""
    from stock_assets.features.dataset import scaled_arrays, split_dataset, stretch_sessions
    from stock_assets.features.scaling import Scaler
    from stock_assets.storage.datasets import (
        StretchRecord,
        load_panel,
        load_scalers,
        save_stretches,
    )

    record = load_panel(store.engine, context.partition_key)
    features, target = map(Scaler.from_dict, load_scalers(store.engine, context.partition_key))
    arrays = store.arrays.read_tensors(record.location)
    stored = store.arrays.write_tensors(scaled_arrays(arrays, features, target))
    split = split_dataset(len(arrays["values"]), Params.model_validate(record.params).dataset)
    spans = stretch_sessions(split, record.first_session, record.as_of_session)
    stretches = [
        StretchRecord(
            name,
            first,
            last,
            stretch.first,
            stretch.last,
            split.purge,
            stored.digest,
            stored.location,
        )
        for name, (stretch, first, last) in spans.items()
    ]
    save_stretches(store.engine, context.partition_key, stretches)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(stored.digest),
        metadata=lineage(
            dataset_run_id=record.dataset_run_id,
            as_of_session=record.as_of_session,
            **{
                name: f"{first} to {last} ({len(stretch)} windows)"
                for name, (stretch, first, last) in spans.items()
            },
            purge_sessions=split.purge,
            megabytes=stored.size / 1e6,
            digest=stored.digest,
            location=stored.location,
        ),
    )
