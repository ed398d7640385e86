"""Build the parts of a dataset from stored rows: panel, scalers and segments.

The assets store what these functions return; :mod:`stock_assets.datasets.verify` repeats them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any

from pydantic import ValidationError

from stock_assets.config import Params
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.fingerprints import build_environment, plain_digest
from stock_assets.features.dataset import FeatureSet, scaled_digest
from stock_assets.features.labels import session_labels
from stock_assets.features.scaling import Scaler, fit_scalers
from stock_assets.features.splits import Split, segment_sessions, split_dataset
from stock_assets.market.adjustment import AdjustmentFactors
from stock_assets.market.bars import content_digest
from stock_assets.storage.arrays import ArrayStore
from stock_assets.storage.datasets import PanelRecord, SegmentRecord

_WRITTEN_SINCE_PURGED_BY_LABELS = "shrinkage"
"""Key of the training section that records have whose segments are purged by labels alone."""


@dataclass(frozen=True)
class FittedScalers:
    """The feature and target scalers of a dataset, and the split they were fitted on."""

    features: Scaler
    target: Scaler
    split: Split

    @property
    def digest(self) -> str:
        """SHA-256 of their numbers."""
        return plain_digest((self.features.to_dict(), self.target.to_dict()))


def build_panel(
    dataset_id: str,
    as_of: date,
    built: FeatureSet,
    params: Params,
    arrays: ArrayStore,
    *,
    known_at: datetime | None,
) -> PanelRecord:
    """Write the arrays of a panel and return its record, build environment included.

    Its bars were read as they were known at `known_at`, or as they were stored if that is None.
    """
    panel = built.panel
    tensors = {"values": panel.values, "valid": panel.valid, "close": panel.close}
    stored = arrays.write_tensors(tensors)
    return PanelRecord(
        dataset_run_id=dataset_id,
        as_of_session=as_of,
        first_session=panel.sessions[0].date(),
        last_session=panel.sessions[-1].date(),
        bars=len(built.bars),
        tickers=list(panel.tickers),
        features=list(panel.features),
        basis=params.features.basis,
        adjustment_factors={
            ticker: asdict(factors) for ticker, factors in built.adjustment_factors.items()
        },
        target=params.dataset.target,
        params=params.model_dump(mode="json"),
        bars_digest=content_digest(built.bars),
        digest=stored.digest,
        location=stored.location,
        build_environment=build_environment(params.features.custom),
        known_at=known_at,
    )


def build_scalers(record: PanelRecord, arrays: ArrayStore) -> FittedScalers:
    """Fit the scalers of a panel on its training sessions."""
    params, panel = recorded_params(record), arrays.read_tensors(record.location)
    dataset = params.dataset
    split = split_dataset(len(panel["values"]), dataset, params.walk_forward)
    labels = session_labels(panel["close"], dataset.target)
    scalers = fit_scalers(panel["values"], panel["valid"], labels, split.train, dataset)
    return FittedScalers(*scalers, split)


def build_segments(
    record: PanelRecord, features: Scaler, target: Scaler, arrays: ArrayStore
) -> list[SegmentRecord]:
    """Compute the segments of a panel and the digest of the scaled rows read in them."""
    params, panel = recorded_params(record), arrays.read_tensors(record.location)
    labels = session_labels(panel["close"], params.dataset.target)
    split = split_dataset(len(labels), params.dataset, params.walk_forward)
    digest = scaled_digest(panel["values"], panel["valid"], labels, (features, target), split)
    spans = segment_sessions(split, record.first_session, record.as_of_session)
    return [
        SegmentRecord(name, first, last, segment.first, segment.last, split.purge, digest)
        for name, (segment, first, last) in spans.items()
    ]


def recorded_params(record: PanelRecord) -> Params:
    """Return the parameters that a dataset was built with, under their present names.

    Earlier versions skipped ``window`` more window ends between two segments. Their datasets have
    the same segments with an embargo that is longer by as many sessions, which is returned.

    Raises
    ------
    StockAssetsError
        Another version of this package stored the record, with other keys.
    """
    if any(
        factors.keys() != AdjustmentFactors.__dataclass_fields__.keys()
        for factors in record.adjustment_factors.values()
    ):
        raise _of_another_version(record, "other keys in adjustment_factors")
    try:
        params = Params.model_validate(_under_present_names(record.params))
    except ValidationError as error:
        key = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise _of_another_version(record, f"{key}: {error.errors()[0]['msg']}") from None
    if _WRITTEN_SINCE_PURGED_BY_LABELS in record.params.get("training", {}):
        return params
    embargo = params.dataset.embargo_sessions + params.dataset.window
    dataset = params.dataset.model_copy(update={"embargo_sessions": embargo})
    return params.model_copy(update={"dataset": dataset})


def _under_present_names(params: dict[str, Any]) -> dict[str, Any]:
    forecast = dict(params.get("forecast", {}))
    if "coverage" in forecast:
        forecast["coverages"] = [forecast.pop("coverage")]
    monitoring = dict(params.get("monitoring", {}))
    monitoring.pop("minimum_forecasts", None)
    return params | {"forecast": forecast, "monitoring": monitoring}


def _of_another_version(record: PanelRecord, what: str) -> StockAssetsError:
    return StockAssetsError(
        f"dataset {record.dataset_run_id} was built by another version of stock-assets ({what})",
        "Install that version, or build a new dataset: stock-assets retrain",
    )
