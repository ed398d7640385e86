"""The tags of a registered version: what identifies it, and the digests of its files."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

from stock_assets.core.errors import StockAssetsError
from stock_assets.evaluation.production_rule import ModelVersion

if TYPE_CHECKING:
    from stock_assets.models.bundle import Bundle
    from stock_assets.models.bundle_digests import BundleDigests

CONTENT_TAG = "digest"
"""Tag with the digest of a version's content."""


def tags_of(bundle: Bundle, digests: BundleDigests, refit_of: int | None) -> dict[str, str]:
    """Return the tags of a version, which are also the metadata of its ``MLmodel``."""
    refit = {} if refit_of is None else {"refit_of": str(refit_of)}
    return {
        "dataset_run_id": bundle.recipe.dataset_run_id,
        "as_of_session": bundle.recipe.as_of.isoformat(),
        **digests.tags(),
        **refit,
    }


def model_version(found: Any) -> ModelVersion:
    """Read the tags of a version in MLflow.

    Raises
    ------
    StockAssetsError
        The version was registered in another way.
    """
    if not is_own(found):
        raise StockAssetsError(
            f"version {found.version} of {found.name} was not registered by stock-assets: it lacks "
            "its tags",
            "Choose one that was, also for the alias Production: stock-assets model list",
        )
    refit_of = found.tags.get("refit_of")
    return ModelVersion(
        version=int(found.version),
        mlflow_run_id=str(found.run_id),
        dataset_run_id=found.tags["dataset_run_id"],
        as_of=date.fromisoformat(found.tags["as_of_session"]),
        digest=found.tags[CONTENT_TAG],
        refit_of=None if refit_of is None else int(refit_of),
    )


def is_own(found: Any) -> bool:
    """Whether a version in MLflow has the tags of one that this package registered."""
    return all(tag in found.tags for tag in ("dataset_run_id", "as_of_session", CONTENT_TAG))
